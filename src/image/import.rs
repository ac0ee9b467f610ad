//! Which images an archive holds, and what they are called.

use super::archive::Archive;
use super::assemble::{Plan, PlannedLayer, Source, plan};
use super::digest::Digest;
use super::error::ImageError;
use super::intake::Expected;
use super::manifest::{Descriptor, Document, Platform, parse_config, parse_document};
use super::reference::Reference;
use crate::blocking;
use serde::Deserialize;
use std::sync::Arc;

/// The name that buildkit, containerd and docker give an image.
const NAME: &str = "io.containerd.image.name";
/// The name of the image spec: often a tag alone.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Plans of all images in the archive for this machine, in order.
///
/// # Errors
/// [`ImageError::Manifest`] when it is no image archive, or has nothing for this machine.
pub(super) async fn plans(archive: Arc<Archive>) -> Result<Vec<Plan>, ImageError> {
    let opened = Arc::clone(&archive);
    let read = blocking::run("read the archive's index", move || -> Result<_, ImageError> {
        Ok((opened.document("index.json")?, opened.document("manifest.json")?))
    });
    match read.await?? {
        (Some(index), _) => oci_plans(archive, &index).await,
        (None, Some(manifest)) => {
            blocking::run("read the archive", move || docker_plans(&archive, &manifest)).await?
        }
        (None, None) => Err(ImageError::manifest(
            archive.name(),
            "neither an OCI layout (index.json) nor a docker-save archive (manifest.json)",
        )),
    }
}

async fn oci_plans(archive: Arc<Archive>, index: &[u8]) -> Result<Vec<Plan>, ImageError> {
    let subject = archive.name();
    let Document::Index(entries) = parse_document(&subject, index)? else {
        return Err(ImageError::manifest(subject, "index.json is not an index"));
    };
    let host = Platform::host();
    let usable: Vec<&Descriptor> = entries.iter().filter(|d| fits(d, &host)).collect();
    if usable.is_empty() {
        // Asked for the one that fits, this names what there is.
        return super::manifest::choose(&subject, &entries, &host).map(|_| Vec::new());
    }
    let mut plans = Vec::new();
    for entry in usable {
        let reference = reference_of(&archive, entry)?;
        let name = reference.as_ref().map_or(entry.digest.to_string(), ToString::to_string);
        let source = Source::Archive(Arc::clone(&archive));
        let bytes = source.manifest(entry).await?;
        let mut plan = plan(&source, &name, bytes).await?;
        if let Some(reference) = reference {
            plan.tags.extend(reference.as_tag());
            plan.digests.push(reference.with_digest(&entry.digest));
        }
        plans.push(plan);
    }
    Ok(plans)
}

/// Whether an entry of the top index is an image that may run here: others share the index with it
/// (other platforms, attestations).
fn fits(entry: &Descriptor, host: &Platform) -> bool {
    let image = super::manifest::choose("", std::slice::from_ref(entry), host).is_ok();
    image && !entry.annotations.contains_key("vnd.docker.reference.type")
}

/// The reference of an entry; a tag alone belongs to a repository named like the archive.
fn reference_of(archive: &Archive, entry: &Descriptor) -> Result<Option<Reference>, ImageError> {
    if let Some(name) = entry.annotations.get(NAME) {
        return Reference::parse(name).map(Some);
    }
    let Some(name) = entry.annotations.get(REF_NAME) else { return Ok(None) };
    if name.contains(['/', ':']) {
        return Reference::parse(name).map(Some);
    }
    Ok(Reference::parse(&format!("{}:{name}", archive.stem())).ok())
}

/// docker-save: one element an image.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Option<Vec<String>>,
}

fn docker_plans(archive: &Archive, manifest: &[u8]) -> Result<Vec<Plan>, ImageError> {
    let refuse = |reason: String| ImageError::manifest(archive.name(), reason);
    let images: Vec<Saved> = serde_json::from_slice(manifest)
        .map_err(|e| refuse(format!("manifest.json is not docker's: {e}")))?;
    if images.is_empty() {
        return Err(refuse("manifest.json names no image".to_owned()));
    }
    images.into_iter().map(|image| docker_plan(archive, image)).collect()
}

fn docker_plan(archive: &Archive, image: Saved) -> Result<Plan, ImageError> {
    let config = archive.required(&image.config)?;
    let paths = image.layers.unwrap_or_default();
    let tags: Vec<String> = image
        .repo_tags
        .unwrap_or_default()
        .iter()
        .map(|tag| Reference::parse(tag).map(|reference| reference.to_string()))
        .collect::<Result<_, _>>()?;
    let name = tags.first().cloned().unwrap_or_else(|| Digest::of(&config).to_string());
    let parsed = parse_config(&name, &config, paths.len(), &Platform::host())?;
    let mut layers = Vec::new();
    for (path, diff_id) in paths.into_iter().zip(parsed.diff_ids) {
        let (_, size) = archive
            .file(&path)?
            .ok_or_else(|| ImageError::manifest(archive.name(), format!("{path} is missing")))?;
        // Only the uncompressed digest is known; it is what counts.
        let expected = Expected { name: diff_id.to_string(), digest: None, size, diff_id };
        layers.push(PlannedLayer { path, expected });
    }
    let spec = parsed.spec;
    Ok(Plan { name, config, manifest: None, spec, layers, tags, digests: Vec::new(), mends: false })
}
