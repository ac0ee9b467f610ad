//! The object; pure.

use super::look::{Runtime, System};
use crate::cri::proto;
use crate::kubelet::eviction::Pressure;
use crate::kubelet::node::{Amounts, NodeFacts};
use crate::kubelet::quantity::{in_units, pages_of};
use crate::kubelet::status::api_time;
use k8s_openapi::api::core::v1::{
    ContainerImage, DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints,
    NodeFeatures, NodeRuntimeHandler, NodeRuntimeHandlerFeatures, NodeStatus, NodeSwapStatus,
    NodeSystemInfo,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::SystemTime;

/// How many images are told, the largest ones, and how many names of each.
const MOST_IMAGES: usize = 50;
const MOST_NAMES: usize = 5;

/// What a node is made from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Input<'a> {
    pub(super) facts: &'a NodeFacts,
    pub(super) system: &'a System,
    /// Bytes of swap that it has now.
    pub(super) swap_bytes: u64,
    /// Why it does not tell, if it does not.
    pub(super) runtime: Result<&'a Runtime, &'a str>,
    /// The port of the HTTP API, if it is on TCP.
    pub(super) port: Option<u16>,
    pub(super) pressure: Pressure,
    /// Why no pods are kept, beside what the runtime says.
    pub(super) problems: &'a [String],
    pub(super) previous: Option<&'a Node>,
    pub(super) now: SystemTime,
}

/// The node.
pub(super) fn node(input: &Input<'_>) -> Node {
    let Input { facts, previous, .. } = *input;
    let mut node = Node::default();
    node.metadata.name = Some(facts.name.clone());
    let architecture = architecture();
    let labels = [
        ("kubernetes.io/hostname", facts.name.as_str()),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", architecture),
    ];
    let labels = labels.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
    node.metadata.labels = Some(labels.collect());
    let created = previous.and_then(|node| node.metadata.creation_timestamp.clone());
    node.metadata.creation_timestamp = Some(created.unwrap_or_else(|| api_time(input.now)));
    node.status = Some(status(input));
    node
}

/// As the field calls the machine that this is built for.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn status(input: &Input<'_>) -> NodeStatus {
    let Input { facts, system, runtime, .. } = *input;
    let before = input.previous.and_then(|node| node.status.as_ref());
    let address = |kind: &str, address: String| NodeAddress { type_: kind.to_owned(), address };
    let ips = facts.ips.iter().map(|ip| address("InternalIP", ip.to_string()));
    let name = address("Hostname", facts.name.clone());
    let swap = i64::try_from(input.swap_bytes).ok().filter(|bytes| *bytes > 0);
    let version =
        runtime.map(|of| format!("{}://{}", of.version.runtime_name, of.version.runtime_version));
    let known = before.and_then(|status| status.node_info.as_ref());
    let endpoint = |port: u16| NodeDaemonEndpoints {
        kubelet_endpoint: Some(DaemonEndpoint { port: port.into() }),
    };
    NodeStatus {
        addresses: Some(ips.chain([name]).collect()),
        capacity: Some(amounts(&facts.capacity)),
        allocatable: Some(amounts(&facts.allocatable)),
        conditions: Some(conditions(input)),
        daemon_endpoints: input.port.map(endpoint),
        node_info: Some(NodeSystemInfo {
            architecture: architecture().to_owned(),
            boot_id: system.boot_id.clone(),
            // One that does not answer is still the one that it was.
            container_runtime_version: version.unwrap_or_else(|_| {
                known.map(|info| info.container_runtime_version.clone()).unwrap_or_default()
            }),
            kernel_version: system.kernel.clone(),
            kubelet_version: format!("v{}", env!("CARGO_PKG_VERSION")),
            machine_id: system.machine_id.clone(),
            operating_system: "linux".to_owned(),
            os_image: system.os_image.clone(),
            swap: swap.map(|capacity| NodeSwapStatus { capacity: Some(capacity) }),
            system_uuid: system.system_uuid.clone(),
            ..NodeSystemInfo::default()
        }),
        ..told(runtime.ok(), before)
    }
}

/// What the runtime tells, or has told last.
fn told(runtime: Option<&Runtime>, before: Option<&NodeStatus>) -> NodeStatus {
    let Some(runtime) = runtime else {
        return NodeStatus {
            images: before.and_then(|status| status.images.clone()),
            runtime_handlers: before.and_then(|status| status.runtime_handlers.clone()),
            features: before.and_then(|status| status.features.clone()),
            ..NodeStatus::default()
        };
    };
    let handler = |handler: &proto::RuntimeHandler| {
        let features = handler.features.as_ref().map(|features| NodeRuntimeHandlerFeatures {
            recursive_read_only_mounts: Some(features.recursive_read_only_mounts),
            user_namespaces: Some(features.user_namespaces),
        });
        NodeRuntimeHandler { name: Some(handler.name.clone()), features }
    };
    let features = runtime.status.features.as_ref().map(|features| NodeFeatures {
        supplemental_groups_policy: Some(features.supplemental_groups_policy),
    });
    NodeStatus {
        images: Some(images(&runtime.images)),
        runtime_handlers: Some(runtime.status.runtime_handlers.iter().map(handler).collect()),
        features,
        ..NodeStatus::default()
    }
}

/// The largest images, each with its digests and its tags.
fn images(all: &[proto::Image]) -> Vec<ContainerImage> {
    let mut all: Vec<&proto::Image> = all.iter().collect();
    all.sort_by_key(|image| (Reverse(image.size), image.id.as_str()));
    let image = |image: &&proto::Image| {
        let names = image.repo_digests.iter().chain(&image.repo_tags).take(MOST_NAMES);
        ContainerImage {
            names: Some(names.cloned().collect()),
            size_bytes: i64::try_from(image.size).ok(),
        }
    };
    all.iter().take(MOST_IMAGES).map(image).collect()
}

fn amounts(of: &Amounts) -> BTreeMap<String, Quantity> {
    let cpu = match (of.cpu_milli / 1000, of.cpu_milli % 1000) {
        (whole, 0) => whole.to_string(),
        _ => format!("{}m", of.cpu_milli),
    };
    let mut all = BTreeMap::from([
        ("cpu".to_owned(), Quantity(cpu)),
        ("memory".to_owned(), bytes(of.memory_bytes)),
        ("ephemeral-storage".to_owned(), bytes(of.ephemeral_storage_bytes)),
        ("pods".to_owned(), Quantity(of.pods.to_string())),
    ]);
    for (size, amount) in &of.hugepages {
        all.insert(pages_of(*size), bytes(*amount));
    }
    all
}

fn bytes(bytes: u64) -> Quantity {
    Quantity(in_units(bytes))
}

fn conditions(input: &Input<'_>) -> Vec<NodeCondition> {
    let Pressure { memory, disk, pid } = input.pressure;
    let problems = problems(input);
    let ready = match problems.is_empty() {
        true => ("Ready", true, "KubeletReady", "pods are kept".to_owned()),
        false => ("Ready", false, "KubeletNotReady", problems.join("; ")),
    };
    let pressure = |kind, has: bool, little: &'static str, enough: &'static str, of: &str| {
        let reason = if has { little } else { enough };
        let message = format!("the node has {} {of}", if has { "too little" } else { "enough" });
        (kind, has, reason, message)
    };
    let rows = [
        pressure(
            "MemoryPressure",
            memory,
            "KubeletHasInsufficientMemory",
            "KubeletHasSufficientMemory",
            "memory",
        ),
        pressure(
            "DiskPressure",
            disk,
            "KubeletHasDiskPressure",
            "KubeletHasNoDiskPressure",
            "space on its disks",
        ),
        pressure(
            "PIDPressure",
            pid,
            "KubeletHasInsufficientPID",
            "KubeletHasSufficientPID",
            "room for processes",
        ),
        ready,
    ];
    let heartbeat = api_time(input.now);
    rows.into_iter().map(|row| condition(input.previous, &heartbeat, row)).collect()
}

/// What stands against keeping pods.
fn problems(input: &Input<'_>) -> Vec<String> {
    let mut all: Vec<String> = input.problems.to_vec();
    match input.runtime {
        Err(error) => all.push(format!("the runtime does not tell its state: {error}")),
        Ok(runtime) => {
            let status = runtime.status.status.as_ref();
            let conditions = status.map(|status| status.conditions.as_slice()).unwrap_or_default();
            // Others are remarks of a runtime's own.
            let counts = |of: &&proto::RuntimeCondition| {
                !of.status && matches!(of.r#type.as_str(), "RuntimeReady" | "NetworkReady")
            };
            for condition in conditions.iter().filter(counts) {
                let said = [condition.reason.as_str(), condition.message.as_str()];
                let said: Vec<&str> = said.into_iter().filter(|text| !text.is_empty()).collect();
                let said = said.iter().map(|text| format!(": {text}")).collect::<String>();
                all.push(format!("{} is false{said}", condition.r#type));
            }
        }
    }
    all
}

fn condition(
    previous: Option<&Node>,
    now: &Time,
    (kind, holds, reason, message): (&str, bool, &str, String),
) -> NodeCondition {
    let status = if holds { "True" } else { "False" };
    let since = previous.and_then(|node| find(node, kind)).filter(|before| before.status == status);
    let since = since.and_then(|before| before.last_transition_time.clone());
    NodeCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_heartbeat_time: Some(now.clone()),
        last_transition_time: Some(since.unwrap_or_else(|| now.clone())),
    }
}

/// A condition of a node.
fn find<'a>(node: &'a Node, kind: &str) -> Option<&'a NodeCondition> {
    let all = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    all.into_iter().flatten().find(|condition| condition.type_ == kind)
}

/// Whether a node says that it keeps pods.
pub fn is_ready(node: &Node) -> bool {
    find(node, "Ready").is_some_and(|condition| condition.status == "True")
}

/// The node but for the times at which it was looked at.
pub(super) fn without_heartbeats(node: &Node) -> Node {
    let mut node = node.clone();
    let status = node.status.as_mut().and_then(|status| status.conditions.as_mut());
    for condition in status.into_iter().flatten() {
        condition.last_heartbeat_time = None;
    }
    node
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn runtime() -> Runtime {
        let condition = |kind: &str, status| proto::RuntimeCondition {
            r#type: kind.into(),
            status,
            reason: if status { String::new() } else { "NetworkPluginNotReady".into() },
            message: if status { String::new() } else { "no conflist".into() },
        };
        let image = |id: &str, size| proto::Image {
            id: id.into(),
            repo_tags: vec![format!("{id}:1")],
            repo_digests: vec![format!("{id}@sha256:1")],
            size,
            ..proto::Image::default()
        };
        Runtime {
            version: proto::VersionResponse {
                runtime_name: "berth".into(),
                runtime_version: "1.2".into(),
                ..proto::VersionResponse::default()
            },
            status: proto::StatusResponse {
                status: Some(proto::RuntimeStatus {
                    conditions: vec![
                        condition("RuntimeReady", true),
                        condition("NetworkReady", true),
                    ],
                }),
                runtime_handlers: vec![proto::RuntimeHandler {
                    name: String::new(),
                    features: Some(proto::RuntimeHandlerFeatures {
                        user_namespaces: true,
                        ..proto::RuntimeHandlerFeatures::default()
                    }),
                }],
                ..proto::StatusResponse::default()
            },
            images: (0..60).map(|n| image(&format!("i{n:02}"), n * 10)).collect(),
        }
    }

    fn facts() -> NodeFacts {
        let mut facts = NodeFacts { name: "n1".into(), ..NodeFacts::default() };
        facts.ips = vec!["192.0.2.1".parse().unwrap()];
        facts.capacity.cpu_milli = 2000;
        facts.capacity.memory_bytes = 3 << 30;
        facts.capacity.pods = 110;
        facts.capacity.hugepages = [(2 << 20, 4 << 20)].into();
        facts.allocatable = facts.capacity.clone();
        facts.allocatable.cpu_milli = 1500;
        facts
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn made(runtime: Result<&Runtime, &str>, previous: Option<&Node>, seconds: u64) -> Node {
        node(&Input {
            facts: &facts(),
            system: &System { kernel: "6.12".into(), ..System::default() },
            swap_bytes: 7,
            runtime,
            port: Some(10_250),
            pressure: Pressure::default(),
            problems: &[],
            previous,
            now: at(seconds),
        })
    }

    #[test]
    fn a_node_tells_what_it_is_and_has() {
        let text = serde_json::to_value(made(Ok(&runtime()), None, 5)).unwrap();
        let at = |pointer: &str| text.pointer(pointer).unwrap_or(&serde_json::Value::Null).clone();
        for (pointer, expected) in [
            ("/kind", "Node"),
            ("/metadata/name", "n1"),
            ("/metadata/labels/kubernetes.io~1hostname", "n1"),
            ("/status/addresses/0/address", "192.0.2.1"),
            ("/status/addresses/1/type", "Hostname"),
            ("/status/capacity/cpu", "2"),
            ("/status/allocatable/cpu", "1500m"),
            ("/status/capacity/memory", "3Gi"),
            ("/status/capacity/hugepages-2Mi", "4Mi"),
            ("/status/capacity/pods", "110"),
            ("/status/nodeInfo/containerRuntimeVersion", "berth://1.2"),
            ("/status/nodeInfo/kernelVersion", "6.12"),
            ("/status/images/0/names/0", "i59@sha256:1"),
        ] {
            assert_eq!(at(pointer), expected, "{pointer}");
        }
        assert_eq!(at("/status/images").as_array().unwrap().len(), 50);
        assert_eq!(at("/status/daemonEndpoints/kubeletEndpoint/Port"), 10_250);
        assert_eq!(at("/status/runtimeHandlers/0/features/userNamespaces"), true);
        assert_eq!(at("/status/nodeInfo/swap/capacity"), 7);
    }

    #[test]
    fn a_condition_changes_its_time_with_its_value_alone() {
        let first = made(Ok(&runtime()), None, 10);
        let second = made(Ok(&runtime()), Some(&first), 20);
        let times = |node: &Node| {
            let ready = find(node, "Ready").unwrap();
            let seconds = |time: &Option<Time>| time.as_ref().unwrap().0.as_second();
            (seconds(&ready.last_transition_time), seconds(&ready.last_heartbeat_time))
        };
        assert!(is_ready(&first));
        assert_eq!((times(&first), times(&second)), ((10, 10), (10, 20)));
        assert_eq!(without_heartbeats(&first), without_heartbeats(&second));
        let third = made(Err("gone"), Some(&second), 30);
        assert!(!is_ready(&third));
        assert_eq!(times(&third), (30, 30));
        assert_eq!(find(&third, "MemoryPressure").unwrap().status, "False");
        let before = second.status.unwrap();
        let after = third.status.unwrap();
        assert_eq!(after.images, before.images, "what was known last");
        assert_eq!(
            after.node_info.unwrap().container_runtime_version,
            before.node_info.unwrap().container_runtime_version
        );
    }

    #[test]
    fn a_node_that_is_not_ready_says_why() {
        let mut runtime = runtime();
        runtime.status.status.as_mut().unwrap().conditions[1].status = false;
        let problems = ["node is shutting down".to_owned()];
        let made = node(&Input {
            facts: &facts(),
            system: &System::default(),
            swap_bytes: 0,
            runtime: Ok(&runtime),
            port: None,
            pressure: Pressure { disk: true, ..Pressure::default() },
            problems: &problems,
            previous: None,
            now: at(1),
        });
        let ready = find(&made, "Ready").unwrap();
        assert_eq!(ready.message.as_deref(), Some("node is shutting down; NetworkReady is false"));
        assert_eq!(ready.reason.as_deref(), Some("KubeletNotReady"));
        let disk = find(&made, "DiskPressure").unwrap();
        assert_eq!(
            (&*disk.status, disk.reason.as_deref()),
            ("True", Some("KubeletHasDiskPressure"))
        );
        assert_eq!(find(&made, "PIDPressure").unwrap().status, "False");
    }
}
