//! The page about a pod.

use super::container::{container, time};
use super::page::{Page, TOP, pairs};
use super::volume::volume;
use crate::ctl::connect::Daemon;
use crate::ctl::console::{Columns, Console};
use crate::ctl::error::CtlError;
use crate::ctl::kubelet::args::{OnePodArgs, namespace_of};
use crate::ctl::kubelet::events::{kind_name, one_line, seen};
use crate::ctl::kubelet::get::now_seconds;
use crate::ctl::kubelet::inventory::{Inventory, KeptPod};
use crate::ctl::kubelet::summary::Summary;
use crate::kubelet::ephemeral::ephemerals;
use crate::kubelet::spec::{grace, name, namespace, spec, uid};
use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodStatus};

/// Prints all about a pod.
pub(super) async fn describe(
    args: &OnePodArgs,
    daemon: &Daemon,
    console: &mut Console,
) -> Result<(), CtlError> {
    let all = Inventory::read(daemon).await?;
    let kept = all.pod(namespace_of(args.namespace.as_deref()), &args.name)?;
    console.write(page(kept, now_seconds()).as_bytes())
}

/// The page, at a second since 1970.
fn page(kept: &KeptPod, now: i64) -> String {
    let none = PodStatus::default();
    let pod = &kept.pod;
    let status = pod.status.as_ref().unwrap_or(&none);
    let mut page = Page::default();
    identity(&mut page, kept, status);
    let init = spec(pod).init_containers.as_deref().unwrap_or_default();
    let of_init = status.init_container_statuses.as_deref().unwrap_or_default();
    containers(&mut page, "Init Containers", init, of_init);
    let of_apps = status.container_statuses.as_deref().unwrap_or_default();
    containers(&mut page, "Containers", &spec(pod).containers, of_apps);
    let of_added = status.ephemeral_container_statuses.as_deref().unwrap_or_default();
    containers(&mut page, "Ephemeral Containers", &ephemerals(pod), of_added);
    conditions(&mut page, status);
    let volumes = spec(pod).volumes.iter().flatten();
    let volumes: Vec<String> = volumes.map(|v| format!("{}: {}", v.name, volume(v))).collect();
    page.block(TOP, "Volumes", &volumes);
    page.line(TOP, "QoS Class", status.qos_class.as_deref().unwrap_or_default());
    events(&mut page, kept, now);
    page.text()
}

fn identity(page: &mut Page, kept: &KeptPod, status: &PodStatus) {
    let pod = &kept.pod;
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    page.line(TOP, "Name", name(pod));
    page.line(TOP, "Namespace", namespace(pod));
    page.line(TOP, "UID", uid(pod));
    page.line(TOP, "Origin", if kept.origin.is_empty() { "applied" } else { &kept.origin });
    let place = [text(&spec(pod).node_name), text(&status.host_ip)];
    page.line(TOP, "Node", &place.join("/"));
    page.some(TOP, "Runtime Class", spec(pod).runtime_class_name.as_deref());
    page.line(TOP, "Start Time", &time(status.start_time.as_ref()));
    page.values(TOP, "Labels", &pairs(pod.metadata.labels.as_ref()));
    page.values(TOP, "Annotations", &pairs(pod.metadata.annotations.as_ref()));
    page.line(TOP, "Status", &Summary::of(pod).status);
    page.some(TOP, "Phase", status.phase.as_deref());
    page.some(TOP, "Reason", status.reason.as_deref());
    page.some(TOP, "Message", status.message.as_deref());
    page.some(TOP, "Grace Period", Some(&grace_text(pod)));
    page.line(TOP, "IP", status.pod_ip.as_deref().unwrap_or("<none>"));
    let ips: Vec<String> = status.pod_ips.iter().flatten().map(|ip| ip.ip.clone()).collect();
    if ips.len() > 1 {
        page.values(TOP, "IPs", &ips);
    }
}

fn grace_text(pod: &Pod) -> String {
    format!("{}s", grace(pod).as_secs())
}

fn containers(page: &mut Page, title: &str, all: &[Container], statuses: &[ContainerStatus]) {
    if all.is_empty() {
        return;
    }
    page.plain(&format!("{title}:"));
    for of in all {
        container(page, of, statuses.iter().find(|status| status.name == of.name));
    }
}

fn conditions(page: &mut Page, status: &PodStatus) {
    let rows: Vec<Vec<String>> = status
        .conditions
        .iter()
        .flatten()
        .map(|c| {
            let why = [c.reason.as_deref(), c.message.as_deref()];
            let why: Vec<&str> = why.into_iter().flatten().collect();
            vec![c.type_.clone(), c.status.clone(), why.join(": ")]
        })
        .collect();
    table(page, "Conditions", (&["Type", "Status", "Reason"], rows));
}

fn events(page: &mut Page, kept: &KeptPod, now: i64) {
    if kept.events.is_empty() {
        page.line(TOP, "Events", "<none>");
        return;
    }
    let row = |event: &crate::kubelet::board::Event| {
        vec![
            kind_name(event.kind).to_owned(),
            event.reason.clone(),
            seen(event, now),
            event.container.clone().unwrap_or_else(|| "-".to_owned()),
            one_line(&event.message),
        ]
    };
    let rows = kept.events.iter().map(row).collect();
    table(page, "Events", (&["Type", "Reason", "Age", "Container", "Message"], rows));
}

/// A table below its title; nothing for no rows.
pub(super) fn table(page: &mut Page, title: &str, (headings, rows): (&[&str], Vec<Vec<String>>)) {
    if rows.is_empty() {
        return;
    }
    let text = Columns::new(headings).lines(&rows);
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    page.block(TOP, title, &lines);
}

#[cfg(test)]
#[path = "pod_tests.rs"]
mod tests;
