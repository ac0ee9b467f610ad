//! Why a verb failed. The words that callers search for are in it: `does not exist`, `container not
//! running`, `no such file or directory`.

use super::state::Status;
use std::error::Error;

/// A verb that failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum RuntimeError {
    /// No container has this id.
    #[error("container {id:?} does not exist")]
    NotFound {
        /// The id.
        id: String,
    },
    /// The id is taken.
    #[error("a container with the id {id:?} exists already")]
    Exists {
        /// The id.
        id: String,
    },
    /// It has no process that a signal could reach.
    #[error("container not running: {id:?} is {status}")]
    NotRunning {
        /// The id.
        id: String,
        /// What it is.
        status: Status,
    },
    /// Its state forbids the verb.
    #[error("cannot {verb} container {id:?}: it is {status}")]
    State {
        /// The verb.
        verb: &'static str,
        /// The id.
        id: String,
        /// What it is.
        status: Status,
    },
    /// What was asked for makes no sense, or is not done.
    #[error("{0}")]
    Refused(String),
    /// A step failed.
    #[error("{doing}")]
    Failed {
        /// What was attempted.
        doing: String,
        /// Why not.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

impl RuntimeError {
    /// What was asked for makes no sense, or is not done.
    pub(super) fn refused(why: impl Into<String>) -> Self {
        Self::Refused(why.into())
    }
}

/// Names what was attempted when it failed.
pub(super) trait Doing<T> {
    /// The error with its step.
    fn doing<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T, RuntimeError>;
}

impl<T, E: Into<Box<dyn Error + Send + Sync>>> Doing<T> for Result<T, E> {
    fn doing<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T, RuntimeError> {
        self.map_err(|e| RuntimeError::Failed { doing: what().into(), source: e.into() })
    }
}
