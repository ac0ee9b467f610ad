//! Starting the pod's pause process: new namespaces, their host name and parameters, exec.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use super::wire::{PausePlan, PauseUser};
use crate::sys::clone::{self, Forked, Kinship};
use crate::sys::ns;
use crate::sys::prctl::Filter;
use crate::sys::process::{self, SingleThreaded};
use crate::sys::spawn::{Child, NewNamespaces, Privileges, Spawn, SpawnError, SpawnStep, User};

/// What pause is made from.
pub(super) struct PauseParts<'a> {
    /// The program.
    pub(super) program: BorrowedFd<'a>,
    /// Its cgroup.
    pub(super) cgroup: BorrowedFd<'a>,
    /// /dev/null.
    pub(super) null: BorrowedFd<'a>,
    /// Whether a refused oom_score_adj is passed over.
    pub(super) privileges: Privileges,
    /// The pod's user namespace.
    pub(super) user: Option<BorrowedFd<'a>>,
}

/// A step of starting pause that failed.
#[derive(Debug)]
pub(super) struct PauseError {
    /// The step, in words.
    pub(super) step: String,
    /// Why.
    pub(super) source: io::Error,
}

impl From<&PauseUser> for User {
    fn from(user: &PauseUser) -> Self {
        Self { uid: user.uid, gid: user.gid, groups: user.groups.clone() }
    }
}

impl From<SpawnError> for PauseError {
    fn from(error: SpawnError) -> Self {
        Self { step: format!("{}{}", error.step, error.subject), source: error.source }
    }
}

fn at<E: Into<io::Error>>(step: &str) -> impl FnOnce(E) -> PauseError {
    move |error| PauseError { step: step.to_owned(), source: error.into() }
}

/// Starts pause. Returns when it has exec'd: the kernel's time for the namespaces, during which a
/// shim has nothing else to do.
pub(super) fn spawn_pause(
    threads: &SingleThreaded,
    plan: &PausePlan,
    parts: &PauseParts<'_>,
) -> Result<Child, PauseError> {
    let spawn = spawn(plan, parts)?;
    match (parts.user, &plan.runs_as) {
        (None, None) => Ok(spawn.spawn()?),
        (None, Some(user)) => spawn_by_child(threads, None, spawn.user(user.into())),
        (namespace, None) => spawn_by_child(threads, namespace, spawn.become_root()),
        (namespace, Some(user)) => {
            spawn_by_child(threads, namespace, spawn.become_root().user(user.into()))
        }
    }
}

/// Has a child start pause: in the user namespace, which it joins, so that it owns pause's others; and
/// with memory of its own, which a change of the user marks. The child ends, and pause becomes the
/// shim's: a subreaper inherits.
fn spawn_by_child(
    threads: &SingleThreaded,
    user: Option<BorrowedFd<'_>>,
    spawn: Spawn<'_>,
) -> Result<Child, PauseError> {
    const START: &str = "start pause as another user";
    let (told, tell) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(at(START))?;
    match clone::fork(threads, Kinship::Awaited, 0, None).map_err(at(START))? {
        Forked::Child => {
            let joined = match user {
                Some(user) => ns::join(threads, user, libc::CLONE_NEWUSER.cast_unsigned()),
                None => Ok(()),
            };
            let started =
                joined.map_err(at("join the user namespace")).and_then(|()| Ok(spawn.spawn()?));
            // Nobody is left to be told about a pipe that breaks.
            nix::unistd::write(&tell, to_text(&started).as_bytes()).ok();
            clone::exit(0)
        }
        Forked::Parent { pidfd, .. } => {
            drop(tell);
            process::wait_pidfd(pidfd.as_fd()).map_err(at(START))?;
            let mut bytes = [0u8; 4096];
            let n = nix::unistd::read(&told, &mut bytes).map_err(at(START))?;
            let text = String::from_utf8_lossy(bytes.get(..n).unwrap_or_default());
            from_text(&text).unwrap_or_else(|| {
                let source = io::Error::from(io::ErrorKind::UnexpectedEof);
                Err(PauseError { step: START.to_owned(), source })
            })
        }
    }
}

/// The pid and what was skipped, a line each; or `!`, the errno and the step.
fn to_text(started: &Result<Child, PauseError>) -> String {
    match started {
        Ok(child) => format!("{}\n{}", child.pid, child.skipped.join("\n")),
        Err(e) => format!("!{}\n{}", e.source.raw_os_error().unwrap_or(libc::EINVAL), e.step),
    }
}

fn from_text(text: &str) -> Option<Result<Child, PauseError>> {
    let (first, rest) = text.split_once('\n')?;
    if let Some(errno) = first.strip_prefix('!') {
        let source = io::Error::from_raw_os_error(errno.parse().ok()?);
        return Some(Err(PauseError { step: rest.to_owned(), source }));
    }
    let pid = first.parse().ok()?;
    let skipped = rest.lines().map(str::to_owned).collect();
    // A child by now that nobody has reaped: the pid cannot have changed hands.
    let pidfd = process::open_pidfd(pid).map_err(at("open pause"));
    Some(pidfd.map(|pidfd| Child { pid, pidfd, skipped }))
}

fn spawn<'a>(plan: &PausePlan, parts: &PauseParts<'a>) -> Result<Spawn<'a>, SpawnError> {
    let wanted = |flag: Option<bool>| flag.unwrap_or(false).into();
    let namespaces = NewNamespaces::default()
        .with(libc::CLONE_NEWNET, wanted(plan.new_net))
        .with(libc::CLONE_NEWIPC, wanted(plan.new_ipc))
        .with(libc::CLONE_NEWUTS, wanted(plan.new_uts))
        .with(libc::CLONE_NEWPID, wanted(plan.new_pid));
    let mut spawn = Spawn::file(parts.program, "berth-pause")
        .cgroup(parts.cgroup)
        .namespaces(namespaces)
        .privileges(parts.privileges)
        .oom_score_adj(plan.oom_score_adj.unwrap_or(0))
        .limit((libc::RLIMIT_NOFILE, 16, 16))
        .limit((libc::RLIMIT_CORE, 0, 0));
    for target in 0..3 {
        spawn = match null(parts) {
            Some(fd) => spawn.fd(target, fd),
            None => spawn,
        };
    }
    if let Some(name) = &plan.hostname {
        spawn = spawn.hostname(name);
    }
    if let Some(label) = &plan.selinux {
        spawn = spawn.setting("/proc/thread-self/attr/exec", label);
    }
    for sysctl in &plan.sysctls {
        spawn = spawn.setting(&path(&sysctl.name), &sysctl.value);
    }
    for (n, filter) in plan.filters.iter().enumerate() {
        let filter = Filter::new(&filter.program, filter.flags).map_err(|source| SpawnError {
            program: "berth-pause".to_owned(),
            step: SpawnStep::Seccomp(n),
            subject: String::new(),
            source,
        })?;
        spawn = spawn.filter(filter);
    }
    Ok(spawn)
}

/// Without a copy the spawn itself says what is missing.
fn null(parts: &PauseParts<'_>) -> Option<OwnedFd> {
    parts.null.as_fd().try_clone_to_owned().ok()
}

/// The file of a kernel parameter. In names with slashes dots are part of a name (an interface's),
/// in names without they separate, as sysctl(8) has it.
fn path(name: &str) -> String {
    if name.contains('/') {
        format!("/proc/sys/{name}")
    } else {
        format!("/proc/sys/{}", name.replace('.', "/"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_child_tells_of_pause_is_understood() {
        let pid = std::process::id().cast_signed();
        let pidfd = process::open_pidfd(pid).unwrap();
        let skipped = vec!["one".to_owned(), "two".to_owned()];
        let text = to_text(&Ok(Child { pid, pidfd, skipped: skipped.clone() }));
        let child = from_text(&text).unwrap().unwrap();
        assert_eq!((child.pid, child.skipped), (pid, skipped));
        let source = io::Error::from_raw_os_error(libc::EPERM);
        let text = to_text(&Err(PauseError { step: "exec".to_owned(), source }));
        let error = from_text(&text).unwrap().unwrap_err();
        assert_eq!((error.step.as_str(), error.source.raw_os_error()), ("exec", Some(libc::EPERM)));
        assert!(from_text("").is_none());
    }

    #[test]
    fn a_parameter_is_named_with_dots_or_with_slashes() {
        assert_eq!(path("net.core.somaxconn"), "/proc/sys/net/core/somaxconn");
        assert_eq!(
            path("net/ipv4/conf/eth0.1/rp_filter"),
            "/proc/sys/net/ipv4/conf/eth0.1/rp_filter"
        );
    }
}
