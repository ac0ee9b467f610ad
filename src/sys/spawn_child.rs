//! The child's side of a spawn, between clone and exec, in the parent's memory.
//!
//! No allocation, no lock, no panic: another thread of the parent may hold any lock. What is needed
//! was prepared by [`spawn`](super::spawn).

use std::ffi::CStr;
use std::io;
use std::os::fd::AsRawFd as _;

use super::spawn::{OnRefusal, Privileges, Program, Spawn, SpawnStep, User, Wanted, bit};
use super::{caps, vfork};

/// What the child works on, in memory shared with the waiting parent.
pub(super) struct Work<'a> {
    pub(super) spawn: &'a Spawn<'a>,
    pub(super) argv: *const *const libc::c_char,
    pub(super) envp: *const *const libc::c_char,
    /// The numbers of the descriptors above every target, one a descriptor of `spawn.fds`.
    pub(super) placed: &'a mut [i32],
    pub(super) step: SpawnStep,
    /// The failure; 0 until then.
    pub(super) errno: i32,
    /// Settings and then limits that were refused and may be.
    pub(super) skipped: u64,
    /// Settings that are written already.
    pub(super) written: u64,
}

/// The child. No allocation, no lock, no panic: another thread of the parent may hold any lock.
pub(super) extern "C" fn child_main(data: *mut libc::c_void) -> ! {
    // SAFETY: `spawn` passed a live Work, which nobody else touches while the parent waits.
    let work = unsafe { &mut *data.cast::<Work<'_>>() };
    // On success this does not return: the program runs.
    let Err(error) = run(work);
    work.errno = error.raw_os_error().unwrap_or(libc::EINVAL);
    // SAFETY: ends this process without running anything of the parent's.
    unsafe { libc::_exit(127) }
}

fn run(work: &mut Work<'_>) -> io::Result<std::convert::Infallible> {
    default_signals();
    work.step = SpawnStep::Session;
    // SAFETY: no arguments.
    ok(unsafe { libc::setsid() })?;
    if work.spawn.root == Wanted::Yes {
        // The process itself is still the host's root's; what can be refused is of the process.
        for (n, setting) in work.spawn.settings.iter().enumerate() {
            let own = setting.on_refusal == OnRefusal::Skip;
            if own && write_file(&setting.path, &setting.value).is_ok() {
                work.written |= bit(n);
            }
        }
        work.step = SpawnStep::Root;
        // Nothing but system calls, by this thread alone.
        caps::set_user(0, 0, &[])?;
        // Made by this user, what they hold belongs to it: the root of mqueue does.
        // SAFETY: only an integer is passed.
        ok(unsafe { libc::unshare(work.spawn.late_namespaces()) })?;
    }
    work.step = SpawnStep::Keyring;
    join_keyring()?;
    namespace_settings(work)?;
    work.step = SpawnStep::Scheduling;
    scheduling(work.spawn.privileges)?;
    work.step = SpawnStep::Directory;
    // SAFETY: NUL-terminated, and alive in the parent's memory; umask and prctl take integers.
    unsafe {
        ok(libc::chdir(work.spawn.directory.as_ptr()))?;
        libc::umask(0o022);
        libc::prctl(libc::PR_SET_PDEATHSIG, 0, 0, 0, 0);
        libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    }
    if let Some(parent) = work.spawn.parent {
        // SAFETY: both take and give integers.
        let orphan = unsafe {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0);
            libc::getppid() != parent
        };
        if orphan {
            // It has ended before it could be watched.
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
    }
    let exec = descriptors(work)?;
    // After the descriptors, which pass through numbers above what the limit may allow.
    limits(work)?;
    vfork::set_mask(&0, None);
    if let Some(user) = &work.spawn.user {
        work.step = SpawnStep::User;
        become_user(user, work.spawn.filters.is_empty())?;
    }
    for (n, filter) in work.spawn.filters.iter().enumerate() {
        work.step = SpawnStep::Seccomp(n);
        filter.load()?;
    }
    work.step = SpawnStep::Exec;
    execute(work, exec)
}

fn ok(result: i32) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Every disposition is the default one: exec keeps what is ignored, and Rust ignores SIGPIPE.
fn default_signals() {
    // struct sigaction as the kernel has it: handler, flags, restorer, mask; all zero is SIG_DFL.
    let default = [0u64; 4];
    for signal in 1..=64 {
        // SAFETY: `default` is a live kernel sigaction; the set size is 8. EINVAL for SIGKILL and
        // SIGSTOP changes nothing.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                std::ptr::null_mut::<u64>(),
                8,
            );
        }
    }
}

fn join_keyring() -> io::Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_int = 1;
    // SAFETY: a null name asks for an anonymous keyring.
    let joined = unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            KEYCTL_JOIN_SESSION_KEYRING,
            std::ptr::null::<libc::c_char>(),
        )
    };
    match super::check(joined) {
        // A kernel without keys, or a sandbox that hides them: then there is none to inherit.
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => Ok(()),
        other => other.map(drop),
    }
}

/// By a user without capabilities no filter is loaded, so one is kept until exec. Before the filters:
/// they need not permit it.
fn become_user(user: &User, no_filters: bool) -> io::Result<()> {
    if user.uid == 0 || no_filters {
        return caps::set_user(user.uid, user.gid, &user.groups);
    }
    caps::keep_over_set_user()?;
    caps::set_user(user.uid, user.gid, &user.groups)?;
    caps::set(caps::Sets { effective: caps::SYS_ADMIN, permitted: caps::SYS_ADMIN, inheritable: 0 })
}

fn namespace_settings(work: &mut Work<'_>) -> io::Result<()> {
    work.step = SpawnStep::Hostname;
    if let Some(name) = &work.spawn.hostname {
        // SAFETY: pointer and length are those of a live slice.
        ok(unsafe { libc::sethostname(name.as_ptr().cast(), name.len()) })?;
    }
    for (n, setting) in work.spawn.settings.iter().enumerate() {
        work.step = SpawnStep::Setting(n);
        if work.written & bit(n) != 0 {
            continue;
        }
        match write_file(&setting.path, &setting.value) {
            Err(e)
                if may_skip(work.spawn.privileges, &e) && setting.on_refusal == OnRefusal::Skip =>
            {
                work.skipped |= bit(n);
            }
            other => other?,
        }
    }
    Ok(())
}

fn may_skip(privileges: Privileges, error: &io::Error) -> bool {
    privileges == Privileges::BestEffort
        && matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES))
}

fn write_file(path: &CStr, value: &[u8]) -> io::Result<()> {
    // SAFETY: `path` is NUL-terminated; the buffer is a live slice of the length given; the
    // descriptor is closed once, here.
    unsafe {
        let fd = libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        ok(fd)?;
        let written = super::check(libc::write(fd, value.as_ptr().cast(), value.len()) as i64);
        libc::close(fd);
        written.map(drop)
    }
}

fn limits(work: &mut Work<'_>) -> io::Result<()> {
    let base = work.spawn.settings.len();
    for (n, (which, soft, hard)) in work.spawn.limits.iter().enumerate() {
        work.step = SpawnStep::Limit(n);
        let mut old = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        let new = libc::rlimit { rlim_cur: *soft, rlim_max: *hard };
        let set = |new: &libc::rlimit| {
            // SAFETY: `new` is a live rlimit; no old value is asked for.
            super::check(unsafe {
                libc::syscall(libc::SYS_prlimit64, 0, *which, new, std::ptr::null_mut::<u8>())
            })
        };
        match set(&new) {
            Err(e) if may_skip(work.spawn.privileges, &e) => {
                work.skipped |= bit(base + n);
                // SAFETY: `old` is a live rlimit that the kernel writes.
                super::check(unsafe {
                    libc::syscall(
                        libc::SYS_prlimit64,
                        0,
                        *which,
                        std::ptr::null::<u8>(),
                        &raw mut old,
                    )
                })?;
                let soft = (*soft).min(old.rlim_max);
                set(&libc::rlimit { rlim_cur: soft, rlim_max: old.rlim_max })?;
            }
            other => {
                other?;
            }
        }
    }
    Ok(())
}

fn scheduling(privileges: Privileges) -> io::Result<()> {
    let every = [0xffu8; 1024];
    // SAFETY: the parameter block and the mask are live and of the sizes given.
    unsafe {
        let param: libc::sched_param = std::mem::zeroed();
        let policy = libc::sched_setscheduler(0, libc::SCHED_OTHER, &raw const param);
        let nice = libc::setpriority(libc::PRIO_PROCESS, 0, 0);
        for result in [policy, nice] {
            match ok(result) {
                Err(e) if may_skip(privileges, &e) => {}
                other => other?,
            }
        }
        // The kernel cuts the mask to the cpuset; EINVAL means that this is the cpuset already.
        libc::syscall(libc::SYS_sched_setaffinity, 0, every.len(), every.as_ptr());
    }
    Ok(())
}

/// Puts every descriptor at its number and marks all others close-on-exec. Two passes, since a
/// target may be the number of another source. Returns the program's descriptor, -1 for a path.
fn descriptors(work: &mut Work<'_>) -> io::Result<i32> {
    let spawn = work.spawn;
    let floor = spawn.fds.last().map_or(3, |(target, _)| target.saturating_add(1)).max(3);
    for (n, (_, fd)) in spawn.fds.iter().enumerate() {
        work.step = SpawnStep::Descriptor(n);
        // SAFETY: F_DUPFD_CLOEXEC takes an integer; the descriptor is open.
        let raised = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, floor) };
        ok(raised)?;
        if let Some(slot) = work.placed.get_mut(n) {
            *slot = raised;
        }
    }
    let exec = match &spawn.program {
        Program::Path(_) => -1,
        // SAFETY: as above.
        Program::File(fd) => unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, floor) },
    };
    if matches!(spawn.program, Program::File(_)) {
        ok(exec)?;
    }
    for (n, ((target, _), from)) in spawn.fds.iter().zip(work.placed.iter()).enumerate() {
        work.step = SpawnStep::Descriptor(n);
        // SAFETY: only integers; `from` is open and differs from `target`, so that dup2 clears
        // close-on-exec.
        ok(unsafe { libc::dup2(*from, *target) })?;
    }
    work.step = SpawnStep::CloseRest;
    let mut next = 0;
    for (target, _) in &spawn.fds {
        close_on_exec(next, target.saturating_sub(1))?;
        next = target.saturating_add(1);
    }
    close_on_exec(next, i32::MAX)?;
    Ok(exec)
}

fn close_on_exec(first: i32, last: i32) -> io::Result<()> {
    if first > last {
        return Ok(());
    }
    // SAFETY: only integers. Nothing is closed before exec.
    super::check(unsafe {
        libc::syscall(libc::SYS_close_range, first, last, libc::CLOSE_RANGE_CLOEXEC)
    })
    .map(drop)
}

fn execute(work: &Work<'_>, exec: i32) -> io::Result<std::convert::Infallible> {
    // SAFETY: argv and envp are null-terminated arrays of NUL-terminated strings that the parent
    // keeps alive; the path is NUL-terminated, empty for AT_EMPTY_PATH.
    unsafe {
        match &work.spawn.program {
            Program::Path(path) => {
                libc::execve(path.as_ptr(), work.argv, work.envp);
            }
            Program::File(_) => {
                libc::syscall(
                    libc::SYS_execveat,
                    exec,
                    c"".as_ptr(),
                    work.argv,
                    work.envp,
                    libc::AT_EMPTY_PATH,
                );
            }
        }
    }
    Err(io::Error::last_os_error())
}
