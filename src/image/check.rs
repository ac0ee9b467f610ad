//! What is known of one image in full, and whether it is still what it was.

use super::digest::{Digest, HashingWriter};
use super::error::ImageError;
use super::images::Images;
use super::layers::{Layer, LayerKey};
use super::manifest::{MAX_DOCUMENT, Platform, parse_config};
use super::replay::replay;
use super::store::Image;
use crate::blocking;
use crate::ids::ImageId;
use std::io;
use std::sync::Arc;

/// Damaged files of one layer that are named; of further ones the number is told.
const MAX_NAMED: usize = 20;

/// An image in full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// Its id.
    pub id: ImageId,
    /// All its names.
    pub names: Vec<String>,
    /// Its config, as its author wrote it.
    pub config: Vec<u8>,
    /// Lowest first.
    pub layers: Vec<LayerInfo>,
    /// When it came, or was last used, nanoseconds since 1970.
    pub used_nanos: i64,
}

/// A layer of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerInfo {
    /// The digest of its archive.
    pub diff_id: Digest,
    /// Bytes on disk.
    pub bytes: u64,
    /// Bytes of its tar record.
    pub record_bytes: u64,
    /// How many images have it.
    pub images: usize,
}

/// An image that was read whole and compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Its id.
    pub id: ImageId,
    /// Lowest first.
    pub layers: Vec<CheckedLayer>,
    /// Problems of its documents and kept blobs.
    pub problems: Vec<String>,
}

/// A layer that was compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedLayer {
    /// The digest of its archive.
    pub diff_id: Digest,
    /// Bytes on disk.
    pub bytes: u64,
    /// What is the matter with it; empty: nothing.
    pub problems: Vec<String>,
}

impl Images {
    /// The image that `any` names, in full.
    ///
    /// # Errors
    /// No such image; a config that is damaged.
    pub async fn describe(&self, any: &str) -> Result<Description, ImageError> {
        let (images, any) = (self.clone(), any.to_owned());
        blocking::run("describe an image", move || images.describe_blocking(&any)).await?
    }

    fn describe_blocking(&self, any: &str) -> Result<Description, ImageError> {
        let image = self.named(any)?;
        let (config, diff_ids) = self.diff_ids(&image)?;
        let all = self.store().all();
        let having = |layer: &Layer| {
            all.iter().filter(|i| i.layers.iter().any(|l| l.name == layer.name)).count()
        };
        let layers = image.layers.iter().zip(diff_ids).map(|(layer, diff_id)| LayerInfo {
            diff_id,
            bytes: layer.bytes,
            record_bytes: layer.record_bytes,
            images: having(layer),
        });
        let record = &image.record;
        Ok(Description {
            id: record.id.clone(),
            names: record.tags.keys().chain(&record.digests).cloned().collect(),
            config,
            layers: layers.collect(),
            used_nanos: image.used_nanos(),
        })
    }

    /// Reads the image that `any` names whole, and compares its documents with their digests, and
    /// its layers, put together again, with their diff ids. Damaged layers are marked: the image
    /// is corrupt from then on, and a pull or an import brings them anew.
    ///
    /// # Errors
    /// No such image; a mark that cannot be set.
    pub async fn verify(&self, any: &str) -> Result<Verified, ImageError> {
        let (images, any) = (self.clone(), any.to_owned());
        blocking::run("verify an image", move || images.verify_blocking(&any)).await?
    }

    fn verify_blocking(&self, any: &str) -> Result<Verified, ImageError> {
        let image = self.named(any)?;
        let store = self.store();
        let mut problems: Vec<String> = (image.record.blobs.iter())
            .filter_map(|blob| store.content.check(blob).err())
            .map(|error| crate::error::chain(&error))
            .collect();
        let diff_ids = match self.diff_ids(&image) {
            Ok((_, diff_ids)) => diff_ids.into_iter().map(Some).collect(),
            // Layers are verified by what else is known of them.
            Err(_) => vec![None; image.record.layers.len()],
        };
        let (mut layers, mut damaged) = (Vec::new(), Vec::new());
        for (key, diff_id) in image.record.layers.iter().zip(diff_ids) {
            let Some(layer) = image.layers.iter().find(|layer| layer.key == *key) else {
                problems.push(format!("layer {key} is missing"));
                continue;
            };
            let known = match key {
                LayerKey::Diff(diff_id) => Some(diff_id.clone()),
                LayerKey::Chain(_) => None,
            };
            let Some(diff_id) = diff_id.or(known) else {
                problems.push(format!("layer {key} cannot be verified without a configuration"));
                continue;
            };
            let checked = self.check_layer(layer, &diff_id);
            // One of before there were records cannot be compared, and is not damaged for that.
            if !checked.problems.is_empty() && layer.record_bytes > 0 {
                damaged.push(Arc::clone(layer));
            }
            layers.push(checked);
        }
        if !damaged.is_empty() || !problems.is_empty() {
            store.mark_damaged(&damaged)?;
        }
        Ok(Verified { id: image.record.id.clone(), layers, problems })
    }

    fn check_layer(&self, layer: &Layer, diff_id: &Digest) -> CheckedLayer {
        let folder = self.store().layers.folder_of(layer);
        let mut archive = HashingWriter::new(io::sink());
        let mut problems = Vec::new();
        match replay(&folder, &mut archive) {
            Err(error) => problems.push(crate::error::chain(&error)),
            Ok(damaged) => {
                let more = damaged.len().saturating_sub(MAX_NAMED);
                for damage in damaged.into_iter().take(MAX_NAMED) {
                    problems.push(damage.to_string());
                }
                if more > 0 {
                    problems.push(format!("{more} more files are damaged"));
                }
                let (found, ..) = archive.finish();
                if problems.is_empty() && found != *diff_id {
                    problems.push(format!("its digest is {found}"));
                }
            }
        }
        match self.store().layers.miscounted(layer) {
            Ok(problem) => problems.extend(problem),
            Err(error) => problems.push(format!("it cannot be walked: {error}")),
        }
        CheckedLayer { diff_id: diff_id.clone(), bytes: layer.bytes, problems }
    }

    /// The image of a name.
    pub(super) fn named(&self, any: &str) -> Result<Arc<Image>, ImageError> {
        let found = self.store().find(any)?.and_then(|info| self.store().get(&info.id));
        found.ok_or_else(|| ImageError::NotFound { name: any.to_owned() })
    }

    /// The config, and the diff ids of the layers, lowest first.
    pub(super) fn diff_ids(&self, image: &Image) -> Result<(Vec<u8>, Vec<Digest>), ImageError> {
        let id = &image.record.id;
        let config = self.config_json(id)?;
        let layers = image.record.layers.len();
        let parsed = parse_config(&id.to_string(), &config, layers, &Platform::host())?;
        Ok((config, parsed.diff_ids))
    }

    /// The manifest that the image came with, and its digest; none when it came without.
    pub(super) fn manifest_of(&self, image: &Image) -> Option<(Digest, Vec<u8>)> {
        let config = Digest::from_hex(image.record.id.as_str()).ok()?;
        image.record.blobs.iter().filter(|blob| **blob != config).find_map(|blob| {
            let (_, size) = self.store().content.open_blob(blob)?;
            let bytes = (size <= MAX_DOCUMENT)
                .then(|| self.store().content.read(blob, MAX_DOCUMENT).ok())??;
            use super::manifest::{Document, parse_document};
            match parse_document("", &bytes).ok()? {
                Document::Manifest(m) if m.config.digest == config => Some((blob.clone(), bytes)),
                _ => None,
            }
        })
    }
}
