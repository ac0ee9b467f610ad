//! Requests and limits as shares, quotas and OOM scores (the kubelet's helpers_linux.go and qos/policy.go,
//! by their numbers).

use super::memory::{Memory, MemoryRules};
use crate::cri::proto as cri;
use crate::kubelet::api::NODE_CRITICAL;
use crate::kubelet::node::NodeFacts;
use crate::kubelet::qos::{Qos, qos};
use crate::kubelet::quantity::{ResourceList, cpu_milli, memory_bytes, page_bytes, whole};
use crate::kubelet::spec::{Member, Role, members, spec};
use crate::kubelet::wants::{Wants, asked, peak};
use k8s_openapi::api::core::v1::Pod;

/// The period of CPU quotas, microseconds.
const PERIOD_USEC: u64 = 100_000;
/// The smallest quota the kernel takes, microseconds.
const MIN_QUOTA_USEC: u64 = 1000;
/// The smallest and the largest shares the kernel takes.
const MIN_SHARES: u64 = 2;
const MAX_SHARES: u64 = 262_144;

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// The CPU shares of so many thousandths of a CPU.
pub fn qos_shares(milli: u64) -> u64 {
    (milli.saturating_mul(1024) / 1000).clamp(MIN_SHARES, MAX_SHARES)
}

fn quota(milli: u64) -> i64 {
    signed((milli.saturating_mul(PERIOD_USEC) / 1000).max(MIN_QUOTA_USEC))
}

/// A container's resources, on a node with so many bytes of swap.
pub fn container_resources(
    pod: &Pod,
    member: Member<'_>,
    node: &NodeFacts,
    rules: MemoryRules,
    swap_bytes: u64,
) -> cri::LinuxContainerResources {
    let wants = Wants::of(member.container);
    let memory = Memory {
        class: qos(pod),
        request: wants.memory_request(),
        limit: wants.memory_limit(),
        critical: is_node_critical(pod),
    };
    cri::LinuxContainerResources {
        cpu_period: signed(PERIOD_USEC),
        cpu_quota: wants.cpu_limit().map_or(0, quota),
        cpu_shares: signed(qos_shares(wants.cpu_request())),
        memory_limit_in_bytes: wants.memory_limit().map_or(0, signed),
        oom_score_adj: oom_score_adj(pod, member, node.capacity.memory_bytes),
        hugepage_limits: hugepages(wants.limits, node),
        unified: memory.files(rules, node, swap_bytes),
        ..cri::LinuxContainerResources::default()
    }
}

/// The node's page sizes: what is asked for of each, else none of it.
fn hugepages(limits: Option<&ResourceList>, node: &NodeFacts) -> Vec<cri::HugepageLimit> {
    let asked = |size: u64| {
        let list = limits.into_iter().flatten();
        list.filter(|(name, _)| page_bytes(name) == Some(size))
            .find_map(|(_, amount)| whole(amount))
    };
    let pages = node.capacity.hugepages.iter().filter(|(_, amount)| **amount > 0);
    pages
        .map(|(size, _)| cri::HugepageLimit {
            page_size: page_size(*size),
            limit: asked(*size).unwrap_or(0),
        })
        .collect()
}

/// A page size as the kernel writes it.
fn page_size(bytes: u64) -> String {
    match (bytes >> 30, bytes >> 20) {
        (0, 0) => format!("{}KB", bytes >> 10),
        (0, mega) => format!("{mega}MB"),
        (giga, _) => format!("{giga}GB"),
    }
}

/// Whether the node itself needs a pod.
fn is_node_critical(pod: &Pod) -> bool {
    spec(pod).priority.is_some_and(|priority| priority >= NODE_CRITICAL)
}

/// Who is killed first when memory runs out.
fn oom_score_adj(pod: &Pod, member: Member<'_>, node_memory: u64) -> i64 {
    let critical = is_node_critical(pod);
    let score = |request: u64| {
        let share = u128::from(request) * 1000 / u128::from(node_memory.max(1));
        1000 - i64::try_from(share).unwrap_or(1000)
    };
    match qos(pod) {
        _ if critical => -997,
        Qos::Guaranteed => -997,
        Qos::BestEffort => 1000,
        Qos::Burstable => {
            let own = score(Wants::of(member.container).memory_request());
            // A sidecar is not killed before the containers that it serves.
            let apps = members(pod).into_iter().filter(|m| m.role == Role::App);
            let least = apps.map(|m| score(Wants::of(m.container).memory_request())).min();
            let own =
                if member.role == Role::Sidecar { least.map_or(own, |l| l.min(own)) } else { own };
            // A guaranteed pod of the node comes after all, whatever a burstable one asks for.
            own.clamp(3, 999)
        }
    }
}

/// The resources of the pod as a whole: the most that is asked for at any time; limits only if every container
/// has one. What containers may swap, and what they keep of their memory, is up to them: nothing above may take it away.
pub fn pod_resources(pod: &Pod, rules: MemoryRules) -> cri::LinuxContainerResources {
    let own = Wants::of_pod(pod);
    let overhead = spec(pod).overhead.as_ref();
    let cpu = own.and_then(Wants::cpu_limit).or_else(|| peak(pod, |w| w.cpu_limit()));
    let memory = own.and_then(Wants::memory_limit).or_else(|| peak(pod, |w| w.memory_limit()));
    let more_cpu = cpu_milli(overhead).unwrap_or(0);
    let more_memory = memory_bytes(overhead).unwrap_or(0);
    let asked = asked(pod);
    // Without it a limit of memory is one of swap, too.
    let swaps = memory.is_some() && rules.lets_swap(qos(pod), is_node_critical(pod));
    let kept = rules.keeps().then(|| ("memory.min".to_owned(), asked.memory_bytes.to_string()));
    cri::LinuxContainerResources {
        cpu_period: signed(PERIOD_USEC),
        cpu_quota: cpu.map_or(0, |limit| quota(limit.saturating_add(more_cpu))),
        cpu_shares: signed(qos_shares(asked.cpu_milli)),
        memory_limit_in_bytes: memory.map_or(0, |limit| signed(limit.saturating_add(more_memory))),
        memory_swap_limit_in_bytes: if swaps { -1 } else { 0 },
        unified: kept.into_iter().collect(),
        ..cri::LinuxContainerResources::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Kubelet, SwapBehavior};
    use serde_json::{Value, json};

    fn pod(spec: Value) -> Pod {
        serde_json::from_value(json!({ "spec": spec })).unwrap()
    }

    fn node() -> NodeFacts {
        let mut node = NodeFacts::default();
        node.capacity.memory_bytes = 1 << 30;
        node
    }

    fn rules() -> MemoryRules {
        MemoryRules::new(&Kubelet::default())
    }

    fn first(pod: &Pod) -> cri::LinuxContainerResources {
        container_resources(pod, members(pod)[0], &node(), rules(), 0)
    }

    fn c(resources: Value) -> Value {
        json!({"name": "c", "resources": resources})
    }

    #[test]
    fn requests_become_shares_and_limits_quotas() {
        for (resources, shares, quota, memory) in [
            (json!({}), 2, 0, 0),
            (json!({"requests": {"cpu": "100m"}}), 102, 0, 0),
            (json!({"limits": {"cpu": "2", "memory": "64Mi"}}), 2048, 200_000, 64 << 20),
            (json!({"limits": {"cpu": "1m"}}), 2, 1000, 0),
            (json!({"requests": {"cpu": "1k"}}), 262_144, 0, 0),
        ] {
            let r = first(&pod(json!({"containers": [c(resources.clone())]})));
            let found = (r.cpu_shares, r.cpu_quota, r.memory_limit_in_bytes);
            assert_eq!(found, (shares, quota, memory), "{resources}");
            assert_eq!(r.unified["memory.oom.group"], "1");
        }
    }

    #[test]
    fn the_older_hierarchies_get_no_keys_of_the_newer_one() {
        let pod = pod(json!({"containers": [c(json!({}))]}));
        let node = NodeFacts { legacy_cgroups: true, ..node() };
        let asked = container_resources(&pod, members(&pod)[0], &node, rules(), 1);
        assert!(asked.unified.is_empty());
    }

    #[test]
    fn oom_scores_follow_the_class_and_the_share_of_memory() {
        let guaranteed = json!({"limits": {"cpu": "1", "memory": "1Mi"}});
        for (name, spec, score) in [
            ("best effort", json!({"containers": [c(json!({}))]}), 1000),
            ("guaranteed", json!({"containers": [c(guaranteed)]}), -997),
            ("half", json!({"containers": [c(json!({"requests": {"memory": "512Mi"}}))]}), 500),
            ("nothing", json!({"containers": [c(json!({"requests": {"cpu": "1"}}))]}), 999),
            ("all", json!({"containers": [c(json!({"requests": {"memory": "8Gi"}}))]}), 3),
            ("critical", json!({"priority": 2_000_001_000, "containers": [c(json!({}))]}), -997),
            (
                "a sidecar as what it serves",
                json!({"initContainers": [{"name": "s", "restartPolicy": "Always"}],
                    "containers": [c(json!({"requests": {"memory": "512Mi"}}))]}),
                500,
            ),
        ] {
            assert_eq!(first(&pod(spec)).oom_score_adj, score, "{name}");
        }
    }

    #[test]
    fn a_pod_has_the_most_of_what_runs_at_once() {
        let cpu = |name: &str, cpu: &str, policy: Value| {
            json!({"name": name, "restartPolicy": policy,
                "resources": {"limits": {"cpu": cpu, "memory": "1Mi"}}})
        };
        let spec = json!({
            "initContainers": [
                cpu("s", "1", json!("Always")),
                cpu("i", "5", Value::Null),
            ],
            "containers": [cpu("a", "2", Value::Null), cpu("b", "2", Value::Null)],
        });
        let r = pod_resources(&pod(spec), rules());
        assert_eq!((r.cpu_quota, r.memory_limit_in_bytes), (600_000, 3 << 20));
        let spec = json!({"containers": [cpu("a", "2", Value::Null), c(json!({}))]});
        let r = pod_resources(&pod(spec), rules());
        assert_eq!((r.cpu_quota, r.cpu_shares), (0, 2048), "no limit unless all have one");
    }

    #[test]
    fn a_pod_does_not_forbid_the_swap_that_its_containers_may_have() {
        let config = Kubelet { swap_behavior: SwapBehavior::LimitedSwap, ..Kubelet::default() };
        let limited = MemoryRules::new(&config);
        let both = |name: &str| {
            json!({"name": name, "resources":
            {"requests": {"memory": "1Mi"}, "limits": {"memory": "2Mi"}}})
        };
        let all = json!({"limits": {"cpu": "1", "memory": "2Mi"}});
        for (name, spec, rules, swap) in [
            ("burstable", json!({"containers": [both("a"), both("b")]}), limited, -1),
            ("not asked for", json!({"containers": [both("a")]}), rules(), 0),
            ("guaranteed", json!({"containers": [c(all)]}), limited, 0),
            ("no limit of the pod", json!({"containers": [both("a"), c(json!({}))]}), limited, 0),
            ("critical", json!({"priority": 2_000_001_000, "containers": [both("a")]}), limited, 0),
        ] {
            let r = pod_resources(&pod(spec), rules);
            assert_eq!(r.memory_swap_limit_in_bytes, swap, "{name}");
            assert_eq!(r.unified, std::collections::BTreeMap::new(), "{name}");
        }
    }

    #[test]
    fn a_pod_keeps_the_memory_that_its_containers_keep() {
        let config = Kubelet { memory_qos: true, ..Kubelet::default() };
        let of = |mib: &str| json!({"name": mib, "resources": {"requests": {"memory": mib}}});
        let spec = json!({"containers": [of("1Mi"), of("2Mi")], "overhead": {"memory": "1Mi"}});
        let kept = pod_resources(&pod(spec), MemoryRules::new(&config)).unified;
        assert_eq!(kept, [("memory.min".to_owned(), (4 << 20).to_string())].into());
    }
}
