//! What the last run had decided and did not see to its end; pure.

use super::log::Past;
use super::orders::verdict;
use crate::kubelet::board::PodView;
use crate::kubelet::spec::grace;
use crate::kubelet::status::{Verdict, start_time};
use crate::kubelet::worker::Ending;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

/// The shortest grace there is.
pub(super) const SHORTEST: Duration = Duration::from_secs(1);

/// A pod that the last run had told to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unfinished {
    pub(super) uid: String,
    /// When it had begun.
    pub(super) start: Option<Time>,
    /// Whether it was told for a hard threshold.
    pub(super) hard: bool,
    /// Whether its end makes room on the node; else it went for what it stored itself.
    pub(super) makes_room: bool,
    /// What is left of its grace.
    pub(super) left: Duration,
    pub(super) verdict: Verdict,
}

impl Unfinished {
    /// The order by which its end goes on.
    pub(super) fn ending(&self) -> Ending {
        let verdict = Some(self.verdict.clone());
        Ending { grace: Some(self.left), verdict, ..Ending::default() }
    }
}

/// Those of whom there still is something, in the order of the decisions. A pod that has begun anew since is another.
pub(super) fn unfinished(
    past: Vec<Past>,
    pods: &BTreeMap<String, PodView>,
    now: SystemTime,
) -> Vec<Unfinished> {
    let mut all: Vec<Unfinished> = Vec::new();
    for of in past {
        let Some(view) = pods.get(&of.victim_uid) else { continue };
        if start_time(&view.pod) != of.victim_start.as_ref() {
            continue;
        }
        let given = of.grace_seconds.map_or_else(|| grace(&view.pod), Duration::from_secs);
        let passed = now.duration_since(SystemTime::from(of.time.0)).unwrap_or_default();
        all.retain(|other| other.uid != of.victim_uid);
        all.push(Unfinished {
            makes_room: of.signal != super::log::LOCAL_STORAGE,
            hard: of.hard,
            left: given.saturating_sub(passed).max(SHORTEST),
            verdict: verdict(&of.message),
            uid: of.victim_uid,
            start: of.victim_start,
        });
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubelet::board::Events;
    use serde_json::json;
    use std::sync::Arc;

    fn view(uid: &str, start: &str) -> (String, PodView) {
        let pod = json!({
            "metadata": {"uid": uid, "name": uid},
            "spec": {"terminationGracePeriodSeconds": 60, "containers": []},
            "status": {"startTime": start},
        });
        let pod = Arc::new(serde_json::from_value(pod).unwrap());
        (uid.to_owned(), PodView { pod, origin: String::new(), events: Events::default() })
    }

    fn past(uid: &str, start: &str, grace: Option<u64>) -> Past {
        let value = json!({
            "time": "2026-01-01T00:00:10.5Z", "signal": "memory.available", "hard": grace == Some(1),
            "victimUid": uid, "victimStart": start, "graceSeconds": grace, "message": "m",
        });
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn whose_end_was_decided_ends_with_what_is_left_of_that_grace() {
        let start = "2026-01-01T00:00:00Z";
        let pods = BTreeMap::from([view("own", start), view("soft", start), view("hard", start)]);
        let now: Time = serde_json::from_value(json!("2026-01-01T00:00:20.5Z")).unwrap();
        let all = vec![
            past("gone", start, Some(1)),
            past("own", start, None),
            past("soft", start, Some(30)),
            past("hard", start, Some(1)),
        ];
        let rows = unfinished(all, &pods, SystemTime::from(now.0));
        let rows: Vec<_> = rows.iter().map(|u| (&*u.uid, u.left.as_secs(), u.hard)).collect();
        assert_eq!(rows, [("own", 50, false), ("soft", 20, false), ("hard", 1, true)]);
    }

    #[test]
    fn a_pod_that_has_begun_anew_since_is_another() {
        let pods = BTreeMap::from([view("a", "2026-01-01T00:00:30Z")]);
        let of = past("a", "2026-01-01T00:00:00Z", Some(1));
        assert_eq!(unfinished(vec![of], &pods, SystemTime::now()), []);
    }
}
