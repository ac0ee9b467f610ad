//! The decisions, a line of JSON each, in a file that is replaced by a new one when it is large.

use super::machine::Crossing;
use super::rank::Candidate;
use super::storage::Over;
use crate::clock::{now_nanos, rfc3339};
use crate::lock::lock;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

/// How large the file gets, bytes. With the one before it there are twice as many.
const MOST_BYTES: u64 = 1 << 20;

/// The signal of a decision about a limit of the pod's own.
pub(super) const LOCAL_STORAGE: &str = "localStorage";

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
    /// All thresholds that were passed for long enough then, the first of them first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) met: Vec<&'static str>,
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
    /// Its uid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) victim_uid: Option<String>,
    /// When it had begun: a pod of the same uid may begin anew.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) victim_start: Option<Time>,
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
            signal: LOCAL_STORAGE,
            hard: true,
            threshold: over.limit,
            observed: over.used,
            victim: Some(victim.to_owned()),
            message: over.message.clone(),
            ..Self::default()
        }
    }
}

/// A decision of the last run about a pod, as far as it concerns the next.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Past {
    pub(super) time: Time,
    pub(super) signal: String,
    pub(super) hard: bool,
    pub(super) victim_uid: String,
    #[serde(default)]
    pub(super) victim_start: Option<Time>,
    #[serde(default)]
    pub(super) grace_seconds: Option<u64>,
    pub(super) message: String,
}

/// The file. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct DecisionLog {
    path: PathBuf,
    most_bytes: u64,
    /// Held while a line is written.
    writes: Arc<Mutex<()>>,
}

impl DecisionLog {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, most_bytes: MOST_BYTES, writes: Arc::default() }
    }

    /// Adds a line. Blocking.
    pub(super) fn append(&self, record: &Record) -> io::Result<()> {
        let mut line = serde_json::to_vec(record)?;
        line.push(b'\n');
        let _writes = lock(&self.writes);
        if fs::metadata(&self.path).is_ok_and(|about| about.len() >= self.most_bytes) {
            fs::rename(&self.path, self.older())?;
        }
        let mut file = fs::OpenOptions::new().create(true).append(true).open(&self.path)?;
        let before = file.metadata()?.len();
        file.write_all(&line).inspect_err(|_| {
            // Half a line would spoil the next one. What cannot be cut off stays.
            file.set_len(before).ok();
        })
    }

    /// The decisions about pods, the oldest first. Blocking. A line that says none is left out.
    pub(super) fn read(&self) -> Vec<Past> {
        let text = |path| fs::read_to_string(path).unwrap_or_default();
        let all = text(self.older()) + &text(self.path.clone());
        all.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    fn older(&self) -> PathBuf {
        self.path.with_extension("log.1")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_is_a_line_and_there_is_one_old_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("evictions.log");
        let log = DecisionLog { most_bytes: 400, ..DecisionLog::new(path.clone()) };
        let over = Over { signal: "s", used: 7, limit: 5, message: "too much".into() };
        for n in 0..9 {
            let mut record = Record::of_storage(&over, &format!("n/p{n}"));
            record.victim_uid = (n != 7).then(|| n.to_string());
            log.append(&record).unwrap();
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
        let past: Vec<String> = log.read().into_iter().map(|past| past.victim_uid).collect();
        assert!(past.ends_with(&["6".into(), "8".into()]), "{past:?}");
    }
}
