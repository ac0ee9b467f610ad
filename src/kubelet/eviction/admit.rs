//! Who is let in while something is short; pure.

use super::{EVICTED, Pressure};
use crate::kubelet::api::{CLUSTER_CRITICAL, CRITICAL_CLASSES};
use crate::kubelet::qos::{Qos, qos};
use crate::kubelet::spec::spec;
use crate::kubelet::status::Verdict;
use k8s_openapi::api::core::v1::Pod;

/// The taint of a node whose memory is short.
const MEMORY_TAINT: &str = "node.kubernetes.io/memory-pressure";

/// Whether a pod is never evicted and always let in.
pub fn is_critical(pod: &Pod) -> bool {
    let spec = spec(pod);
    let class = spec.priority_class_name.as_deref();
    spec.priority.is_some_and(|priority| priority >= CLUSTER_CRITICAL)
        || CRITICAL_CLASSES.iter().any(|(name, _)| Some(*name) == class)
}

/// Why a pod is kept out while something is short; none for who may come in: what is critical always, and while it
/// is memory alone everybody who says how much of it to keep for it, or tolerates that it is short.
pub fn under_pressure(pod: &Pod, pressure: Pressure) -> Option<Verdict> {
    if !pressure.any() || is_critical(pod) {
        return None;
    }
    let memory_alone = pressure.memory && !pressure.disk && !pressure.pid;
    if memory_alone && (qos(pod) != Qos::BestEffort || tolerates_memory_pressure(pod)) {
        return None;
    }
    let message = format!("The node had condition: [{pressure}].");
    Some(Verdict { reason: EVICTED.to_owned(), message })
}

fn tolerates_memory_pressure(pod: &Pod) -> bool {
    spec(pod).tolerations.iter().flatten().any(|toleration| {
        let exists = toleration.operator.as_deref() == Some("Exists");
        let key = match toleration.key.as_deref().filter(|key| !key.is_empty()) {
            Some(key) => key == MEMORY_TAINT,
            None => exists,
        };
        // The taint has no value, and keeps pods out without ending those that run.
        let value = exists || toleration.value.as_deref().unwrap_or_default().is_empty();
        let effect = toleration.effect.as_deref().unwrap_or_default();
        key && value && matches!(effect, "" | "NoSchedule")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(spec: Value) -> Pod {
        serde_json::from_value(json!({ "spec": spec })).unwrap()
    }

    #[test]
    fn who_is_let_in_depends_on_what_is_short() {
        let asks = json!([{"name": "c", "resources": {"requests": {"memory": "1Mi"}}}]);
        let plain = json!([{"name": "c"}]);
        let memory = Pressure { memory: true, ..Pressure::default() };
        let disk = Pressure { disk: true, ..Pressure::default() };
        let both = Pressure { memory: true, ..disk };
        let pid = Pressure { pid: true, ..Pressure::default() };
        let tolerant =
            |toleration: Value| json!({"containers": plain, "tolerations": [toleration]});
        let none = Pressure::default();
        for (name, spec, pressure, enters) in [
            ("no pressure", json!({"containers": plain}), none, true),
            ("best effort, memory", json!({"containers": plain}), memory, false),
            ("burstable, memory", json!({"containers": asks}), memory, true),
            ("burstable, disk", json!({"containers": asks}), disk, false),
            ("burstable, memory and disk", json!({"containers": asks}), both, false),
            ("burstable, pid", json!({"containers": asks}), pid, false),
            (
                "critical by priority, disk",
                json!({"priority": 2_000_000_000, "containers": plain}),
                disk,
                true,
            ),
            ("not quite", json!({"priority": 1_999_999_999, "containers": plain}), disk, false),
            (
                "critical by class, disk",
                json!({"priorityClassName": "system-node-critical", "containers": plain}),
                disk,
                true,
            ),
            (
                "tolerates it by name",
                tolerant(
                    json!({"key": MEMORY_TAINT, "operator": "Exists", "effect": "NoSchedule"}),
                ),
                memory,
                true,
            ),
            ("tolerates all", tolerant(json!({"operator": "Exists"})), memory, true),
            (
                "tolerates another",
                tolerant(json!({"key": "x", "operator": "Exists"})),
                memory,
                false,
            ),
            (
                "tolerates another effect",
                tolerant(json!({"operator": "Exists", "effect": "NoExecute"})),
                memory,
                false,
            ),
            ("tolerates memory, disk", tolerant(json!({"operator": "Exists"})), disk, false),
        ] {
            let refused = under_pressure(&pod(spec), pressure);
            assert_eq!(refused.is_none(), enters, "{name}: {refused:?}");
        }
        let refused = under_pressure(&pod(json!({"containers": plain})), both).unwrap();
        assert_eq!(refused.reason, "Evicted");
        assert_eq!(refused.message, "The node had condition: [MemoryPressure DiskPressure].");
    }
}
