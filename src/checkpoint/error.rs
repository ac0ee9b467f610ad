//! Why no checkpoint was made, or none came back.

use crate::blocking::BlockingError;
use crate::cgroups::CgroupError;
use crate::cni::helper::HelperError;
use crate::error::{ErrorKind, Kinded};
use crate::oci::OciError;
use std::io;
use std::path::{Path, PathBuf};

/// A checkpoint or a restore that failed.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// There is no criu.
    #[error("criu is not installed: it is at none of {0}")]
    Missing(String),
    /// There is one that gives back less than it took.
    #[error(
        "{program} is criu {found}, and {needed} or newer is needed: 3.17.1 brings processes back without their \
         no_new_privs, and none before {needed} is known to keep it"
    )]
    TooOld {
        /// The program.
        program: PathBuf,
        /// Its version.
        found: String,
        /// The oldest that is taken.
        needed: &'static str,
    },
    /// There is one, and it does not do what is needed.
    #[error("{program} does not work on this kernel: {said}")]
    Unusable {
        /// The program.
        program: PathBuf,
        /// What it said.
        said: String,
    },
    /// A program was not run to its end.
    #[error("run {program}")]
    Run {
        /// The program.
        program: PathBuf,
        /// Why.
        #[source]
        source: HelperError,
    },
    /// A program failed.
    #[error("{program} {verb} failed: {said}")]
    Failed {
        /// The program.
        program: PathBuf,
        /// What it was to do.
        verb: &'static str,
        /// What it said.
        said: String,
    },
    /// Something of the container or of the request does not allow it.
    #[error("container {container}: {reason}")]
    Refused {
        /// The container's name.
        container: String,
        /// Why.
        reason: String,
    },
    /// The caller's time is over.
    #[error("the time for it was over before {0}")]
    Late(&'static str),
    /// The processes of a container do not come to a halt.
    #[error("container {0} did not stand still in time")]
    Restless(String),
    /// The cgroup of a container could not be used.
    #[error("pause container {container}")]
    Cgroup {
        /// Its name.
        container: String,
        /// Why.
        #[source]
        source: CgroupError,
    },
    /// A file of a checkpoint is none.
    #[error("{path} is not part of a checkpoint: {reason}")]
    Format {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// An operation on a file failed.
    #[error("{operation} {path}")]
    File {
        /// What was attempted.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The mounts of a container that is to come back.
    #[error("prepare the mounts")]
    Mounts(#[source] OciError),
    /// The daemon cut it off.
    #[error("it was cut off")]
    Blocking(#[from] BlockingError),
}

impl CheckpointError {
    pub(super) fn file(operation: &'static str, path: &Path, source: io::Error) -> Self {
        Self::File { operation, path: path.to_owned(), source }
    }

    pub(crate) fn refused(container: &str, reason: impl Into<String>) -> Self {
        Self::Refused { container: container.to_owned(), reason: reason.into() }
    }

    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Missing(_)
            | Self::TooOld { .. }
            | Self::Unusable { .. }
            | Self::Refused { .. }
            | Self::Format { .. } => ErrorKind::FailedPrecondition,
            Self::Late(_) | Self::Restless(_) => ErrorKind::DeadlineExceeded,
            Self::Run { source, .. } => source.kind(),
            Self::Cgroup { source, .. } => source.kind(),
            Self::File { source, .. } => match source.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::AlreadyExists => {
                    ErrorKind::FailedPrecondition
                }
                _ => Kinded::kind(source),
            },
            Self::Mounts(source) => source.kind(),
            Self::Blocking(source) => source.kind(),
            Self::Failed { .. } => ErrorKind::Internal,
        }
    }
}
