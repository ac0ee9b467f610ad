//! What kinds of failure a caller can tell apart, and how an error chain is printed.
//!
//! Every module has its own error enum; each answers `kind()`. Only `cri::status` turns a kind into
//! a gRPC code.

use std::fmt::Write as _;

/// The coarse kind of an error: what the caller can do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The named object does not exist.
    NotFound,
    /// The name is taken by an object that differs, or is in a state that forbids the repeat.
    AlreadyExists,
    /// The request itself is wrong; repeating it cannot help.
    InvalidArgument,
    /// The request is right but the object or the node is not in the state for it.
    FailedPrecondition,
    /// The service cannot answer now; the same call may work later.
    Unavailable,
    /// The deadline of the operation passed.
    DeadlineExceeded,
    /// A limit was reached: memory, processes, disk, addresses, message size.
    ResourceExhausted,
    /// Not part of this version.
    Unimplemented,
    /// The host does not permit it.
    PermissionDenied,
    /// Everything else: a failed system call, a broken file, a defect.
    Internal,
}

/// An error that can tell its kind.
pub trait Kinded: std::error::Error + Send + Sync + 'static {
    /// What the caller can do about it.
    fn kind(&self) -> ErrorKind;
}

/// Implements [`Kinded`] by the inherent `kind()` of each named type.
#[cfg(feature = "daemon")]
macro_rules! kinded {
    ($($error:ty),+ $(,)?) => {
        $(impl $crate::error::Kinded for $error {
            fn kind(&self) -> $crate::error::ErrorKind {
                <$error>::kind(self)
            }
        })+
    };
}
#[cfg(feature = "daemon")]
pub(crate) use kinded;

/// A named step of a verb that failed.
#[derive(Debug, thiserror::Error)]
#[error("{step}")]
pub struct StepFailed {
    /// What was attempted, as an infinitive: `create the pod's cgroup`.
    pub step: &'static str,
    /// How the caller shall see it.
    pub kind: ErrorKind,
    /// The cause.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// Names the step at which an operation failed.
pub trait AtStep<T> {
    /// Wraps the error with the step's name and keeps its kind.
    ///
    /// # Errors
    /// The wrapped error, when there was one.
    fn at(self, step: &'static str) -> Result<T, StepFailed>;
}

impl<T, E: Kinded> AtStep<T> for Result<T, E> {
    fn at(self, step: &'static str) -> Result<T, StepFailed> {
        self.map_err(|e| StepFailed { step, kind: e.kind(), source: Box::new(e) })
    }
}

impl Kinded for std::io::Error {
    fn kind(&self) -> ErrorKind {
        match self.raw_os_error() {
            Some(libc::ENOSPC | libc::EDQUOT | libc::EMFILE | libc::ENFILE | libc::ENOMEM) => {
                ErrorKind::ResourceExhausted
            }
            _ => ErrorKind::Internal,
        }
    }
}

/// The error and its sources in one line, joined by `: `.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        // Writing to a String cannot fail.
        write!(text, ": {cause}").ok();
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] std::num::ParseIntError);

    #[test]
    fn a_chain_names_every_cause_once() {
        let error = Outer("x".parse::<u8>().unwrap_err());
        assert_eq!(chain(&error), "outer: invalid digit found in string");
    }
}
