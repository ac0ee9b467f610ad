//! Which pods end together, and how long they may take; pure.

use crate::config;
use crate::kubelet::api::CLUSTER_CRITICAL;
use crate::kubelet::spec::spec;
use k8s_openapi::api::core::v1::Pod;
use std::time::Duration;

/// Pods of priorities from here up to the next group's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// The lowest priority of its pods; pods below all groups are the first one's.
    pub priority: i32,
    /// How long they may take.
    pub grace: Duration,
}

/// The groups in the order in which they end; none: a shutdown is not waited for.
pub fn groups(config: &config::Kubelet) -> Vec<Group> {
    let mut groups: Vec<Group> = config
        .shutdown_grace_by_priority
        .iter()
        .map(|of| Group { priority: of.priority, grace: Duration::from_secs(of.seconds) })
        .collect();
    if let Some(all) = config.shutdown_grace_seconds {
        let critical = config.shutdown_grace_critical_seconds.unwrap_or(0).min(all);
        let grace = Duration::from_secs;
        groups.push(Group { priority: 0, grace: grace(all - critical) });
        groups.push(Group { priority: CLUSTER_CRITICAL, grace: grace(critical) });
    }
    groups.sort_by_key(|group| group.priority);
    groups
}

/// How long all of them may take.
pub(super) fn together(groups: &[Group]) -> Duration {
    groups.iter().map(|group| group.grace).sum()
}

/// The group of a pod, by its index.
pub(super) fn group_of(groups: &[Group], pod: &Pod) -> usize {
    let priority = spec(pod).priority.unwrap_or(0);
    groups.iter().rposition(|group| group.priority <= priority).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(json!({ "spec": spec })).unwrap()
    }

    #[test]
    fn regular_pods_end_before_critical_ones_in_what_these_leave() {
        let config = config::Kubelet {
            shutdown_grace_seconds: Some(30),
            shutdown_grace_critical_seconds: Some(10),
            ..config::Kubelet::default()
        };
        let groups = groups(&config);
        let told: Vec<_> = groups.iter().map(|g| (g.priority, g.grace.as_secs())).collect();
        assert_eq!(told, [(0, 20), (CLUSTER_CRITICAL, 10)]);
        assert_eq!(together(&groups).as_secs(), 30);
        for (spec, group) in [
            (json!({"containers": []}), 0),
            (json!({"containers": [], "priority": -5}), 0),
            (json!({"containers": [], "priority": 1_999_999_999}), 0),
            (json!({"containers": [], "priority": CLUSTER_CRITICAL}), 1),
        ] {
            assert_eq!(group_of(&groups, &pod(spec.clone())), group, "{spec}");
        }
    }

    #[test]
    fn groups_by_priority_end_from_the_lowest_on() {
        let of = |priority, seconds| config::ShutdownGrace { priority, seconds };
        let config = config::Kubelet {
            shutdown_grace_by_priority: vec![of(CLUSTER_CRITICAL, 10), of(100, 20), of(10, 30)],
            ..config::Kubelet::default()
        };
        let groups = groups(&config);
        let order: Vec<_> = groups.iter().map(|g| g.grace.as_secs()).collect();
        assert_eq!(order, [30, 20, 10]);
        for (priority, group) in [(0, 0), (10, 0), (99, 0), (100, 1), (CLUSTER_CRITICAL, 2)] {
            let pod = pod(json!({"containers": [], "priority": priority}));
            assert_eq!(group_of(&groups, &pod), group, "{priority}");
        }
    }

    #[test]
    fn nothing_is_waited_for_unless_a_period_says_so() {
        assert_eq!(groups(&config::Kubelet::default()), []);
    }
}
