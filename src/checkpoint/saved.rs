//! The files of a checkpoint.
//!
//! ```text
//! pod.json                   of a pod: its configuration, its containers and their folders 0, 1, …
//! 0/container.json           what of the container belongs to the pod: mounts, streams, image
//! 0/config.dump, spec.dump   its request and its OCI configuration
//! 0/images/                  criu's
//! 0/rootfs-diff.tar          what it has written, in overlayfs's own form
//! 0/dump.log                 criu's log
//! ```
//!
//! The archive of one container has the content of such a folder at its top.

use super::CheckpointError;
use crate::container::config::ContainerConfig;
use crate::ids::ImageId;
use crate::sandbox::config::SandboxConfig;
use oci_spec::runtime::Spec;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Arc;

/// The form of a checkpoint that this version writes and reads.
pub(super) const VERSION: u32 = 1;
pub(super) const POD: &str = "pod.json";
pub(super) const CONTAINER: &str = "container.json";
pub(super) const CONFIG: &str = "config.dump";
pub(super) const SPEC: &str = "spec.dump";
pub(super) const IMAGES: &str = "images";
pub(super) const DIFF: &str = "rootfs-diff.tar";
pub(super) const LOG: &str = "dump.log";

/// A pod's.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SavedPod {
    /// The form of the files.
    pub version: u32,
    /// When it was made, Unix nanoseconds.
    pub made_at_nanos: i64,
    /// The pod that it was made of.
    pub config: Arc<SandboxConfig>,
    /// Its containers' names; each is in the folder of its position.
    pub containers: Vec<String>,
}

/// A container's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedContainer {
    /// The form of the files.
    pub version: u32,
    /// Its name.
    pub name: String,
    /// Its id when it was made.
    pub id: String,
    /// Its image.
    pub image_id: ImageId,
    /// The mounts that are not part of the images.
    pub places: Vec<Place>,
    /// The pipes that were its standard streams.
    pub pipes: Vec<Pipe>,
}

/// A mount that is given when the container comes back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Where it is in the container.
    pub at: String,
    /// What it is.
    pub cover: Cover,
}

/// What is mounted at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cover {
    /// A bind mount of the configuration, or what lies below one.
    Bind,
    /// The cover of a masked folder.
    Folder,
    /// The cover of a masked file.
    File,
}

/// A standard stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pipe {
    /// 0, 1 or 2.
    pub fd: u8,
    /// `pipe:[INODE]`.
    pub name: String,
}

/// What is written of one container beside criu's images.
pub(super) struct Parts<'a> {
    pub(super) saved: &'a SavedContainer,
    pub(super) config: &'a ContainerConfig,
    pub(super) spec: &'a Spec,
}

impl Parts<'_> {
    pub(super) fn write(&self, folder: &Path) -> Result<(), CheckpointError> {
        write(&folder.join(CONTAINER), self.saved)?;
        write(&folder.join(CONFIG), self.config)?;
        write(&folder.join(SPEC), self.spec)
    }
}

pub(super) fn write(path: &Path, value: &impl Serialize) -> Result<(), CheckpointError> {
    let text = serde_json::to_vec_pretty(value).map_err(std::io::Error::other);
    let written = text.and_then(|text| std::fs::write(path, text));
    written.map_err(|e| CheckpointError::file("write", path, e))
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T, CheckpointError> {
    let text = std::fs::read(path).map_err(|e| CheckpointError::file("read", path, e))?;
    serde_json::from_slice(&text)
        .map_err(|e| CheckpointError::Format { path: path.to_owned(), reason: e.to_string() })
}

fn known(version: u32, path: &Path) -> Result<(), CheckpointError> {
    if version == VERSION {
        return Ok(());
    }
    let reason = format!("its form is {version}, this version reads {VERSION}");
    Err(CheckpointError::Format { path: path.to_owned(), reason })
}

/// The pod in a folder. Blocks.
///
/// # Errors
/// A file that is missing, or is none of a checkpoint.
pub fn read_pod(folder: &Path) -> Result<SavedPod, CheckpointError> {
    let path = folder.join(POD);
    let pod: SavedPod = read(&path)?;
    known(pod.version, &path)?;
    Ok(pod)
}

/// A container in its folder, and its OCI configuration. Blocks.
///
/// # Errors
/// As [`read_pod`].
pub fn read_container(folder: &Path) -> Result<(SavedContainer, Spec), CheckpointError> {
    let path = folder.join(CONTAINER);
    let container: SavedContainer = read(&path)?;
    known(container.version, &path)?;
    Ok((container, read(&folder.join(SPEC))?))
}
