//! A pod's quality of service, from its requests and limits; pure (KEP-2837 for limits of the pod as a whole).

use super::quantity::{ResourceList, milli, whole};
use super::spec::{members, spec};
use k8s_openapi::api::core::v1::{Pod, ResourceRequirements};
use std::fmt;

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

impl fmt::Display for Qos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        })
    }
}

/// What counts: CPU in thousandths, memory in bytes; nothing for zero, which asks for nothing.
fn counted(list: Option<&ResourceList>) -> [Option<u64>; 2] {
    let of = |name: &str, read: fn(&_) -> Option<u64>| {
        list.and_then(|list| list.get(name)).and_then(read).filter(|value| *value > 0)
    };
    [of("cpu", milli), of("memory", whole)]
}

/// The class of a pod. Init containers and sidecars count as all others do.
pub fn qos(pod: &Pod) -> Qos {
    let of_pod: Vec<&ResourceRequirements> = spec(pod).resources.iter().collect();
    let all: Vec<ResourceRequirements> = if of_pod.is_empty() {
        let of = |m: super::spec::Member<'_>| m.container.resources.clone().unwrap_or_default();
        members(pod).into_iter().map(of).collect()
    } else {
        of_pod.into_iter().cloned().collect()
    };
    let pairs: Vec<_> = all
        .iter()
        .map(|r| {
            let [cpu_limit, memory_limit] = counted(r.limits.as_ref());
            let [cpu, memory] = counted(r.requests.as_ref());
            // A limit without a request is a request, too.
            ([cpu.or(cpu_limit), memory.or(memory_limit)], [cpu_limit, memory_limit])
        })
        .collect();
    if pairs.iter().all(|pair| *pair == ([None; 2], [None; 2])) {
        Qos::BestEffort
    } else if pairs.iter().all(|(r, l)| r == l && l.iter().all(Option::is_some)) {
        Qos::Guaranteed
    } else {
        Qos::Burstable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(spec: serde_json::Value) -> Qos {
        qos(&serde_json::from_value(serde_json::json!({ "spec": spec })).unwrap())
    }

    #[test]
    fn classes_follow_from_requests_and_limits() {
        use serde_json::json;
        let both = json!({"limits": {"cpu": "1", "memory": "1Gi"}});
        let c = |resources: serde_json::Value| json!({"name": "c", "resources": resources});
        let rows = [
            ("nothing", json!({"containers": [c(json!({}))]}), Qos::BestEffort),
            (
                "zero",
                json!({"containers": [c(json!({"requests": {"cpu": "0"}}))]}),
                Qos::BestEffort,
            ),
            ("limits alone", json!({"containers": [c(both.clone())]}), Qos::Guaranteed),
            ("one of two", json!({"containers": [c(both.clone()), c(json!({}))]}), Qos::Burstable),
            (
                "an init container without",
                json!({"initContainers": [c(json!({}))], "containers": [c(both.clone())]}),
                Qos::Burstable,
            ),
            (
                "memory alone",
                json!({"containers": [c(json!({"limits": {"memory": "1Gi"}}))]}),
                Qos::Burstable,
            ),
            (
                "a smaller request",
                json!({"containers": [c(json!({"requests": {"cpu": "1", "memory": "1Mi"},
                    "limits": {"cpu": "1", "memory": "1Gi"}}))]}),
                Qos::Burstable,
            ),
            (
                "other words for the same",
                json!({"containers": [c(json!({"requests": {"cpu": "1000m", "memory": "1024Mi"},
                    "limits": {"cpu": "1", "memory": "1Gi"}}))]}),
                Qos::Guaranteed,
            ),
            (
                "of the pod",
                json!({"resources": both, "containers": [c(json!({}))]}),
                Qos::Guaranteed,
            ),
        ];
        for (name, spec, expected) in rows {
            assert_eq!(class(spec), expected, "{name}");
        }
    }
}
