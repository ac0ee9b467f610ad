//! Why a device cannot be given to a container.

use crate::error::ErrorKind;
use std::io;
use std::path::PathBuf;

/// A CDI device that a container cannot have.
#[derive(Debug, thiserror::Error)]
pub enum CdiError {
    /// The text is no name of a device.
    #[error("{name:?} is not a CDI device, vendor/class=name: {reason}")]
    Name {
        /// The text.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// No specification has it.
    #[error("CDI device {name} is unknown{detail}")]
    Unknown {
        /// The device.
        name: String,
        /// Which files could not be used, or empty.
        detail: String,
    },
    /// Two files of the same folder have it.
    #[error("CDI device {name} is in both {} and {}", .first.display(), .second.display())]
    Conflict {
        /// The device.
        name: String,
        /// One file.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// A part of the specification that berth does not do.
    #[error("CDI device {name}: {what} is not supported")]
    Unsupported {
        /// The device.
        name: String,
        /// The field of containerEdits.
        what: &'static str,
    },
    /// A value that cannot be meant.
    #[error("CDI device {name}: {what} {value:?}: {reason}")]
    Invalid {
        /// The device.
        name: String,
        /// The field of containerEdits.
        what: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Something on the host that the device needs.
    #[error("CDI device {name}: look at {}", .path.display())]
    Host {
        /// The device.
        name: String,
        /// What.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl CdiError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Name { .. } => ErrorKind::InvalidArgument,
            Self::Unsupported { .. } => ErrorKind::Unimplemented,
            // The node's files, not the request, are to be changed.
            Self::Unknown { .. }
            | Self::Conflict { .. }
            | Self::Invalid { .. }
            | Self::Host { .. } => ErrorKind::FailedPrecondition,
        }
    }
}

crate::error::kinded!(CdiError);
