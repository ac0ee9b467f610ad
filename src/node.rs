//! The parts of a node that every verb works with, built once and handed down.

use crate::bus::Bus;
use crate::cgroups::{Cgroups, Group};
use crate::cni::Network;
use crate::config::Config;
use crate::error::{AtStep as _, ErrorKind, StepFailed};
use crate::handlers::Handlers;
use crate::ids::SandboxId;
use crate::image::Images;
use crate::selinux::Selinux;
use crate::shim::client::{ShimBinaries, ShimEvent};
use crate::store::{Durable, Layout};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Where shims report: the sandbox and what happened in it.
pub type ShimEvents = mpsc::UnboundedSender<(SandboxId, ShimEvent)>;

/// Everything a verb needs beside its object.
pub struct Node {
    /// The configuration.
    pub config: Arc<Config>,
    /// Every path.
    pub layout: Layout,
    /// Control groups.
    pub cgroups: Cgroups,
    /// The pod network.
    pub network: Network,
    /// What makes containers beside the native executor.
    pub handlers: Handlers,
    /// SELinux labels.
    pub selinux: Selinux,
    /// Images and writable layers.
    pub images: Images,
    /// What shims and pauses run from.
    pub shims: ShimBinaries,
    /// Whether pods can have user namespaces here, and why not.
    pub userns: Result<(), String>,
    /// Where shims report.
    pub shim_events: ShimEvents,
    /// Where everybody listens.
    pub bus: Bus,
    /// Records that outlive a boot.
    pub durable: Durable,
    /// Held for reading by each checkpoint at work: a stop waits until its containers go on.
    pub checkpoints: Arc<tokio::sync::RwLock<()>>,
    /// Every task of the engine.
    pub tasks: TaskTracker,
    /// The daemon is about to end.
    pub stopping: CancellationToken,
}

// Every error that a step of a verb may end with.
crate::error::kinded!(
    crate::blocking::BlockingError,
    crate::cgroups::CgroupError,
    crate::checkpoint::CheckpointError,
    crate::cni::NetworkError,
    crate::cni::RangeError,
    crate::container::apparmor::AppArmorError,
    crate::container::spec::SpecError,
    crate::container::user::UserError,
    crate::handlers::HandlerError,
    crate::image::ImageError,
    crate::oci::OciError,
    crate::oci::seccomp::SeccompError,
    crate::sandbox::sysctl::SysctlError,
    crate::selinux::SelinuxError,
    crate::shim::client::ShimError,
);

/// Kills everything in a cgroup and waits until it is empty, no longer than `limit`. Blocks.
///
/// # Errors
/// DeadlineExceeded when the kernel does not end a process in time.
pub fn kill_and_wait(group: &Group, limit: Duration) -> Result<(), StepFailed> {
    group.kill().at("kill the processes of a cgroup")?;
    if group.wait_empty(limit).at("wait for the processes of a cgroup")? {
        return Ok(());
    }
    Err(StepFailed {
        step: "wait for the processes of a cgroup",
        kind: ErrorKind::DeadlineExceeded,
        source: format!("{} is not empty {limit:?} after it was killed", group.path()).into(),
    })
}
