//! The child side of a container's first process: from clone to exec.
//!
//! Runs in a copy of the shim's memory with one thread. It ends in exec or `_exit`; destructors of
//! what it inherited never run.

use std::convert::Infallible;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::fcntl::{AT_FDCWD, OFlag};

use super::create::{Placed, PodHandles, Stdio, fresh_namespaces};
use super::hold::Hold;
use super::host_proc::HostProc;
use super::process;
use super::report;
use super::rootfs;
use super::step::{At, Step, StepError};
use super::userns;
use crate::shim::wire::namespace_plan::Source;
use crate::shim::wire::{InitPlan, NamespacePlan, SettingPlan};
use crate::sys::process::SingleThreaded;
use crate::sys::{clone, fds as sys_fds, ns, path, prctl};

/// What a container's first process is made of.
pub(super) struct Init<'a> {
    pub(super) t: &'a SingleThreaded,
    pub(super) plan: &'a InitPlan,
    pub(super) fds: Vec<OwnedFd>,
    pub(super) stdio: Stdio,
    pub(super) pod: &'a PodHandles<'a>,
    pub(super) report: OwnedFd,
    /// Who stops it on its way, if anybody does.
    pub(super) hold: Option<&'a dyn Hold>,
}

impl Init<'_> {
    pub(super) fn fd(&self, index: u32) -> Result<BorrowedFd<'_>, StepError> {
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        self.fds.get(index).map(AsFd::as_fd).ok_or_else(|| missing("descriptor"))
    }
}

pub(super) fn missing(what: &str) -> StepError {
    StepError { step: Step::Plan, errno: 0, detail: format!("{what} missing") }
}

/// The child. Tells by its report how far it came.
pub(super) fn run(init: &Init<'_>, placed: Placed) -> ! {
    let error = match steps(init, placed) {
        Ok(never) => match never {},
        Err(error) => error,
    };
    report::tell_failed(init.report.as_fd(), &error);
    clone::exit(1)
}

fn steps(init: &Init<'_>, placed: Placed) -> Result<Infallible, StepError> {
    let plan = init.plan;
    isolate(init, None)?;
    if placed == Placed::Beside {
        let procs = open_procs(init.pod.cgroup)?;
        move_into(procs.as_fd())?;
    }
    let host_proc = HostProc::open()?;
    join_namespaces(init)?;
    if plan.user.is_none() {
        process::oom_score(&host_proc, &plan.process, init.report.as_fd())?;
    }
    process::early(&host_proc, &plan.process)?;
    let places = rootfs::open_places(init)?;
    if plan.user.is_some() {
        userns::become_root()?;
        // Made by this user, what they hold belongs to it: the root of mqueue does.
        let late = fresh_namespaces(plan) & !userns::CLONED;
        let late = u32::try_from(late).unwrap_or(0);
        ns::unshare(init.t, late).at(Step::Namespaces)?;
    }
    set_names(plan)?;
    process::keyring(&plan.process)?;

    let terminal = rootfs::build(init, host_proc.as_fd(), &places)?;
    if let Some(hold) = init.hold {
        hold.built(init.report.as_fd())?;
    }
    // Hooks may write below the root.
    rootfs::seal(init)?;
    // Those hooks are the node's; what is executed from here on is the container's.
    let host_proc = host_proc.or_that_of(init.fd(0)?)?;
    process::set_labels(&host_proc, &plan.process)?;
    for sysctl in &plan.sysctls {
        write_sysctl(&host_proc, sysctl)?;
    }
    // Ways out of the new root, if they stayed open.
    drop(host_proc);
    drop(places);
    rootfs::enter(init)?;
    let io = process::Io {
        stdio: &init.stdio,
        terminal: terminal.as_ref(),
        report: init.report.as_fd(),
        hold: init.hold,
    };
    process::finish(&plan.process, &io)
}

/// Becomes invisible to ptrace and drops every descriptor that is not for this container.
pub(super) fn isolate(init: &Init<'_>, pid_pipe: Option<BorrowedFd<'_>>) -> Result<(), StepError> {
    prctl::not_dumpable().at(Step::Isolate)?;
    let mut keep: Vec<u32> = init.fds.iter().map(|fd| sys_fds::number(fd.as_fd())).collect();
    keep.extend(pid_pipe.map(sys_fds::number));
    keep.extend(init.hold.iter().flat_map(|hold| hold.fds()));
    keep.extend(process::preserved(&init.plan.process));
    keep_common(&mut keep, &init.stdio, init.report.as_fd(), init.pod);
    sys_fds::close_all_but(3, &mut keep).at(Step::Isolate)
}

/// Adds the descriptors that every kind of child needs.
pub(super) fn keep_common(
    keep: &mut Vec<u32>,
    stdio: &Stdio,
    report: BorrowedFd<'_>,
    pod: &PodHandles<'_>,
) {
    keep.extend(stdio.fds().map(|fd| sys_fds::number(fd.as_fd())));
    keep.extend([report, pod.cgroup, pod.fallback_cgroup].map(sys_fds::number));
    keep.extend(pod.pause_pidfd.map(sys_fds::number));
}

/// The cgroup's list of processes. Opened before a cgroup namespace is entered: the kernel judges
/// a write by the namespace of the opener.
pub(super) fn open_procs(cgroup: BorrowedFd<'_>) -> Result<OwnedFd, StepError> {
    path::open_in(cgroup, Path::new("cgroup.procs"), libc::O_WRONLY, 0, path::Resolve::Beneath)
        .on(Step::Cgroup, || "cgroup.procs")
}

/// Moves the calling process. pids.max does not hold up a move.
pub(super) fn move_into(procs: BorrowedFd<'_>) -> Result<(), StepError> {
    nix::unistd::write(procs, b"0").on(Step::Cgroup, || "cgroup.procs").map(drop)
}

/// The descriptor behind a namespace that is joined.
pub(super) fn namespace_fd<'i>(
    namespace: &NamespacePlan,
    init: &'i Init<'_>,
) -> Result<BorrowedFd<'i>, StepError> {
    match namespace.source {
        Some(Source::Pause(_)) => init.pod.pause_pidfd.ok_or_else(|| missing("pause process")),
        Some(Source::Fd(index)) => init.fd(index),
        Some(Source::Fresh(_)) | None => Err(missing("namespace to join")),
    }
}

fn join_namespaces(init: &Init<'_>) -> Result<(), StepError> {
    let pid = libc::CLONE_NEWPID.cast_unsigned();
    let cgroup = libc::CLONE_NEWCGROUP.cast_unsigned();
    let mut of_pause = 0;
    // In a user namespace all but the cgroup's are joined already.
    let left = |n: &&NamespacePlan| match init.plan.user {
        None => n.kind != pid,
        Some(_) => n.kind == cgroup,
    };
    for namespace in init.plan.namespaces.iter().filter(left) {
        match namespace.source {
            Some(Source::Pause(_)) => of_pause |= namespace.kind,
            Some(Source::Fd(_)) => ns::join(init.t, namespace_fd(namespace, init)?, namespace.kind)
                .on(Step::Namespaces, || format!("kind {:#x}", namespace.kind))?,
            Some(Source::Fresh(_)) if namespace.kind == cgroup => {
                ns::unshare(init.t, cgroup).at(Step::CgroupNamespace)?;
            }
            // Made by clone.
            Some(Source::Fresh(_)) => {}
            None => return Err(missing("source of a namespace")),
        }
    }
    if of_pause != 0 {
        let pause = init.pod.pause_pidfd.ok_or_else(|| missing("pause process"))?;
        ns::join(init.t, pause, of_pause).on(Step::Namespaces, || "the pod's")?;
    }
    Ok(())
}

/// Joins what a process in a user namespace joins, that namespace last: as the host's root, who may
/// join any.
pub(super) fn join_as_host(init: &Init<'_>) -> Result<(), StepError> {
    let user = libc::CLONE_NEWUSER.cast_unsigned();
    let cgroup = libc::CLONE_NEWCGROUP.cast_unsigned();
    let (mut of_pause, mut own) = (0, None);
    for namespace in init.plan.namespaces.iter().filter(|n| n.kind != cgroup) {
        match namespace.source {
            Some(Source::Pause(_)) => of_pause |= namespace.kind,
            Some(Source::Fd(_)) if namespace.kind == user => own = Some(namespace),
            Some(Source::Fd(_)) => ns::join(init.t, namespace_fd(namespace, init)?, namespace.kind)
                .on(Step::Namespaces, || format!("kind {:#x}", namespace.kind))?,
            // Made by the next clone.
            Some(Source::Fresh(_)) => {}
            None => return Err(missing("source of a namespace")),
        }
    }
    if of_pause != 0 {
        let pause = init.pod.pause_pidfd.ok_or_else(|| missing("pause process"))?;
        ns::join(init.t, pause, of_pause).on(Step::Namespaces, || "the pod's")?;
    }
    if let Some(own) = own {
        ns::join(init.t, namespace_fd(own, init)?, user).on(Step::Namespaces, || "user")?;
    }
    Ok(())
}

fn set_names(plan: &InitPlan) -> Result<(), StepError> {
    if let Some(name) = &plan.hostname {
        ns::set_hostname(name).on(Step::Hostname, || name)?;
    }
    if let Some(name) = &plan.domainname {
        ns::set_domainname(name).on(Step::Hostname, || name)?;
    }
    Ok(())
}

/// Which namespace a sysctl belongs to goes by the process, not by the mount.
fn write_sysctl(host_proc: &HostProc, sysctl: &SettingPlan) -> Result<(), StepError> {
    let value = sysctl.value.as_deref().unwrap_or_default();
    host_proc.write(&format!("sys/{}", sysctl.name), value).on(Step::Sysctl, || &sysctl.name)
}

/// Opens a directory by an absolute path of the present root.
pub(super) fn open_directory(directory: &str) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    nix::fcntl::openat(AT_FDCWD, directory, flags, nix::sys::stat::Mode::empty())
}
