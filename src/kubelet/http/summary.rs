//! `/stats/summary`: what the node, its pods and their containers use, in the words of stats v1alpha1. What is not known
//! is not there.

use super::node_usage::{FileSystem, NodeUsage};
use crate::clock::rfc3339;
use crate::cri::proto;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What it is made of.
#[derive(Default)]
pub(super) struct Input {
    /// The node's name.
    pub(super) node: String,
    pub(super) usage: NodeUsage,
    /// Nanoseconds of CPU a second.
    pub(super) nano_cores: Option<u64>,
    /// The file system that pods use.
    pub(super) fs: Option<FileSystem>,
    /// That of images, and what images take of it.
    pub(super) images: Option<(Option<FileSystem>, proto::FilesystemUsage)>,
    pub(super) pods: Vec<proto::PodSandboxStats>,
    pub(super) sandboxes: Vec<proto::PodSandbox>,
    pub(super) containers: Vec<proto::Container>,
    /// Bytes and files of the logs, by pod's uid and container.
    pub(super) logs: BTreeMap<(String, String), (u64, u64)>,
}

/// The summary.
pub(super) fn summary(of: &Input) -> Value {
    let mut all = json!({"node": node(of), "pods": of.pods.iter().filter_map(|p| pod(of, p)).collect::<Vec<_>>()});
    prune(&mut all);
    all
}

/// Leaves out what is not known.
pub(super) fn prune(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(prune);
        }
        Value::Array(items) => items.iter_mut().for_each(prune),
        _ => {}
    }
}

fn time(nanos: i64) -> Value {
    if nanos > 0 { rfc3339(nanos).into() } else { Value::Null }
}

fn node(of: &Input) -> Value {
    let usage = &of.usage;
    let at = time(usage.at_nanos);
    json!({
        "nodeName": of.node,
        "startTime": time(usage.boot_nanos),
        "cpu": {"time": at, "usageNanoCores": of.nano_cores, "usageCoreNanoSeconds": usage.cpu_nanos},
        "memory": {
            "time": at,
            "availableBytes": usage.available_bytes,
            "usageBytes": usage.used_bytes,
            "workingSetBytes": usage.working_set_bytes,
            "rssBytes": usage.rss_bytes,
            "pageFaults": usage.page_faults,
            "majorPageFaults": usage.major_page_faults,
        },
        "swap": {
            "time": at,
            "swapAvailableBytes": usage.swap_available_bytes,
            "swapUsageBytes": usage.swap_used_bytes,
        },
        "fs": of.fs.map(|fs| file_system(&at, Some(fs), (fs.used_bytes, Some(fs.inodes.saturating_sub(fs.inodes_free))))),
        "runtime": of.images.as_ref().map(|(fs, used)| {
            let inodes = used.inodes_used.map(|v| v.value);
            let bytes = used.used_bytes.map_or(0, |v| v.value);
            json!({"imageFs": file_system(&time(used.timestamp), *fs, (bytes, inodes))})
        }),
        "rlimit": {"time": at, "maxpid": usage.pid_max, "curproc": usage.tasks},
    })
}

/// A file system, and how many bytes and inodes of it are meant.
fn file_system(at: &Value, fs: Option<FileSystem>, used: (u64, Option<u64>)) -> Value {
    let (bytes, inodes) = used;
    json!({
        "time": at,
        "availableBytes": fs.map(|fs| fs.available_bytes),
        "capacityBytes": fs.map(|fs| fs.capacity_bytes),
        "usedBytes": bytes,
        "inodesFree": fs.map(|fs| fs.inodes_free),
        "inodes": fs.map(|fs| fs.inodes),
        "inodesUsed": inodes,
    })
}

fn pod(of: &Input, stats: &proto::PodSandboxStats) -> Option<Value> {
    let attributes = stats.attributes.as_ref()?;
    let metadata = attributes.metadata.as_ref()?;
    let linux = stats.linux.as_ref()?;
    let made = of.sandboxes.iter().find(|sandbox| sandbox.id == attributes.id);
    let containers: Vec<Value> =
        linux.containers.iter().filter_map(|c| container(of, c, &metadata.uid)).collect();
    let layers = linux.containers.iter().filter_map(|c| c.writable_layer.as_ref()?.used_bytes);
    let layers = layers.map(|v| v.value).fold(0, u64::saturating_add);
    let logs = of.logs.iter().filter(|((uid, _), _)| *uid == metadata.uid);
    let (bytes, files) = logs.fold((0, 0), |(b, f), (_, (bytes, files))| (b + bytes, f + files));
    let at = time(of.usage.at_nanos);
    Some(json!({
        "podRef": {"name": metadata.name, "namespace": metadata.namespace, "uid": metadata.uid},
        "startTime": made.map(|sandbox| time(sandbox.created_at)),
        "containers": containers,
        "cpu": cpu(linux.cpu.as_ref()),
        "memory": memory(linux.memory.as_ref()),
        "network": linux.network.as_ref().map(network),
        "ephemeral-storage": file_system(&at, of.fs, (layers.saturating_add(bytes), Some(files))),
        "process_stats": linux.process.as_ref().and_then(|p| p.process_count).map(|v| json!({"process_count": v.value})),
    }))
}

fn container(of: &Input, stats: &proto::ContainerStats, uid: &str) -> Option<Value> {
    let attributes = stats.attributes.as_ref()?;
    let name = &attributes.metadata.as_ref()?.name;
    // What has ended uses nothing.
    stats.cpu.as_ref()?;
    let made = of.containers.iter().find(|container| container.id == attributes.id);
    let fs = of.images.as_ref().and_then(|(fs, _)| *fs).or(of.fs);
    let layer = stats.writable_layer.as_ref().map(|layer| {
        let inodes = layer.inodes_used.map(|v| v.value);
        file_system(&time(layer.timestamp), fs, (layer.used_bytes.map_or(0, |v| v.value), inodes))
    });
    let logs = of.logs.get(&(uid.to_owned(), name.clone()));
    let at = time(of.usage.at_nanos);
    Some(json!({
        "name": name,
        "startTime": made.map(|container| time(container.created_at)),
        "cpu": cpu(stats.cpu.as_ref()),
        "memory": memory(stats.memory.as_ref()),
        "swap": stats.swap.map(|swap| json!({
            "time": time(swap.timestamp),
            "swapAvailableBytes": swap.swap_available_bytes.map(|v| v.value),
            "swapUsageBytes": swap.swap_usage_bytes.map(|v| v.value),
        })),
        "rootfs": layer,
        "logs": logs.map(|(bytes, files)| file_system(&at, of.fs, (*bytes, Some(*files)))),
    }))
}

fn cpu(usage: Option<&proto::CpuUsage>) -> Option<Value> {
    let usage = usage?;
    Some(json!({
        "time": time(usage.timestamp),
        "usageNanoCores": usage.usage_nano_cores.map(|v| v.value),
        "usageCoreNanoSeconds": usage.usage_core_nano_seconds.map(|v| v.value),
    }))
}

fn memory(usage: Option<&proto::MemoryUsage>) -> Option<Value> {
    let usage = usage?;
    Some(json!({
        "time": time(usage.timestamp),
        "availableBytes": usage.available_bytes.map(|v| v.value),
        "usageBytes": usage.usage_bytes.map(|v| v.value),
        "workingSetBytes": usage.working_set_bytes.map(|v| v.value),
        "rssBytes": usage.rss_bytes.map(|v| v.value),
        "pageFaults": usage.page_faults.map(|v| v.value),
        "majorPageFaults": usage.major_page_faults.map(|v| v.value),
    }))
}

fn network(usage: &proto::NetworkUsage) -> Value {
    let one = |of: &proto::NetworkInterfaceUsage| {
        json!({
            "name": of.name,
            "rxBytes": of.rx_bytes.map(|v| v.value),
            "rxErrors": of.rx_errors.map(|v| v.value),
            "txBytes": of.tx_bytes.map(|v| v.value),
            "txErrors": of.tx_errors.map(|v| v.value),
        })
    };
    let mut all = usage.default_interface.as_ref().map_or_else(|| json!({}), one);
    let interfaces: Vec<Value> =
        usage.default_interface.iter().chain(&usage.interfaces).map(one).collect();
    if let Value::Object(fields) = &mut all {
        fields.insert("time".to_owned(), time(usage.timestamp));
        fields.insert("interfaces".to_owned(), interfaces.into());
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(value: u64) -> Option<proto::UInt64Value> {
        Some(proto::UInt64Value { value })
    }

    fn container(id: &str, nanos: Option<u64>) -> proto::ContainerStats {
        proto::ContainerStats {
            attributes: Some(proto::ContainerAttributes {
                id: id.into(),
                metadata: Some(proto::ContainerMetadata { name: "c".into(), attempt: 0 }),
                ..proto::ContainerAttributes::default()
            }),
            cpu: nanos.map(|nanos| proto::CpuUsage {
                timestamp: 1_000_000_000,
                usage_core_nano_seconds: value(nanos),
                ..proto::CpuUsage::default()
            }),
            writable_layer: Some(proto::FilesystemUsage {
                used_bytes: value(100),
                ..proto::FilesystemUsage::default()
            }),
            ..proto::ContainerStats::default()
        }
    }

    #[test]
    fn the_words_are_those_of_the_api_and_what_is_not_known_is_not_there() {
        let pod = proto::PodSandboxStats {
            attributes: Some(proto::PodSandboxAttributes {
                id: "s".into(),
                metadata: Some(proto::PodSandboxMetadata {
                    name: "p".into(),
                    namespace: "n".into(),
                    uid: "u".into(),
                    attempt: 0,
                }),
                ..proto::PodSandboxAttributes::default()
            }),
            linux: Some(proto::LinuxPodSandboxStats {
                containers: vec![container("old", None), container("new", Some(7))],
                process: Some(proto::ProcessUsage { timestamp: 0, process_count: value(3) }),
                ..proto::LinuxPodSandboxStats::default()
            }),
            ..proto::PodSandboxStats::default()
        };
        let input = Input {
            node: "node-1".into(),
            usage: NodeUsage { at_nanos: 2_000_000_000, cpu_nanos: 9, ..NodeUsage::default() },
            fs: Some(FileSystem { capacity_bytes: 1000, used_bytes: 10, ..FileSystem::default() }),
            pods: vec![pod],
            logs: [(("u".to_owned(), "c".to_owned()), (11, 1))].into(),
            ..Input::default()
        };
        let told = summary(&input);
        let node = &told["node"];
        assert_eq!(node["nodeName"], "node-1");
        assert_eq!(node["cpu"], json!({"time": rfc3339(2_000_000_000), "usageCoreNanoSeconds": 9}));
        assert_eq!((&node["fs"]["usedBytes"], node.get("runtime")), (&json!(10), None));
        let pod = &told["pods"][0];
        assert_eq!(pod["podRef"], json!({"name": "p", "namespace": "n", "uid": "u"}));
        assert_eq!(pod["process_stats"]["process_count"], 3);
        assert_eq!(pod["ephemeral-storage"]["usedBytes"], 211);
        assert_eq!(pod["containers"].as_array().map(Vec::len), Some(1));
        let container = &pod["containers"][0];
        assert_eq!(container["cpu"]["usageCoreNanoSeconds"], 7);
        assert_eq!(
            (&container["logs"]["usedBytes"], &container["rootfs"]["usedBytes"]),
            (&json!(11), &json!(100))
        );
        assert_eq!((container.get("memory"), pod.get("network")), (None, None));
    }
}
