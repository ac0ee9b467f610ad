//! `berth images` and `berth image …`.

use super::commands::{ImageCommand, OutputArgs};
use super::connect::Daemon;
use super::console::{Console, Format, Row};
use super::error::{CtlError, several};
use super::format::{bytes, short_id};
use super::progress::Bars;
use crate::cri::CORRUPT;
use crate::cri::own::proto as own;
use crate::cri::proto as cri;
use own::image_answer::Answer;
use serde::Serialize;
use std::path::Path;
use tonic::{Response, Status, Streaming};

/// An image in the list.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ImageRow {
    id: String,
    tags: Vec<String>,
    digests: Vec<String>,
    size_bytes: u64,
    pinned: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    corrupt: Option<String>,
}

/// An image under one of its names, as a line of the table.
#[derive(Clone, Debug, Serialize)]
struct NameRow {
    name: String,
    id: String,
    size_bytes: u64,
}

impl Row for NameRow {
    const HEADINGS: &'static [&'static str] = &["IMAGE", "IMAGE ID", "SIZE"];

    fn cells(&self) -> Vec<String> {
        vec![self.name.clone(), short_id(&self.id).to_owned(), bytes(self.size_bytes)]
    }
}

/// Lists images: for people one line a name, for programs one item an image.
pub(super) async fn list(
    args: &OutputArgs,
    daemon: &Daemon,
    console: &mut Console,
) -> Result<(), CtlError> {
    let answer = daemon.images.clone().list_images(cri::ListImagesRequest::default()).await;
    let images = answer.map_err(CtlError::rpc("list", "images"))?.into_inner().images;
    let mut images: Vec<ImageRow> = images
        .into_iter()
        .map(|image| ImageRow {
            id: image.id,
            tags: image.repo_tags,
            digests: image.repo_digests,
            size_bytes: image.size,
            pinned: image.pinned,
            corrupt: image.spec.and_then(|mut spec| spec.annotations.remove(CORRUPT)),
        })
        .collect();
    images.sort_by(|a, b| (&a.tags, &a.id).cmp(&(&b.tags, &b.id)));
    match args.output {
        Format::Table => console.rows(Format::Table, &name_rows(&images)),
        format => console.document(format, &images),
    }
}

fn name_rows(images: &[ImageRow]) -> Vec<NameRow> {
    let row = |image: &ImageRow, name: &str| NameRow {
        name: match image.corrupt {
            Some(_) => format!("{name} (corrupt)"),
            None => name.to_owned(),
        },
        id: image.id.clone(),
        size_bytes: image.size_bytes,
    };
    let mut rows = Vec::new();
    for image in images {
        match (image.tags.as_slice(), image.digests.first()) {
            ([], Some(digest)) => rows.push(row(image, digest)),
            ([], None) => rows.push(row(image, "-")),
            (tags, _) => rows.extend(tags.iter().map(|tag| row(image, tag))),
        }
    }
    rows
}

/// `berth image …`.
pub(super) async fn image(
    command: &ImageCommand,
    daemon: &Daemon,
    console: &mut Console,
) -> Result<(), CtlError> {
    match command {
        ImageCommand::Import { path, output } => {
            let images = import(path, daemon, console).await?;
            tell(*output, &images, console)
        }
        ImageCommand::Pull { reference, output } => {
            let images = pull(reference, daemon, console).await?;
            tell(*output, &images, console)
        }
        ImageCommand::Ls(args) => list(args, daemon, console).await,
        ImageCommand::Inspect(args) => {
            let document = super::inspect::inspect_image(daemon, &args.image, "image").await?;
            console.document(args.output, &document)
        }
        ImageCommand::Verify(args) => super::image_layers::verify(args, daemon, console).await,
        ImageCommand::History(args) => super::image_layers::history(args, daemon, console).await,
        ImageCommand::Tree(args) => super::image_layers::tree(args, daemon, console).await,
        ImageCommand::Export { image, path } => export(image, path, daemon, console).await,
        ImageCommand::Prune(args) => super::prune::prune(args, daemon, console).await,
        ImageCommand::Rm { images } => remove(images, daemon, console).await,
    }
}

async fn export(
    image: &str,
    path: &Path,
    daemon: &Daemon,
    console: &mut Console,
) -> Result<(), CtlError> {
    // The daemon has another working directory.
    let absolute = std::path::absolute(path).map_err(CtlError::file("find", path))?;
    let request =
        own::ExportImageRequest { image: image.to_owned(), path: absolute.display().to_string() };
    let answer = daemon.own.clone().export_image(request).await;
    let done = answer.map_err(CtlError::rpc("export", format!("image {image}")))?.into_inner();
    console.line(&done.id)
}

async fn import(
    path: &Path,
    daemon: &Daemon,
    console: &Console,
) -> Result<Vec<own::ImageName>, CtlError> {
    // The daemon has another working directory.
    let path = std::fs::canonicalize(path).map_err(CtlError::file("open", path))?;
    let subject = path.display().to_string();
    let request = own::ImportImageRequest { path: subject.clone() };
    let answer = daemon.own.clone().import_image(request).await;
    follow(answer, "import", &subject, console).await
}

/// Pulls an image and shows how it goes on.
pub(super) async fn pull(
    reference: &str,
    daemon: &Daemon,
    console: &Console,
) -> Result<Vec<own::ImageName>, CtlError> {
    let request = own::PullImageRequest { reference: reference.to_owned() };
    let answer = daemon.own.clone().pull_image(request).await;
    follow(answer, "pull", reference, console).await
}

/// Shows progress until the images are there.
async fn follow(
    answer: Result<Response<Streaming<own::ImageAnswer>>, Status>,
    verb: &'static str,
    subject: &str,
    console: &Console,
) -> Result<Vec<own::ImageName>, CtlError> {
    let fail = |status| CtlError::rpc(verb, format!("image {subject}"))(status);
    let mut answers = answer.map_err(fail)?.into_inner();
    let mut bars = Bars::new(console);
    let mut images = Vec::new();
    while let Some(answer) = answers.message().await.map_err(fail)? {
        match answer.answer {
            Some(Answer::Progress(progress)) => bars.show(&progress),
            Some(Answer::Images(list)) => images = list.images,
            None => {}
        }
    }
    Ok(images)
}

fn tell(format: Format, images: &[own::ImageName], console: &mut Console) -> Result<(), CtlError> {
    let rows: Vec<ImageRow> = images
        .iter()
        .map(|image| ImageRow {
            id: image.id.clone(),
            tags: image.repo_tags.clone(),
            digests: Vec::new(),
            size_bytes: image.size,
            pinned: false,
            corrupt: None,
        })
        .collect();
    match format {
        Format::Table => console.rows(Format::Table, &name_rows(&rows)),
        format => console.document(format, &rows),
    }
}

async fn remove(images: &[String], daemon: &Daemon, console: &mut Console) -> Result<(), CtlError> {
    let mut failed = Vec::new();
    for name in images {
        match remove_one(name, daemon).await {
            Ok(()) => console.line(name)?,
            Err(error) => failed.push(error),
        }
    }
    several(failed)
}

async fn remove_one(name: &str, daemon: &Daemon) -> Result<(), CtlError> {
    if listed(name, daemon).await?.is_none() {
        return Err(CtlError::NotFound { what: "image", name: name.to_owned() });
    }
    let image = cri::ImageSpec { image: name.to_owned(), ..Default::default() };
    let request = cri::RemoveImageRequest { image: Some(image) };
    let answer = daemon.images.clone().remove_image(request).await;
    answer.map(drop).map_err(CtlError::rpc("remove", format!("image {name}")))
}

/// The image of that name as it is listed: also one that is corrupt.
pub(super) async fn listed(name: &str, daemon: &Daemon) -> Result<Option<cri::Image>, CtlError> {
    let image = cri::ImageSpec { image: name.to_owned(), ..Default::default() };
    let filter = Some(cri::ImageFilter { image: Some(image) });
    let answer = daemon.images.clone().list_images(cri::ListImagesRequest { filter }).await;
    let answer = answer.map_err(CtlError::rpc("ask for", format!("image {name}")))?;
    Ok(answer.into_inner().images.pop())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_has_a_line_for_each_of_its_names() {
        let image = |tags: &[&str], digests: &[&str]| ImageRow {
            id: format!("sha256:{}", "a".repeat(64)),
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            digests: digests.iter().map(|digest| (*digest).to_owned()).collect(),
            size_bytes: 2048,
            pinned: false,
            corrupt: None,
        };
        let rows =
            name_rows(&[image(&["a:1", "a:2"], &["a@x"]), image(&[], &["b@x"]), image(&[], &[])]);
        let cells: Vec<String> = rows.iter().map(|row| row.cells().join(" ")).collect();
        let id = "a".repeat(13);
        let expected = ["a:1", "a:2", "b@x", "-"].map(|name| format!("{name} {id} 2.0 KiB"));
        assert_eq!(cells, expected);
    }
}
