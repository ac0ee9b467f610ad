//! The store of images as one value: what the engine and the services hold.

use super::error::ImageError;
use super::info::{Auth, FsUsage, ImageInfo, Progress};
use crate::config::ImageConfig;
use crate::ids::{ContainerId, ImageId};
use crate::store::Layout;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

/// All images and all writable layers. A cheap clone of one shared store.
#[derive(Clone, Debug)]
pub struct Images {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    layout: Layout,
}

impl Images {
    /// Opens the store, and repairs what a cut-off predecessor left.
    ///
    /// # Errors
    /// A folder that cannot be made or read.
    pub fn open(_config: &ImageConfig, layout: &Layout) -> Result<Self, ImageError> {
        Ok(Self { inner: Arc::new(Inner { layout: layout.clone() }) })
    }

    fn stub<T>(&self) -> Result<T, ImageError> {
        Err(ImageError::manifest(self.inner.layout.images().display().to_string(), "not ready"))
    }

    /// Takes all images of an OCI layout (folder or tar) or of a docker-save archive.
    ///
    /// # Errors
    /// An archive that is damaged, or holds no image for this machine.
    pub async fn import(
        &self,
        _path: &Path,
        _progress: Progress,
    ) -> Result<Vec<ImageInfo>, ImageError> {
        self.stub()
    }

    /// Pulls an image; identical pulls in flight are joined. Dropping every waiter cancels it.
    ///
    /// # Errors
    /// The registry's refusal, damaged content, a full disk.
    pub async fn pull(
        &self,
        _reference: &str,
        _auth: Option<Auth>,
        _progress: Progress,
    ) -> Result<ImageId, ImageError> {
        self.stub()
    }

    /// All images, one entry an id. In memory; never waits.
    pub fn list(&self) -> Vec<ImageInfo> {
        Vec::new()
    }

    /// The image that `any` names: id, unique id prefix, `sha256:<id>`, tag, digest, un-normalised
    /// name. In memory; never waits.
    ///
    /// # Errors
    /// Text that names no image at all, or a prefix that fits several.
    pub fn find(&self, _any: &str) -> Result<Option<ImageInfo>, ImageError> {
        Ok(None)
    }

    /// Removes the image that `any` names with all its tags. Layers that a container uses stay
    /// until its snapshot goes. An image that is not there is removed already.
    ///
    /// # Errors
    /// As [`Images::find`]; a record that cannot be removed.
    pub async fn remove(&self, _any: &str) -> Result<(), ImageError> {
        self.stub()
    }

    /// What images use on disk.
    ///
    /// # Errors
    /// None at present.
    pub fn fs_info(&self) -> Result<FsUsage, ImageError> {
        self.stub()
    }

    /// Makes a container's writable layer over an image; made already for the same image: success.
    ///
    /// # Errors
    /// No such image; a folder that cannot be made.
    pub fn prepare_snapshot(&self, _image: &ImageId, _c: &ContainerId) -> Result<(), ImageError> {
        self.stub()
    }

    /// Mounts a container's root file system, detached: the mount lives as long as the descriptor
    /// or what it is attached to. Hold one at a time a container.
    ///
    /// # Errors
    /// No such snapshot; the kernel's refusal.
    pub fn mount_snapshot(&self, _c: &ContainerId) -> Result<OwnedFd, ImageError> {
        self.stub()
    }

    /// Removes a container's writable layer; one that is not there is removed already.
    ///
    /// # Errors
    /// A file that stays.
    pub fn remove_snapshot(&self, _c: &ContainerId) -> Result<(), ImageError> {
        self.stub()
    }

    /// What a container's writable layer uses. Walks it at most once in a few seconds.
    ///
    /// # Errors
    /// No such snapshot.
    pub fn snapshot_usage(&self, _c: &ContainerId) -> Result<FsUsage, ImageError> {
        self.stub()
    }

    /// Removes the writable layers of all containers but `live`. Answers what it did, a line each.
    pub fn retain_snapshots(&self, _live: &[ContainerId]) -> Vec<String> {
        Vec::new()
    }
}
