//! What is known of one image in full, and whether it is still what it was.

use super::digest::Digest;
use super::error::ImageError;
use super::images::Images;
use super::layers::{Layer, LayerKey};
use super::manifest::{MAX_DOCUMENT, Platform, parse_config};
use super::skeleton::{Skeleton, rebuild};
use super::store::Image;
use super::tar_record::TREE;
use crate::blocking;
use crate::ids::ImageId;
use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Problems of one layer that are named; of further ones the number is told.
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

/// What is known of the layers below the one that is compared, lowest first.
#[derive(Default)]
struct Below {
    folders: Vec<PathBuf>,
    /// Their files that do not have their content any more.
    damaged: Vec<HashSet<PathBuf>>,
    skeletons: Vec<Skeleton>,
    /// Whether it is not known what one of them was.
    incomplete: bool,
}

/// What of a layer's files is not as it was; `damaged` are those whose content is known not to be.
fn compare_files(
    skeleton: &Skeleton,
    folder: &Path,
    below: &Below,
    damaged: &mut HashSet<PathBuf>,
) -> io::Result<Vec<String>> {
    let known = |number: usize, path: &Path| {
        below.damaged.get(number).is_some_and(|damaged| damaged.contains(path))
    };
    let copies = skeleton.changed_copies(folder, &below.folders, &known)?;
    let mut problems: Vec<String> =
        copies.iter().map(|path| format!("/{}: its content has changed", path.display())).collect();
    damaged.extend(copies);
    for difference in skeleton.compare(folder)? {
        // That a changed file is of another time goes without saying.
        if !(difference.attribute.is_of_content() && damaged.contains(&difference.path)) {
            problems.push(difference.to_string());
        }
    }
    Ok(problems)
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
    /// its layers, put together again, with their diff ids, and each file with what its archive
    /// says of it. Damaged layers are marked: the image is corrupt from then on, and a pull or an
    /// import brings them anew.
    ///
    /// # Errors
    /// No such image; no room to compare in; a mark that cannot be set.
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
        if image.unreadable {
            problems.extend(image.corrupt.clone());
        }
        let diff_ids = match self.diff_ids(&image) {
            Ok((_, diff_ids)) => diff_ids.into_iter().map(Some).collect(),
            // Layers are verified by what else is known of them.
            Err(_) => vec![None; image.record.layers.len()],
        };
        let (mut layers, mut damaged) = (Vec::new(), Vec::new());
        let mut below = Below::default();
        for (key, diff_id) in image.record.layers.iter().zip(diff_ids) {
            let Some(layer) = image.layers.iter().find(|layer| layer.key == *key) else {
                problems.push(format!("layer {key} is missing"));
                below.incomplete = true;
                continue;
            };
            let known = match key {
                LayerKey::Diff(diff_id) => Some(diff_id.clone()),
                LayerKey::Chain(_) => None,
            };
            let Some(diff_id) = diff_id.or(known) else {
                problems.push(format!("layer {key} cannot be verified without a configuration"));
                below.incomplete = true;
                continue;
            };
            let checked = self.check_layer(layer, &diff_id, &mut below)?;
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

    /// Compares a layer with its record, and adds what is known of it to `below`.
    fn check_layer(
        &self,
        layer: &Layer,
        diff_id: &Digest,
        below: &mut Below,
    ) -> Result<CheckedLayer, ImageError> {
        let layers = &self.store().layers;
        let folder = layers.folder_of(layer);
        let lowers: Vec<Arc<Layer>> =
            below.skeletons.iter().map(|skeleton| Arc::clone(&skeleton.layer)).collect();
        let known = (!below.incomplete).then_some(lowers.as_slice());
        let mut damaged = HashSet::new();
        let (mut problems, skeleton) = match rebuild(layers, &folder, known)? {
            Err(error) => (vec![crate::error::chain(&error)], None),
            Ok(rebuilt) => {
                let in_tree = rebuilt.damaged.iter().filter_map(|d| d.path.strip_prefix(TREE).ok());
                damaged.extend(in_tree.map(Path::to_owned));
                let mut problems: Vec<String> =
                    rebuilt.damaged.iter().map(ToString::to_string).collect();
                let other = problems.is_empty() && rebuilt.digest != *diff_id;
                if other {
                    problems.push(format!("its digest is {}", rebuilt.digest));
                }
                match rebuilt.skeleton {
                    // A sound archive that cannot be unpacked says nothing about the layer.
                    Err(error) if problems.is_empty() => return Err(error),
                    Ok(Some(skeleton)) if !other => (problems, Some(skeleton)),
                    _ => (problems, None),
                }
            }
        };
        match &skeleton {
            Some(skeleton) => match compare_files(skeleton, &folder, below, &mut damaged) {
                Ok(found) => problems.extend(found),
                Err(error) => problems.push(format!("it cannot be compared: {error}")),
            },
            None => match layers.miscounted(layer) {
                Ok(problem) => problems.extend(problem),
                Err(error) => problems.push(format!("it cannot be walked: {error}")),
            },
        }
        let more = problems.len().saturating_sub(MAX_NAMED);
        problems.truncate(MAX_NAMED);
        if more > 0 {
            problems.push(format!("{more} more problems"));
        }
        below.incomplete |= skeleton.is_none();
        below.skeletons.extend(skeleton);
        below.folders.push(folder);
        below.damaged.push(damaged);
        Ok(CheckedLayer { diff_id: diff_id.clone(), bytes: layer.bytes, problems })
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
