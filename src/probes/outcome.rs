//! What came of an attempt, and what the pod's worker is told.

use super::spec::{Kind, SpecError};
use crate::cri::client::CriError;
use crate::error::{ErrorKind, kinded};
use std::time::{Duration, SystemTime};

/// The most that is read of an answer, be it HTTP's or a command's.
pub const READ_BYTES: usize = 10 << 10;
/// The most that is told of it.
const TOLD_BYTES: usize = 1 << 10;

/// What counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It is as it should be.
    Success,
    /// It is not.
    Failure,
}

/// What an attempt came to, with what there is to say of it: one or a few lines, never an answer's body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    Success(String),
    /// Success, with something that somebody should know.
    Warning(String),
    /// Not as it should be.
    Failure(String),
}

/// Why something could not be tried. No result: the container may be as it should be.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The manifest asks for what cannot be.
    #[error("the probe cannot be made")]
    Spec(#[from] SpecError),
    /// The pod has no address.
    #[error("the pod has no address yet")]
    NoAddress,
    /// The runtime could not run the command.
    #[error("run the command in the container")]
    Exec(#[source] CriError),
}

impl CheckError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Spec(e) => e.kind(),
            Self::NoAddress => ErrorKind::FailedPrecondition,
            Self::Exec(e) => e.kind(),
        }
    }
}
kinded!(CheckError);

/// What an attempt comes to.
pub type Answer = Result<Verdict, CheckError>;

/// A result that is now another than before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The container's name.
    pub container: String,
    /// Its id; the result says nothing of the containers after it.
    pub container_id: String,
    /// Which of its probes.
    pub kind: Kind,
    /// The result.
    pub outcome: Outcome,
    /// What the last attempt said; at most 1 KiB.
    pub message: String,
    /// The time that the container gets to end after this failure, in place of the pod's.
    pub grace: Option<Duration>,
}

/// An attempt of which an event tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The container's name.
    pub container: String,
    /// Its id.
    pub container_id: String,
    /// Which of its probes.
    pub kind: Kind,
    /// The event's message, whole; at most 1 KiB and a few words.
    pub message: String,
}

/// What probes tell the pod's worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// The pod's state may be another now. An attempt that changes no result is none.
    Changed(Finding),
    /// An attempt failed or could not be made: event `Unhealthy`.
    Unhealthy(Notice),
    /// An attempt succeeded with a warning: event `ProbeWarning`.
    Warning(Notice),
}

/// The last attempt of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastResult {
    /// When it ended.
    pub at: SystemTime,
    /// On which container: the one before, perhaps.
    pub container_id: String,
    /// Its outcome; `None` when nothing could be tried.
    pub outcome: Option<Outcome>,
    /// What it said; at most 1 KiB.
    pub message: String,
}

/// How many attempts came to what, over all containers of the name: the metric `prober_probe_total`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Result `successful`.
    pub successful: u64,
    /// Result `failed`.
    pub failed: u64,
    /// Result `unknown`: nothing could be tried.
    pub unknown: u64,
}

/// The beginning of a text, no more than is told of it, without white space around it.
pub(super) fn excerpt(text: &str) -> String {
    let text = text.trim();
    // The byte before which a text is cut must not be inside a character.
    let end = (0..=TOLD_BYTES).rev().find(|end| text.is_char_boundary(*end));
    match end.and_then(|end| text.get(..end)) {
        Some(beginning) if beginning.len() < text.len() => format!("{}…", beginning.trim_end()),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_excerpt_is_the_beginning_and_short(text in "[aä \n]{0,1500}") {
            let told = excerpt(&text);
            prop_assert!(told.len() <= TOLD_BYTES + '…'.len_utf8());
            prop_assert!(text.trim().starts_with(told.trim_end_matches('…')));
        }
    }

    #[test]
    fn a_short_text_is_told_whole() {
        assert_eq!(excerpt(" not ready\n"), "not ready");
    }
}
