//! Every family, and what is told of a pod and its containers.

use super::family::Samples;
use super::{cpu, disk, life, memory, network, process};
use crate::cri::proto;
use crate::engine::{ContainerMetricsView, GroupFigures, SandboxMetricsView};

/// All that can be told, whether or not this node has samples of it. They do not change while berth
/// runs.
pub(crate) fn descriptors() -> Vec<proto::MetricDescriptor> {
    let mut all = [
        cpu::descriptors(),
        memory::descriptors(),
        disk::descriptors(),
        network::descriptors(),
        process::descriptors(),
        life::descriptors(),
    ]
    .concat();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

/// The samples of a pod and of its running containers.
pub(crate) fn pod_metrics(pod: &SandboxMetricsView) -> proto::PodSandboxMetrics {
    let view = &pod.view;
    let metadata = &view.config.metadata;
    let mut samples = Samples::of([
        String::new(),
        view.cgroup.clone(),
        String::new(),
        view.id.to_string(),
        metadata.namespace.clone(),
        metadata.name.clone(),
    ]);
    let shares = view.config.resources.as_ref().and_then(|r| r.cpu_shares);
    add_group(&mut samples, &pod.group, shares, view.created_at_nanos);
    network::add(&mut samples, &pod.network);
    proto::PodSandboxMetrics {
        pod_sandbox_id: view.id.to_string(),
        metrics: samples.into_metrics(),
        container_metrics: pod.containers.iter().map(|c| container_metrics(pod, c)).collect(),
    }
}

fn container_metrics(
    pod: &SandboxMetricsView,
    container: &ContainerMetricsView,
) -> proto::ContainerMetrics {
    let view = &container.view;
    let metadata = &pod.view.config.metadata;
    let mut samples = Samples::of([
        view.config.name.clone(),
        container.cgroup.clone(),
        view.image_ref.clone(),
        view.id.to_string(),
        metadata.namespace.clone(),
        metadata.name.clone(),
    ]);
    let shares = view.resources.cpu_shares;
    add_group(&mut samples, &container.group, shares, view.started_at_nanos);
    disk::add_layer(&mut samples, container.layer.as_ref(), container.space.as_ref());
    proto::ContainerMetrics { container_id: view.id.to_string(), metrics: samples.into_metrics() }
}

/// What a pod and a container have in common. Nothing of a cgroup that went away meanwhile.
fn add_group(samples: &mut Samples, group: &GroupFigures, shares: Option<u64>, started: i64) {
    let Some(stats) = &group.stats else { return };
    cpu::add(samples, stats, &group.details, shares);
    memory::add(samples, stats, &group.details);
    disk::add_io(samples, &group.details);
    process::add(samples, &group.processes, stats);
    life::add(samples, started, stats.timestamp_nanos);
}

#[cfg(test)]
#[path = "all_tests.rs"]
mod tests;
