//! What the rest of berth sees of an image.

use crate::ids::ImageId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// An image as it is listed: one entry an id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageInfo {
    /// The digest of its config.
    pub id: ImageId,
    /// All its tags, normalised (`docker.io/library/busybox:latest`), sorted.
    pub repo_tags: Vec<String>,
    /// All its digest references (`docker.io/library/busybox@sha256:…`), sorted.
    pub repo_digests: Vec<String>,
    /// Bytes on disk: all its layers unpacked, shared ones counted in full, and its documents.
    pub size: u64,
    /// What a container needs of its config.
    pub config: ImageSpec,
    /// Whether image collection must leave it alone.
    pub pinned: bool,
    /// Whether it came from a registry, and can come again.
    pub pulled: bool,
    /// Why no container can be made of it, if so.
    pub corrupt: Option<String>,
    /// When it came here, nanoseconds since 1970.
    pub stored_at_nanos: i64,
}

/// The part of an image's config that shapes containers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageSpec {
    /// `user`, `uid`, `user:group` or `uid:gid`; empty: root.
    pub user: String,
    /// The environment, in order.
    pub env: Vec<(String, String)>,
    /// The entrypoint.
    pub entrypoint: Vec<String>,
    /// Arguments, or the whole command when there is no entrypoint.
    pub cmd: Vec<String>,
    /// The working directory; empty: `/`.
    pub working_dir: String,
    /// The stop signal as the image names it.
    pub stop_signal: Option<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Ports as the image names them (`80/tcp`).
    pub exposed_ports: Vec<String>,
    /// Paths that the image declares as volumes.
    pub volumes: Vec<String>,
}

/// How much of a file system something uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FsUsage {
    /// A path on that file system.
    pub mountpoint: PathBuf,
    /// Bytes on disk.
    pub used_bytes: u64,
    /// Inodes.
    pub inodes_used: u64,
    /// When it was measured, nanoseconds since 1970.
    pub timestamp_nanos: i64,
}

/// Credentials for one registry, as CRI's AuthConfig gives them. In order of precedence: user name
/// and password, identity token, `auth`, registry token; empty: anonymous.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Auth {
    /// The user name.
    pub username: String,
    /// The password.
    pub password: String,
    /// base64 of `user:password`.
    pub auth: String,
    /// The registry these are for; empty: any. Credentials for another one are not sent.
    pub server_address: String,
    /// A refresh token.
    pub identity_token: String,
    /// A bearer token, sent as it is.
    pub registry_token: String,
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Auth").field("server_address", &self.server_address).finish_non_exhaustive()
    }
}

/// Where progress is told; `None`: nobody listens.
pub type Progress = Option<tokio::sync::mpsc::UnboundedSender<ProgressEvent>>;

/// One step of a pull or an import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgressEvent {
    /// The image as it was asked for, or the archive's name for it.
    pub image: String,
    /// The layer's digest; `None`: the image as a whole.
    pub layer: Option<String>,
    /// What happens to it.
    pub phase: Phase,
    /// Bytes of the (compressed) blob done.
    pub current_bytes: u64,
    /// Bytes of the blob in all; 0: not known.
    pub total_bytes: u64,
}

/// What happens to a layer or an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// The manifest is asked for.
    Resolving,
    /// The layer waits for its turn.
    Waiting,
    /// Bytes come in and are unpacked as they come.
    Unpacking,
    /// The layer is here already.
    Present,
    /// The layer is unpacked and verified.
    Done,
    /// The image is visible.
    Complete,
}
