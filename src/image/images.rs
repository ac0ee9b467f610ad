//! The store of images as one value: what the engine and the services hold.

use super::archive::Archive;
use super::assemble::{Assembler, Source};
use super::error::ImageError;
use super::import;
use super::info::{Auth, FsUsage, ImageInfo, Progress};
use super::layers::View;
use super::manifest::MAX_DOCUMENT;
use super::pins::Pins;
use super::progress::Listeners;
use super::pull::Pulls;
use super::reference::Reference;
use super::registry::Access;
use super::snapshot::{Over, Snapshots, Volumes};
use super::store::Store;
use super::usage::Usage;
use crate::blocking;
use crate::cgroups::Cgroups;
use crate::config::ImageConfig;
use crate::idmap::IdMaps;
use crate::ids::{ContainerId, ImageId};
use crate::store::Layout;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// All images and all writable layers. A cheap clone of one shared store.
#[derive(Clone, Debug)]
pub struct Images {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    images: PathBuf,
    config: ImageConfig,
    store: Arc<Store>,
    snapshots: Snapshots,
    assembler: Arc<Assembler>,
    pulls: Pulls,
    pins: Pins,
}

impl Images {
    /// Opens the store, and repairs what a cut-off predecessor left: half-made content is removed; an
    /// image with a damaged record or a missing layer is told as corrupt. See [`Images::mend`].
    ///
    /// # Errors
    /// A folder that cannot be made or read.
    pub fn open(config: &ImageConfig, layout: &Layout) -> Result<Self, ImageError> {
        let images = layout.images();
        Self::with_store(config, layout, Store::open(&images)?)
    }

    pub(super) fn with_store(
        config: &ImageConfig,
        layout: &Layout,
        store: Store,
    ) -> Result<Self, ImageError> {
        let snapshots = Snapshots::open(&layout.snapshots(), &store.layers)?;
        store.layers.decide(&snapshots.of_layers(|layer| layer.key.clone()));
        // Snapshots and images hold their layers by now; the rest is garbage.
        store.collect();
        let store = Arc::new(store);
        let assembler = Arc::new(Assembler::new(Arc::clone(&store), config.clone()));
        let pulls = Pulls::new(Access::new(config));
        let (images, config) = (layout.images(), config.clone());
        let pins = Pins::new(&config.pinned);
        let inner = Inner { images, config, store, snapshots, assembler, pulls, pins };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// From now on credential helpers can be run, each in a cgroup of its own; before, a pull that needs one fails.
    pub fn run_helpers_in(&self, cgroups: Cgroups) {
        self.inner.pulls.access().run_helpers_in(cgroups);
    }

    /// Takes all images of an OCI layout (folder or tar) or of a docker-save archive, one after the
    /// other. What was complete when one fails stays.
    ///
    /// # Errors
    /// An archive that is damaged, or holds no image for this machine.
    pub async fn import(
        &self,
        path: &Path,
        progress: Progress,
    ) -> Result<Vec<ImageInfo>, ImageError> {
        let listeners = Listeners::default();
        listeners.add(progress);
        let (inner, path) = (Arc::clone(&self.inner), path.to_owned());
        let archive = blocking::run("open an archive", move || {
            Archive::open(&path, &inner.store.content, inner.config.max_layer_bytes)
        })
        .await??;
        let archive = Arc::new(archive);
        let source = Source::Archive(Arc::clone(&archive));
        let mut imported = Vec::new();
        for plan in import::plans(archive).await? {
            imported.push(self.inner.assembler.assemble(&source, plan, &listeners).await?);
        }
        Ok(imported)
    }

    /// Pulls an image; identical pulls in flight are joined. Dropping every waiter cancels it, and
    /// nothing half-made is visible then.
    ///
    /// # Errors
    /// The registry's refusal, damaged content, a full disk.
    pub async fn pull(
        &self,
        reference: &str,
        auth: Option<Auth>,
        progress: Progress,
    ) -> Result<ImageId, ImageError> {
        let reference = Reference::parse(reference)?;
        self.inner.pulls.pull(&self.inner.assembler, reference, auth, progress).await
    }

    /// All images, one entry an id, by id. In memory; never waits. Those that are volumes of
    /// containers are pinned, and those that the configuration names.
    pub fn list(&self) -> Vec<ImageInfo> {
        let mut all = self.inner.store.list();
        let volumes = self.inner.snapshots.volume_images();
        for image in &mut all {
            image.pinned = volumes.contains(&image.id) || self.inner.pins.hold(image);
        }
        all
    }

    /// The image that `any` names: id, unique id prefix, `sha256:<id>`, tag, digest, un-normalised
    /// name. In memory; never waits.
    ///
    /// # Errors
    /// Text that names no image at all, or a prefix that fits several.
    pub fn find(&self, any: &str) -> Result<Option<ImageInfo>, ImageError> {
        let mut found = self.inner.store.find(any)?;
        if let Some(image) = &mut found {
            let volume = self.inner.snapshots.volume_user(&image.id).is_some();
            image.pinned = volume || self.inner.pins.hold(image);
        }
        Ok(found)
    }

    /// The image's config as its author wrote it (JSON), for verbose status.
    ///
    /// # Errors
    /// A config that is missing or damaged on disk.
    pub fn config_json(&self, image: &ImageId) -> Result<Vec<u8>, ImageError> {
        let digest = super::digest::Digest::from_hex(image.as_str())
            .map_err(|e| ImageError::manifest(image.to_string(), e.to_string()))?;
        self.inner.store.content.read(&digest, MAX_DOCUMENT)
    }

    /// Removes the image that `any` names with all its tags. Layers that a container uses stay
    /// until its snapshot goes. An image that is not there is removed already.
    ///
    /// # Errors
    /// As [`Images::find`]; a volume of a container; a record that cannot be removed.
    pub async fn remove(&self, any: &str) -> Result<(), ImageError> {
        let (inner, any) = (Arc::clone(&self.inner), any.to_owned());
        blocking::run("remove an image", move || {
            let found = inner.store.find(&any)?;
            match found.and_then(|image| inner.snapshots.volume_user(&image.id)) {
                Some(container) => Err(ImageError::InUse { name: any, container }),
                None => inner.store.remove(&any),
            }
        })
        .await?
    }

    /// What images use on disk: all layers and documents, not containers' writable layers.
    ///
    /// # Errors
    /// None at present.
    pub fn fs_info(&self) -> Result<FsUsage, ImageError> {
        let layers = self.inner.store.layers.usage();
        let (bytes, inodes) = self.inner.store.content.usage();
        let usage = Usage { bytes: layers.bytes + bytes, inodes: layers.inodes + inodes };
        Ok(usage.on(&self.inner.images))
    }

    /// What all containers' writable layers use on disk. The mount point is that of the images when
    /// both are on one file system: by a different one a kubelet tells that they are not.
    ///
    /// # Errors
    /// A folder that cannot be looked at.
    pub fn container_fs_info(&self) -> Result<FsUsage, ImageError> {
        let (images, snapshots) = (&self.inner.images, &self.inner.snapshots);
        let device = |path: &Path| {
            let metadata =
                std::fs::metadata(path).map_err(|e| ImageError::io("look at", path, e))?;
            Ok::<_, ImageError>(std::os::unix::fs::MetadataExt::dev(&metadata))
        };
        let one = device(images)? == device(snapshots.folder())?;
        let mountpoint = if one { images } else { snapshots.folder() };
        Ok(snapshots.total_usage().on(mountpoint))
    }

    pub(super) fn folder(&self) -> &Path {
        &self.inner.images
    }

    pub(super) fn store(&self) -> &Store {
        &self.inner.store
    }

    pub(super) fn assembler(&self) -> &Assembler {
        &self.inner.assembler
    }

    /// How registries are reached.
    pub(super) fn access(&self) -> &Arc<Access> {
        self.inner.pulls.access()
    }

    pub(super) fn snapshots(&self) -> &Snapshots {
        &self.inner.snapshots
    }

    /// Makes a container's writable layer over an image, and keeps the images that are its volumes;
    /// made already for the same image: success. Blocks on the disk.
    ///
    /// # Errors
    /// No such image; a folder that cannot be made.
    pub fn prepare_snapshot(
        &self,
        image: &ImageId,
        c: &ContainerId,
        volumes: &[ImageId],
        maps: Option<&IdMaps>,
    ) -> Result<(), ImageError> {
        let store = &self.inner.store;
        let get = |image: &ImageId| {
            let name = image.to_string();
            let Some(found) = store.get(image) else { return Err(ImageError::NotFound { name }) };
            found.usable(&name)?;
            Ok(found)
        };
        let found = get(image)?;
        let volumes = volumes.iter().map(|id| Ok((id.clone(), get(id)?.layers.clone())));
        let volumes = volumes.collect::<Result<Volumes, ImageError>>()?;
        let used: Vec<ImageId> = volumes.keys().chain([image]).cloned().collect();
        let over = Over { image, layers: &found.layers, volumes, maps };
        self.inner.snapshots.prepare(c, over, &store.layers)?;
        used.iter().for_each(|image| store.touch(image));
        Ok(())
    }

    /// Mounts what a container has of an image as its volume, detached and writable by nobody:
    /// the path in it, or all of it when that is empty. Symlinks in the path lead nowhere out of
    /// the image.
    ///
    /// # Errors
    /// An image that is none of the container's volumes; no such path; the kernel's refusal.
    pub fn mount_volume(
        &self,
        c: &ContainerId,
        part: (&ImageId, &Path),
        view: View<'_>,
    ) -> Result<OwnedFd, ImageError> {
        self.inner.snapshots.mount_volume(c, part, &self.inner.store.layers, view)
    }

    /// Mounts a container's root file system, detached: the mount lives as long as the descriptor
    /// or where it is attached. Every call is a mount of its own: use one at a time a container,
    /// and `sys::mount::clone_tree` for more of it. A user namespace is that of the maps the layer was
    /// prepared with.
    ///
    /// # Errors
    /// No such snapshot; the kernel's refusal.
    pub fn mount_snapshot(&self, c: &ContainerId, view: View<'_>) -> Result<OwnedFd, ImageError> {
        self.inner.snapshots.mount(c, &self.inner.store.layers, view)
    }

    /// Whether root file systems can have their image's ids mapped here: by mounting one.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn try_id_mapped(&self, space: BorrowedFd<'_>) -> Result<(), ImageError> {
        self.inner.snapshots.try_id_mapped(&self.inner.store.layers, space)
    }

    /// The folder of what a container has written, in overlayfs's own form.
    pub fn writable_layer(&self, c: &ContainerId) -> PathBuf {
        self.inner.snapshots.upper(c)
    }

    /// Removes a container's writable layer; one that is not there is removed already. Layers that
    /// only it used go, too.
    ///
    /// # Errors
    /// A file that stays.
    pub fn remove_snapshot(&self, c: &ContainerId) -> Result<(), ImageError> {
        let used = self.inner.snapshots.images_of(c);
        self.inner.snapshots.remove(c)?;
        // They were in use until now.
        used.iter().for_each(|image| self.inner.store.touch(image));
        self.inner.store.layers.collect();
        Ok(())
    }

    /// What a container's writable layer uses. Walks it at most once in a few seconds, and looks at
    /// a bounded number of files: above that, the answer is a lower bound.
    ///
    /// # Errors
    /// No such snapshot.
    pub fn snapshot_usage(&self, c: &ContainerId) -> Result<FsUsage, ImageError> {
        self.inner.snapshots.usage(c)
    }

    /// Removes the writable layers of all containers but `live`. Answers what it did, a line each.
    pub fn retain_snapshots(&self, live: &[ContainerId]) -> Vec<String> {
        let done = self.inner.snapshots.retain(live);
        self.inner.store.layers.collect();
        done
    }
}
