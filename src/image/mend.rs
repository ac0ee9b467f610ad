//! Fetching again what an image lost on disk.
//!
//! What is there is used: the manifest, the configuration, and layers that are whole. So a registry is asked
//! for the layers that are damaged or missing, and for documents only where these are. The names of the image and
//! the time of its last use stay as they are; an image that is removed meanwhile stays removed.

use super::assemble::{Plan, Source, follow, planned};
use super::digest::Digest;
use super::error::ImageError;
use super::images::Images;
use super::manifest::{Document, MAX_DOCUMENT, Manifest, parse_document};
use super::policy;
use super::progress::Listeners;
use super::reference::Reference;
use super::registry::Repository;
use super::store::Image;
use crate::blocking;
use crate::ids::ImageId;

impl Images {
    /// Fetches what images that came from a registry lost, one image after the other, with the node's
    /// credentials and within its policy. What cannot be fetched is told, and its image stays corrupt.
    pub async fn mend(&self) {
        let corrupt = |image: &Image| image.corrupt.is_some() && image.record.pulled;
        let all = self.store().all();
        let ids: Vec<ImageId> =
            all.iter().filter(|image| corrupt(image)).map(|i| i.record.id.clone()).collect();
        drop(all);
        if ids.is_empty() {
            return;
        }
        for id in ids {
            // One before may have brought what this one lacks.
            let Some(image) = self.store().get(&id).filter(|image| corrupt(image)) else {
                continue;
            };
            let name = image.record.tags.keys().chain(&image.record.digests).next().cloned();
            let name = name.unwrap_or_default();
            let outcome = self.mend_one(&image).await;
            // It holds damaged layers, which nothing else may.
            drop(image);
            match outcome {
                Ok(from) => tracing::info!(image = name, image_id = %id, from, "image mended"),
                Err(ImageError::NotFound { .. }) if self.store().get(&id).is_none() => {}
                Err(error) => tracing::warn!(
                    image = name,
                    image_id = %id,
                    error = crate::error::chain(&error),
                    "corrupt image not mended; pull or import it again"
                ),
            }
        }
        let images = self.clone();
        blocking::run("collect layers", move || images.store().collect()).await.ok();
    }

    /// Asks each repository that the image came from. Answers which one had it.
    async fn mend_one(&self, image: &Image) -> Result<String, ImageError> {
        let mut failed = None;
        for digest in &image.record.digests {
            let reference = Reference::parse(digest)?;
            match self.mend_from(image, &reference).await {
                Ok(()) => return Ok(reference.name()),
                Err(error) => failed = Some(error),
            }
        }
        let unnamed = || ImageError::NotFound { name: image.record.id.to_string() };
        Err(failed.unwrap_or_else(unnamed))
    }

    async fn mend_from(&self, image: &Image, reference: &Reference) -> Result<(), ImageError> {
        let signed = match self.assembler().policy() {
            Some(policy) => policy::demand(policy, reference).await?,
            None => None,
        };
        let repository = Repository::open(reference, None, self.access()).await?;
        if let (Some(signed), Some(digest)) = (signed, reference.digest()) {
            signed.check(&repository, reference, digest).await?;
        }
        let source = Source::Registry(Box::new(repository));
        let plan = self.plan_from_disk(image, reference, &source).await?;
        self.assembler().assemble(&source, plan, &Listeners::default()).await?;
        Ok(())
    }

    async fn plan_from_disk(
        &self,
        image: &Image,
        reference: &Reference,
        source: &Source,
    ) -> Result<Plan, ImageError> {
        let name = reference.to_string();
        let (bytes, manifest) = match self.manifest_on_disk(image, reference).await? {
            Some(found) => found,
            None => {
                let Source::Registry(repository) = source else {
                    return Err(ImageError::NotFound { name });
                };
                let (document, _) = repository.top().await?;
                follow(source, &name, document).await?
            }
        };
        let own = manifest.config.digest.image_id();
        if own.as_ref() != Some(&image.record.id) {
            let reason = format!("it is that of image {}", manifest.config.digest);
            return Err(ImageError::manifest(name, reason));
        }
        let (images, id) = (self.clone(), image.record.id.clone());
        let config = blocking::run("read a configuration", move || images.config_json(&id)).await?;
        let config = match config {
            Ok(config) => config,
            Err(_) => source.blob(&manifest.config).await?,
        };
        let plan = planned(&name, bytes, &manifest, config)?;
        Ok(Plan { mends: true, ..plan })
    }

    /// The manifest that the image came with, if it is whole on disk; that of `reference` before others.
    async fn manifest_on_disk(
        &self,
        image: &Image,
        reference: &Reference,
    ) -> Result<Option<(Vec<u8>, Manifest)>, ImageError> {
        let (images, id) = (self.clone(), image.record.id.clone());
        let mut blobs: Vec<Digest> = image.record.blobs.iter().cloned().collect();
        let wanted = reference.digest().cloned();
        blobs.sort_by_key(|blob| Some(blob) != wanted.as_ref());
        let find = move || {
            blobs.iter().find_map(|blob| {
                let content = &images.store().content;
                let (_, size) = content.open_blob(blob)?;
                if size > MAX_DOCUMENT || blob.image_id().as_ref() == Some(&id) {
                    return None;
                }
                let bytes = content.read(blob, MAX_DOCUMENT).ok()?;
                match parse_document("", &bytes).ok()? {
                    Document::Manifest(m) if m.config.digest.image_id().as_ref() == Some(&id) => {
                        Some((bytes, m))
                    }
                    _ => None,
                }
            })
        };
        Ok(blocking::run("look for a manifest", find).await?)
    }
}
