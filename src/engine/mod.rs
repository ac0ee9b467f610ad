//! The engine: one method a CRI verb.

pub mod error;
pub mod view;

use crate::cgroups::Resources;
use crate::config::Config;
use crate::container::config::ContainerConfig;
use crate::ids::{ContainerId, SandboxId};
use crate::sandbox::config::SandboxConfig;
pub use error::EngineError;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{broadcast, oneshot};
use view::*;

/// The engine. Cheap to clone.
#[derive(Clone)]
pub struct Engine;

/// An open command in a container.
#[derive(Debug)]
pub struct ExecSession {
    /// Where its input goes; `None` without stdin. With a terminal: the pty.
    pub stdin: Option<OwnedFd>,
    /// Where its output comes from. With a terminal: the pty.
    pub stdout: OwnedFd,
    /// Its errors; `None` with a terminal.
    pub stderr: Option<OwnedFd>,
    /// The exit code, once.
    pub exit: oneshot::Receiver<i32>,
    /// Dropping it kills the command's whole tree.
    pub guard: ExecGuard,
}

/// Kills the command's whole tree when dropped, unless it has ended.
#[derive(Debug)]
pub struct ExecGuard;

/// Numbers of a running container.
#[derive(Clone, Debug)]
pub struct ContainerStatsView {
    /// The container.
    pub view: ContainerView,
    /// Nanoseconds of CPU a second, from two samples.
    pub nano_cores: Option<u64>,
}

/// Numbers of a pod.
#[derive(Clone, Debug)]
pub struct SandboxStatsView {
    /// The sandbox.
    pub view: SandboxView,
    /// Its interfaces.
    pub network: Vec<InterfaceStats>,
    /// Its running containers.
    pub containers: Vec<ContainerStatsView>,
    /// Tasks in the pod.
    pub process_count: u64,
}

const TODO: EngineError = EngineError::Unimplemented("engine");

#[expect(
    clippy::missing_errors_doc,
    missing_docs,
    clippy::unused_async,
    unused_variables,
    reason = "signatures first"
)]
impl Engine {
    pub async fn open(config: Arc<Config>) -> Result<Self, EngineError> {
        Ok(Self)
    }
    pub fn ready(&self) -> Result<(), EngineError> {
        Err(TODO)
    }
    pub async fn shutdown(&self) {}
    pub async fn run_sandbox(
        &self,
        config: SandboxConfig,
        handler: &str,
    ) -> Result<SandboxId, EngineError> {
        Err(TODO)
    }
    pub async fn stop_sandbox(&self, id: &str) -> Result<(), EngineError> {
        Err(TODO)
    }
    pub async fn remove_sandbox(&self, id: &str) -> Result<(), EngineError> {
        Err(TODO)
    }
    pub fn sandbox_status(&self, id: &str) -> Result<SandboxView, EngineError> {
        Err(TODO)
    }
    pub fn list_sandboxes(&self) -> Result<Vec<SandboxView>, EngineError> {
        Err(TODO)
    }
    pub async fn create_container(
        &self,
        sandbox: &str,
        config: ContainerConfig,
    ) -> Result<ContainerId, EngineError> {
        Err(TODO)
    }
    pub async fn start_container(&self, id: &str) -> Result<(), EngineError> {
        Err(TODO)
    }
    pub async fn stop_container(&self, id: &str, grace: Duration) -> Result<(), EngineError> {
        Err(TODO)
    }
    pub async fn remove_container(&self, id: &str) -> Result<(), EngineError> {
        Err(TODO)
    }
    pub fn container_status(&self, id: &str) -> Result<ContainerView, EngineError> {
        Err(TODO)
    }
    pub fn list_containers(&self) -> Result<Vec<ContainerView>, EngineError> {
        Err(TODO)
    }
    pub async fn update_container(
        &self,
        id: &str,
        resources: Resources,
    ) -> Result<(), EngineError> {
        Err(TODO)
    }
    pub async fn reopen_log(&self, id: &str) -> Result<(), EngineError> {
        Err(TODO)
    }
    pub async fn exec_sync(
        &self,
        id: &str,
        command: Vec<String>,
        timeout: Option<Duration>,
    ) -> Result<ExecOutput, EngineError> {
        Err(TODO)
    }
    pub async fn exec_open(
        &self,
        id: &str,
        command: Vec<String>,
        tty: bool,
        stdin: bool,
    ) -> Result<ExecSession, EngineError> {
        Err(TODO)
    }
    pub async fn container_stats(&self, id: &str) -> Result<ContainerStatsView, EngineError> {
        Err(TODO)
    }
    pub async fn list_container_stats(
        &self,
        ids: Vec<ContainerId>,
    ) -> Result<Vec<ContainerStatsView>, EngineError> {
        Err(TODO)
    }
    pub async fn sandbox_stats(&self, id: &str) -> Result<SandboxStatsView, EngineError> {
        Err(TODO)
    }
    pub fn status(&self) -> NodeStatus {
        NodeStatus {
            conditions: Vec::new(),
            cgroup_driver: crate::config::CgroupDriver::Cgroupfs,
            info: serde_json::Value::Null,
        }
    }
    pub fn subscribe(&self) -> broadcast::Receiver<EngineEvent> {
        broadcast::channel(1).1
    }
}
