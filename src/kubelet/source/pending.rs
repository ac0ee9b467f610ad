//! Which files of a directory are being written, by what inotify told. Pure.

use crate::watch::Change;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::time::{Duration, Instant};

/// A writer that was silent for so long has ended, or never closes its file.
const SILENCE: Duration = Duration::from_secs(5);

/// The files into which somebody writes.
#[derive(Clone, Debug, Default)]
pub(super) struct Pending {
    writing: BTreeMap<OsString, Instant>,
    /// Files that were closed or moved here since they were looked at last.
    whole: BTreeMap<OsString, Instant>,
}

impl Pending {
    /// Takes note of a change.
    pub(super) fn note(&mut self, change: Change, now: Instant) {
        match change {
            Change::Writing(name) => {
                self.whole.remove(&name);
                self.writing.insert(name, now);
            }
            Change::Written(name) => {
                self.writing.remove(&name);
                self.whole.insert(name, now);
            }
            Change::Other => {}
        }
    }

    /// Forgets the writers that went silent, and what was told long ago.
    pub(super) fn settle(&mut self, now: Instant) {
        self.writing.retain(|_, at| now.duration_since(*at) < SILENCE);
        self.whole.retain(|_, at| now.duration_since(*at) < SILENCE);
    }

    /// When to look again because a writer may have gone silent.
    pub(super) fn until(&self) -> Option<Instant> {
        self.writing.values().min().map(|at| *at + SILENCE)
    }

    /// Whether a file may be half-written. `age` is that of its last change, `settle` how long a file of which nothing
    /// was told has to lie.
    pub(super) fn is_half(&self, name: &OsStr, age: Duration, settle: Duration) -> bool {
        self.writing.contains_key(name) || !self.whole.contains_key(name) && age < settle
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTLE: Duration = Duration::from_millis(50);
    const OLD: Duration = Duration::from_secs(60);

    fn name(text: &str) -> OsString {
        text.into()
    }

    #[test]
    fn a_file_is_whole_when_it_is_closed_or_has_lain_or_its_writer_went_silent() {
        let now = Instant::now();
        let mut pending = Pending::default();
        let half = |pending: &Pending, age| pending.is_half(&name("f"), age, SETTLE);
        assert!(half(&pending, Duration::ZERO), "nothing was told of a new file");
        assert!(!half(&pending, OLD), "nothing was told of an old file");
        pending.note(Change::Writing(name("f")), now);
        assert!(half(&pending, OLD), "somebody writes");
        assert_eq!(pending.until(), Some(now + SILENCE));
        pending.note(Change::Written(name("f")), now);
        assert!(!half(&pending, Duration::ZERO), "it was closed");
        pending.note(Change::Writing(name("f")), now);
        assert!(half(&pending, Duration::ZERO), "it is written again");
        pending.settle(now + SILENCE);
        assert!(!half(&pending, OLD), "its writer went silent");
        assert_eq!(pending.until(), None);
    }

    #[test]
    fn what_is_told_of_one_file_says_nothing_of_another() {
        let mut pending = Pending::default();
        pending.note(Change::Writing(name("f")), Instant::now());
        assert!(!pending.is_half(&name("g"), OLD, SETTLE));
    }
}
