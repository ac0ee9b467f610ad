//! The decisions, a line of JSON each, in a file that is replaced by a new one when it is large.

use super::machine::Crossing;
use super::rank::Candidate;
use super::storage::Over;
use crate::clock::{now_nanos, rfc3339};
use serde::Serialize;
use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;

/// How large the file gets, bytes. With the one before it there are twice as many.
const MOST_BYTES: u64 = 1 << 20;

/// One decision.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    /// When, RFC 3339.
    pub(super) time: String,
    /// The signal; `localStorage` for a limit of the pod's own.
    pub(super) signal: &'static str,
    /// Whether the threshold was a hard one.
    pub(super) hard: bool,
    /// The threshold, in the signal's unit; the limit of local storage.
    pub(super) threshold: u64,
    /// What was available; what was used of local storage.
    pub(super) observed: u64,
    /// Of how much.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) capacity: Option<u64>,
    /// For memory: what the kernel thinks could be had without swapping, bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) kernel_available: Option<u64>,
    /// The pods in the order in which they would go.
    pub(super) candidates: Vec<Candidate>,
    /// What was removed before.
    pub(super) reclaimed: Reclaimed,
    /// The pod that had to go, `namespace/name`; none: nobody had to, or there was nobody.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) victim: Option<String>,
    /// Its grace, seconds; none: its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) grace_seconds: Option<u64>,
    /// What was said.
    pub(super) message: String,
}

/// What nobody needed, and is gone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Reclaimed {
    /// Ids of containers that had ended.
    pub(super) containers: Vec<String>,
    /// Ids of images.
    pub(super) images: Vec<String>,
}

impl Record {
    pub(super) fn of_signal(crossing: &Crossing) -> Self {
        let (rule, reading) = (&crossing.rule, &crossing.reading);
        Self {
            time: rfc3339(now_nanos()),
            signal: rule.measure.name(),
            hard: rule.hard,
            threshold: rule.below.of(reading.capacity),
            observed: reading.available,
            capacity: Some(reading.capacity),
            ..Self::default()
        }
    }

    pub(super) fn of_storage(over: &Over, victim: &str) -> Self {
        Self {
            time: rfc3339(now_nanos()),
            signal: "localStorage",
            hard: true,
            threshold: over.limit,
            observed: over.used,
            victim: Some(victim.to_owned()),
            message: over.message.clone(),
            ..Self::default()
        }
    }
}

/// The file.
#[derive(Clone, Debug)]
pub(super) struct DecisionLog {
    path: PathBuf,
    most_bytes: u64,
}

impl DecisionLog {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, most_bytes: MOST_BYTES }
    }

    /// Adds a line. Blocking.
    pub(super) fn append(&self, record: &Record) -> io::Result<()> {
        let mut line = serde_json::to_vec(record)?;
        line.push(b'\n');
        if fs::metadata(&self.path).is_ok_and(|about| about.len() >= self.most_bytes) {
            fs::rename(&self.path, self.path.with_extension("log.1"))?;
        }
        fs::OpenOptions::new().create(true).append(true).open(&self.path)?.write_all(&line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_is_a_line_and_there_is_one_old_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("evictions.log");
        let log = DecisionLog { path: path.clone(), most_bytes: 300 };
        let over = Over { used: 7, limit: 5, message: "too much".into() };
        for n in 0..9 {
            log.append(&Record::of_storage(&over, &format!("n/p{n}"))).unwrap();
        }
        let mut names: Vec<_> =
            fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["evictions.log", "evictions.log.1"]);
        let text = fs::read_to_string(path).unwrap();
        let last: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert_eq!(last["victim"], "n/p8");
        assert_eq!((&last["observed"], &last["threshold"]), (&7.into(), &5.into()));
        assert_eq!(last["signal"], "localStorage");
    }
}
