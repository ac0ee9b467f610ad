//! Why a request cannot become an OCI specification.

use crate::error::ErrorKind;
use crate::oci::seccomp::SeccompError;
use std::io;
use std::path::PathBuf;

/// A request that cannot become an OCI specification.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// Neither the request nor the image says what to run.
    #[error("container {0:?} has no command: neither the request nor the image gives one")]
    NoCommand(String),
    /// A field of the request is wrong in itself.
    #[error("{field} {value:?}: {reason}")]
    Invalid {
        /// The field, as CRI names it.
        field: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A namespace is to be joined and there is no process that holds it.
    #[error("{namespace} namespace of {holder}: no such process runs")]
    NoHolder {
        /// The namespace, as the kernel names it.
        namespace: &'static str,
        /// Who should hold it.
        holder: String,
    },
    /// The seccomp profile cannot be enforced.
    #[error("seccomp profile")]
    Seccomp(#[from] SeccompError),
    /// A host device could not be examined.
    #[error("{operation} device {path}")]
    Device {
        /// What was attempted.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl SpecError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoCommand(_) | Self::Invalid { .. } => ErrorKind::InvalidArgument,
            Self::NoHolder { .. } => ErrorKind::FailedPrecondition,
            Self::Seccomp(error) => error.kind(),
            Self::Device { source, .. } => match source.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::InvalidInput => ErrorKind::InvalidArgument,
                io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
                _ => ErrorKind::Internal,
            },
        }
    }

    /// A wrong field.
    pub(crate) fn invalid(
        field: &'static str,
        value: impl Into<String>,
        reason: &'static str,
    ) -> Self {
        Self::Invalid { field, value: value.into(), reason }
    }
}
