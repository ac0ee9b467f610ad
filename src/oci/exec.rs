//! A further process in a running container.
//!
//! An intermediate child makes itself non-dumpable, closes what is not its own, and only then joins
//! the container's namespaces; it clones the process as its sibling (a child of the shim) into the
//! exec's cgroup and ends. The shim waits for it: that is two system calls, not the set-up.

use std::convert::Infallible;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::create::{
    Placed, PodHandles, Spawned, Stdio, check_level, fork_into, report_pipe, through_intermediate,
};
use super::host_proc::HostProc;
use super::init::{keep_common, move_into, open_directory, open_procs};
use super::process;
use super::report;
use super::step::{At, Step, StepError};
use super::terminal;
use super::userns;
use crate::shim::wire::ExecPlan;
use crate::sys::clone::{self, Forked, Kinship};
use crate::sys::process::SingleThreaded;
use crate::sys::{fds as sys_fds, ns, prctl};
use crate::undefended::gap;

/// What a process of a container shares with its first one, but for the cgroup namespace, and the
/// user namespace where there is one. A time namespace cannot be there: the plan refuses it.
const JOINED: i32 = libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS;

struct Exec<'a> {
    t: &'a SingleThreaded,
    plan: &'a ExecPlan,
    init_pidfd: BorrowedFd<'a>,
    stdio: Stdio,
    pod: &'a PodHandles<'a>,
    report: OwnedFd,
}

/// Starts a process in the container whose first process is behind `init_pidfd`.
///
/// # Errors
/// A step before the child's first; the child's own steps come by its report.
pub fn spawn_exec(
    t: &SingleThreaded,
    plan: &ExecPlan,
    init_pidfd: BorrowedFd<'_>,
    stdio: Stdio,
    pod: &PodHandles<'_>,
) -> Result<Spawned, StepError> {
    check_level(plan.level)?;
    let (reader, report) = report_pipe()?;
    let exec = Exec { t, plan, init_pidfd, stdio, pod, report };
    through_intermediate(t, reader, |pid_pipe| join_and_clone(&exec, pid_pipe))
}

fn join_and_clone(exec: &Exec<'_>, pid_pipe: BorrowedFd<'_>) -> Result<i32, StepError> {
    prctl::not_dumpable().at(Step::Isolate)?;
    let mut keep = vec![sys_fds::number(exec.init_pidfd), sys_fds::number(pid_pipe)];
    keep.extend(process::preserved(&exec.plan.process));
    keep_common(&mut keep, &exec.stdio, exec.report.as_fd(), exec.pod);
    sys_fds::close_all_but(3, &mut keep).at(Step::Isolate)?;
    let procs = open_procs(exec.pod.cgroup)?;
    let host_proc = HostProc::open()?;
    // Copied by the clone.
    process::oom_score(&host_proc, &exec.plan.process, exec.report.as_fd())?;
    let mut joined = JOINED;
    if let Some(user) = &exec.plan.user {
        userns::before(user, &exec.plan.process, &exec.stdio)?;
        joined |= libc::CLONE_NEWUSER;
    }
    ns::join(exec.t, exec.init_pidfd, joined.cast_unsigned())
        .on(Step::Namespaces, || "the container's")?;
    match fork_into(exec.t, Kinship::Sibling, 0, exec.pod).at(Step::Clone)? {
        (Forked::Child, placed) => run(exec, placed, procs.as_fd(), &host_proc),
        (Forked::Parent { pid, .. }, _) => Ok(pid),
    }
}

fn run(exec: &Exec<'_>, placed: Placed, procs: BorrowedFd<'_>, host_proc: &HostProc) -> ! {
    let error = match steps(exec, placed, procs, host_proc) {
        Ok(never) => match never {},
        Err(error) => error,
    };
    report::tell_failed(exec.report.as_fd(), &error);
    clone::exit(1)
}

fn steps(
    exec: &Exec<'_>,
    placed: Placed,
    procs: BorrowedFd<'_>,
    host_proc: &HostProc,
) -> Result<Infallible, StepError> {
    if placed == Placed::Beside {
        move_into(procs)?;
    }
    // Only now: where the hierarchy is mounted with nsdelegate, the kernel refuses (ENOENT) a clone or
    // a move across the root of the caller's cgroup namespace, and the shim is outside of it.
    ns::join(exec.t, exec.init_pidfd, libc::CLONE_NEWCGROUP.cast_unsigned())
        .on(Step::Namespaces, || "the container's cgroup")?;
    process::early(host_proc, &exec.plan.process)?;
    process::set_labels(host_proc, &exec.plan.process)?;
    if exec.plan.user.is_some() {
        gap("joined", "");
        userns::become_root()?;
    }
    process::keyring(&exec.plan.process)?;
    let terminal = match &exec.stdio {
        Stdio::Streams { .. } => None,
        Stdio::Terminal(socket) => {
            let root = open_directory("/").at(Step::Terminal)?;
            Some(terminal::open(root.as_fd(), host_proc.as_fd(), socket.as_fd())?)
        }
    };
    let io = process::Io {
        stdio: &exec.stdio,
        terminal: terminal.as_ref(),
        report: exec.report.as_fd(),
        hold: None,
    };
    process::finish(&exec.plan.process, &io)
}
