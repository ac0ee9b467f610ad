//! The page about the node.

use super::container::{quantities, time};
use super::page::{Page, TOP, pairs};
use super::pod::table;
use crate::ctl::connect::Daemon;
use crate::ctl::console::Console;
use crate::ctl::error::CtlError;
use crate::ctl::kubelet::events::{kind_name, one_line, seen};
use crate::ctl::kubelet::get::now_seconds;
use crate::ctl::kubelet::node::read_with_events;
use crate::kubelet::board::Event;
use k8s_openapi::api::core::v1::{Node, NodeStatus, NodeSystemInfo};

/// Prints all about the node.
pub(super) async fn describe(daemon: &Daemon, console: &mut Console) -> Result<(), CtlError> {
    let (node, events) = read_with_events(daemon).await?;
    console.write(page(&node, (&events, now_seconds())).as_bytes())
}

fn page(node: &Node, (events, now): (&[Event], i64)) -> String {
    let mut page = Page::default();
    let status = node.status.clone().unwrap_or_default();
    page.line(TOP, "Name", node.metadata.name.as_deref().unwrap_or_default());
    page.values(TOP, "Labels", &pairs(node.metadata.labels.as_ref()));
    page.line(TOP, "Created", &time(node.metadata.creation_timestamp.as_ref()));
    conditions(&mut page, &status);
    let addresses = status.addresses.iter().flatten();
    let addresses: Vec<String> =
        addresses.map(|of| format!("{}: {}", of.type_, of.address)).collect();
    page.block(TOP, "Addresses", &addresses);
    page.block(TOP, "Capacity", &quantities(status.capacity.as_ref()));
    page.block(TOP, "Allocatable", &quantities(status.allocatable.as_ref()));
    page.block(TOP, "System Info", &system(&status.node_info.clone().unwrap_or_default()));
    let handlers = status.runtime_handlers.iter().flatten();
    let handlers: Vec<String> = handlers
        .map(|handler| {
            let features = handler.features.as_ref();
            let has = |on: Option<bool>, word| (on == Some(true)).then_some(word);
            let words = [
                features.and_then(|f| has(f.user_namespaces, "user namespaces")),
                features.and_then(|f| has(f.recursive_read_only_mounts, "recursive read-only")),
            ];
            let words: Vec<&str> = words.into_iter().flatten().collect();
            let name = handler.name.as_deref().filter(|name| !name.is_empty());
            format!("{}: {}", name.unwrap_or("(default)"), words.join(", "))
        })
        .collect();
    page.block(TOP, "Runtime Handlers", &handlers);
    let images = status.images.iter().flatten();
    let images: Vec<String> =
        images.filter_map(|image| image.names.as_ref()?.last().cloned()).collect();
    page.block(TOP, "Largest Images", &images);
    happened(&mut page, events, now);
    page.text()
}

fn happened(page: &mut Page, events: &[Event], now: i64) {
    let row = |event: &Event| {
        let kind = kind_name(event.kind).to_owned();
        vec![kind, event.reason.clone(), seen(event, now), one_line(&event.message)]
    };
    let rows = events.iter().map(row).collect();
    table(page, "Events", (&["Type", "Reason", "Age", "Message"], rows));
}

fn conditions(page: &mut Page, status: &NodeStatus) {
    let rows = status.conditions.iter().flatten().map(|condition| {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        vec![
            condition.type_.clone(),
            condition.status.clone(),
            time(condition.last_transition_time.as_ref()),
            text(&condition.reason),
            text(&condition.message),
        ]
    });
    let headings = ["Type", "Status", "Since", "Reason", "Message"];
    table(page, "Conditions", (&headings, rows.collect()));
}

fn system(info: &NodeSystemInfo) -> Vec<String> {
    let swap = info.swap.as_ref().and_then(|swap| swap.capacity).map(|bytes| bytes.to_string());
    [
        ("Machine ID", info.machine_id.clone()),
        ("System UUID", info.system_uuid.clone()),
        ("Boot ID", info.boot_id.clone()),
        ("Kernel Version", info.kernel_version.clone()),
        ("OS Image", info.os_image.clone()),
        ("Architecture", info.architecture.clone()),
        ("Container Runtime", info.container_runtime_version.clone()),
        ("Kubelet Version", info.kubelet_version.clone()),
        ("Swap", swap.unwrap_or_default()),
    ]
    .into_iter()
    .filter(|(_, value)| !value.is_empty())
    .map(|(name, value)| format!("{name}: {value}"))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::kubelet::test_pods::warning;

    #[test]
    fn all_about_the_node_is_on_its_page() {
        let node: Node = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "n1", "labels": {"a": "b"}},
            "status": {
                "addresses": [{"type": "InternalIP", "address": "192.0.2.1"}],
                "allocatable": {"cpu": "2"},
                "conditions": [{"type": "Ready", "status": "False", "reason": "KubeletNotReady",
                    "message": "node is shutting down", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
                "images": [{"names": ["i@sha256:1", "i:1"], "sizeBytes": 7}],
                "runtimeHandlers": [{"name": "", "features": {"userNamespaces": true}}],
                "nodeInfo": {"kernelVersion": "6.12", "architecture": "amd64", "bootID": "",
                    "containerRuntimeVersion": "berth://1", "kubeProxyVersion": "",
                    "kubeletVersion": "v1", "machineID": "", "operatingSystem": "linux",
                    "osImage": "X", "systemUUID": ""},
            },
        }))
        .unwrap();
        let mut event = warning("", "NodeHasDiskPressure", "it is\nfull", 100);
        (event.count, event.last_nanos) = (2, 130_000_000_000);
        let text = page(&node, (&[event], 140));
        for line in [
            "Name:             n1",
            "  InternalIP: 192.0.2.1",
            "  cpu: 2",
            "  Kernel Version: 6.12",
            "  (default): user namespaces",
            "  i:1",
        ] {
            assert!(text.lines().any(|found| found == line), "no {line:?} in\n{text}");
        }
        let last = text.lines().last().unwrap();
        let expected = ["Warning", "NodeHasDiskPressure", "10s (x2 over 40s)", "it is full"];
        assert!(expected.iter().all(|word| last.contains(word)), "{text}");
        let ready = text.lines().find(|line| line.trim_start().starts_with("Ready")).unwrap();
        assert!(ready.contains("False") && ready.ends_with("node is shutting down"), "{ready}");
    }
}
