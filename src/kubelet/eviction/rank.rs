//! Who has to go first; pure.
//!
//! Memory, bytes and inodes: who uses more than it asked for before who does not; then the lower priority; then who is
//! further beyond its request. Process ids: the lower priority, then who has more. Who runs and is told of without a
//! figure goes before all of them; for process ids, before those of its priority. Whose figures could not be had is no
//! candidate. Who is critical never goes.

use super::machine::Resource;
use serde::Serialize;
use std::cmp::Reverse;

/// A pod that may have to go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Candidate {
    pub(super) uid: String,
    /// `namespace/name`.
    pub(super) pod: String,
    pub(super) priority: i32,
    /// What it asked for.
    pub(super) request: u64,
    /// What it uses; none if the runtime tells of it without that figure.
    pub(super) used: Option<u64>,
    /// Whether it is never a victim.
    pub(super) critical: bool,
}

impl Candidate {
    fn exceeds(&self) -> bool {
        self.used.is_none_or(|used| used > self.request)
    }

    /// What it uses less what it asked for.
    fn beyond(&self) -> i128 {
        i128::from(self.used.unwrap_or(0)) - i128::from(self.request)
    }
}

/// The candidates in the order in which they go, without those that never do.
pub(super) fn rank(resource: Resource, candidates: Vec<Candidate>) -> Vec<Candidate> {
    let mut all: Vec<Candidate> = candidates.into_iter().filter(|c| !c.critical).collect();
    match resource {
        Resource::Pids => {
            all.sort_by_key(|c| (c.priority, c.used.is_some(), Reverse(c.used), c.pod.clone()));
        }
        Resource::Memory | Resource::Bytes | Resource::Inodes => all.sort_by_key(|c| {
            let known = c.used.is_some();
            (Reverse(c.exceeds()), known, c.priority, Reverse(c.beyond()), c.pod.clone())
        }),
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn candidate(pod: &str, priority: i32, request: u64, used: Option<u64>) -> Candidate {
        let (uid, pod) = (pod.to_owned(), pod.to_owned());
        Candidate { uid, pod, priority, request, used, critical: false }
    }

    fn names(resource: Resource, all: &[Candidate]) -> Vec<String> {
        rank(resource, all.to_vec()).into_iter().map(|c| c.pod).collect()
    }

    #[test]
    fn who_is_beyond_its_request_goes_first_then_the_lower_priority_then_the_larger() {
        let all = [
            candidate("within, large", 0, 1000, Some(900)),
            candidate("within, low priority", -5, 100, Some(100)),
            candidate("beyond by 10", 0, 100, Some(110)),
            candidate("beyond by 500", 0, 0, Some(500)),
            candidate("beyond, high priority", 7, 0, Some(5000)),
            Candidate { critical: true, ..candidate("critical", -9, 0, Some(9000)) },
        ];
        let expected = [
            "beyond by 500",
            "beyond by 10",
            "beyond, high priority",
            "within, low priority",
            "within, large",
        ];
        for resource in [Resource::Memory, Resource::Bytes, Resource::Inodes] {
            assert_eq!(names(resource, &all), expected, "{resource:?}");
        }
    }

    #[test]
    fn of_whom_there_is_no_figure_goes_first() {
        let all = [candidate("a", 0, 0, Some(9)), candidate("b", 7, 5, None)];
        assert_eq!(names(Resource::Memory, &all), ["b", "a"]);
        assert_eq!(names(Resource::Pids, &all), ["a", "b"]);
        let all = [candidate("a", 0, 0, Some(9)), candidate("b", 0, 5, None)];
        assert_eq!(names(Resource::Pids, &all), ["b", "a"]);
    }

    #[test]
    fn process_ids_go_by_priority_and_count() {
        let all = [
            candidate("few", 0, 0, Some(2)),
            candidate("many", 0, 0, Some(200)),
            candidate("important", 9, 0, Some(999)),
        ];
        assert_eq!(names(Resource::Pids, &all), ["many", "few", "important"]);
    }

    proptest! {
        #[test]
        fn the_order_of_the_question_does_not_matter_and_nobody_critical_goes(
            rows in prop::collection::vec((-2..2i32, 0..4u64, prop::option::of(0..8u64), any::<bool>()), 0..8),
            turn in 0..8usize,
        ) {
            let mut all: Vec<Candidate> = rows.iter().enumerate().map(|(n, (priority, request, used, critical))| {
                Candidate { critical: *critical, ..candidate(&n.to_string(), *priority, *request, *used) }
            }).collect();
            for resource in [Resource::Memory, Resource::Pids] {
                let first = rank(resource, all.clone());
                prop_assert!(first.iter().all(|c| !c.critical));
                prop_assert_eq!(first.len(), all.iter().filter(|c| !c.critical).count());
                let turns = turn.min(all.len());
                all.rotate_left(turns);
                prop_assert_eq!(&rank(resource, all.clone()), &first);
            }
        }
    }
}
