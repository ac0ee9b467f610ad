//! What metrics are made of: the statistics, and what only metrics show.

use super::error::EngineError;
use super::open::Engine;
use super::view::{ContainerState, ContainerView, SandboxView};
use crate::blocking;
use crate::cgroups::{CgroupDetails, CgroupStats, Group};
use crate::cni::{InterfaceStats, read_interface_stats};
use crate::container::object::Container;
use crate::container::processes::{self, ProcessFigures};
use crate::error::AtStep;
use crate::image::FsUsage;
use crate::node::Node;
use crate::sandbox::object::Sandbox;
use crate::sys::fs;
use std::sync::Arc;

/// The figures of one cgroup.
#[derive(Clone, Debug, Default)]
pub struct GroupFigures {
    /// What it uses; `None`: it is gone.
    pub stats: Option<CgroupStats>,
    /// Its limits, I/O by device, huge pages.
    pub details: CgroupDetails,
    /// What its processes hold.
    pub processes: ProcessFigures,
}

/// The figures of a running container.
#[derive(Clone, Debug)]
pub struct ContainerMetricsView {
    /// The container.
    pub view: ContainerView,
    /// Its cgroup, absolute below the cgroup root.
    pub cgroup: String,
    /// Its figures.
    pub group: GroupFigures,
    /// What its writable layer takes.
    pub layer: Option<FsUsage>,
    /// The file system of its writable layer.
    pub space: Option<fs::Space>,
}

/// The figures of a ready sandbox.
#[derive(Clone, Debug)]
pub struct SandboxMetricsView {
    /// The sandbox.
    pub view: SandboxView,
    /// The pod's figures.
    pub group: GroupFigures,
    /// Its interfaces; none with the host's network.
    pub network: Vec<InterfaceStats>,
    /// Its running containers.
    pub containers: Vec<ContainerMetricsView>,
}

impl Engine {
    /// The metrics of a sandbox; `None` when it is not READY.
    ///
    /// # Errors
    /// NotFound.
    pub async fn sandbox_metrics(
        &self,
        id: &str,
    ) -> Result<Option<SandboxMetricsView>, EngineError> {
        self.ready()?;
        let sandbox = self.known_sandbox(id)?;
        let containers = self.registry.containers_of(&sandbox.id);
        let node = Arc::clone(&self.node);
        blocking::run("read metrics", move || read(&node, &sandbox, &containers))
            .await
            .at("read metrics")
            .map_err(|f| EngineError::step("ListPodSandboxMetrics", id, f))
    }
}

fn read(
    node: &Node,
    sandbox: &Sandbox,
    containers: &[Arc<Container>],
) -> Option<SandboxMetricsView> {
    let view = sandbox.view(node);
    let pause = view.pause_pid?;
    let network = match &view.netns {
        Some(_) => read_interface_stats(pause).unwrap_or_default(),
        None => Vec::new(),
    };
    Some(SandboxMetricsView {
        group: figures(&node.cgroups.pod(&sandbox.record().cgroup), Some(pause)),
        network,
        containers: containers.iter().filter_map(|c| container(node, c)).collect(),
        view,
    })
}

/// Nothing of a container that does not run, or ends meanwhile.
fn container(node: &Node, container: &Container) -> Option<ContainerMetricsView> {
    let view = container.view(node);
    if view.state != ContainerState::Running {
        return None;
    }
    let leaf = container.leaf(node);
    let layer = node.images.snapshot_usage(&container.id).ok();
    Some(ContainerMetricsView {
        cgroup: leaf.path().to_string(),
        group: figures(&leaf, view.pid),
        space: layer.as_ref().and_then(|layer| fs::space(&layer.mountpoint).ok()),
        layer,
        view,
    })
}

/// A cgroup that goes away meanwhile has no figures, which is no error.
fn figures(group: &Group, init: Option<i32>) -> GroupFigures {
    GroupFigures {
        stats: group.stats().ok(),
        details: group.details().unwrap_or_default(),
        processes: processes::read(&group.pids().unwrap_or_default(), init),
    }
}
