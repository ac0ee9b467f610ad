//! How long pods took from when they were first seen until they ran.

use crate::histogram::Histogram;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Bounds of the times, as a kubelet's.
const BOUNDS: &[Duration] = &[
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(3),
    Duration::from_secs(4),
    Duration::from_secs(5),
    Duration::from_secs(6),
    Duration::from_secs(8),
    Duration::from_secs(10),
    Duration::from_secs(20),
    Duration::from_secs(30),
    Duration::from_secs(45),
    Duration::from_secs(60),
    Duration::from_secs(120),
    Duration::from_secs(180),
    Duration::from_secs(240),
    Duration::from_secs(300),
    Duration::from_secs(360),
    Duration::from_secs(480),
    Duration::from_secs(600),
    Duration::from_secs(900),
    Duration::from_secs(1200),
    Duration::from_secs(1800),
    Duration::from_secs(2700),
    Duration::from_secs(3600),
];

/// The pods that do not run yet, and how long the others took.
#[derive(Debug)]
pub(super) struct Starts {
    seen: BTreeMap<String, Instant>,
    times: Histogram,
}

impl Default for Starts {
    fn default() -> Self {
        Self { seen: BTreeMap::new(), times: Histogram::new(BOUNDS) }
    }
}

impl Starts {
    /// The pod `uid` is in `phase` at `now`; `is_new`: nobody knew it before.
    pub(super) fn saw(&mut self, uid: &str, is_new: bool, phase: Option<&str>, now: Instant) {
        if is_new {
            self.seen.insert(uid.to_owned(), now);
        }
        if matches!(phase, None | Some("Pending")) {
            return;
        }
        let seen = self.seen.remove(uid);
        // A pod that ended before anyone saw it run has run, too; one that failed may have not.
        if let Some(seen) = seen.filter(|_| phase != Some("Failed")) {
            self.times.observe(now.saturating_duration_since(seen));
        }
    }

    /// The pod is gone.
    pub(super) fn forget(&mut self, uid: &str) {
        self.seen.remove(uid);
    }

    /// How long pods took.
    pub(super) fn times(&self) -> Histogram {
        self.times.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_counted_once_when_it_runs_and_one_that_ran_before_is_not() {
        let mut starts = Starts::default();
        let now = Instant::now();
        let later = now + Duration::from_millis(1500);
        starts.saw("new", true, Some("Pending"), now);
        starts.saw("new", false, Some("Running"), later);
        starts.saw("new", false, Some("Succeeded"), later);
        starts.saw("old", false, Some("Running"), later);
        starts.saw("gone", true, Some("Pending"), now);
        starts.forget("gone");
        starts.saw("bad", true, Some("Failed"), now);
        let times = starts.times();
        assert_eq!((times.count(), times.sum()), (1, Duration::from_millis(1500)));
        assert!(starts.seen.is_empty());
    }
}
