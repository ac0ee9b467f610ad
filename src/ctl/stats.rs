//! `berth stats`.

use super::commands::StatsArgs;
use super::connect::Daemon;
use super::console::{Console, Row};
use super::error::CtlError;
use super::format::{bytes, short_id};
use super::resolve::{Inventory, pod_name};
use crate::cri::proto as cri;
use serde::Serialize;

/// What a container uses.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ContainerUse {
    id: String,
    name: String,
    pod: String,
    cpu_nano_cores: Option<u64>,
    cpu_seconds: f64,
    memory_bytes: Option<u64>,
    memory_limit_bytes: Option<u64>,
    disk_bytes: Option<u64>,
}

impl Row for ContainerUse {
    const HEADINGS: &'static [&'static str] =
        &["CONTAINER ID", "NAME", "POD", "CPU", "CPU TIME", "MEMORY", "LIMIT", "DISK"];

    fn cells(&self) -> Vec<String> {
        vec![
            short_id(&self.id).to_owned(),
            self.name.clone(),
            self.pod.clone(),
            percent(self.cpu_nano_cores),
            format!("{:.1}s", self.cpu_seconds),
            or_dash(self.memory_bytes),
            or_dash(self.memory_limit_bytes),
            or_dash(self.disk_bytes),
        ]
    }
}

/// What a pod uses.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PodUse {
    id: String,
    pod: String,
    cpu_nano_cores: Option<u64>,
    cpu_seconds: f64,
    memory_bytes: Option<u64>,
    processes: Option<u64>,
    received_bytes: Option<u64>,
    sent_bytes: Option<u64>,
}

impl Row for PodUse {
    const HEADINGS: &'static [&'static str] =
        &["POD ID", "POD", "CPU", "CPU TIME", "MEMORY", "TASKS", "RECEIVED", "SENT"];

    fn cells(&self) -> Vec<String> {
        vec![
            short_id(&self.id).to_owned(),
            self.pod.clone(),
            percent(self.cpu_nano_cores),
            format!("{:.1}s", self.cpu_seconds),
            or_dash(self.memory_bytes),
            self.processes.map_or_else(|| "-".to_owned(), |count| count.to_string()),
            or_dash(self.received_bytes),
            or_dash(self.sent_bytes),
        ]
    }
}

/// Prints what containers or pods use.
pub(super) async fn stats(
    args: &StatsArgs,
    daemon: &Daemon,
    console: &mut Console,
) -> Result<(), CtlError> {
    let mut runtime = daemon.runtime.clone();
    if args.pods {
        let answer = runtime.list_pod_sandbox_stats(cri::ListPodSandboxStatsRequest::default());
        let stats = answer.await.map_err(CtlError::rpc("measure", "pods"))?.into_inner().stats;
        let rows: Vec<PodUse> = stats.into_iter().map(pod_use).collect();
        return console.rows(args.output.output, &rows);
    }
    let all = Inventory::read(daemon).await?;
    let answer = runtime.list_container_stats(cri::ListContainerStatsRequest::default()).await;
    let stats = answer.map_err(CtlError::rpc("measure", "containers"))?.into_inner().stats;
    let rows: Vec<ContainerUse> =
        stats.into_iter().map(|stats| container_use(&all, stats)).collect();
    console.rows(args.output.output, &rows)
}

fn container_use(all: &Inventory, stats: cri::ContainerStats) -> ContainerUse {
    let attributes = stats.attributes.unwrap_or_default();
    let container = all.containers.iter().find(|container| container.id == attributes.id);
    let pod = container.and_then(|container| all.pod_of(container));
    let cpu = stats.cpu.unwrap_or_default();
    let memory = stats.memory.unwrap_or_default();
    let used = value(memory.working_set_bytes);
    let limit = value(memory.available_bytes).and_then(|free| Some(used?.saturating_add(free)));
    ContainerUse {
        id: attributes.id,
        name: attributes.metadata.map(|metadata| metadata.name).unwrap_or_default(),
        pod: pod.map_or_else(String::new, |pod| pod_name(pod).to_string()),
        cpu_nano_cores: value(cpu.usage_nano_cores),
        cpu_seconds: seconds(cpu.usage_core_nano_seconds),
        memory_bytes: used,
        memory_limit_bytes: limit,
        disk_bytes: stats.writable_layer.and_then(|layer| value(layer.used_bytes)),
    }
}

fn pod_use(stats: cri::PodSandboxStats) -> PodUse {
    let attributes = stats.attributes.unwrap_or_default();
    let metadata = attributes.metadata.unwrap_or_default();
    let linux = stats.linux.unwrap_or_default();
    let cpu = linux.cpu.unwrap_or_default();
    let interface = linux.network.and_then(|network| network.default_interface);
    PodUse {
        id: attributes.id,
        pod: format!("{}/{}", metadata.namespace, metadata.name),
        cpu_nano_cores: value(cpu.usage_nano_cores),
        cpu_seconds: seconds(cpu.usage_core_nano_seconds),
        memory_bytes: linux.memory.and_then(|memory| value(memory.working_set_bytes)),
        processes: linux.process.and_then(|process| value(process.process_count)),
        received_bytes: interface.as_ref().and_then(|interface| value(interface.rx_bytes)),
        sent_bytes: interface.and_then(|interface| value(interface.tx_bytes)),
    }
}

fn value(value: Option<cri::UInt64Value>) -> Option<u64> {
    value.map(|value| value.value)
}

/// Milliseconds are all that people read.
fn seconds(nanos: Option<cri::UInt64Value>) -> f64 {
    let millis = value(nanos).unwrap_or(0) / 1_000_000;
    f64::from(u32::try_from(millis / 1000).unwrap_or(u32::MAX))
        + f64::from(u32::try_from(millis % 1000).unwrap_or(0)) / 1000.0
}

/// Of one CPU.
fn percent(nano_cores: Option<u64>) -> String {
    match nano_cores {
        None => "-".to_owned(),
        Some(nano) => {
            let tenths = nano / 1_000_000;
            format!("{}.{}%", tenths / 10, tenths % 10)
        }
    }
}

fn or_dash(count: Option<u64>) -> String {
    count.map_or_else(|| "-".to_owned(), bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::resolve::tests::{container, pod};

    fn number(value: u64) -> Option<cri::UInt64Value> {
        Some(cri::UInt64Value { value })
    }

    #[test]
    fn a_container_without_figures_has_dashes() {
        let row = container_use(&Inventory::default(), cri::ContainerStats::default());
        assert_eq!(row.cells(), ["", "", "", "-", "0.0s", "-", "-", "-"]);
    }

    #[test]
    fn the_limit_is_what_is_used_and_what_is_left() {
        let all = Inventory {
            pods: vec![pod("p1", "ns", "web", true)],
            containers: vec![container("c1", "p1", "server", true)],
        };
        let stats = cri::ContainerStats {
            attributes: Some(cri::ContainerAttributes {
                id: "c1".into(),
                metadata: Some(cri::ContainerMetadata { name: "server".into(), attempt: 0 }),
                ..Default::default()
            }),
            cpu: Some(cri::CpuUsage {
                usage_core_nano_seconds: number(1_250_000_000),
                usage_nano_cores: number(125_000_000),
                ..Default::default()
            }),
            memory: Some(cri::MemoryUsage {
                working_set_bytes: number(1 << 20),
                available_bytes: number(3 << 20),
                ..Default::default()
            }),
            ..Default::default()
        };
        let row = container_use(&all, stats);
        let expected = ["c1", "server", "ns/web", "12.5%", "1.2s", "1.0 MiB", "4.0 MiB", "-"];
        assert_eq!(row.cells(), expected);
    }
}
