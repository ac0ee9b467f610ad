//! Requests and limits as a kubelet turns them into shares, quotas and OOM scores.

use super::model::{Pod, Requests};
use crate::cri::proto as cri;
use std::collections::BTreeMap;

/// The period of CPU quotas, microseconds.
const PERIOD_USEC: u64 = 100_000;
/// The smallest quota the kernel takes, microseconds.
const MIN_QUOTA_USEC: u64 = 1000;
/// The smallest and the largest shares the kernel takes.
const SHARES: std::ops::RangeInclusive<u64> = 2..=262_144;

/// A pod's quality of service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qos {
    /// Every container has limits for CPU and memory, and its requests are its limits.
    Guaranteed,
    /// Some container asks for something.
    Burstable,
    /// Nobody asks for anything.
    BestEffort,
}

/// The quality of service that a pod's requests and limits amount to.
pub fn qos(pod: &Pod) -> Qos {
    let all = || pod.containers.iter().map(|container| effective(&container.resources));
    let nothing = Requests::default();
    // A request or limit of zero asks for nothing.
    let set = |value: Option<u64>| value.filter(|value| *value > 0);
    if all().all(|r| {
        let r = Requests {
            cpu_request: set(r.cpu_request),
            cpu_limit: set(r.cpu_limit),
            memory_request: set(r.memory_request),
            memory_limit: set(r.memory_limit),
        };
        r == nothing
    }) {
        return Qos::BestEffort;
    }
    let guaranteed = all().all(|r| {
        set(r.cpu_limit).is_some()
            && set(r.memory_limit).is_some()
            && r.cpu_request == r.cpu_limit
            && r.memory_request == r.memory_limit
    });
    if guaranteed { Qos::Guaranteed } else { Qos::Burstable }
}

/// A limit without a request is a request, too.
fn effective(requests: &Requests) -> Requests {
    Requests {
        cpu_request: requests.cpu_request.or(requests.cpu_limit),
        memory_request: requests.memory_request.or(requests.memory_limit),
        ..*requests
    }
}

/// A container's resources. `node_memory` is the node's memory in bytes, by which a burstable
/// container's OOM score is graded.
pub(super) fn container_resources(
    requests: &Requests,
    class: Qos,
    node_memory: u64,
) -> cri::LinuxContainerResources {
    let requests = effective(requests);
    let mut resources = limits(&requests);
    resources.oom_score_adj = oom_score(class, requests.memory_request.unwrap_or(0), node_memory);
    // An out-of-memory kill takes the whole container, as a kubelet has it on cgroup v2.
    resources.unified = BTreeMap::from([("memory.oom.group".to_owned(), "1".to_owned())]);
    resources
}

/// The pod's resources: the sum of the requests; a limit only if every container has one.
pub(super) fn pod_resources(pod: &Pod) -> cri::LinuxContainerResources {
    let sum = |of: fn(&Requests) -> Option<u64>| -> Option<u64> {
        pod.containers.iter().map(|c| of(&effective(&c.resources))).try_fold(0_u64, |sum, value| {
            value.filter(|value| *value > 0).map(|value| sum.saturating_add(value))
        })
    };
    let cpu_request = pod
        .containers
        .iter()
        .filter_map(|c| effective(&c.resources).cpu_request)
        .fold(0_u64, u64::saturating_add);
    limits(&Requests {
        cpu_request: Some(cpu_request),
        cpu_limit: sum(|r| r.cpu_limit),
        memory_request: None,
        memory_limit: sum(|r| r.memory_limit),
    })
}

fn limits(requests: &Requests) -> cri::LinuxContainerResources {
    let mut resources = cri::LinuxContainerResources {
        cpu_shares: signed(shares(requests.cpu_request.unwrap_or(0))),
        ..Default::default()
    };
    if let Some(milli) = requests.cpu_limit.filter(|milli| *milli > 0) {
        resources.cpu_period = signed(PERIOD_USEC);
        let quota = milli.saturating_mul(PERIOD_USEC) / 1000;
        resources.cpu_quota = signed(quota.max(MIN_QUOTA_USEC));
    }
    if let Some(bytes) = requests.memory_limit.filter(|bytes| *bytes > 0) {
        resources.memory_limit_in_bytes = signed(bytes);
        // Memory and swap together: no swap.
        resources.memory_swap_limit_in_bytes = signed(bytes);
    }
    resources
}

/// 1024 shares a CPU.
fn shares(milli: u64) -> u64 {
    (milli.saturating_mul(1024) / 1000).clamp(*SHARES.start(), *SHARES.end())
}

/// The larger a burstable container's share of the node's memory, the later it is killed.
fn oom_score(class: Qos, memory_request: u64, node_memory: u64) -> i64 {
    match class {
        Qos::Guaranteed => -997,
        Qos::BestEffort => 1000,
        Qos::Burstable => {
            let part = u128::from(memory_request) * 1000 / u128::from(node_memory.max(1));
            (1000 - i64::try_from(part).unwrap_or(1000).min(1000)).clamp(3, 999)
        }
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::pod::parse_pod;

    const GI: u64 = 1 << 30;

    fn requests(cpu: [Option<u64>; 2], memory: [Option<u64>; 2]) -> Requests {
        let ([cpu_request, cpu_limit], [memory_request, memory_limit]) = (cpu, memory);
        Requests { cpu_request, cpu_limit, memory_request, memory_limit }
    }

    fn pod(all: &[Requests]) -> Pod {
        let mut pod = parse_pod(
            "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  containers: [{name: c, image: i}]",
        )
        .unwrap();
        let container = pod.containers[0].clone();
        pod.containers = all
            .iter()
            .map(|resources| crate::ctl::pod::Container {
                resources: *resources,
                ..container.clone()
            })
            .collect();
        pod
    }

    #[test]
    fn the_class_follows_from_requests_and_limits() {
        let none = requests([None, None], [None, None]);
        let limits = requests([None, Some(500)], [None, Some(GI)]);
        let equal = requests([Some(500), Some(500)], [Some(GI), Some(GI)]);
        let some = requests([Some(100), None], [None, None]);
        let lower = requests([Some(100), Some(500)], [Some(GI), Some(GI)]);
        let zero = requests([Some(0), Some(0)], [Some(0), Some(0)]);
        let rows: [(&str, &[Requests], Qos); 8] = [
            ("nothing", &[none], Qos::BestEffort),
            ("zeros", &[zero], Qos::BestEffort),
            ("limits alone", &[limits], Qos::Guaranteed),
            ("equal requests and limits", &[equal, equal], Qos::Guaranteed),
            ("one container asks for nothing", &[equal, none], Qos::Burstable),
            ("a request alone", &[some], Qos::Burstable),
            ("a request below the limit", &[lower], Qos::Burstable),
            ("nothing twice", &[none, none], Qos::BestEffort),
        ];
        for (row, all, expected) in rows {
            assert_eq!(qos(&pod(all)), expected, "{row}");
        }
    }

    #[test]
    fn shares_quota_and_limits_are_the_kubelets() {
        // cpu request, cpu limit, shares, quota, period
        let rows = [
            (None, None, 2, 0, 0),
            (Some(1), None, 2, 0, 0),
            (Some(100), None, 102, 0, 0),
            (Some(1000), Some(2000), 1024, 200_000, 100_000),
            (None, Some(500), 512, 50_000, 100_000),
            (None, Some(1), 2, 1000, 100_000),
            (Some(1_000_000), None, 262_144, 0, 0),
        ];
        for (request, limit, shares, quota, period) in rows {
            let asked = requests([request, limit], [None, None]);
            let got = container_resources(&asked, Qos::Burstable, 8 * GI);
            let got = (got.cpu_shares, got.cpu_quota, got.cpu_period);
            assert_eq!(got, (shares, quota, period), "{request:?} {limit:?}");
        }
        let asked = requests([None, None], [None, Some(GI)]);
        let got = container_resources(&asked, Qos::Burstable, 8 * GI);
        assert_eq!(got.memory_limit_in_bytes, 1 << 30);
        assert_eq!(got.memory_swap_limit_in_bytes, 1 << 30);
    }

    #[test]
    fn the_oom_score_grades_by_class_and_by_request() {
        let rows = [
            (Qos::Guaranteed, GI, -997),
            (Qos::BestEffort, 0, 1000),
            (Qos::Burstable, 0, 999),
            (Qos::Burstable, 4 * GI, 500),
            (Qos::Burstable, 8 * GI, 3),
            (Qos::Burstable, 80 * GI, 3),
        ];
        for (class, request, expected) in rows {
            assert_eq!(oom_score(class, request, 8 * GI), expected, "{class:?} {request}");
        }
    }

    #[test]
    fn a_pod_has_a_limit_only_if_every_container_has_one() {
        let limited = requests([Some(250), Some(500)], [None, Some(GI)]);
        let free = requests([Some(250), None], [None, None]);
        let both = pod_resources(&pod(&[limited, limited]));
        assert_eq!((both.cpu_shares, both.cpu_quota), (512, 100_000));
        assert_eq!(both.memory_limit_in_bytes, 2 << 30);
        let one = pod_resources(&pod(&[limited, free]));
        assert_eq!((one.cpu_shares, one.cpu_quota, one.memory_limit_in_bytes), (512, 0, 0));
    }
}
