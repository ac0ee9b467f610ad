//! The stats verbs.

use super::error::EngineError;
use super::open::Engine;
use super::view::{ContainerState, ContainerView, SandboxView};
use crate::blocking;
use crate::cgroups::CgroupStats;
use crate::cni::{InterfaceStats, read_interface_stats};
use crate::container::object::Container;
use crate::container::stats;
use crate::error::AtStep;
use crate::ids::ContainerId;
use crate::image::FsUsage;
use std::sync::Arc;

/// Numbers of a container.
#[derive(Clone, Debug)]
pub struct ContainerStatsView {
    /// The container.
    pub view: ContainerView,
    /// The kernel's counters; `None` while it does not run.
    pub stats: Option<CgroupStats>,
    /// What its writable layer takes.
    pub writable_layer: Option<FsUsage>,
    /// Nanoseconds of CPU a second, from two samples.
    pub nano_cores: Option<u64>,
}

/// Numbers of a pod.
#[derive(Clone, Debug)]
pub struct SandboxStatsView {
    /// The sandbox.
    pub view: SandboxView,
    /// The kernel's counters of the pod's cgroup.
    pub stats: Option<CgroupStats>,
    /// Its interfaces, eth0 first.
    pub network: Vec<InterfaceStats>,
    /// Its running containers.
    pub containers: Vec<ContainerStatsView>,
    /// Tasks in the pod.
    pub process_count: u64,
}

impl Engine {
    /// ContainerStats.
    ///
    /// # Errors
    /// NotFound.
    pub async fn container_stats(&self, id: &str) -> Result<ContainerStatsView, EngineError> {
        self.ready()?;
        let container = self.known_container(id)?;
        let node = Arc::clone(&self.node);
        blocking::run("read statistics", move || stats::read(&node, &container))
            .await
            .at("read statistics")
            .map_err(|f| EngineError::step("ContainerStats", id, f))
    }

    /// ListContainerStats for those of `ids` that exist.
    ///
    /// # Errors
    /// Recovering.
    pub async fn list_container_stats(
        &self,
        ids: Vec<ContainerId>,
    ) -> Result<Vec<ContainerStatsView>, EngineError> {
        self.ready()?;
        let containers: Vec<Arc<Container>> =
            ids.iter().filter_map(|id| self.registry.container(id)).collect();
        let node = Arc::clone(&self.node);
        blocking::run("read statistics", move || {
            containers.iter().map(|c| stats::read(&node, c)).collect()
        })
        .await
        .at("read statistics")
        .map_err(|f| EngineError::step("ListContainerStats", "all containers", f))
    }

    /// PodSandboxStats.
    ///
    /// # Errors
    /// NotFound.
    pub async fn sandbox_stats(&self, id: &str) -> Result<SandboxStatsView, EngineError> {
        self.ready()?;
        let sandbox = self.known_sandbox(id)?;
        let containers = self.registry.containers_of(&sandbox.id);
        let node = Arc::clone(&self.node);
        blocking::run("read statistics", move || {
            let view = sandbox.view(&node);
            let stats = node.cgroups.pod(&sandbox.record().cgroup).stats().ok();
            let network = match view.pause_pid {
                Some(pid) => read_interface_stats(pid).unwrap_or_default(),
                None => Vec::new(),
            };
            let containers = containers
                .iter()
                .map(|c| stats::read(&node, c))
                .filter(|s| s.view.state == ContainerState::Running)
                .collect();
            let process_count =
                stats.as_ref().and_then(|s| s.pids.as_ref()).map_or(0, |p| p.current);
            SandboxStatsView { view, stats, network, containers, process_count }
        })
        .await
        .at("read statistics")
        .map_err(|f| EngineError::step("PodSandboxStats", id, f))
    }
}
