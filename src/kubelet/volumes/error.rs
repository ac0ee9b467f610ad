//! Why a volume cannot be set up, mounted or taken away.

use crate::blocking::BlockingError;
use crate::error::{ErrorKind, Kinded, kinded};
use crate::kubelet::env::{DownwardError, ValueError};
use std::io;
use std::path::{Path, PathBuf};

/// A step that failed, on which volume.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// A field that cannot be. Validation does not let it through.
    #[error("volume {volume:?}: {field} {value:?} {reason}")]
    Invalid {
        /// The volume.
        volume: String,
        /// The field.
        field: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A kind of volume that needs an apiserver or a driver.
    #[error("volume {volume:?}: {what} is not supported")]
    Unsupported {
        /// The volume.
        volume: String,
        /// The field of its source.
        what: &'static str,
    },
    /// An object or a key that it names.
    #[error("volume {volume:?}")]
    Value {
        /// The volume.
        volume: String,
        /// What is wrong with the object.
        #[source]
        source: Box<ValueError>,
    },
    /// A field of the pod that it names.
    #[error("volume {volume:?}, file {file:?}")]
    Downward {
        /// The volume.
        volume: String,
        /// The file's path in it.
        file: String,
        /// What is wrong with the reference.
        #[source]
        source: DownwardError,
    },
    /// The host has something else.
    #[error("hostPath volume {volume:?} wants {wanted} at {}, where there is {found}", path.display())]
    HostPath {
        /// The volume.
        volume: String,
        /// The path.
        path: PathBuf,
        /// What its type asks for.
        wanted: &'static str,
        /// What is there.
        found: &'static str,
    },
    /// A mount that a container cannot have.
    #[error("mount {path:?} of container {container:?}: {reason}")]
    Mount {
        /// The container.
        container: String,
        /// Where in the container.
        path: String,
        /// Why not.
        reason: &'static str,
    },
    /// A place in a volume that a container cannot have.
    #[error(
        "subPath {sub_path:?} of volume {volume:?} for container {container:?}: {component:?} {reason}"
    )]
    SubPath {
        /// The container.
        container: String,
        /// The volume.
        volume: String,
        /// The place.
        sub_path: String,
        /// The part of it that is wrong.
        component: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The kernel's refusal.
    #[error("{operation} {}", path.display())]
    Io {
        /// What was attempted.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// The answer.
        #[source]
        source: io::Error,
    },
    /// The pod is to end, or it took too long.
    #[error(transparent)]
    Unwanted(#[from] BlockingError),
}

impl VolumeError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Invalid { .. } | Self::Mount { .. } => ErrorKind::InvalidArgument,
            Self::Unsupported { .. } => ErrorKind::Unimplemented,
            Self::Value { source, .. } => source.kind(),
            Self::Downward { source, .. } => source.kind(),
            Self::HostPath { .. } | Self::SubPath { .. } => ErrorKind::FailedPrecondition,
            Self::Io { source, .. } => Kinded::kind(source),
            Self::Unwanted(source) => source.kind(),
        }
    }

    /// For `map_err`.
    pub(super) fn io<E: Into<io::Error>>(
        operation: &'static str,
        path: &Path,
    ) -> impl FnOnce(E) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { operation, path, source: source.into() }
    }
}

/// All that failed of a clean-up that went on.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.iter().map(|e| crate::error::chain(e)).collect::<Vec<_>>().join("; "))]
pub struct VolumeErrors(pub Vec<VolumeError>);

impl VolumeErrors {
    /// That of the first.
    pub fn kind(&self) -> ErrorKind {
        self.0.first().map_or(ErrorKind::Internal, VolumeError::kind)
    }
}

kinded!(VolumeError, VolumeErrors);
