//! Collecting images: what there is, the plan (`gc`), and removing by it.

use super::error::ImageError;
use super::gc::{Candidate, Prune, Space, plan};
use super::images::Images;
use super::info::ImageInfo;
use super::usage::now_nanos;
use crate::blocking;
use crate::ids::ImageId;
use nix::sys::statvfs::statvfs;
use std::path::Path;

/// An image that was removed, or would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrunedImage {
    /// Its id.
    pub id: ImageId,
    /// The names that it had.
    pub names: Vec<String>,
    /// What its removal freed: layers that nothing else has, and its documents.
    pub freed_bytes: u64,
}

/// What a collection did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// In order of removal.
    pub images: Vec<PrunedImage>,
    /// How much more the goal asks for; nothing was left to take.
    pub missing_bytes: u64,
    /// What could not be removed, a line each.
    pub failed: Vec<String>,
}

/// Whether anything is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pretend {
    /// It is.
    No,
    /// The answer tells what would be.
    Yes,
}

impl Images {
    /// Removes images by a rule, those used longest ago first. Images of containers, of their
    /// volumes and pinned ones stay. Goes on past what cannot be removed.
    ///
    /// # Errors
    /// The file system's size cannot be read.
    pub async fn prune(&self, rule: Prune, pretend: Pretend) -> Result<Pruned, ImageError> {
        let images = self.clone();
        blocking::run("collect images", move || images.prune_blocking(&rule, pretend)).await?
    }

    fn prune_blocking(&self, rule: &Prune, pretend: Pretend) -> Result<Pruned, ImageError> {
        let space = space(self.folder())?;
        let held = self.snapshots().of_layers(|layer| layer.name.clone());
        let decided = plan(&self.candidates(), &held, rule, space, now_nanos());
        let mut done = Pruned { missing_bytes: decided.missing_bytes, ..Pruned::default() };
        for (id, freed_bytes) in decided.remove {
            let Some(info) = self.find(id.as_str())? else { continue };
            // A container may have come meanwhile.
            if self.is_kept(&info) {
                continue;
            }
            if pretend == Pretend::No
                && let Err(error) = self.store().remove(id.as_str())
            {
                done.failed.push(crate::error::chain(&error));
                continue;
            }
            let names = [info.repo_tags, info.repo_digests].concat();
            if pretend == Pretend::No {
                tracing::info!(image_id = %id, freed_bytes, "image collected");
            }
            done.images.push(PrunedImage { id, names, freed_bytes });
        }
        Ok(done)
    }

    fn candidates(&self) -> Vec<Candidate> {
        let images = self.store().all().into_iter();
        let found = |id: &ImageId| self.find(id.as_str()).ok().flatten();
        images
            .map(|image| Candidate {
                id: image.record.id.clone(),
                used_nanos: image.used_nanos(),
                tagged: !image.record.tags.is_empty(),
                kept: found(&image.record.id).is_some_and(|info| self.is_kept(&info)),
                document_bytes: image.record.document_bytes,
                layers: image.layers.iter().map(|l| (l.name.clone(), l.bytes)).collect(),
            })
            .collect()
    }

    /// Whether collection must leave an image alone.
    fn is_kept(&self, image: &ImageInfo) -> bool {
        image.pinned || self.snapshots().uses(&image.id)
    }
}

fn space(folder: &Path) -> Result<Space, ImageError> {
    let stat = statvfs(folder).map_err(|e| ImageError::io("measure", folder, e.into()))?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.fragment_size());
    let capacity_bytes = bytes(stat.blocks());
    // What is reserved for root counts as used, as it does for a kubelet.
    let used_bytes = capacity_bytes.saturating_sub(bytes(stat.blocks_available()));
    Ok(Space { capacity_bytes, used_bytes })
}
