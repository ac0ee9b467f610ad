//! The parent side: clone into the cgroup and the new namespaces. Never waits for the set-up.
//!
//! A container with a pid namespace of its own is cloned directly. One that joins a pid namespace
//! needs a process that has joined it before the clone: an intermediate child, which lives for two
//! system calls, is waited for, and clones the container's process as its sibling (CLONE_PARENT).

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::fcntl::OFlag;

use super::hold::Hold;
use super::host_proc::HostProc;
use super::init::{self, Init};
use super::report::{self, Report};
use super::step::{At, Step, StepError};
use super::turn::Turn;
use super::{process as process_steps, userns};
use crate::shim::wire::namespace_plan::Source;
use crate::shim::wire::{InitPlan, NamespacePlan};
use crate::sys::clone::{self, Forked, Kinship};
use crate::sys::process::{self, SingleThreaded};
use crate::sys::{fds as sys_fds, ns};

/// The newest plan this executor understands.
pub const LEVEL: u32 = 4;

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
pub enum Stdio {
    /// Streams of the caller's.
    Streams {
        /// Standard input; without one the container's /dev/null.
        stdin: Option<OwnedFd>,
        /// Standard output.
        stdout: OwnedFd,
        /// Standard error.
        stderr: OwnedFd,
    },
    /// A new terminal of the container's own: it becomes the controlling terminal and, for a
    /// container's first process, /dev/console. Its master is sent by this socket, whose other end
    /// goes to [`take_terminal`](super::take_terminal).
    Terminal(OwnedFd),
}

impl Stdio {
    /// Every descriptor in it.
    pub(super) fn fds(&self) -> impl Iterator<Item = &OwnedFd> {
        let all = match self {
            Self::Streams { stdin, stdout, stderr } => [stdin.as_ref(), Some(stdout), Some(stderr)],
            Self::Terminal(socket) => [Some(socket), None, None],
        };
        all.into_iter().flatten()
    }
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

/// Where a child was cloned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Placed {
    /// In its cgroup.
    Inside,
    /// In the fallback: it moves itself before it does anything else.
    Beside,
}

/// Starts a container's first process. `fds` are those of the plan, 0 the root file system.
///
/// # Errors
/// A step before the child's first; the child's own steps come by its report.
pub fn spawn_init(
    t: &SingleThreaded,
    plan: &InitPlan,
    fds: Vec<OwnedFd>,
    stdio: Stdio,
    pod: &PodHandles<'_>,
) -> Result<Spawned, StepError> {
    let turn = plan.hooks.as_ref().map(|hooks| Turn::new(hooks, &fds)).transpose()?;
    let hold = turn.as_ref().map(|turn| turn as &dyn Hold);
    spawn(t, Held { plan, hold }, fds, stdio, pod)
}

/// A plan whose process is stopped on its way.
#[derive(Clone, Copy)]
pub struct Held<'a> {
    /// The plan.
    pub plan: &'a InitPlan,
    /// Who stops it, if anybody does.
    pub hold: Option<&'a dyn Hold>,
}

/// As [`spawn_init`], with stops.
///
/// # Errors
/// As [`spawn_init`].
pub fn spawn(
    t: &SingleThreaded,
    held: Held<'_>,
    fds: Vec<OwnedFd>,
    stdio: Stdio,
    pod: &PodHandles<'_>,
) -> Result<Spawned, StepError> {
    let Held { plan, hold } = held;
    check_level(plan.level)?;
    let (reader, report) = report_pipe()?;
    let init = Init { t, plan, fds, stdio, pod, report, hold };
    if plan.user.is_some() {
        return in_user_namespace(t, reader, init);
    }
    match joined_pid_namespace(plan) {
        None => {
            let kinds = fresh_namespaces(plan);
            match fork_into(t, Kinship::Child, kinds, pod).at(Step::Clone)? {
                (Forked::Child, placed) => init::run(&init, placed),
                (Forked::Parent { pid, pidfd }, _) => Ok(Spawned { pid, pidfd, report: reader }),
            }
        }
        Some(namespace) => through_intermediate(t, reader, |pid_pipe| {
            init::isolate(&init, Some(pid_pipe))?;
            let fd = init::namespace_fd(namespace, &init)?;
            ns::join(t, fd, namespace.kind).on(Step::Namespaces, || "pid")?;
            let kinds = fresh_namespaces(plan);
            match fork_into(t, Kinship::Sibling, kinds, pod).at(Step::Clone)? {
                (Forked::Child, placed) => init::run(&init, placed),
                (Forked::Parent { pid, .. }, _) => Ok(pid),
            }
        }),
    }
}

/// The namespaces that a user namespace owns are made, and those that it may join are joined, by a
/// process that is in it already.
fn in_user_namespace(
    t: &SingleThreaded,
    reader: OwnedFd,
    init: Init<'_>,
) -> Result<Spawned, StepError> {
    through_intermediate(t, reader, |pid_pipe| {
        init::isolate(&init, Some(pid_pipe))?;
        let host_proc = HostProc::open()?;
        process_steps::oom_score(&host_proc, &init.plan.process, init.report.as_fd())?;
        drop(host_proc);
        if let Some(user) = &init.plan.user {
            userns::before(user, &init.plan.process, &init.stdio)?;
        }
        userns::make_nodes(&init)?;
        init::join_as_host(&init)?;
        let kinds = fresh_namespaces(init.plan) & userns::CLONED;
        match fork_into(t, Kinship::Sibling, kinds, init.pod).at(Step::Clone)? {
            (Forked::Child, placed) => init::run(&init, placed),
            (Forked::Parent { pid, .. }, _) => Ok(pid),
        }
    })
}

/// Clones into the pod's cgroup; when that is full, beside it.
pub(super) fn fork_into(
    t: &SingleThreaded,
    kinship: Kinship,
    namespaces: u64,
    pod: &PodHandles<'_>,
) -> io::Result<(Forked, Placed)> {
    match clone::fork(t, kinship, namespaces, Some(pod.cgroup)) {
        Err(e) if e.raw_os_error() == Some(libc::EAGAIN) => {
            clone::fork(t, kinship, namespaces, Some(pod.fallback_cgroup))
                .map(|forked| (forked, Placed::Beside))
        }
        other => other.map(|forked| (forked, Placed::Inside)),
    }
}

/// Runs `body` in a child that is waited for; it tells the pid of the sibling it made.
///
/// `body` reports its own failure by the error it returns, which is carried over as a report.
pub(super) fn through_intermediate(
    t: &SingleThreaded,
    reader: OwnedFd,
    body: impl FnOnce(BorrowedFd<'_>) -> Result<i32, StepError>,
) -> Result<Spawned, StepError> {
    let (told, tell) = nix::unistd::pipe2(OFlag::O_CLOEXEC).at(Step::Clone)?;
    match clone::fork(t, Kinship::Awaited, 0, None).at(Step::Clone)? {
        Forked::Child => {
            match body(tell.as_fd()) {
                Ok(pid) => report::tell_pid(tell.as_fd(), pid),
                Err(error) => report::tell_failed(tell.as_fd(), &error),
            }
            clone::exit(0)
        }
        Forked::Parent { pidfd, .. } => {
            drop(tell);
            // It has ended already: the fork returned when it had.
            process::wait_pidfd(pidfd.as_fd()).at(Step::Clone)?;
            let mut bytes = [0u8; 512];
            let n = nix::unistd::read(&told, &mut bytes).at(Step::Clone)?;
            let bytes = bytes.get(..n).unwrap_or_default();
            if let Some(pid) = report::parse_pid(bytes) {
                // A child of ours that nobody has reaped: the pid cannot have changed hands.
                let pidfd = process::open_pidfd(pid).at(Step::Clone)?;
                return Ok(Spawned { pid, pidfd, report: reader });
            }
            Err(match report::parse_report(bytes) {
                Report::Failed(error) => error,
                _ => StepError {
                    step: Step::Clone,
                    errno: 0,
                    detail: "the intermediate process was killed".to_owned(),
                },
            })
        }
    }
}

/// A plan for a newer executor is refused.
pub(super) fn check_level(level: u32) -> Result<(), StepError> {
    if level <= LEVEL {
        return Ok(());
    }
    let detail = format!("it needs an executor of level {level}, this one has {LEVEL}");
    Err(StepError { step: Step::Plan, errno: 0, detail })
}

/// The report pipe: a nonblocking read end and a write end.
pub(super) fn report_pipe() -> Result<(OwnedFd, OwnedFd), StepError> {
    let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC).at(Step::Clone)?;
    nix::fcntl::fcntl(&reader, nix::fcntl::FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).at(Step::Clone)?;
    // The child places 0, 1 and 2 while it still needs the report.
    let writer = sys_fds::above_standard(writer.as_fd()).at(Step::Clone)?;
    Ok((reader, writer))
}

/// What clone3(2) makes. A cgroup namespace is rooted in the cgroup of the process that makes it,
/// and for clone3(2) that is the *parent*: the child makes its own afterwards.
pub(super) fn fresh_namespaces(plan: &InitPlan) -> u64 {
    plan.namespaces
        .iter()
        .filter(|n| matches!(n.source, Some(Source::Fresh(_))))
        .map(|n| u64::from(n.kind))
        .filter(|kind| *kind != clone::bits(libc::CLONE_NEWCGROUP))
        .fold(0, |all, kind| all | kind)
}

fn joined_pid_namespace(plan: &InitPlan) -> Option<&NamespacePlan> {
    plan.namespaces.iter().find(|n| {
        n.kind == libc::CLONE_NEWPID.cast_unsigned()
            && matches!(n.source, Some(Source::Pause(_) | Source::Fd(_)))
    })
}
