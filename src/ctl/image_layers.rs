//! `berth image verify`, `history` and `tree`: images by their layers.

use super::commands::{ImageArgs, ImageTreeArgs};
use super::connect::Daemon;
use super::console::{Console, Format, Row};
use super::error::CtlError;
use super::format::{bytes, short_id};
use crate::cri::own::proto as own;
use crate::cri::proto as cri;
use serde::{Deserialize, Serialize};

/// What a comparison says of a layer.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct CheckedRow {
    layer: String,
    size_bytes: u64,
    problems: Vec<String>,
}

impl Row for CheckedRow {
    const HEADINGS: &'static [&'static str] = &["LAYER", "SIZE", "STATE"];

    fn cells(&self) -> Vec<String> {
        let state = match self.problems.as_slice() {
            [] => "whole".to_owned(),
            problems => problems.join("; "),
        };
        vec![short_id(&self.layer).to_owned(), bytes(self.size_bytes), state]
    }
}

/// Compares an image with its digests.
pub(super) async fn verify(
    args: &ImageArgs,
    daemon: &Daemon,
    console: &mut Console,
) -> Result<(), CtlError> {
    let image = args.image.clone();
    let answer = daemon.own.clone().verify_image(own::VerifyImageRequest { image }).await;
    let fail = CtlError::rpc("verify", format!("image {}", args.image));
    let verified = answer.map_err(fail)?.into_inner();
    let rows: Vec<CheckedRow> = verified
        .layers
        .into_iter()
        .map(|layer| CheckedRow {
            layer: layer.diff_id,
            size_bytes: layer.bytes,
            problems: layer.problems,
        })
        .collect();
    console.rows(args.output.output, &rows)?;
    let damaged = rows.iter().filter(|row| !row.problems.is_empty()).count();
    if damaged == 0 && verified.problems.is_empty() {
        return Ok(());
    }
    let mut problems = verified.problems;
    if damaged > 0 {
        problems.push(format!("{damaged} of its layers are not what they were"));
    }
    Err(CtlError::Refused {
        problem: format!("image {} is corrupt: {}", args.image, problems.join("; ")),
        hint: "`berth image pull` or `import` brings back what is damaged",
    })
}

/// A step of an image's making.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct StepRow {
    created: String,
    /// The layer that it made; none: it changed the configuration alone.
    layer: Option<String>,
    size_bytes: u64,
    created_by: String,
    comment: String,
}

impl Row for StepRow {
    const HEADINGS: &'static [&'static str] = &["CREATED", "LAYER", "SIZE", "CREATED BY"];

    fn cells(&self) -> Vec<String> {
        let by = if self.created_by.is_empty() { &self.comment } else { &self.created_by };
        vec![
            self.created.clone(),
            self.layer.as_deref().map_or("-", short_id).to_owned(),
            bytes(self.size_bytes),
            by.split_whitespace().collect::<Vec<_>>().join(" "),
        ]
    }
}

/// Prints how an image was built, the first step first.
pub(super) async fn history(
    args: &ImageArgs,
    daemon: &Daemon,
    console: &mut Console,
) -> Result<(), CtlError> {
    let image = describe(&args.image, daemon).await?;
    console.rows(args.output.output, &steps(&image))
}

fn steps(image: &own::DescribeImageAnswer) -> Vec<StepRow> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Config {
        history: Vec<Step>,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Step {
        created: Option<String>,
        created_by: Option<String>,
        comment: Option<String>,
        empty_layer: Option<bool>,
    }
    // A history is for people: one that cannot be read is none.
    let config: Config = serde_json::from_slice(&image.config).unwrap_or_default();
    let mut layers = image.layers.iter();
    let mut rows = Vec::new();
    for step in config.history {
        let layer = if step.empty_layer == Some(true) { None } else { layers.next() };
        rows.push(StepRow {
            created: step.created.unwrap_or_default(),
            layer: layer.map(|layer| layer.diff_id.clone()),
            size_bytes: layer.map_or(0, |layer| layer.bytes),
            created_by: step.created_by.unwrap_or_default(),
            comment: step.comment.unwrap_or_default(),
        });
    }
    // Layers of which the history does not tell.
    rows.extend(layers.map(|layer| StepRow {
        created: String::new(),
        layer: Some(layer.diff_id.clone()),
        size_bytes: layer.bytes,
        created_by: String::new(),
        comment: String::new(),
    }));
    rows
}

/// An image with its layers.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Tree {
    id: String,
    names: Vec<String>,
    /// Lowest first.
    layers: Vec<Branch>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Branch {
    diff_id: String,
    size_bytes: u64,
    record_bytes: u64,
    images: u32,
}

/// Prints images with their layers, the lowest first.
pub(super) async fn tree(
    args: &ImageTreeArgs,
    daemon: &Daemon,
    console: &mut Console,
) -> Result<(), CtlError> {
    let mut names = args.images.clone();
    if names.is_empty() {
        let answer = daemon.images.clone().list_images(cri::ListImagesRequest::default()).await;
        let all = answer.map_err(CtlError::rpc("list", "images"))?.into_inner().images;
        names.extend(all.into_iter().map(|image| image.id));
    }
    let mut trees = Vec::new();
    for name in names {
        let image = describe(&name, daemon).await?;
        let layers = image.layers.into_iter().map(|layer| Branch {
            diff_id: layer.diff_id,
            size_bytes: layer.bytes,
            record_bytes: layer.record_bytes,
            images: layer.images,
        });
        trees.push(Tree { id: image.id, names: image.names, layers: layers.collect() });
    }
    trees.sort_by(|a, b| (&a.names, &a.id).cmp(&(&b.names, &b.id)));
    match args.output.output {
        Format::Table => console.write(trees.iter().map(drawn).collect::<String>().as_bytes()),
        format => console.document(format, &trees),
    }
}

fn drawn(tree: &Tree) -> String {
    let name = tree.names.first().map_or("-", String::as_str);
    let size = tree.layers.iter().map(|layer| layer.size_bytes).sum();
    let mut text = format!("{name}  {}  {}\n", short_id(&tree.id), bytes(size));
    let last = tree.layers.len();
    for (number, layer) in (1..).zip(&tree.layers) {
        let line = if number == last { "└──" } else { "├──" };
        let shared = match layer.images {
            0 | 1 => String::new(),
            images => format!("  in {images} images"),
        };
        let (id, size) = (short_id(&layer.diff_id), bytes(layer.size_bytes));
        text.push_str(&format!("{line} {id}  {size}{shared}\n"));
    }
    text
}

async fn describe(image: &str, daemon: &Daemon) -> Result<own::DescribeImageAnswer, CtlError> {
    let request = own::DescribeImageRequest { image: image.to_owned() };
    let answer = daemon.own.clone().describe_image(request).await;
    Ok(answer.map_err(CtlError::rpc("describe", format!("image {image}")))?.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(letter: &str, images: u32) -> own::ImageLayer {
        let diff_id = format!("sha256:{}", letter.repeat(64));
        own::ImageLayer { diff_id, bytes: 2048, record_bytes: 10, images }
    }

    fn image(config: &str) -> own::DescribeImageAnswer {
        own::DescribeImageAnswer {
            id: format!("sha256:{}", "e".repeat(64)),
            names: vec!["x:1".into()],
            config: config.as_bytes().to_vec(),
            layers: vec![layer("a", 2), layer("b", 1)],
            used_at: 0,
        }
    }

    #[test]
    fn a_step_of_the_history_has_its_layer_and_layers_without_one_follow() {
        let rows = steps(&image(
            r#"{"history": [
                {"created_by": "ADD  x\n/", "created": "2024-01-01T00:00:00Z"},
                {"created_by": "ENV a=b", "empty_layer": true, "comment": null}]}"#,
        ));
        let lines: Vec<String> = rows.iter().map(|row| row.cells().join("|")).collect();
        let (a, b) = ("a".repeat(13), "b".repeat(13));
        assert_eq!(
            lines,
            [
                format!("2024-01-01T00:00:00Z|{a}|2.0 KiB|ADD x /"),
                "|-|0 B|ENV a=b".to_owned(),
                format!("|{b}|2.0 KiB|"),
            ]
        );
        for odd in ["", "{}", "[]", r#"{"history": 7}"#] {
            assert_eq!(steps(&image(odd)).len(), 2, "{odd}");
        }
    }

    #[test]
    fn a_tree_tells_which_layers_are_shared() {
        let all = image("{}").layers.into_iter().map(|layer| Branch {
            diff_id: layer.diff_id,
            size_bytes: layer.bytes,
            record_bytes: layer.record_bytes,
            images: layer.images,
        });
        let tree = Tree { id: "f".repeat(64), names: vec!["x:1".into()], layers: all.collect() };
        let (a, b, f) = ("a".repeat(13), "b".repeat(13), "f".repeat(13));
        let expected =
            format!("x:1  {f}  4.0 KiB\n├── {a}  2.0 KiB  in 2 images\n└── {b}  2.0 KiB\n");
        assert_eq!(drawn(&tree), expected);
    }
}
