//! The writable layer of each container, and the mount of it over its image.
//!
//! `snapshots/<container id>/` holds `fs` (the upper directory), `work` (overlayfs's own) and
//! `snapshot.json`. It is made in `<id>.part` and renamed when complete. The record names its layers
//! by key, so a snapshot outlives its image, and keeps the layers.

use super::content::create_private;
use super::error::ImageError;
use super::info::FsUsage;
use super::layers::{Layer, LayerKey, Layers, View};
use super::metadata::{read_xattrs, set_time, set_xattrs};
use super::tree::Tree;
use super::usage::{Usage, walk};
use crate::idmap::IdMaps;
use crate::ids::{ContainerId, ImageId};
use crate::store;
use crate::sys::mount::{Change, Reach, attr, set_attributes};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsStr;
use std::fs;
use std::hash::Hash;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

const RECORD: &str = "snapshot.json";
/// How old a measured usage may be at least.
const USAGE_AGE: Duration = Duration::from_secs(5);
/// And how many times as old as the measurement took: it uses at most this share of a processor.
const USAGE_SHARE: u32 = 100;
/// As many inodes as one measurement looks at.
const USAGE_INODES: u64 = 500_000;

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    image: ImageId,
    /// Lowest first.
    layers: Vec<LayerKey>,
    /// Layers of the images that are volumes of the container, lowest first.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    volumes: BTreeMap<ImageId, Vec<LayerKey>>,
}

#[derive(Debug)]
struct Snapshot {
    image: ImageId,
    layers: Vec<Arc<Layer>>,
    volumes: Volumes,
    usage: Option<Measured>,
}

/// A usage, and until when it is good enough.
#[derive(Clone, Debug)]
struct Measured {
    until: Instant,
    usage: FsUsage,
}

/// The layers of images that are volumes, lowest first.
pub(super) type Volumes = BTreeMap<ImageId, Vec<Arc<Layer>>>;

/// What a snapshot is made over, and which images it keeps beside.
#[derive(Debug)]
pub(super) struct Over<'a> {
    pub(super) image: &'a ImageId,
    /// Lowest first.
    pub(super) layers: &'a [Arc<Layer>],
    pub(super) volumes: Volumes,
    /// The ids of its container.
    pub(super) maps: Option<&'a IdMaps>,
}

/// All snapshots.
#[derive(Debug)]
pub(super) struct Snapshots {
    folder: PathBuf,
    table: Mutex<HashMap<ContainerId, Snapshot>>,
}

impl Snapshots {
    /// Opens the folder. Half-made snapshots are swept; one whose layers are gone is left on disk,
    /// for its container's removal, but cannot be mounted.
    pub(super) fn open(folder: &Path, layers: &Layers) -> Result<Self, ImageError> {
        create_private(folder)?;
        let mut table = HashMap::new();
        let entries = fs::read_dir(folder).map_err(|e| ImageError::io("list", folder, e))?;
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Ok(id) = ContainerId::parse(&name) else {
                remove_all(&entry.path())?;
                continue;
            };
            let record = match store::load::<Record>(&entry.path().join(RECORD)) {
                Ok(Some(loaded)) => loaded.value,
                Ok(None) => continue,
                Err(e) => {
                    tracing::warn!(container_id = %id, error = %e, "snapshot without a record");
                    continue;
                }
            };
            let all = |keys: &[LayerKey]| -> Option<Vec<_>> {
                keys.iter().map(|key| layers.get(key)).collect()
            };
            let volumes = record.volumes.iter().map(|(id, keys)| Some((id.clone(), all(keys)?)));
            match (all(&record.layers), volumes.collect::<Option<Volumes>>()) {
                (Some(layers), Some(volumes)) => {
                    let image = record.image;
                    table.insert(id, Snapshot { image, layers, volumes, usage: None });
                }
                _ => tracing::warn!(container_id = %id, "snapshot whose layers are gone"),
            }
        }
        Ok(Self { folder: folder.to_owned(), table: Mutex::new(table) })
    }

    fn table(&self) -> MutexGuard<'_, HashMap<ContainerId, Snapshot>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, id: &ContainerId) -> PathBuf {
        self.folder.join(id.as_str())
    }

    /// What is written goes here.
    pub(super) fn upper(&self, id: &ContainerId) -> PathBuf {
        self.path(id).join("fs")
    }

    /// Makes a snapshot. One that is there for the same image stays.
    pub(super) fn prepare(
        &self,
        id: &ContainerId,
        over: Over<'_>,
        store: &Layers,
    ) -> Result<(), ImageError> {
        let Over { image, layers, volumes, maps } = over;
        let path = self.path(id);
        let there = self.table().get(id).map(|snapshot| snapshot.image.clone());
        match there {
            Some(other) if other != *image => {
                let taken = io::Error::from(io::ErrorKind::AlreadyExists);
                return Err(ImageError::io("make a snapshot over another image at", &path, taken));
            }
            Some(_) => return Ok(()),
            // A folder without a usable record is a leftover.
            None => remove_all(&path)?,
        }
        let part = self.folder.join(format!("{id}.part"));
        remove_all(&part)?;
        let upper = part.join("fs");
        create_private(&part.join("work"))?;
        create_private(&upper)?;
        copy_root(store.root_of(layers).as_deref(), &upper, maps)
            .map_err(|e| ImageError::io("set the metadata of", &upper, e))?;
        let keys = |layers: &[Arc<Layer>]| layers.iter().map(|l| l.key.clone()).collect();
        let record = Record {
            image: image.clone(),
            layers: keys(layers),
            volumes: volumes.iter().map(|(id, layers)| (id.clone(), keys(layers))).collect(),
        };
        store::save(&part.join(RECORD), &record)
            .map_err(|source| ImageError::Record { subject: format!("snapshot {id}"), source })?;
        fs::rename(&part, &path).map_err(|e| ImageError::io("commit snapshot", &path, e))?;
        let (image, layers) = (image.clone(), layers.to_vec());
        let snapshot = Snapshot { image, layers, volumes, usage: None };
        self.table().insert(id.clone(), snapshot);
        Ok(())
    }

    /// Mounts a snapshot, detached.
    pub(super) fn mount(
        &self,
        id: &ContainerId,
        store: &Layers,
        view: View<'_>,
    ) -> Result<OwnedFd, ImageError> {
        let layers = self.table().get(id).map(|snapshot| snapshot.layers.clone());
        let layers = layers.ok_or_else(|| not_found(id))?;
        let path = self.path(id);
        let upper = Some((path.join("fs"), path.join("work")));
        store.mount(&format!("container {id}"), &layers, upper, view)
    }

    /// Mounts nothing over nothing with mapped ids.
    pub(super) fn try_id_mapped(
        &self,
        store: &Layers,
        space: BorrowedFd<'_>,
    ) -> Result<(), ImageError> {
        try_in(&self.folder, store, space)
    }

    /// Mounts an image that is a volume of the container, detached.
    pub(super) fn mount_volume(
        &self,
        id: &ContainerId,
        (image, sub_path): (&ImageId, &Path),
        store: &Layers,
        view: View<'_>,
    ) -> Result<OwnedFd, ImageError> {
        let layers = self.table().get(id).and_then(|snapshot| snapshot.volumes.get(image).cloned());
        let layers = layers.ok_or_else(|| not_found(id))?;
        let root = store.mount(&format!("image {image}"), &layers, None, view)?;
        let part = match sub_path.as_os_str().is_empty() {
            true => Ok(root),
            false => store.part_of(root, sub_path),
        };
        let sealed = part.and_then(|part| {
            let readonly = Change { set: attr::RDONLY, ..Change::default() };
            set_attributes(part.as_fd(), readonly, Reach::Tree).map(|()| part)
        });
        sealed.map_err(|source| {
            let (image, path) = (image.clone(), sub_path.to_owned());
            ImageError::SubPath { image, path, source }
        })
    }

    /// A container that has the image as a volume.
    pub(super) fn volume_user(&self, image: &ImageId) -> Option<ContainerId> {
        let table = self.table();
        let user = table.iter().find(|(_, snapshot)| snapshot.volumes.contains_key(image));
        user.map(|(id, _)| id.clone())
    }

    /// The images that are volumes of containers.
    pub(super) fn volume_images(&self) -> HashSet<ImageId> {
        self.table().values().flat_map(|snapshot| snapshot.volumes.keys().cloned()).collect()
    }

    /// The image of a container, and those of its volumes.
    pub(super) fn images_of(&self, id: &ContainerId) -> Vec<ImageId> {
        let table = self.table();
        let of = |s: &Snapshot| s.volumes.keys().chain([&s.image]).cloned().collect();
        table.get(id).map(of).unwrap_or_default()
    }

    /// Whether a container is made of an image, or has it as a volume.
    pub(super) fn uses(&self, image: &ImageId) -> bool {
        let table = self.table();
        table.values().any(|s| s.image == *image || s.volumes.contains_key(image))
    }

    /// Something of each layer that containers use.
    pub(super) fn of_layers<T: Eq + Hash>(&self, of: impl Fn(&Layer) -> T) -> HashSet<T> {
        let table = self.table();
        let layers =
            table.values().flat_map(|s| s.layers.iter().chain(s.volumes.values().flatten()));
        layers.map(|layer| of(layer)).collect()
    }

    /// The folder of all snapshots.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// What all writable layers use; each measured as [`Snapshots::usage`] does.
    pub(super) fn total_usage(&self) -> Usage {
        let ids: Vec<ContainerId> = self.table().keys().cloned().collect();
        // One that is removed meanwhile uses nothing.
        ids.iter().filter_map(|id| self.usage(id).ok()).fold(Usage::default(), |sum, of| Usage {
            bytes: sum.bytes + of.used_bytes,
            inodes: sum.inodes + of.inodes_used,
        })
    }

    /// Removes a snapshot; one that is not there is removed already. The layers it held are left
    /// for the next collection.
    pub(super) fn remove(&self, id: &ContainerId) -> Result<(), ImageError> {
        remove_all(&self.path(id))?;
        self.table().remove(id);
        Ok(())
    }

    /// What the writable layer uses, at most a few seconds old.
    pub(super) fn usage(&self, id: &ContainerId) -> Result<FsUsage, ImageError> {
        let known = self.table().get(id).map(|snapshot| snapshot.usage.clone());
        match known {
            None => return Err(not_found(id)),
            Some(Some(known)) if Instant::now() < known.until => return Ok(known.usage),
            Some(_) => {}
        }
        let upper = self.path(id).join("fs");
        let began = Instant::now();
        let usage = walk(&upper, USAGE_INODES)
            .map_err(|e| ImageError::io("measure", &upper, e))?
            .on(&self.folder);
        if let Some(snapshot) = self.table().get_mut(id) {
            let until = Instant::now() + good_for(began.elapsed());
            snapshot.usage = Some(Measured { until, usage: usage.clone() });
        }
        Ok(usage)
    }

    /// Removes all but `live`; answers what it did, a line each.
    pub(super) fn retain(&self, live: &[ContainerId]) -> Vec<String> {
        let mut done = Vec::new();
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(e) => return vec![format!("list {}: {e}", self.folder.display())],
        };
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Ok(id) = ContainerId::parse(&name) else { continue };
            if live.contains(&id) {
                continue;
            }
            done.push(match self.remove(&id) {
                Ok(()) => format!("removed the snapshot of container {id}"),
                Err(e) => crate::error::chain(&e),
            });
        }
        done
    }
}

/// How long a measurement is good that took so long.
fn good_for(took: Duration) -> Duration {
    took.saturating_mul(USAGE_SHARE).max(USAGE_AGE)
}

fn not_found(id: &ContainerId) -> ImageError {
    ImageError::NotFound { name: format!("snapshot of container {id}") }
}

/// The upper directory's metadata is what a container sees of `/`; its owner the host's.
fn copy_root(from: Option<&Path>, upper: &Path, maps: Option<&IdMaps>) -> io::Result<()> {
    let host = |uid, gid| match maps {
        None => (Some(uid), Some(gid)),
        // What is not mapped stays with the host's root, nobody inside.
        Some(maps) => (maps.host_uid(uid), maps.host_gid(gid)),
    };
    let Some(from) = from else {
        let (uid, gid) = host(0, 0);
        std::os::unix::fs::lchown(upper, uid, gid)?;
        return fs::set_permissions(upper, fs::Permissions::from_mode(0o755));
    };
    let metadata = fs::symlink_metadata(from)?;
    let (uid, gid) = host(metadata.uid(), metadata.gid());
    std::os::unix::fs::lchown(upper, uid, gid)?;
    fs::set_permissions(upper, fs::Permissions::from_mode(metadata.mode() & 0o7777))?;
    let (from, to) = (Tree::open(from)?, Tree::open(upper)?);
    let dot = OsStr::new(".");
    let xattrs = read_xattrs(from.root(), dot)?;
    set_xattrs(to.root(), dot, &xattrs).map_err(|(_, e)| e)?;
    let time = nix::sys::time::TimeSpec::new(metadata.mtime(), metadata.mtime_nsec());
    set_time(to.root().as_fd(), dot, time)
}

/// Removes a folder by way of a name that start-up sweeps.
fn remove_all(path: &Path) -> Result<(), ImageError> {
    let gone = path.with_extension("gone");
    let result = match fs::rename(path, &gone) {
        Ok(()) => fs::remove_dir_all(&gone),
        // The rename replaced nothing because an earlier removal was cut off.
        Err(e) if e.raw_os_error() == Some(libc::ENOTEMPTY) => {
            fs::remove_dir_all(&gone).and_then(|()| fs::remove_dir_all(path))
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => fs::remove_dir_all(&gone),
        Err(e) => Err(e),
    };
    match result {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(ImageError::io("remove", path, e)),
        _ => Ok(()),
    }
}

/// Whether root file systems can have their image's ids mapped below a folder that has no store of images: by
/// making an empty one there, which stays, and mounting from it.
///
/// # Errors
/// The kernel's refusal.
pub fn try_id_mapped(folder: &Path, space: BorrowedFd<'_>) -> Result<(), ImageError> {
    try_in(folder, &Layers::open(folder)?, space)
}

fn try_in(folder: &Path, store: &Layers, space: BorrowedFd<'_>) -> Result<(), ImageError> {
    // No container's name: swept at the next start, should this one be cut off.
    let probe = folder.join("probe.part");
    remove_all(&probe)?;
    let (upper, work) = (probe.join("fs"), probe.join("work"));
    create_private(&upper)?;
    create_private(&work)?;
    let view = View { space: Some(space), label: None };
    let mounted = store.mount("id-mapped layers", &[], Some((upper, work)), view);
    remove_all(&probe)?;
    mounted.map(drop)
}
