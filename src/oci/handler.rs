//! Running a verb of another OCI runtime: the steps from clone to its program.
//!
//! The runtime is the host's, and the shim's mount namespace holds nothing of the host: the child
//! joins the host's mount namespace, makes a copy of it, attaches there what the container needs,
//! and executes the program. What it attached is gone from the copy when the program ends; the
//! container, whose namespace is a copy again, keeps its mounts. The host's table never grows.
//!
//! ```text
//! clone into the shim's cgroup ▸ setns(host) ▸ unshare(mounts) ▸ everything a slave ▸ cgroup v2 at
//! /sys/fs/cgroup ▸ mounts/0, mounts/1, … below the bundle ▸ streams ▸ execve
//! ```

use std::convert::Infallible;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::fcntl::{AT_FDCWD, OFlag};
use nix::sys::stat::{self, Mode, SFlag};

use super::create::{Spawned, Stdio, report_pipe};
use super::host_proc::HostProc;
use super::init::{missing, open_directory};
use super::process;
use super::report;
use super::step::{At, Step, StepError};
use crate::shim::wire::handler_mount::Source;
use crate::shim::wire::{HandlerMount, HandlerPlan};
use crate::sys::clone::{self, Forked, Kinship, Strings};
use crate::sys::mount::{self, FsContext, Propagation, Reach};
use crate::sys::process::SingleThreaded;
use crate::sys::{fds, ns, path, prctl};

/// The level of the plan that goes with a handler's: no executor does it. A shim that does not know
/// handlers would skip them, and must not start something else.
#[cfg(feature = "daemon")]
pub(super) const NO_LEVEL: u32 = u32::MAX;

/// Where runtimes look for cgroup v2.
const CGROUPS: &str = "/sys/fs/cgroup";

/// What a runtime finds in its environment.
const ENVIRONMENT: [&str; 2] =
    ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/"];

/// One call of a runtime.
#[derive(Debug)]
pub struct RuntimeCall<'a> {
    /// What is known of it.
    pub plan: &'a HandlerPlan,
    /// The host's mount namespace.
    pub host: BorrowedFd<'a>,
    /// The descriptors that the plan's mounts name. `None`: the call needs no mounts.
    pub mounts: Option<&'a [OwnedFd]>,
    /// Where the pod's /dev/shm is in the shim's mount namespace.
    pub shm: Option<&'a CStr>,
    /// The cgroup of the runtime itself.
    pub cgroup: BorrowedFd<'a>,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// What comes back: `None` for a runtime that makes something.
    pub restores: Option<Restores<'a>>,
}

/// A call of criu: what it restores is where criu is, in the container's cgroup and, as every container, in a
/// cgroup namespace with that as its root.
#[derive(Clone, Copy, Debug)]
pub struct Restores<'a> {
    /// A descriptor that stays open, under its number.
    pub net: Option<BorrowedFd<'a>>,
}

/// Starts the runtime's program. Its report ends when the program runs.
///
/// # Errors
/// A step before the child's first; the child's own steps come by its report.
pub fn spawn_runtime(
    t: &SingleThreaded,
    call: &RuntimeCall<'_>,
    stdio: &Stdio,
) -> Result<Spawned, StepError> {
    let (reader, report) = report_pipe()?;
    match clone::fork(t, Kinship::Child, 0, Some(call.cgroup)).at(Step::Clone)? {
        Forked::Child => {
            let error = match steps(t, call, stdio, report.as_fd()) {
                Ok(never) => match never {},
                Err(error) => error,
            };
            report::tell_failed(report.as_fd(), &error);
            clone::exit(1)
        }
        Forked::Parent { pid, pidfd } => Ok(Spawned { pid, pidfd, report: reader }),
    }
}

fn steps(
    t: &SingleThreaded,
    call: &RuntimeCall<'_>,
    stdio: &Stdio,
    report: BorrowedFd<'_>,
) -> Result<Infallible, StepError> {
    prctl::not_dumpable().at(Step::Isolate)?;
    let mut keep = vec![fds::number(report), fds::number(call.host)];
    keep.extend(stdio.fds().map(|fd| fds::number(fd.as_fd())));
    keep.extend(call.mounts.iter().copied().flatten().map(|fd| fds::number(fd.as_fd())));
    fds::close_all_but(3, &mut keep).at(Step::Isolate)?;
    fds::new_session().at(Step::Session)?;
    // crun leaves what it inherits to a container that asks for 0, and to every command.
    process::runtime_oom_score(&HostProc::open()?, call.plan.oom_score_adj.unwrap_or(0))?;
    let shm = match call.shm.filter(|_| call.mounts.is_some()) {
        Some(shm) => {
            Some(mount::clone_tree(AT_FDCWD, shm, Reach::One).on(Step::Mount, || "the pod's shm")?)
        }
        None => None,
    };
    let mounts = libc::CLONE_NEWNS.cast_unsigned();
    ns::join(t, call.host, mounts).on(Step::Namespaces, || "the host's mounts")?;
    ns::unshare(t, mounts).on(Step::Namespaces, || "a copy of the host's mounts")?;
    mount::set_propagation(c"/", Propagation::Slave, Reach::Tree).at(Step::Rootfs)?;
    show_cgroups(&call.plan.cgroup_root)?;
    if call.restores.is_some() {
        ns::unshare(t, libc::CLONE_NEWCGROUP.cast_unsigned()).at(Step::CgroupNamespace)?;
    }
    if let Some(given) = call.mounts {
        attach_all(call.plan, given, shm.as_ref())?;
    }
    run(call, stdio, report)
}

fn show_cgroups(root: &str) -> Result<(), StepError> {
    if root == CGROUPS {
        return Ok(());
    }
    let tree = path::c_path(Path::new(root))
        .and_then(|name| mount::clone_tree(AT_FDCWD, &name, Reach::Tree))
        .on(Step::Mount, || root)?;
    attach(&tree, CGROUPS).on(Step::Mount, || CGROUPS)
}

/// Attaches the container's mounts on a small tmpfs in the bundle, by their position.
fn attach_all(
    plan: &HandlerPlan,
    given: &[OwnedFd],
    shm: Option<&OwnedFd>,
) -> Result<(), StepError> {
    let place = format!("{}/mounts", plan.bundle);
    let context = FsContext::open(c"tmpfs").on(Step::Mount, || "tmpfs")?;
    context.set(c"mode", c"0700").on(Step::Mount, || "tmpfs")?;
    let tmpfs = context.mount(0).on(Step::Mount, || "tmpfs")?;
    attach(&tmpfs, &place).on(Step::Mount, || place.as_str())?;
    for (position, one) in plan.mounts.iter().enumerate() {
        let tree = tree_of(one, given, shm)?;
        let name = format!("{place}/{position}");
        make_place(tree, &name)
            .and_then(|()| attach(tree, &name))
            .on(Step::Mount, || name.as_str())?;
    }
    Ok(())
}

fn tree_of<'a>(
    one: &HandlerMount,
    given: &'a [OwnedFd],
    shm: Option<&'a OwnedFd>,
) -> Result<&'a OwnedFd, StepError> {
    match one.source {
        Some(Source::Fd(index)) => {
            let index = usize::try_from(index).unwrap_or(usize::MAX);
            given.get(index).ok_or_else(|| missing("descriptor"))
        }
        Some(Source::Shm(_)) => shm.ok_or_else(|| missing("shm of the pod")),
        None => Err(missing("source of a mount")),
    }
}

/// A folder or a file, as what is to be attached there.
fn make_place(tree: &OwnedFd, name: &str) -> io::Result<()> {
    let kind = SFlag::from_bits_truncate(stat::fstat(tree)?.st_mode & SFlag::S_IFMT.bits());
    if kind == SFlag::S_IFDIR {
        nix::unistd::mkdir(name, Mode::from_bits_truncate(0o700))?;
    } else {
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC | OFlag::O_WRONLY;
        nix::fcntl::open(name, flags, Mode::from_bits_truncate(0o600))?;
    }
    Ok(())
}

fn attach(tree: &OwnedFd, at: &str) -> io::Result<()> {
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    let place = nix::fcntl::open(at, flags, Mode::empty())?;
    mount::attach(tree.as_fd(), place.as_fd())
}

fn run(
    call: &RuntimeCall<'_>,
    stdio: &Stdio,
    report: BorrowedFd<'_>,
) -> Result<Infallible, StepError> {
    let Stdio::Streams { stdin, stdout, stderr } = stdio else { return Err(missing("streams")) };
    let above = |fd: &OwnedFd| fds::above_standard(fd.as_fd()).at(Step::Stdio);
    let stdin = stdin.as_ref().map(above).transpose()?.ok_or_else(|| missing("stdin"))?;
    let (stdout, stderr) = (above(stdout)?, above(stderr)?);
    for (fd, target) in [(&stdin, 0), (&stdout, 1), (&stderr, 2)] {
        fds::place(fd.as_fd(), target).at(Step::Stdio)?;
    }
    let mut keep = vec![fds::number(report)];
    if let Some(net) = call.restores.and_then(|restores| restores.net) {
        keep.push(fds::number(net));
        fds::survive_exec(fds::number(net)).at(Step::Stdio)?;
    }
    fds::close_all_but(3, &mut keep).at(Step::Stdio)?;
    let bundle = open_directory(&call.plan.bundle).on(Step::Cwd, || &call.plan.bundle)?;
    nix::unistd::fchdir(&bundle).on(Step::Cwd, || &call.plan.bundle)?;
    drop(bundle);
    stat::umask(Mode::from_bits_truncate(0o022));
    let name = call.plan.program.as_str();
    let program = path::c_path(Path::new(name)).on(Step::Exec, || name)?;
    let words = [&[name.to_owned()], call.arguments.as_slice()].concat();
    let args = Strings::new(&words).on(Step::Exec, || "arguments")?;
    let env = Strings::new(&ENVIRONMENT.map(str::to_owned)).on(Step::Exec, || "environment")?;
    fds::reset_signals();
    report::tell_ready(report);
    let error = clone::exec(&program, &args, &env);
    Err(StepError::new(Step::Exec, &error, name))
}
