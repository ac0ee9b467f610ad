//! The parent side: clone into the cgroup and the new namespaces. Never waits for the child.

use std::ffi::CStr;
use std::os::fd::{BorrowedFd, OwnedFd};

use super::step::{Step, StepError};
use crate::shim::wire::InitPlan;
use crate::sys::process::SingleThreaded;

/// The newest plan this executor understands.
pub const LEVEL: u32 = 1;

/// A child on its way to exec.
#[derive(Debug)]
pub struct Spawned {
    /// The final process, a child of the caller.
    pub pid: i32,
    /// Its pidfd.
    pub pidfd: OwnedFd,
    /// The nonblocking read end of its report: collect until the end, then
    /// [`parse_report`](super::parse_report).
    pub report: OwnedFd,
}

/// The standard descriptors of a new process.
#[derive(Debug)]
pub struct Stdio {
    /// Standard input; without one the container's /dev/null.
    pub stdin: Option<OwnedFd>,
    /// Standard output.
    pub stdout: OwnedFd,
    /// Standard error.
    pub stderr: OwnedFd,
    /// The slave of a pseudo terminal: becomes the controlling terminal and /dev/console.
    pub terminal: Option<OwnedFd>,
}

/// What the shim holds of the pod.
#[derive(Debug)]
pub struct PodHandles<'a> {
    /// The pause process, whose namespaces a plan can name.
    pub pause_pidfd: Option<BorrowedFd<'a>>,
    /// Where the pod's /dev/shm is in the shim's mount namespace.
    pub shm: Option<&'a CStr>,
    /// The cgroup that the process belongs in.
    pub cgroup: BorrowedFd<'a>,
    /// Where it is cloned when the cgroup refuses one more process (EAGAIN at pids.max).
    pub fallback_cgroup: BorrowedFd<'a>,
}

/// Starts a container's first process. `fds` are those of the plan, 0 the root file system.
///
/// # Errors
/// A step before the child's first; the child's own steps come by its report.
pub fn spawn_init(
    _t: &SingleThreaded,
    _plan: &InitPlan,
    _fds: Vec<OwnedFd>,
    _stdio: Stdio,
    _pod: &PodHandles<'_>,
) -> Result<Spawned, StepError> {
    Err(StepError { step: Step::Plan, errno: libc::ENOSYS, detail: String::new() })
}
