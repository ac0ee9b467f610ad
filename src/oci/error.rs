//! What the daemon's half of the executor refuses.

use std::io;
use std::path::PathBuf;

use super::seccomp::SeccompError;
use crate::error::ErrorKind;

/// A spec that cannot be executed.
#[derive(Debug, thiserror::Error)]
pub enum OciError {
    /// A part of the spec that this executor does not do.
    #[error("{field} is not supported{}", because(.detail))]
    Unsupported {
        /// The field, as in config.json.
        field: String,
        /// More, or empty.
        detail: String,
    },
    /// A value that the OCI specification, or the kernel, forbids.
    #[error("{field} {value:?}: {reason}")]
    Invalid {
        /// The field, as in config.json.
        field: &'static str,
        /// What it holds.
        value: String,
        /// Why not.
        reason: &'static str,
    },
    /// A required part is missing.
    #[error("{field} is missing")]
    Missing {
        /// The field, as in config.json.
        field: &'static str,
    },
    /// The source of a bind mount cannot be had.
    #[error("{operation} {} for the mount at {}", .path.display(), .target.display())]
    Source {
        /// What was attempted.
        operation: &'static str,
        /// The path on the host.
        path: PathBuf,
        /// The mount point in the container.
        target: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The source is not on a mount with the propagation that the container needs.
    #[error(
        "{} for the mount at {} is not on a {needed} mount: make its mount point on the host \
         shared (mount --make-rshared)", .path.display(), .target.display()
    )]
    Propagation {
        /// The path on the host.
        path: PathBuf,
        /// The mount point in the container.
        target: PathBuf,
        /// `shared`, or `shared or slave`.
        needed: &'static str,
    },
    /// A namespace cannot be opened, or, a user namespace, made.
    #[error("open or make the namespace {}", .path.display())]
    Namespace {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The seccomp profile cannot be enforced.
    #[error("linux.seccomp")]
    Seccomp(#[from] SeccompError),
    /// The host's state cannot be read.
    #[error("read {path}")]
    Host {
        /// What.
        path: &'static str,
        /// Why.
        source: io::Error,
    },
}

fn because(detail: &str) -> String {
    if detail.is_empty() { String::new() } else { format!(": {detail}") }
}

impl OciError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Unsupported { .. } => ErrorKind::Unimplemented,
            Self::Invalid { .. } | Self::Missing { .. } => ErrorKind::InvalidArgument,
            Self::Source { source, .. } => match source.raw_os_error() {
                Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP | libc::ENAMETOOLONG) => {
                    ErrorKind::InvalidArgument
                }
                Some(libc::EACCES | libc::EPERM) => ErrorKind::PermissionDenied,
                _ if source.kind() == io::ErrorKind::Unsupported => ErrorKind::FailedPrecondition,
                _ => ErrorKind::Internal,
            },
            Self::Propagation { .. } | Self::Namespace { .. } => ErrorKind::FailedPrecondition,
            Self::Seccomp(error) => error.kind(),
            Self::Host { .. } => ErrorKind::Internal,
        }
    }

    pub(super) fn unsupported(field: impl Into<String>) -> Self {
        Self::Unsupported { field: field.into(), detail: String::new() }
    }

    pub(super) fn invalid(
        field: &'static str,
        value: impl std::fmt::Display,
        reason: &'static str,
    ) -> Self {
        Self::Invalid { field, value: value.to_string(), reason }
    }
}
