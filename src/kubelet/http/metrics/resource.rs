//! `/metrics/resource`: CPU, memory and swap of the node, of pods and of containers.

use super::Exposition;
use super::exposition::{Kind, Sample, Value};
use crate::cri::proto;
use crate::kubelet::http::node_usage::NodeUsage;

/// A family and where its figure is.
type Family = (&'static str, Kind, &'static str);

const NODE_CPU: Family =
    ("node_cpu_usage_seconds_total", Kind::Counter, "CPU time of the node, seconds.");
const NODE_MEMORY: Family =
    ("node_memory_working_set_bytes", Kind::Gauge, "Memory of the node that is in use, bytes.");
const NODE_SWAP: Family = ("node_swap_usage_bytes", Kind::Gauge, "Swap of the node, bytes.");
const POD_CPU: Family =
    ("pod_cpu_usage_seconds_total", Kind::Counter, "CPU time of the pod, seconds.");
const POD_MEMORY: Family =
    ("pod_memory_working_set_bytes", Kind::Gauge, "Memory of the pod that is in use, bytes.");
const CONTAINER_CPU: Family =
    ("container_cpu_usage_seconds_total", Kind::Counter, "CPU time of the container, seconds.");
const CONTAINER_MEMORY: Family = (
    "container_memory_working_set_bytes",
    Kind::Gauge,
    "Memory of the container that is in use, bytes.",
);
const CONTAINER_SWAP: Family =
    ("container_swap_usage_bytes", Kind::Gauge, "Swap of the container, bytes.");
const CONTAINER_START: Family = (
    "container_start_time_seconds",
    Kind::Gauge,
    "When the container was created, seconds since 1970.",
);
/// Both names are in use.
const ERRORS: [Family; 2] = [
    ("resource_scrape_error", Kind::Gauge, "1 when the runtime did not tell its figures."),
    ("scrape_error", Kind::Gauge, "1 when the runtime did not tell its figures."),
];

/// What the runtime tells.
pub(in crate::kubelet::http) struct Told {
    pub(in crate::kubelet::http) pods: Vec<proto::PodSandboxStats>,
    pub(in crate::kubelet::http) containers: Vec<proto::Container>,
}

/// The figures; without the runtime's when it does not tell them.
pub(in crate::kubelet::http) fn resource(node: &NodeUsage, told: Option<&Told>) -> String {
    let mut all = Exposition::default();
    let at = node.at_nanos;
    add(&mut all, NODE_CPU, &[], Some((Value::Nanos(node.cpu_nanos), at)));
    add(&mut all, NODE_MEMORY, &[], Some((Value::Whole(node.working_set_bytes), at)));
    add(&mut all, NODE_SWAP, &[], Some((Value::Whole(node.swap_used_bytes), at)));
    for pod in told.iter().flat_map(|told| &told.pods) {
        let of = pod.attributes.as_ref().and_then(|a| a.metadata.as_ref());
        let (Some(of), Some(linux)) = (of, &pod.linux) else { continue };
        let labels = [("namespace", of.namespace.as_str()), ("pod", of.name.as_str())];
        add(&mut all, POD_CPU, &labels, linux.cpu.as_ref().and_then(cpu));
        add(&mut all, POD_MEMORY, &labels, linux.memory.as_ref().and_then(memory));
        for container in &linux.containers {
            add_container(&mut all, container, of, told);
        }
    }
    let failed = Value::Whole(u64::from(told.is_none()));
    ERRORS.into_iter().for_each(|family| all.one(family, &[], failed));
    all.text()
}

fn add_container(
    all: &mut Exposition,
    stats: &proto::ContainerStats,
    pod: &proto::PodSandboxMetadata,
    told: Option<&Told>,
) {
    let Some(attributes) = &stats.attributes else { return };
    let name = attributes.metadata.as_ref().map(|m| m.name.as_str()).unwrap_or_default();
    let labels =
        [("container", name), ("namespace", pod.namespace.as_str()), ("pod", pod.name.as_str())];
    // What has ended has no figures, and its successor has the same labels.
    let Some(used) = stats.cpu.as_ref().and_then(cpu) else { return };
    add(all, CONTAINER_CPU, &labels, Some(used));
    add(all, CONTAINER_MEMORY, &labels, stats.memory.as_ref().and_then(memory));
    let swap =
        stats.swap.and_then(|s| Some((Value::Whole(s.swap_usage_bytes?.value), s.timestamp)));
    add(all, CONTAINER_SWAP, &labels, swap);
    let started = told.and_then(|told| told.containers.iter().find(|c| c.id == attributes.id));
    let started = started.and_then(|c| u64::try_from(c.created_at).ok());
    add(all, CONTAINER_START, &labels, started.map(|nanos| (Value::Nanos(nanos), 0)));
}

fn cpu(usage: &proto::CpuUsage) -> Option<(Value, i64)> {
    Some((Value::Nanos(usage.usage_core_nano_seconds?.value), usage.timestamp))
}

fn memory(usage: &proto::MemoryUsage) -> Option<(Value, i64)> {
    Some((Value::Whole(usage.working_set_bytes?.value), usage.timestamp))
}

fn add(
    all: &mut Exposition,
    (name, kind, help): Family,
    labels: &[(&str, &str)],
    value: Option<(Value, i64)>,
) {
    if let Some((value, nanos)) = value {
        all.family(name, kind, help);
        all.add(name, Sample { labels, value, nanos });
    }
}

#[cfg(test)]
mod tests {
    use super::super::checker::check;
    use super::*;

    fn value(value: u64) -> Option<proto::UInt64Value> {
        Some(proto::UInt64Value { value })
    }

    fn container(id: &str, used: Option<u64>) -> proto::ContainerStats {
        proto::ContainerStats {
            attributes: Some(proto::ContainerAttributes {
                id: id.into(),
                metadata: Some(proto::ContainerMetadata { name: "c".into(), attempt: 0 }),
                ..proto::ContainerAttributes::default()
            }),
            cpu: used.map(|nanos| proto::CpuUsage {
                timestamp: 1_000_000_000,
                usage_core_nano_seconds: value(nanos),
                ..proto::CpuUsage::default()
            }),
            memory: Some(proto::MemoryUsage {
                working_set_bytes: value(4096),
                ..proto::MemoryUsage::default()
            }),
            ..proto::ContainerStats::default()
        }
    }

    #[test]
    fn node_pods_and_containers_are_told_and_what_has_ended_is_not() {
        let node = NodeUsage { cpu_nanos: 2_500_000_000, ..NodeUsage::default() };
        let pod = proto::PodSandboxStats {
            attributes: Some(proto::PodSandboxAttributes {
                metadata: Some(proto::PodSandboxMetadata {
                    name: "p".into(),
                    namespace: "n".into(),
                    ..proto::PodSandboxMetadata::default()
                }),
                ..proto::PodSandboxAttributes::default()
            }),
            linux: Some(proto::LinuxPodSandboxStats {
                cpu: container("", Some(7_000_000_000)).cpu,
                containers: vec![container("old", None), container("new", Some(1_250_000_000))],
                ..proto::LinuxPodSandboxStats::default()
            }),
            ..proto::PodSandboxStats::default()
        };
        let made = proto::Container {
            id: "new".into(),
            created_at: 5_000_000_000,
            ..proto::Container::default()
        };
        let told = Told { pods: vec![pod], containers: vec![made] };
        let text = resource(&node, Some(&told));
        let all = check(&text).unwrap();
        let rows: BTreeMap<_, _> = all.iter().map(|s| (s.name.as_str(), s.value)).collect();
        assert_eq!(rows["node_cpu_usage_seconds_total"], 2.5);
        assert_eq!(rows["pod_cpu_usage_seconds_total"], 7.0);
        assert_eq!(rows["container_cpu_usage_seconds_total"], 1.25);
        assert_eq!(rows["container_memory_working_set_bytes"], 4096.0);
        assert_eq!(rows["container_start_time_seconds"], 5.0);
        assert_eq!((rows["scrape_error"], rows["resource_scrape_error"]), (0.0, 0.0));
        assert_eq!(check(&resource(&node, None)).unwrap().last().unwrap().value, 1.0);
    }

    use std::collections::BTreeMap;
}
