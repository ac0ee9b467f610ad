//! What can go wrong with images.

use super::registry::RegistryError;
use super::unpack::UnpackError;
use crate::blocking::BlockingError;
use crate::error::ErrorKind;
use crate::ids::{ContainerId, ImageId};
use crate::store::StoreError;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A failed image operation: by what failed, with the operation and the subject.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The text names no image: it is neither a reference nor an id.
    #[error("{text:?} is not an image reference: {reason}")]
    InvalidReference {
        /// The text, cut to a sane length.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// There is no such image here.
    #[error("image {name:?} not found")]
    NotFound {
        /// The name as it was asked for.
        name: String,
    },
    /// It is mounted into a container as a volume.
    #[error("image {name:?} is in use as a volume of container {container}")]
    InUse {
        /// The name as it was given.
        name: String,
        /// One of those that use it.
        container: ContainerId,
    },
    /// A part of it is missing or damaged on disk.
    #[error("image {name:?} is corrupt: {reason}; pull or import it again")]
    Corrupt {
        /// The image.
        name: String,
        /// What is the matter.
        reason: String,
    },
    /// A short id fits several images.
    #[error("image id prefix {prefix:?} is ambiguous: {count} images begin so")]
    Ambiguous {
        /// The prefix.
        prefix: String,
        /// How many images it fits.
        count: usize,
    },
    /// The registry did not answer, or answered with an error.
    #[error("{operation} {subject}")]
    Registry {
        /// What was asked of it.
        operation: &'static str,
        /// The reference or the blob.
        subject: String,
        /// Which host, and why.
        source: Box<RegistryError>,
    },
    /// The signature policy does not let it be pulled.
    #[error("{image}: {reason}")]
    Policy {
        /// Which image.
        image: String,
        /// What is missing, or what is wrong with the policy.
        reason: String,
    },
    /// A manifest, an index, a config or an archive that cannot be used.
    #[error("{subject}: {reason}")]
    Manifest {
        /// Which document.
        subject: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Content that is not what its digest or size says.
    #[error("{subject} is damaged: expected {expected}, found {found}")]
    Mismatch {
        /// Which content.
        subject: String,
        /// The digest or size that was promised.
        expected: String,
        /// The digest or size that came.
        found: String,
    },
    /// A layer that could not be unpacked.
    #[error("unpack layer {layer}")]
    Unpack {
        /// The layer's digest.
        layer: String,
        /// The entry and the cause.
        source: UnpackError,
    },
    /// A file operation of the store.
    #[error("{operation} {path}")]
    Io {
        /// What was attempted.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// The errno.
        source: io::Error,
    },
    /// A record could not be written or read.
    #[error("keep the record of {subject}")]
    Record {
        /// The image or the snapshot.
        subject: String,
        /// The store's account.
        source: StoreError,
    },
    /// The kernel refused the overlay mount.
    #[error("mount the layers of {subject}{detail}")]
    Overlay {
        /// The container or the image.
        subject: String,
        /// What the kernel logged, in parentheses; may be empty.
        detail: String,
        /// The errno.
        source: io::Error,
    },
    /// A part of an image that cannot be mounted.
    #[error("find {} in image {image}", .path.display())]
    SubPath {
        /// The image.
        image: ImageId,
        /// The part.
        path: PathBuf,
        /// The errno.
        source: io::Error,
    },
    /// The failure of an operation that several callers waited for.
    #[error(transparent)]
    Joined(Arc<ImageError>),
    /// The work was cut off.
    #[error(transparent)]
    Cut(#[from] BlockingError),
}

impl ImageError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::InvalidReference { .. } | Self::Ambiguous { .. } | Self::Manifest { .. } => {
                ErrorKind::InvalidArgument
            }
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Policy { .. } => ErrorKind::PermissionDenied,
            Self::Registry { source, .. } => source.kind(),
            Self::Mismatch { .. } | Self::InUse { .. } | Self::Corrupt { .. } => {
                ErrorKind::FailedPrecondition
            }
            Self::SubPath { .. } => ErrorKind::InvalidArgument,
            Self::Unpack { source, .. } => source.kind(),
            Self::Io { source, .. } | Self::Overlay { source, .. } => io_kind(source),
            Self::Record { source, .. } => source.kind(),
            Self::Joined(inner) => inner.kind(),
            Self::Cut(cut) => cut.kind(),
        }
    }

    /// Whether the signature policy is what is in the way.
    pub fn is_of_policy(&self) -> bool {
        match self {
            Self::Policy { .. } => true,
            Self::Joined(inner) => inner.is_of_policy(),
            _ => false,
        }
    }

    pub(super) fn io(operation: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { operation, path: path.to_owned(), source }
    }

    pub(super) fn registry(operation: &'static str, subject: &str, source: RegistryError) -> Self {
        Self::Registry { operation, subject: subject.to_owned(), source: Box::new(source) }
    }

    pub(super) fn manifest(subject: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Manifest { subject: subject.into(), reason: reason.into() }
    }
}

/// The kind of a failed system call.
pub(super) fn io_kind(error: &io::Error) -> ErrorKind {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::ResourceExhausted,
        io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
        _ => ErrorKind::Internal,
    }
}
