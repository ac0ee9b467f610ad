//! What can fail with systemd.

use crate::error::ErrorKind;
use std::time::Duration;

/// A failed request to systemd.
#[derive(Debug, thiserror::Error)]
pub enum SystemdError {
    /// Nobody answers on the system bus.
    #[error("reach systemd on {address}")]
    Connect {
        /// Where.
        address: &'static str,
        /// Why not.
        source: Box<zbus::Error>,
    },
    /// systemd, or the bus, refused.
    #[error("{operation} {unit}")]
    Call {
        /// What was attempted.
        operation: &'static str,
        /// On which unit.
        unit: String,
        /// What it said.
        source: Box<zbus::Error>,
    },
    /// The unit did not come to the state that was asked for.
    #[error("{operation} {unit}: it is {state}")]
    State {
        /// What was attempted.
        operation: &'static str,
        /// On which unit.
        unit: String,
        /// Its active and sub state.
        state: String,
    },
    /// No end in time.
    #[error("{operation} {unit} took longer than {limit:?}")]
    Deadline {
        /// What was attempted.
        operation: &'static str,
        /// On which unit.
        unit: String,
        /// How long it was waited for.
        limit: Duration,
    },
    /// The daemon is ending, or was never one: requests need its runtime.
    #[error("no runtime for requests to systemd")]
    NoRuntime,
}

impl SystemdError {
    /// The coarse kind.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Connect { .. } | Self::NoRuntime => ErrorKind::Unavailable,
            Self::Call { source, .. } => match told(source) {
                Some(name) if name.ends_with(".InvalidArgs") => ErrorKind::InvalidArgument,
                Some(name) if name.ends_with(".NoSuchUnit") => ErrorKind::NotFound,
                Some(name) if name.ends_with(".AccessDenied") => ErrorKind::PermissionDenied,
                Some(_) => ErrorKind::Internal,
                None => ErrorKind::Unavailable,
            },
            Self::State { .. } => ErrorKind::Internal,
            Self::Deadline { .. } => ErrorKind::DeadlineExceeded,
        }
    }

    /// Whether the answer was this error of systemd's, as `NoSuchUnit`.
    pub(super) fn is(&self, name: &str) -> bool {
        match self {
            Self::Call { source, .. } => {
                told(source).and_then(|told| told.rsplit('.').next()) == Some(name)
            }
            _ => false,
        }
    }
}

/// The name of the error that was the answer; none when there was no answer.
pub(super) fn told(error: &zbus::Error) -> Option<&str> {
    match error {
        zbus::Error::MethodError(name, ..) => Some(name.as_str()),
        _ => None,
    }
}
