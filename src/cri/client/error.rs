//! A verb that failed, as either implementation tells it.

use crate::error::ErrorKind;
use tonic::{Code, Status};

/// A verb that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{verb}: {message}")]
pub struct CriError {
    verb: &'static str,
    code: Code,
    message: String,
}

impl CriError {
    /// `status`, as the answer to `verb`.
    pub(super) fn of(verb: &'static str, status: &Status) -> Self {
        Self { verb, code: status.code(), message: status.message().to_owned() }
    }

    /// The verb did not answer in its time.
    pub(super) fn late(verb: &'static str, limit: std::time::Duration) -> Self {
        let message = format!("no answer within {} s", limit.as_secs());
        Self { verb, code: Code::DeadlineExceeded, message }
    }

    /// What the runtime said, without the verb.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Whether the object does not exist.
    pub fn is_not_found(&self) -> bool {
        self.code == Code::NotFound
    }

    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self.code {
            Code::NotFound => ErrorKind::NotFound,
            Code::AlreadyExists => ErrorKind::AlreadyExists,
            Code::InvalidArgument | Code::OutOfRange => ErrorKind::InvalidArgument,
            Code::FailedPrecondition | Code::Aborted => ErrorKind::FailedPrecondition,
            Code::Unavailable | Code::Cancelled => ErrorKind::Unavailable,
            Code::DeadlineExceeded => ErrorKind::DeadlineExceeded,
            Code::ResourceExhausted => ErrorKind::ResourceExhausted,
            Code::Unimplemented => ErrorKind::Unimplemented,
            Code::PermissionDenied | Code::Unauthenticated => ErrorKind::PermissionDenied,
            Code::Ok | Code::Unknown | Code::Internal | Code::DataLoss => ErrorKind::Internal,
        }
    }
}
