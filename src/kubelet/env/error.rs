//! Why a container has no environment.

use super::downward::DownwardError;
use super::values::ValueError;
use crate::error::{ErrorKind, kinded};

/// A variable, or a source of variables, that cannot be made. A user sees it as CreateContainerConfigError.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvError {
    /// A source of `envFrom`.
    #[error("envFrom of container {container:?}")]
    From {
        /// The container.
        container: String,
        /// What is wrong with the object.
        #[source]
        source: Box<ValueError>,
    },
    /// A value of an object.
    #[error("variable {variable:?} of container {container:?}")]
    Value {
        /// The container.
        container: String,
        /// The variable.
        variable: String,
        /// What is wrong with the object.
        #[source]
        source: Box<ValueError>,
    },
    /// A field of the pod, or an amount of its resources.
    #[error("variable {variable:?} of container {container:?}")]
    Downward {
        /// The container.
        container: String,
        /// The variable.
        variable: String,
        /// What is wrong with the reference.
        #[source]
        source: DownwardError,
    },
    /// A source that berth does not read.
    #[error("variable {variable:?} of container {container:?}: {reason}")]
    Source {
        /// The container.
        container: String,
        /// The variable.
        variable: String,
        /// Which.
        reason: &'static str,
    },
}

impl EnvError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::From { source, .. } | Self::Value { source, .. } => source.kind(),
            Self::Downward { source, .. } => source.kind(),
            Self::Source { .. } => ErrorKind::Unimplemented,
        }
    }

    /// The object or the key that the pod names, where that is what is wrong.
    pub fn value(&self) -> Option<&ValueError> {
        match self {
            Self::From { source, .. } | Self::Value { source, .. } => Some(source.as_ref()),
            Self::Downward { .. } | Self::Source { .. } => None,
        }
    }
}

kinded!(EnvError, DownwardError, ValueError);
