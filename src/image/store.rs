//! Image records.
//!
//! `records/<image id>.json`: one file an image, with all its tags and digests. An image is visible
//! once its record is: everything the record names is synced to disk before. The index answers
//! lists and look-ups without touching the disk; one writer at a time changes records.
//!
//! When an image was last used is the modification time of its record: set at each use, without a
//! sync, so a power cut may turn it back.
//!
//! A tag belongs to one image. When it moves, the new image's record is written first, so after a
//! cut both may claim it: the later claim wins.

use super::content::{Content, Ingest, create_private};
use super::digest::Digest;
use super::error::ImageError;
use super::index::Index;
use super::info::{ImageInfo, ImageSpec};
use super::layers::{Layer, LayerKey, Layers};
use super::manifest::MAX_DOCUMENT;
use super::usage::now_nanos;
use crate::ids::ImageId;
use crate::store;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

/// The extension of a damaged record, which is kept for its reader until its image comes again.
const ASIDE: &str = "damaged";

/// What is kept of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) id: ImageId,
    /// Tag → when it was given, nanoseconds since 1970.
    pub(super) tags: BTreeMap<String, i64>,
    pub(super) digests: BTreeSet<String>,
    pub(super) spec: ImageSpec,
    /// Lowest first.
    pub(super) layers: Vec<LayerKey>,
    /// Config, manifest and what else is kept as blobs.
    pub(super) blobs: BTreeSet<Digest>,
    /// Bytes of config and manifest.
    pub(super) document_bytes: u64,
    pub(super) stored_at_nanos: i64,
    /// Whether it came from a registry.
    #[serde(default)]
    pub(super) pulled: bool,
}

/// An image in memory. It holds its layers.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) record: Record,
    /// Lowest first; of a corrupt image those that are there.
    pub(super) layers: Vec<Arc<Layer>>,
    /// Why it cannot be used.
    pub(super) corrupt: Option<String>,
    /// Whether its record is damaged: nothing is known of it but its id.
    pub(super) unreadable: bool,
    /// When it was last used, nanoseconds since 1970.
    used: AtomicI64,
}

impl Image {
    /// One whose record can be read; `used_nanos` is when it was last used, since 1970.
    pub(super) fn new(
        record: Record,
        layers: Vec<Arc<Layer>>,
        corrupt: Option<String>,
        used_nanos: i64,
    ) -> Self {
        Self { record, layers, corrupt, unreadable: false, used: AtomicI64::new(used_nanos) }
    }

    /// When it came, or was last used, nanoseconds since 1970.
    pub(super) fn used_nanos(&self) -> i64 {
        self.used.load(Ordering::Relaxed)
    }

    /// The image, after a warning if it is corrupt.
    fn told(self) -> Self {
        if let Some(reason) = &self.corrupt {
            tracing::warn!(image_id = %self.record.id, reason, "image is corrupt");
        }
        self
    }

    /// Nothing, for an image that can be used; `name` is what it was asked for by.
    ///
    /// # Errors
    /// [`ImageError::Corrupt`].
    pub(super) fn usable(&self, name: &str) -> Result<(), ImageError> {
        match &self.corrupt {
            Some(reason) => {
                Err(ImageError::Corrupt { name: name.to_owned(), reason: reason.clone() })
            }
            None => Ok(()),
        }
    }

    /// One whose record is at `path`, set aside.
    fn unreadable(path: &Path, reason: &str) -> Option<Self> {
        let id = ImageId::parse(path.file_stem()?.to_str()?).ok()?;
        let config = Digest::from_hex(id.as_str()).ok()?;
        let used =
            std::fs::metadata(path).and_then(|m| m.modified()).map(nanos_of).unwrap_or_default();
        let record = Record {
            id,
            tags: BTreeMap::new(),
            digests: BTreeSet::new(),
            spec: ImageSpec::default(),
            layers: Vec::new(),
            blobs: BTreeSet::from([config]),
            document_bytes: 0,
            stored_at_nanos: used,
            pulled: false,
        };
        let corrupt = Some(format!("its record is damaged on disk: {reason}"));
        let used = AtomicI64::new(used);
        Some(Self { record, layers: Vec::new(), corrupt, unreadable: true, used })
    }

    fn info(&self) -> ImageInfo {
        let layers: u64 = self.layers.iter().map(|layer| layer.bytes).sum();
        ImageInfo {
            id: self.record.id.clone(),
            repo_tags: self.record.tags.keys().cloned().collect(),
            repo_digests: self.record.digests.iter().cloned().collect(),
            size: layers + self.record.document_bytes,
            config: self.record.spec.clone(),
            pinned: false,
            pulled: self.record.pulled,
            corrupt: self.corrupt.clone(),
            stored_at_nanos: self.record.stored_at_nanos,
        }
    }
}

/// An image that is complete but not visible yet.
#[derive(Debug)]
pub(super) struct NewImage {
    pub(super) config: Vec<u8>,
    pub(super) manifest: Option<Vec<u8>>,
    pub(super) spec: ImageSpec,
    pub(super) layers: Vec<Arc<Layer>>,
    /// Compressed layers to keep, with their digests.
    pub(super) kept: Vec<(Digest, Ingest)>,
    pub(super) tags: Vec<String>,
    pub(super) digests: Vec<String>,
    /// Whether it came from a registry.
    pub(super) pulled: bool,
    /// Whether it brings back what an image that is here lost: nothing else of that changes.
    pub(super) mends: bool,
}

/// Content, layers and records.
#[derive(Debug)]
pub(super) struct Store {
    records: PathBuf,
    pub(super) content: Content,
    pub(super) layers: Layers,
    index: Mutex<Index>,
    /// Held by whoever changes records.
    writing: Mutex<()>,
}

impl Store {
    /// Opens the store. A damaged record is set aside, and its image listed as corrupt without a name: it has
    /// to be pulled again. An image of which a layer is gone is listed as corrupt, and keeps the others.
    pub(super) fn open(images: &Path) -> Result<Self, ImageError> {
        let records = images.join("records");
        create_private(&records)?;
        let content = Content::open(images)?;
        let layers = Layers::open(images)?;
        let mut found: Vec<Image> = Vec::new();
        let paths = store::load_dir(&records).map_err(|source| kept("images", source))?;
        for path in paths {
            match load_image(&path, &layers, &content) {
                Ok(image) => found.push(image.told()),
                Err(reason) => set_aside(&path, &reason),
            }
        }
        for path in aside(&records)? {
            let reason = match store::load::<Record>(&path) {
                Err(error) => crate::error::chain(&error),
                Ok(_) => "it was when it was read first".to_owned(),
            };
            match Image::unreadable(&path, &reason) {
                Some(image) if found.iter().any(|other| other.record.id == image.record.id) => {}
                Some(image) => found.push(image.told()),
                None => tracing::warn!(path = %path.display(), reason, "damaged image record"),
            }
        }
        let index = Mutex::new(Index::build(found));
        Ok(Self { records, content, layers, index, writing: Mutex::new(()) })
    }

    #[cfg(test)]
    pub(super) fn with_way(self, way: super::overlay::Way) -> Self {
        Self { layers: self.layers.with_way(way), ..self }
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, id: &ImageId) -> PathBuf {
        self.records.join(format!("{id}.json"))
    }

    /// All images.
    pub(super) fn list(&self) -> Vec<ImageInfo> {
        self.index().images.values().map(|image| image.info()).collect()
    }

    /// All images with what is kept of them.
    pub(super) fn all(&self) -> Vec<Arc<Image>> {
        self.index().images.values().cloned().collect()
    }

    /// Notes that an image is used now. Best effort: a note that is lost makes it look older.
    pub(super) fn touch(&self, id: &ImageId) {
        let Some(image) = self.get(id) else { return };
        let now = now_nanos();
        image.used.store(now, Ordering::Relaxed);
        self.note_use(id, now);
    }

    fn note_use(&self, id: &ImageId, at_nanos: i64) {
        let at = UNIX_EPOCH + Duration::from_nanos(u64::try_from(at_nanos).unwrap_or(0));
        let path = self.path(id);
        if let Err(e) = File::open(&path).and_then(|file| file.set_modified(at)) {
            tracing::warn!(path = %path.display(), error = %e, "last use of an image not noted");
        }
    }

    /// The image of an id.
    pub(super) fn get(&self, id: &ImageId) -> Option<Arc<Image>> {
        self.index().images.get(id).cloned()
    }

    /// The image that `any` names.
    pub(super) fn find(&self, any: &str) -> Result<Option<ImageInfo>, ImageError> {
        let index = self.index();
        let id = index.find(any)?;
        Ok(id.and_then(|id| index.images.get(&id)).map(|image| image.info()))
    }

    /// Makes an image visible: its documents and layers are synced, then its record is written. An
    /// image that is there already gains the new names.
    pub(super) fn commit(&self, new: NewImage) -> Result<ImageInfo, ImageError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let config = Digest::of(&new.config);
        let id = config
            .image_id()
            .ok_or_else(|| ImageError::manifest(config.to_string(), "the digest is no image id"))?;
        let old = self.get(&id);
        if new.mends && old.is_none() {
            return Err(ImageError::NotFound { name: id.to_string() });
        }
        let config = self.content.put(&new.config)?;
        let mut blobs = BTreeSet::from([config]);
        if let Some(manifest) = &new.manifest {
            blobs.insert(self.content.put(manifest)?);
        }
        for (digest, ingest) in new.kept {
            self.content.commit(ingest, &digest)?;
            blobs.insert(digest);
        }
        let now = now_nanos();
        let bytes = new.config.len() + new.manifest.as_ref().map_or(0, Vec::len);
        let mut record = Record {
            id: id.clone(),
            tags: new.tags.iter().map(|tag| (tag.clone(), now)).collect(),
            digests: new.digests.into_iter().collect(),
            spec: new.spec,
            layers: new.layers.iter().map(|layer| layer.key.clone()).collect(),
            blobs,
            document_bytes: bytes as u64,
            stored_at_nanos: now,
            pulled: new.pulled,
        };
        let mut used = now;
        if let Some(old) = old.filter(|old| !old.unreadable) {
            record.absorb(&old.record);
            if new.mends {
                used = old.used_nanos();
            }
        }
        self.sync()?;
        self.save(&record)?;
        self.note_use(&id, used);
        let losers = self.index().strip(&new.tags, &id);
        for loser in &losers {
            self.save(&loser.record)?;
            self.note_use(&loser.record.id, loser.used_nanos());
        }
        let used = AtomicI64::new(used);
        let image = Image { record, layers: new.layers, corrupt: None, unreadable: false, used };
        let info = image.info();
        let mut index = self.index();
        losers.into_iter().for_each(|loser| index.insert(loser));
        index.insert(image);
        let any_corrupt = index.images.values().any(|image| image.corrupt.is_some());
        drop(index);
        if any_corrupt {
            // What came may be what others lack.
            self.refresh();
        }
        Ok(info)
    }

    /// Marks layers as damaged, and all images that have them as corrupt.
    pub(super) fn mark_damaged(&self, layers: &[Arc<Layer>]) -> Result<(), ImageError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let marked = layers.iter().try_for_each(|layer| self.layers.mark_damaged(layer));
        self.refresh();
        marked
    }

    /// Finds out anew which images are corrupt. For the holder of `writing`.
    fn refresh(&self) {
        for image in self.all().into_iter().filter(|image| !image.unreadable) {
            let (layers, corrupt) = resolve(&image.record, &self.layers, &self.content);
            if corrupt == image.corrupt {
                continue;
            }
            let (record, used) = (image.record.clone(), AtomicI64::new(image.used_nanos()));
            let image = Image { record, layers, corrupt, unreadable: false, used }.told();
            self.index().insert(image);
        }
    }

    /// Removes the image that `any` names, all its names, and what nothing uses any more.
    pub(super) fn remove(&self, any: &str) -> Result<(), ImageError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let id = self.index().find(any)?;
        let Some(id) = id else { return Ok(()) };
        let path = self.path(&id);
        for path in [path.with_extension(ASIDE), path] {
            store::remove(&path).map_err(|source| kept(&format!("image {id}"), source))?;
        }
        self.index().remove(&id);
        self.collect_blobs();
        self.layers.collect();
        Ok(())
    }

    /// Removes layers and blobs that no image, snapshot or pull uses.
    pub(super) fn collect(&self) {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        self.collect_blobs();
        self.layers.collect();
    }

    /// Blobs become visible under the writer's lock only, so what no record names is garbage.
    fn collect_blobs(&self) {
        let wanted =
            self.index().images.values().flat_map(|i| i.record.blobs.iter().cloned()).collect();
        for error in self.content.retain(&wanted) {
            tracing::warn!(error = %crate::error::chain(&error), "unused blob stays");
        }
    }

    fn save(&self, record: &Record) -> Result<(), ImageError> {
        let path = self.path(&record.id);
        store::save(&path, record)
            .map_err(|source| kept(&format!("image {}", record.id), source))?;
        // One that was set aside is replaced by now.
        std::fs::remove_file(path.with_extension(ASIDE)).ok();
        // What was answered as done is still done after a power cut.
        File::open(&path)
            .and_then(|file| file.sync_all())
            .and_then(|()| File::open(&self.records)?.sync_all())
            .map_err(|e| ImageError::io("sync", &path, e))
    }

    /// syncfs(2): everything that a record is about to name is on disk first.
    fn sync(&self) -> Result<(), ImageError> {
        let folder = self.layers.folder();
        File::open(folder)
            .and_then(|file| Ok(nix::unistd::syncfs(&file)?))
            .map_err(|e| ImageError::io("sync", folder, e))
    }
}

fn kept(subject: &str, source: store::StoreError) -> ImageError {
    ImageError::Record { subject: subject.to_owned(), source }
}

fn load_image(path: &Path, layers: &Layers, content: &Content) -> Result<Image, String> {
    let record = match store::load::<Record>(path) {
        Ok(Some(loaded)) => loaded.value,
        Ok(None) => return Err("it vanished".to_owned()),
        Err(e) => return Err(crate::error::chain(&e)),
    };
    let used = std::fs::metadata(path).and_then(|m| m.modified()).map(nanos_of).unwrap_or_default();
    let (layers, corrupt) = resolve(&record, layers, content);
    Ok(Image::new(record, layers, corrupt, used))
}

/// The layers of an image that are there, and why it cannot be used, if so.
fn resolve(
    record: &Record,
    layers: &Layers,
    content: &Content,
) -> (Vec<Arc<Layer>>, Option<String>) {
    let mut corrupt = None;
    let mut found = Vec::new();
    for key in &record.layers {
        match layers.get(key) {
            Some(layer) => {
                if layers.is_damaged(&layer) {
                    corrupt.get_or_insert_with(|| format!("layer {key} is damaged on disk"));
                }
                found.push(layer);
            }
            None => corrupt = Some(format!("layer {key} is missing on disk")),
        }
    }
    let config = Digest::from_hex(record.id.as_str());
    if !config.is_ok_and(|digest| content.read(&digest, MAX_DOCUMENT).is_ok()) {
        corrupt = Some("its configuration is missing or damaged on disk".to_owned());
    }
    (found, corrupt)
}

fn nanos_of(time: std::time::SystemTime) -> i64 {
    let nanos = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    i64::try_from(nanos).unwrap_or(i64::MAX)
}

/// The records that were set aside.
fn aside(records: &Path) -> Result<Vec<PathBuf>, ImageError> {
    let list = || -> std::io::Result<Vec<PathBuf>> {
        std::fs::read_dir(records)?.map(|entry| entry.map(|entry| entry.path())).collect()
    };
    let mut paths = list().map_err(|e| ImageError::io("list", records, e))?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == ASIDE));
    paths.sort();
    Ok(paths)
}

fn set_aside(path: &Path, reason: &str) {
    tracing::warn!(path = %path.display(), reason, "image record set aside; pull the image again");
    if let Err(e) = std::fs::rename(path, path.with_extension(ASIDE)) {
        tracing::warn!(path = %path.display(), error = %e, "damaged image record stays");
    }
}

impl Record {
    /// Takes over what an earlier record of the same image has beyond this one.
    fn absorb(&mut self, old: &Self) {
        for (tag, at) in &old.tags {
            self.tags.entry(tag.clone()).or_insert(*at);
        }
        self.digests.extend(old.digests.iter().cloned());
        self.blobs.extend(old.blobs.iter().cloned());
        self.stored_at_nanos = old.stored_at_nanos;
        self.pulled |= old.pulled;
    }
}
