//! A further process in a running container.

use std::os::fd::BorrowedFd;

use super::create::{PodHandles, Spawned, Stdio};
use super::step::{Step, StepError};
use crate::shim::wire::ExecPlan;
use crate::sys::process::SingleThreaded;

/// Starts a process in the container whose first process is behind `init_pidfd`.
///
/// # Errors
/// A step before the child's first; the child's own steps come by its report.
pub fn spawn_exec(
    _t: &SingleThreaded,
    _plan: &ExecPlan,
    _init_pidfd: BorrowedFd<'_>,
    _stdio: Stdio,
    _pod: &PodHandles<'_>,
) -> Result<Spawned, StepError> {
    Err(StepError { step: Step::Plan, errno: libc::ENOSYS, detail: String::new() })
}
