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
