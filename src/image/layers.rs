//! Unpacked layers on disk, each once, and which of them are still wanted.
//!
//! `layers/<8 hex digits>/` holds the tree `d`, the record `layer.json` and the tar record. Names are short because
//! mount(2) takes one page of them (see `overlay`). A layer that depends on the layers below is
//! known by its chain id, any other by its diff id, and shared by all images that have it.
//!
//! A layer is built in `<name>.part`, renamed when complete, and renamed to `<name>.gone` before it
//! is removed; both are swept at start. A layer that was found damaged is marked so, and goes on to serve
//! containers that have it, while the next image that needs it gets it anew. Images, snapshots and pulls hold `Arc<Layer>`: a layer that
//! only the table holds is garbage.

use super::content::create_private;
use super::digest::Digest;
use super::error::ImageError;
use super::overlay::{Overlay, Stack};
use super::settle::settle;
use super::tar_record::{self, Recorder, TREE};
use super::tree::Tree;
use super::unpack::{UnpackError, Unpacked};
use super::usage::{Usage, walk};
use crate::ids::random_hex;
use crate::store;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const RECORD: &str = "layer.json";
const EMPTY: &str = "empty";
/// Marks a layer of which a verification found files damaged.
const DAMAGED: &str = "damaged";

/// By what a layer is known.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum LayerKey {
    /// The same above any layers.
    Diff(Digest),
    /// Completed from the layers below it.
    Chain(Digest),
}

impl std::fmt::Display for LayerKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Diff(digest) => write!(f, "{digest}"),
            Self::Chain(digest) => write!(f, "with chain id {digest}"),
        }
    }
}

/// How the files of a mount are seen.
#[derive(Clone, Copy, Debug, Default)]
pub struct View<'a> {
    /// The user namespace that maps the layers' ids.
    pub space: Option<BorrowedFd<'a>>,
    /// The SELinux label of all files.
    pub label: Option<&'a str>,
}

/// A committed layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Layer {
    pub(super) key: LayerKey,
    /// The folder's name.
    #[serde(skip)]
    pub(super) name: String,
    pub(super) bytes: u64,
    pub(super) inodes: u64,
    /// Whether it describes the root directory itself.
    pub(super) root_entry: bool,
    /// Whether it hides everything below: overlayfs has no opaque root.
    pub(super) opaque_root: bool,
    /// What the tar record takes, with the files that it keeps. 0: there is none.
    #[serde(default)]
    pub(super) record_bytes: u64,
}

/// The layer store.
#[derive(Debug)]
pub(super) struct Layers {
    folder: PathBuf,
    table: Mutex<BTreeMap<LayerKey, Arc<Layer>>>,
    /// Damaged ones that were replaced in the table; containers may have them mounted.
    replaced: Mutex<Vec<Arc<Layer>>>,
    /// Those of them that were there at the start, until it is known which are in use.
    undecided: Mutex<Vec<Arc<Layer>>>,
    /// The names of damaged ones.
    damaged: Mutex<HashSet<String>>,
    overlay: Overlay,
}

impl Layers {
    /// Opens the store below the images folder. Sweeps what was half made or half removed.
    pub(super) fn open(images: &Path) -> Result<Self, ImageError> {
        let folder = images.join("layers");
        let target = images.join("mnt");
        create_private(&folder)?;
        create_private(&target)?;
        create_private(&folder.join(EMPTY))?;
        let mut found = Vec::new();
        let entries = fs::read_dir(&folder).map_err(|e| ImageError::io("list", &folder, e))?;
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name == EMPTY {
                continue;
            }
            match store::load::<Layer>(&entry.path().join(RECORD)) {
                Ok(Some(loaded)) if !name.contains('.') && entry.path().join(TREE).is_dir() => {
                    found.push(Layer { name, ..loaded.value });
                }
                _ => sweep(&entry.path()),
            }
        }
        let overlay = Overlay::new(folder.clone(), target, EMPTY);
        let is_damaged = |layer: &Layer| folder.join(&layer.name).join(DAMAGED).exists();
        let (damaged, whole): (Vec<_>, Vec<_>) = found.into_iter().partition(is_damaged);
        let names = damaged.iter().map(|layer| layer.name.clone()).collect();
        let (mut table, mut replaced) = (BTreeMap::new(), Vec::new());
        for layer in damaged.into_iter().chain(whole) {
            replaced.extend(table.insert(layer.key.clone(), Arc::new(layer)));
        }
        Ok(Self {
            folder,
            table: Mutex::new(table),
            undecided: Mutex::new(replaced.clone()),
            replaced: Mutex::new(replaced),
            damaged: Mutex::new(names),
            overlay,
        })
    }

    #[cfg(test)]
    pub(super) fn with_way(self, way: super::overlay::Way) -> Self {
        Self { overlay: self.overlay.with_way(way), ..self }
    }

    fn table(&self) -> MutexGuard<'_, BTreeMap<LayerKey, Arc<Layer>>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The layer of this key.
    pub(super) fn get(&self, key: &LayerKey) -> Option<Arc<Layer>> {
        self.table().get(key).cloned()
    }

    /// Marks a layer as damaged: it is not used for further images.
    pub(super) fn mark_damaged(&self, layer: &Layer) -> Result<(), ImageError> {
        let path = self.folder.join(&layer.name).join(DAMAGED);
        fs::write(&path, "").map_err(|e| ImageError::io("mark as damaged", &path, e))?;
        self.damaged_names().insert(layer.name.clone());
        Ok(())
    }

    /// Whether a layer is marked as damaged.
    pub(super) fn is_damaged(&self, layer: &Layer) -> bool {
        self.damaged_names().contains(&layer.name)
    }

    fn damaged_names(&self) -> MutexGuard<'_, HashSet<String>> {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn replaced(&self) -> MutexGuard<'_, Vec<Arc<Layer>>> {
        self.replaced.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Of the replaced layers that were there at the start, keeps those that containers may have
    /// mounted, which are known by their key alone.
    pub(super) fn decide(&self, used: &HashSet<LayerKey>) {
        let mut undecided = self.undecided.lock().unwrap_or_else(PoisonError::into_inner);
        undecided.retain(|layer| used.contains(&layer.key));
    }

    /// A layer's own folder.
    pub(super) fn folder_of(&self, layer: &Layer) -> PathBuf {
        self.folder.join(&layer.name)
    }

    /// What is the matter with the number of files in a layer, if something is.
    pub(super) fn miscounted(&self, layer: &Layer) -> io::Result<Option<String>> {
        let found = walk(&self.folder_of(layer).join(TREE), u64::MAX)?.inodes;
        let wanted = layer.inodes;
        let differs = found != wanted;
        Ok(differs.then(|| format!("it has {found} files; {wanted} were unpacked")))
    }

    /// The layer with this diff id above this chain, however it is known, unless it is damaged.
    pub(super) fn find(&self, diff_id: &Digest, chain_id: &Digest) -> Option<Arc<Layer>> {
        let table = self.table();
        let whole = |key| table.get(&key).filter(|layer| !self.is_damaged(layer)).cloned();
        whole(LayerKey::Diff(diff_id.clone())).or_else(|| whole(LayerKey::Chain(chain_id.clone())))
    }

    /// A new, empty folder to unpack into.
    pub(super) fn begin(&self) -> Result<Part, ImageError> {
        loop {
            let hex =
                random_hex().map_err(|e| ImageError::io("name a layer in", &self.folder, e))?;
            let name = hex.get(..8).unwrap_or(&hex).to_owned();
            if self.folder.join(&name).exists() {
                continue;
            }
            let path = self.folder.join(format!("{name}.part"));
            match fs::create_dir(&path) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(e) => return Err(ImageError::io("create", &path, e)),
            }
            let part = Part { name, path };
            let root = part.root();
            fs::create_dir(&root).map_err(|e| ImageError::io("create", &root, e))?;
            set_root_mode(&root)?;
            return Ok(part);
        }
    }

    /// Completes an unpacked layer above `lowers` (lowest first) and makes it usable. Another that
    /// came first is used instead.
    pub(super) fn commit(
        &self,
        part: Part,
        unpacked: Unpacked,
        lowers: &[Arc<Layer>],
        chain_id: &Digest,
    ) -> Result<Arc<Layer>, ImageError> {
        let needs_lower = unpacked.needs_lower();
        let key = if needs_lower {
            LayerKey::Chain(chain_id.clone())
        } else {
            LayerKey::Diff(unpacked.diff_id.clone())
        };
        if let Some(layer) = self.get(&key).filter(|layer| !self.is_damaged(layer)) {
            return Ok(layer);
        }
        let diff_id = unpacked.diff_id.clone();
        let (root_entry, opaque_root) =
            (unpacked.root_entry, unpacked.opaque.contains(Path::new("")));
        let lower = if needs_lower && !lowers.is_empty() {
            Some(Tree::from_fd(self.mount(&diff_id.to_string(), lowers, None, View::default())?))
        } else {
            None
        };
        let failed = |source| ImageError::Unpack { layer: diff_id.to_string(), source };
        let open = |source| UnpackError::Entry { operation: "open", entry: String::new(), source };
        let tree = Tree::open(&part.root()).map_err(|e| failed(open(e)))?;
        let recorder = unpacked.recorder.clone();
        settle(unpacked, &tree, lower.as_ref()).map_err(failed)?;
        recorder.finish().map_err(|e| ImageError::io("end the tar record in", &part.path, e))?;
        let Usage { bytes, inodes } =
            walk(&part.root(), u64::MAX).map_err(|e| ImageError::io("measure", &part.root(), e))?;
        let record_bytes = part.record_bytes()?;
        let name = part.name.clone();
        let layer = Layer { key, name, bytes, inodes, root_entry, opaque_root, record_bytes };
        self.publish(&part, layer)
    }

    fn publish(&self, part: &Part, layer: Layer) -> Result<Arc<Layer>, ImageError> {
        store::save(&part.path.join(RECORD), &layer).map_err(|source| ImageError::Record {
            subject: format!("layer {}", layer.name),
            source,
        })?;
        let mut table = self.table();
        if let Some(first) = table.get(&layer.key).filter(|first| !self.is_damaged(first)) {
            return Ok(Arc::clone(first));
        }
        let to = self.folder.join(&layer.name);
        fs::rename(&part.path, &to).map_err(|e| ImageError::io("commit layer", &to, e))?;
        let layer = Arc::new(layer);
        let old = table.insert(layer.key.clone(), Arc::clone(&layer));
        self.replaced().extend(old);
        Ok(layer)
    }

    /// Mounts layers (lowest first), detached; `upper` is the writable one on top and overlayfs's work
    /// folder.
    pub(super) fn mount(
        &self,
        subject: &str,
        layers: &[Arc<Layer>],
        upper: Option<(PathBuf, PathBuf)>,
        view: View<'_>,
    ) -> Result<OwnedFd, ImageError> {
        let label = view.label.map(str::to_owned);
        let stack = Stack { lowers: stack(layers), upper, label };
        let mounted = match view.space {
            None => self.overlay.mount(&stack),
            Some(space) => self.overlay.mount_id_mapped(&stack, space),
        };
        mounted.map_err(|refused| ImageError::Overlay {
            subject: subject.to_owned(),
            detail: refused.detail,
            source: refused.source,
        })
    }

    /// A folder or file below the root of a detached mount, as a mount of its own.
    pub(super) fn part_of(&self, root: OwnedFd, path: &Path) -> io::Result<OwnedFd> {
        self.overlay.part_of(root, path)
    }

    /// The tree of the topmost layer (lowest first) that describes the root directory.
    pub(super) fn root_of(&self, layers: &[Arc<Layer>]) -> Option<PathBuf> {
        let layer = layers.iter().rev().find(|layer| layer.root_entry)?;
        Some(self.folder.join(&layer.name).join(TREE))
    }

    /// Removes every layer that nobody but the table holds; goes on past errors.
    pub(super) fn collect(&self) -> usize {
        let mut gone = Vec::new();
        {
            let mut unused = |layer: &Arc<Layer>| {
                if Arc::strong_count(layer) > 1 {
                    return false;
                }
                let from = self.folder.join(&layer.name);
                let to = self.folder.join(format!("{}.gone", layer.name));
                match fs::rename(&from, &to) {
                    Ok(()) => gone.push(to),
                    Err(e) => tracing::warn!(path = %from.display(), error = %e, "layer stays"),
                }
                true
            };
            self.table().retain(|_, layer| !unused(layer));
            self.replaced().retain(|layer| !unused(layer));
        }
        gone.iter().for_each(|path| sweep(path));
        gone.len()
    }

    /// What all layers use.
    pub(super) fn usage(&self) -> Usage {
        self.table().values().fold(Usage::default(), |sum, layer| Usage {
            bytes: sum.bytes + layer.bytes + layer.record_bytes,
            inodes: sum.inodes + layer.inodes,
        })
    }

    /// A folder of the store, for syncfs(2).
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }
}

/// The names to stack, topmost first: nothing below an opaque root, and no folder twice, which the
/// kernel refuses. The topmost of equals wins, as its files would anyway.
fn stack(layers: &[Arc<Layer>]) -> Vec<String> {
    let mut seen = HashSet::new();
    let mut names = Vec::new();
    for layer in layers.iter().rev() {
        if seen.insert(&layer.name) {
            names.push(format!("{}/{TREE}", layer.name));
        }
        if layer.opaque_root {
            break;
        }
    }
    names
}

/// The root of an image whose layers do not describe it.
fn set_root_mode(root: &Path) -> Result<(), ImageError> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(root, fs::Permissions::from_mode(0o755))
        .map_err(|e| ImageError::io("set the mode of", root, e))
}

fn sweep(path: &Path) {
    let removed = match fs::symlink_metadata(path) {
        Ok(m) if m.is_dir() => fs::remove_dir_all(path),
        _ => fs::remove_file(path),
    };
    match removed {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), error = %e, "leftover of the image store stays");
        }
        _ => {}
    }
}

/// A layer that is being unpacked. Dropped without a commit, it is removed.
#[derive(Debug)]
pub(super) struct Part {
    name: String,
    path: PathBuf,
}

impl Part {
    /// Begins the layer's tar record.
    pub(super) fn recorder(&self) -> Result<Recorder, ImageError> {
        Recorder::begin(&self.path)
            .map_err(|e| ImageError::io("begin the tar record in", &self.path, e))
    }

    /// What the tar record takes, with the files that it keeps.
    fn record_bytes(&self) -> Result<u64, ImageError> {
        let measure = || -> io::Result<u64> {
            let record = fs::metadata(self.path.join(tar_record::RECORD))?;
            let aside = match walk(&self.path.join(super::aside::ASIDE), u64::MAX) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => 0,
                usage => usage?.bytes,
            };
            Ok(record.blocks() * 512 + aside)
        };
        measure().map_err(|e| ImageError::io("measure the tar record in", &self.path, e))
    }

    /// The name of its folder, which is not that of the layer yet.
    pub(super) fn file_name(&self) -> String {
        format!("{}.part", self.name)
    }

    /// The tree to unpack into.
    pub(super) fn root(&self) -> PathBuf {
        self.path.join(TREE)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // After a commit the path does not exist any more.
        sweep(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(name: &str, opaque_root: bool) -> Arc<Layer> {
        Arc::new(Layer {
            key: LayerKey::Diff(Digest::of(name.as_bytes())),
            name: name.to_owned(),
            bytes: 0,
            inodes: 0,
            root_entry: false,
            opaque_root,
            record_bytes: 0,
        })
    }

    #[test]
    fn a_stack_has_the_topmost_first_and_nothing_twice_or_hidden() {
        let (a, b, c) = (layer("a", false), layer("b", false), layer("c", true));
        assert_eq!(stack(&[a.clone(), b.clone()]), ["b/d", "a/d"]);
        assert_eq!(stack(&[a.clone(), b.clone(), a.clone()]), ["a/d", "b/d"]);
        assert_eq!(stack(&[a.clone(), c, b]), ["b/d", "c/d"]);
        assert_eq!(stack(&[a.clone(), a]), ["a/d"]);
    }

    #[test]
    fn half_made_and_half_removed_layers_are_swept_at_start() {
        let dir = tempfile::tempdir().unwrap();
        let layers = Layers::open(dir.path()).unwrap();
        std::mem::forget(layers.begin().unwrap());
        for name in ["00000000.gone", "11111111"] {
            fs::create_dir_all(dir.path().join("layers").join(name).join("d/x")).unwrap();
        }
        fs::write(dir.path().join("layers/stray"), "").unwrap();
        Layers::open(dir.path()).unwrap();
        let left: Vec<_> = fs::read_dir(dir.path().join("layers"))
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        assert_eq!(left, ["empty"]);
    }
}
