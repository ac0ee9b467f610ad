//! What a process is set to before execve: nothing is inherited.
//!
//! Order matters: limits and bounding set while privileged; the working directory as root and, where
//! root may not (a network file system), again as the user; signals late, so that the set-up cannot
//! be interrupted; seccomp last, so that a profile need not permit what the set-up calls. Without
//! no_new_privs the kernel wants CAP_SYS_ADMIN for a filter: that is then kept over the change of
//! user and given up after it, and a profile has to permit capset and execve, nothing else.

use std::convert::Infallible;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::fcntl::{AT_FDCWD, OFlag};
use nix::sys::stat::{self, Mode, SFlag};

use super::create::Stdio;
use super::hold::Hold;
use super::host_proc::HostProc;
use super::init::missing;
use super::lookup;
use super::report;
use super::step::{At, Step, StepError};
use crate::shim::wire::{CapabilityPlan, ProcessPlan};
use crate::sys::clone::{self, Strings};
use crate::sys::fds::{self, Standard};
use crate::sys::{caps, path, prctl};
use crate::undefended::{Defence, gap, removed};

/// Which mappings are in a core: the kernel's own choice, core(5).
const COREDUMP_FILTER: &str = "0x33";

/// Sets oom_score_adj of the caller; children inherit it.
pub(super) fn oom_score(
    host_proc: &HostProc,
    plan: &ProcessPlan,
    report: BorrowedFd<'_>,
) -> Result<(), StepError> {
    let value = plan.oom_score_adj.to_string();
    match host_proc.write("self/oom_score_adj", &value) {
        Err(e) if refused(&e) && plan.best_effort_privileges => {
            report::tell_left_out(report, &format!("oom_score_adj {value}"));
            Ok(())
        }
        other => other.on(Step::OomScore, || value),
    }
}

/// Sets oom_score_adj of the caller, which becomes a runtime's program.
pub(super) fn runtime_oom_score(host_proc: &HostProc, score: i32) -> Result<(), StepError> {
    host_proc
        .write("self/oom_score_adj", &score.to_string())
        .on(Step::OomScore, || score.to_string())
}

fn refused(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES))
}

/// What can be set before the root file system is entered.
pub(super) fn early(host_proc: &HostProc, plan: &ProcessPlan) -> Result<(), StepError> {
    fds::new_session().at(Step::Session)?;
    if let Some(label) = &plan.selinux {
        // The keyring of a process is its own to use. Exec takes this back.
        host_proc.write("self/attr/keycreate", label).on(Step::Selinux, || label)?;
    }
    set_scheduling(plan)?;
    prctl::reset_inherited().at(Step::Attributes)?;
    match host_proc.write("self/coredump_filter", COREDUMP_FILTER) {
        // A kernel that writes no cores.
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => {}
        other => other.on(Step::Attributes, || "coredump_filter")?,
    }
    prctl::set_personality(plan.personality).at(Step::Attributes)?;
    // Nodes and files that the set-up makes have the modes it says.
    stat::umask(Mode::empty());
    Ok(())
}

/// A session keyring of its own, which belongs to the present user.
pub(super) fn keyring(plan: &ProcessPlan) -> Result<(), StepError> {
    if plan.keep_keyring == Some(true) {
        return Ok(());
    }
    prctl::new_session_keyring().at(Step::Keyring)
}

fn set_scheduling(plan: &ProcessPlan) -> Result<(), StepError> {
    let scheduler = &plan.scheduler;
    prctl::reset_affinity().on(Step::Scheduling, || "affinity")?;
    let mut scheduling = prctl::Scheduling::default();
    scheduling.policy = scheduler.policy;
    scheduling.flags = scheduler.flags;
    scheduling.nice = scheduler.nice;
    scheduling.priority = scheduler.priority;
    scheduling.runtime = scheduler.runtime;
    scheduling.deadline = scheduler.deadline;
    scheduling.period = scheduler.period;
    prctl::set_scheduling(scheduling).on(Step::Scheduling, || "policy")?;
    prctl::set_io_priority(plan.io_priority).on(Step::Scheduling, || "I/O priority")
}

/// The AppArmor profile and the SELinux label, from the next exec on: a hook's, too, that is run
/// afterwards.
pub(super) fn set_labels(host_proc: &HostProc, plan: &ProcessPlan) -> Result<(), StepError> {
    if let Some(label) = &plan.selinux {
        host_proc.write("self/attr/exec", label).on(Step::Selinux, || label)?;
    }
    set_apparmor(host_proc, plan)
}

/// The kernel has two places; the older one is shared with other modules.
fn set_apparmor(host_proc: &HostProc, plan: &ProcessPlan) -> Result<(), StepError> {
    let Some(profile) = &plan.apparmor else { return Ok(()) };
    let value = format!("exec {profile}");
    match host_proc.write("self/attr/apparmor/exec", &value) {
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => {
            host_proc.write("self/attr/exec", &value)
        }
        other => other,
    }
    .on(Step::Apparmor, || profile)
}

/// The numbers above 2 that the process inherits.
pub(super) fn preserved(plan: &ProcessPlan) -> std::ops::Range<u32> {
    3..plan.preserved_fds.unwrap_or(0).saturating_add(3)
}

/// What a process talks by on its last steps.
pub(super) struct Io<'a> {
    pub(super) stdio: &'a Stdio,
    /// Its end of its terminal.
    pub(super) terminal: Option<&'a OwnedFd>,
    pub(super) report: BorrowedFd<'a>,
    pub(super) hold: Option<&'a dyn Hold>,
}

/// Everything else, inside the container's root, and exec.
pub(super) fn finish(plan: &ProcessPlan, io: &Io<'_>) -> Result<Infallible, StepError> {
    place_stdio(plan, io.stdio, io.terminal)?;
    let mut keep = vec![fds::number(io.report)];
    keep.extend(preserved(plan));
    keep.extend(io.hold.iter().flat_map(|hold| hold.fds()));
    fds::close_all_but(3, &mut keep).at(Step::Stdio)?;
    for number in preserved(plan) {
        fds::survive_exec(number).on(Step::Stdio, || format!("descriptor {number}"))?;
    }
    if io.terminal.is_some() {
        set_terminal(plan)?;
    }
    let tried = nix::unistd::chdir(Path::new(&plan.cwd));
    if let Some(hold) = io.hold {
        if !matches!(tried, Err(nix::errno::Errno::EACCES | nix::errno::Errno::EPERM)) {
            tried.on(Step::Cwd, || format!("{:?}", plan.cwd))?;
        }
        look_for_program(plan)?;
        hold.ready(io.report)?;
    }
    set_limits(plan, io.report)?;
    stat::umask(Mode::from_bits_truncate(plan.umask));

    set_credentials(plan)?;
    match tried {
        Err(nix::errno::Errno::EACCES | nix::errno::Errno::EPERM) => {
            nix::unistd::chdir(Path::new(&plan.cwd))
        }
        other => other,
    }
    .on(Step::Cwd, || format!("{:?}", plan.cwd))?;
    check_cwd(plan)?;
    if plan.no_new_privileges {
        prctl::no_new_privileges().at(Step::NoNewPrivileges)?;
    }
    exec(plan, io.report)
}

/// Whether there is a file to be executed at all, before anybody waits for its execution. Whether
/// the process may execute it is up to execve.
fn look_for_program(plan: &ProcessPlan) -> Result<(), StepError> {
    let name = plan.args.first().map(String::as_str).unwrap_or_default();
    let mut attempt = lookup::Attempt::new(name);
    for candidate in lookup::candidates(name, lookup::path_of(&plan.env)) {
        let error = match stat::stat(Path::new(&candidate)) {
            Ok(info) if is_program(&info) => return Ok(()),
            Ok(_) => nix::errno::Errno::EACCES,
            // A folder that only the process itself may search.
            Err(nix::errno::Errno::EACCES) => return Ok(()),
            Err(error) => error,
        };
        let exists = (error == nix::errno::Errno::EACCES).into();
        if attempt.failed(&candidate, &error.into(), exists) == lookup::Next::Stop {
            break;
        }
    }
    Err(attempt.into_error())
}

fn is_program(info: &stat::FileStat) -> bool {
    info.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFREG.bits() && info.st_mode & 0o111 != 0
}

/// A path through a leftover descriptor or a foreign mount is not inside the root.
fn check_cwd(plan: &ProcessPlan) -> Result<(), StepError> {
    let detail = || format!("{:?}", plan.cwd);
    if fds::inside_root().on(Step::Cwd, detail)? || removed(Defence::WorkingDirectory) {
        return Ok(());
    }
    let detail = format!("{:?} is outside the container's root", plan.cwd);
    Err(StepError { step: Step::Cwd, errno: 0, detail })
}

fn place_stdio(
    plan: &ProcessPlan,
    stdio: &Stdio,
    terminal: Option<&OwnedFd>,
) -> Result<(), StepError> {
    // First above 2, so that placing one cannot hit the next.
    let above = |fd: &OwnedFd| fds::above_standard(fd.as_fd()).at(Step::Stdio);
    // The host's null device does not go in where the container has its own: its mode could be
    // changed through the descriptor.
    let stream = |fd: &OwnedFd| match is_null(fd.as_fd()).then(open_null).flatten() {
        Some(null) => Ok(null),
        None => above(fd),
    };
    let (stdin, stdout, stderr) = match (stdio, terminal) {
        (_, Some(terminal)) => (Some(above(terminal)?), above(terminal)?, above(terminal)?),
        (Stdio::Streams { stdin, stdout, stderr }, None) => {
            let stdin = stdin.as_ref().map(stream).transpose()?.or_else(open_null);
            (stdin, stream(stdout)?, stream(stderr)?)
        }
        (Stdio::Terminal(_), None) => return Err(missing("terminal")),
    };
    if let Some(stdin) = &stdin {
        fds::place(stdin.as_fd(), 0).on(Step::Stdio, || "stdin")?;
    } else if !is_null(fds::standard(Standard::Input)) {
        let detail = "no stdin given, and no null device in the container".to_owned();
        return Err(StepError { step: Step::Stdio, errno: libc::ENODEV, detail });
    }
    fds::place(stdout.as_fd(), 1).on(Step::Stdio, || "stdout")?;
    fds::place(stderr.as_fd(), 2).on(Step::Stdio, || "stderr")?;
    for target in [Standard::Input, Standard::Output, Standard::Error] {
        give_to_user(fds::standard(target), plan);
    }
    Ok(())
}

/// A process of another user can then open /dev/stdout again. What cannot change hands (a
/// read-only file system, a socket of another namespace) stays as it is.
fn give_to_user(fd: BorrowedFd<'_>, plan: &ProcessPlan) {
    let Ok(info) = stat::fstat(fd) else { return };
    if is_null(fd) || info.st_uid == plan.uid {
        return;
    }
    // A terminal keeps its group, `tty`.
    nix::unistd::fchown(fd, Some(plan.uid.into()), None).ok();
}

/// The container's null device, if it is one: the image may have put anything there.
fn open_null() -> Option<OwnedFd> {
    let flags = OFlag::O_RDWR | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    // Looked at before it is opened: opening can have effects.
    let look = OFlag::O_PATH | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    let seen = nix::fcntl::openat(AT_FDCWD, "/dev/null", look, Mode::empty()).ok()?;
    if !is_null(seen.as_fd()) {
        return None;
    }
    let fd = nix::fcntl::openat(AT_FDCWD, "/dev/null", flags, Mode::empty()).ok()?;
    let fd = is_null(fd.as_fd()).then_some(fd)?;
    nix::fcntl::fcntl(&fd, nix::fcntl::FcntlArg::F_SETFL(OFlag::empty())).ok()?;
    Some(fd)
}

pub(super) fn is_null(fd: BorrowedFd<'_>) -> bool {
    stat::fstat(fd).is_ok_and(|info| {
        SFlag::from_bits_truncate(info.st_mode & SFlag::S_IFMT.bits()) == SFlag::S_IFCHR
            && info.st_rdev == stat::makedev(1, 3)
    })
}

fn set_terminal(plan: &ProcessPlan) -> Result<(), StepError> {
    let terminal = fds::standard(Standard::Input);
    fds::set_controlling_terminal(terminal).at(Step::Terminal)?;
    if let Some(window) = &plan.window {
        let side = |n: u32| u16::try_from(n).unwrap_or(u16::MAX);
        fds::set_window(terminal, side(window.width), side(window.height)).at(Step::Terminal)?;
    }
    Ok(())
}

fn set_limits(plan: &ProcessPlan, report: BorrowedFd<'_>) -> Result<(), StepError> {
    for limit in &plan.limits {
        let wanted = prctl::Limit { soft: limit.soft, hard: limit.hard };
        let detail = || format!("{} to {}:{}", limit.resource, limit.soft, limit.hard);
        match prctl::set_limit(limit.resource, wanted) {
            Err(e) if refused(&e) && plan.best_effort_privileges => {
                let have = prctl::get_limit(limit.resource).on(Step::Limit, detail)?;
                let hard = wanted.hard.min(have.hard);
                let lower = prctl::Limit { soft: wanted.soft.min(hard), hard };
                prctl::set_limit(limit.resource, lower).on(Step::Limit, detail)?;
                let name = prctl::limit_name(limit.resource);
                let words = |n: u64| match n {
                    libc::RLIM_INFINITY => "unlimited".to_owned(),
                    n => n.to_string(),
                };
                let (asked, has) = (words(limit.hard), words(hard));
                let what = format!("{name}: a hard limit of {asked}, not {has}");
                report::tell_left_out(report, &what);
            }
            other => other.on(Step::Limit, detail)?,
        }
    }
    Ok(())
}

/// After this the filters hold for the caller, too.
fn confine(plan: &ProcessPlan) -> Result<(), StepError> {
    for (n, filter) in plan.filters.iter().enumerate() {
        prctl::Filter::new(&filter.program, filter.flags)
            .and_then(|filter| filter.load())
            .on(Step::Seccomp, || format!("program {n}"))?;
    }
    let wanted = wanted(plan);
    if for_filters(plan, wanted) != wanted {
        caps::set(wanted).on(Step::Capabilities, || "under the seccomp profile")?;
    }
    Ok(())
}

fn wanted(plan: &ProcessPlan) -> caps::Sets {
    let CapabilityPlan { effective, permitted, inheritable, .. } = plan.capabilities;
    caps::Sets { effective, permitted, inheritable }
}

/// What is held until the filters are loaded.
fn for_filters(plan: &ProcessPlan, wanted: caps::Sets) -> caps::Sets {
    if plan.filters.is_empty() || plan.no_new_privileges {
        return wanted;
    }
    caps::Sets {
        effective: wanted.effective | caps::SYS_ADMIN,
        permitted: wanted.permitted | caps::SYS_ADMIN,
        ..wanted
    }
}

fn set_credentials(plan: &ProcessPlan) -> Result<(), StepError> {
    let wanted = &plan.capabilities;
    caps::clear_secure_bits().at(Step::Capabilities)?;
    caps::limit_bounding(wanted.bounding).on(Step::Capabilities, || "bounding")?;
    caps::keep_over_set_user().at(Step::Capabilities)?;
    caps::set_user(plan.uid, plan.gid, &plan.groups)
        .on(Step::User, || format!("{}:{}", plan.uid, plan.gid))?;
    // A change of user may undo it (fs.suid_dumpable), and capabilities are still held.
    prctl::not_dumpable().at(Step::Attributes)?;
    let sets = for_filters(plan, self::wanted(plan));
    caps::set(sets).on(Step::Capabilities, || missing_capabilities(sets.permitted))?;
    caps::set_ambient(wanted.ambient).on(Step::Capabilities, || "ambient")
}

/// Which of the wanted ones this host's root does not have.
fn missing_capabilities(wanted: u64) -> String {
    let have = caps::get().map_or(0, |sets| sets.permitted);
    match wanted & !have {
        0 => String::new(),
        missing => format!("{missing:#x} are not held by the runtime itself"),
    }
}

fn exec(plan: &ProcessPlan, report: BorrowedFd<'_>) -> Result<Infallible, StepError> {
    let args = Strings::new(&plan.args).on(Step::Exec, || "arguments")?;
    let env = Strings::new(&plan.env).on(Step::Exec, || "environment")?;
    fds::reset_signals();
    // Before the filters, which may not permit a write; a failure after it is told all the same.
    report::tell_ready(report);
    confine(plan)?;
    gap("exec", "");
    let name = plan.args.first().map(String::as_str).unwrap_or_default();
    let mut attempt = lookup::Attempt::new(name);
    for candidate in lookup::candidates(name, lookup::path_of(&plan.env)) {
        let program = path::c_path(Path::new(&candidate)).on(Step::Exec, || name)?;
        let error = clone::exec(&program, &args, &env);
        let exists = nix::unistd::access(Path::new(&candidate), nix::unistd::AccessFlags::F_OK);
        if attempt.failed(&candidate, &error, exists.is_ok().into()) == lookup::Next::Stop {
            break;
        }
    }
    Err(attempt.into_error())
}
