//! What the engine tells about its objects: plain values, copied out under a short lock.

use crate::cgroups::Resources;
use crate::container::config::ContainerConfig;
use crate::container::object::Volume;
use crate::ids::{ContainerId, ImageId, SandboxId};
use crate::sandbox::config::SandboxConfig;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

pub use crate::bus::{EngineEvent, EventKind};

/// A sandbox as it is now.
#[derive(Clone, Debug)]
pub struct SandboxView {
    /// Its id.
    pub id: SandboxId,
    /// The request that made it.
    pub config: Arc<SandboxConfig>,
    /// The runtime handler, empty for the native executor.
    pub handler: String,
    /// READY: pause runs and the network is up.
    pub ready: bool,
    /// When it was made, Unix nanoseconds.
    pub created_at_nanos: i64,
    /// Pod addresses, the primary one first; empty with a host network.
    pub ips: Vec<IpAddr>,
    /// Where its network namespace is reachable on the host.
    pub netns: Option<PathBuf>,
    /// The pid of pause.
    pub pause_pid: Option<i32>,
    /// The pid of the shim.
    pub shim_pid: Option<i32>,
    /// Its cgroup, absolute below the cgroup root.
    pub cgroup: String,
    /// Why it is not ready, or what was left undone; empty when there is nothing to say.
    pub message: String,
    /// What the best-effort switches leave out of what was asked for, in words.
    pub left_out: Vec<String>,
}

/// The state of a container, as CRI names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ContainerState {
    /// Made, not started.
    Created,
    /// Its process runs.
    Running,
    /// Its process has ended, or never began.
    Exited,
    /// It cannot be told.
    Unknown,
}

/// A container as it is now. Times are Unix nanoseconds, 0 for not yet.
#[derive(Clone, Debug)]
pub struct ContainerView {
    /// Its id.
    pub id: ContainerId,
    /// Its pod.
    pub sandbox: SandboxId,
    /// The request that made it.
    pub config: Arc<ContainerConfig>,
    /// The image's id.
    pub image_id: ImageId,
    /// The image as a digest reference, else its id.
    pub image_ref: String,
    /// Its image volumes.
    pub volumes: Vec<Volume>,
    /// The state.
    pub state: ContainerState,
    /// The pid of its init on the host, while it runs.
    pub pid: Option<i32>,
    /// When it was made.
    pub created_at_nanos: i64,
    /// When its process began.
    pub started_at_nanos: i64,
    /// When it ended.
    pub finished_at_nanos: i64,
    /// 0 to 255; 128 + signal for a killed process.
    pub exit_code: i32,
    /// `Completed`, `Error`, `OOMKilled`, `StartError`, `Unknown`, or empty.
    pub reason: String,
    /// Details for people.
    pub message: String,
    /// The whole path of the log file.
    pub log_path: Option<PathBuf>,
    /// uid, gid, supplementary groups of its first process.
    pub user: Option<(u32, u32, Vec<u32>)>,
    /// The resources now in force.
    pub resources: Resources,
    /// The signal that asks it to end.
    pub stop_signal: String,
    /// What the best-effort switches leave out of what was asked for, in words.
    pub left_out: Vec<String>,
    /// The folder with its OCI configuration.
    pub bundle: PathBuf,
}

/// One part of the node's readiness.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// `RuntimeReady`, `NetworkReady`, or one of berth's own.
    pub kind: String,
    /// Whether it holds.
    pub status: bool,
    /// One word why not.
    pub reason: String,
    /// A sentence why not.
    pub message: String,
}

/// What became of a node-level question.
#[derive(Clone, Debug)]
pub struct NodeStatus {
    /// RuntimeReady and NetworkReady first, then a false one for each best-effort use.
    pub conditions: Vec<Condition>,
    /// The runtime handlers beside the native executor that can be used, with what each can do.
    pub handlers: Vec<(String, crate::handlers::Features)>,
    /// Whether pods can have user namespaces here.
    pub user_namespaces: bool,
    /// The cgroup driver in force.
    pub cgroup_driver: crate::config::CgroupDriver,
    /// Details for verbose status.
    pub info: serde_json::Value,
}

/// What a command printed and how it ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecOutput {
    /// Standard output, at most 16 MiB; the rest was read and dropped.
    pub stdout: Vec<u8>,
    /// Standard error, likewise.
    pub stderr: Vec<u8>,
    /// 0 to 255; 128 + signal.
    pub exit_code: i32,
}
