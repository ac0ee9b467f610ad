//! The signatures of an image, as its registry has them.

use super::super::digest::Digest;
use super::super::error::ImageError;
use super::super::reference::Reference;
use super::super::registry::Repository;
use super::claim;
use super::file::{self, Demand};
use crate::blocking;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

pub(in crate::image) use super::file::Signed;

/// What a signed document is to a registry.
const DOCUMENT: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// Where its signature stands.
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
/// What refers to a signed manifest.
const ARTIFACT: &str = "application/vnd.dev.cosign.artifact.sig.v1+json";
/// How many signatures of one image are looked at.
const MOST: usize = 64;

#[derive(Deserialize)]
struct Index {
    #[serde(default)]
    manifests: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    digest: String,
    artifact_type: Option<String>,
}

#[derive(Deserialize)]
struct Manifest {
    #[serde(default)]
    layers: Vec<Layer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Layer {
    media_type: String,
    digest: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

/// What the policy asks of an image; `None`: nothing.
///
/// # Errors
/// [`ImageError::Policy`]: it may not be pulled at all, or the policy cannot be used.
pub(in crate::image) async fn demand(
    policy: &Path,
    reference: &Reference,
) -> Result<Option<Signed>, ImageError> {
    let (file, name) = (policy.to_owned(), reference.name());
    let asked = blocking::run("read the signature policy", move || file::demand(&file, &name));
    match asked.await?.map_err(|reason| refused(reference, reason))? {
        Demand::Accept => Ok(None),
        Demand::Signed(signed) => Ok(Some(signed)),
        Demand::Reject(by) => {
            Err(refused(reference, format!("{}: rejected by {by}", policy.display())))
        }
    }
}

fn refused(reference: &Reference, reason: impl Into<String>) -> ImageError {
    ImageError::Policy { image: reference.to_string(), reason: reason.into() }
}

impl Signed {
    /// Looks for a signature of the manifest `digest` that counts.
    ///
    /// # Errors
    /// [`ImageError::Policy`] when there is none, with why each that is there does not count; those of
    /// the registry.
    pub(in crate::image) async fn check(
        &self,
        repository: &Repository,
        reference: &Reference,
        digest: &Digest,
    ) -> Result<(), ImageError> {
        let name = reference.name();
        let mut names: Vec<&str> = self.signed_as.iter().map(String::as_str).collect();
        names.push(&name);
        let mut faults = Vec::new();
        for layer in signatures(repository, digest).await?.iter().take(MOST) {
            match self.counts(repository, layer, digest, &names).await? {
                Ok(()) => return Ok(()),
                Err(fault) => faults.push(fault),
            }
        }
        let reason = match faults.is_empty() {
            true => format!("no signature of {digest}"),
            false => format!("no signature of {digest} counts: {}", faults.join("; ")),
        };
        Err(refused(reference, reason))
    }

    /// Whether one signature counts, or why it does not.
    async fn counts(
        &self,
        repository: &Repository,
        layer: &Layer,
        digest: &Digest,
        names: &[&str],
    ) -> Result<Result<(), String>, ImageError> {
        let Some(Ok(signature)) =
            layer.annotations.get(SIGNATURE).map(|text| STANDARD.decode(text))
        else {
            return Ok(Err("one has no signature in base64".to_owned()));
        };
        let Ok(document) = Digest::parse(&layer.digest) else {
            return Ok(Err(format!("one is of {:?}", layer.digest)));
        };
        let document = repository.blob(&document).await?;
        // What nobody signed is not even read.
        if !self.keys.iter().any(|key| key.made(&signature, &document)) {
            return Ok(Err("one is by another key".to_owned()));
        }
        Ok(claim::is_about(&document, digest, names))
    }
}

/// The signed documents of a manifest: those at its tag, and those that refer to it.
async fn signatures(repository: &Repository, digest: &Digest) -> Result<Vec<Layer>, ImageError> {
    let plain = digest.to_string().replacen(':', "-", 1);
    let mut manifests = Vec::new();
    manifests.extend(repository.tagged(&format!("{plain}.sig")).await?);
    let referrers = match repository.referrers(digest).await? {
        // A registry without referrers has them at a tag.
        None => repository.tagged(&plain).await?,
        found => found,
    };
    let index: Index = match &referrers {
        Some(bytes) => parse("referrers", digest, bytes)?,
        None => Index { manifests: Vec::new() },
    };
    let entries = index.manifests.iter().filter(|e| e.artifact_type.as_deref() == Some(ARTIFACT));
    for entry in entries.take(MOST) {
        let signature = Digest::parse(&entry.digest)
            .map_err(|e| ImageError::manifest(format!("referrers of {digest}"), e.to_string()))?;
        manifests.push(repository.manifest(&signature).await?);
    }
    let mut layers = Vec::new();
    for manifest in &manifests {
        let manifest: Manifest = parse("a signature", digest, manifest)?;
        layers.extend(manifest.layers.into_iter().filter(|layer| layer.media_type == DOCUMENT));
    }
    Ok(layers)
}

fn parse<T: serde::de::DeserializeOwned>(
    what: &str,
    digest: &Digest,
    bytes: &[u8],
) -> Result<T, ImageError> {
    serde_json::from_slice(bytes)
        .map_err(|e| ImageError::manifest(format!("{what} of {digest}"), e.to_string()))
}
