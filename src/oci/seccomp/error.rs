//! Why a profile cannot be enforced.

use std::io;
use std::path::PathBuf;

use crate::error::ErrorKind;

/// A profile that cannot be enforced as it is written.
#[derive(Debug, thiserror::Error)]
pub enum SeccompError {
    /// The file cannot be read.
    #[error("read the seccomp profile {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is no profile.
    #[error("the seccomp profile {} is no profile", .path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// A value that no profile may have.
    #[error("seccomp {field} {value:?}: {reason}")]
    Invalid {
        /// The field, as in the profile.
        field: &'static str,
        /// What it holds.
        value: String,
        /// Why not.
        reason: &'static str,
    },
    /// A rule for a system call that no architecture has, in a rule that would restrict.
    #[error(
        "seccomp rule for {name:?}: no system call of that name is known, and the rule would \
         restrict it ({action})"
    )]
    UnknownCall {
        /// The name.
        name: String,
        /// What should be done with it.
        action: String,
    },
    /// Two rules with different actions can both match.
    #[error("seccomp rules for {name}: {first} and {second} can both match the same call")]
    Overlap {
        /// The system call.
        name: String,
        /// One action.
        first: String,
        /// The other.
        second: String,
    },
    /// A part of the format that this executor does not do.
    #[error("seccomp {0} is not supported")]
    Unsupported(String),
    /// The program would be longer than the kernel takes.
    #[error("the seccomp program has {0} instructions, and the kernel takes 4096")]
    TooLong(usize),
}

impl SeccompError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Read { source, .. } => match source.kind() {
                io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
                _ => ErrorKind::InvalidArgument,
            },
            Self::Unsupported(_) => ErrorKind::Unimplemented,
            Self::Parse { .. }
            | Self::Invalid { .. }
            | Self::UnknownCall { .. }
            | Self::Overlap { .. }
            | Self::TooLong(_) => ErrorKind::InvalidArgument,
        }
    }

    pub(super) fn invalid(
        field: &'static str,
        value: impl std::fmt::Display,
        reason: &'static str,
    ) -> Self {
        Self::Invalid { field, value: value.to_string(), reason }
    }
}
