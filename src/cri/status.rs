//! Errors as gRPC statuses: the only place where an [`ErrorKind`] becomes a code.
//!
//! The message is the whole chain of causes. A kubelet acts on NOT_FOUND, DEADLINE_EXCEEDED and
//! UNIMPLEMENTED; everything else is text to it.

use crate::engine::EngineError;
use crate::error::{ErrorKind, chain};
use crate::image::ImageError;
use std::error::Error;
use tonic::{Code, Status};

/// Messages travel in a header, and clients bound those at 8 to 16 KiB, percent-encoded.
const MAX_MESSAGE: usize = 4 << 10;

/// The status of a failed operation.
pub(crate) fn to_status(kind: ErrorKind, error: &(dyn Error + 'static)) -> Status {
    Status::new(code(kind), cut(chain(error)))
}

impl From<EngineError> for Status {
    fn from(error: EngineError) -> Self {
        to_status(error.kind(), &error)
    }
}

impl From<ImageError> for Status {
    fn from(error: ImageError) -> Self {
        to_status(error.kind(), &error)
    }
}

/// Which code stands for a kind.
fn code(kind: ErrorKind) -> Code {
    match kind {
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::AlreadyExists => Code::AlreadyExists,
        ErrorKind::InvalidArgument => Code::InvalidArgument,
        ErrorKind::FailedPrecondition => Code::FailedPrecondition,
        ErrorKind::Unavailable => Code::Unavailable,
        ErrorKind::DeadlineExceeded => Code::DeadlineExceeded,
        ErrorKind::ResourceExhausted => Code::ResourceExhausted,
        ErrorKind::Unimplemented => Code::Unimplemented,
        ErrorKind::PermissionDenied => Code::PermissionDenied,
        ErrorKind::Internal => Code::Internal,
    }
}

fn cut(mut message: String) -> String {
    if message.len() > MAX_MESSAGE {
        let mut end = MAX_MESSAGE;
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        message.truncate(end);
        message.push('…');
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [ErrorKind; 10] = [
        ErrorKind::NotFound,
        ErrorKind::AlreadyExists,
        ErrorKind::InvalidArgument,
        ErrorKind::FailedPrecondition,
        ErrorKind::Unavailable,
        ErrorKind::DeadlineExceeded,
        ErrorKind::ResourceExhausted,
        ErrorKind::Unimplemented,
        ErrorKind::PermissionDenied,
        ErrorKind::Internal,
    ];

    // A kubelet acts on the code, so two kinds must not share one.
    #[test]
    fn every_kind_has_a_code_of_its_own() {
        let codes: std::collections::HashSet<i32> =
            KINDS.iter().map(|kind| i32::from(code(*kind))).collect();
        assert_eq!(codes.len(), KINDS.len());
        assert!(!codes.contains(&i32::from(Code::Ok)));
    }

    #[derive(Debug, thiserror::Error)]
    #[error("start container web")]
    struct Outer(#[source] std::num::ParseIntError);

    #[test]
    fn the_message_is_the_whole_chain() {
        let status = to_status(ErrorKind::Internal, &Outer("x".parse::<u8>().unwrap_err()));
        assert_eq!(status.message(), "start container web: invalid digit found in string");
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let long = cut("ä".repeat(MAX_MESSAGE));
        assert!(long.len() <= MAX_MESSAGE + '…'.len_utf8() && long.ends_with("ä…"));
        assert_eq!(cut("short".into()), "short");
    }
}
