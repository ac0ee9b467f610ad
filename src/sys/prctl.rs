//! Attributes of the calling process that survive execve: prctl(2), personality(2), the session
//! keyring, scheduling, limits, seccomp.

use std::io;

use crate::undefended::{Defence, removed};

fn simple(option: i32, argument: libc::c_ulong) -> io::Result<()> {
    // SAFETY: the options used in this file take numbers, no pointers.
    let result = unsafe { libc::prctl(option, argument, 0, 0, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// PR_SET_NO_NEW_PRIVS: execve grants nothing from now on.
///
/// # Errors
/// None expected.
pub fn no_new_privileges() -> io::Result<()> {
    simple(libc::PR_SET_NO_NEW_PRIVS, 1)
}

/// PR_SET_DUMPABLE 0: /proc/pid belongs to root and ptrace needs CAP_SYS_PTRACE, until execve.
///
/// # Errors
/// None expected.
pub fn not_dumpable() -> io::Result<()> {
    if removed(Defence::Dumpable) {
        return Ok(());
    }
    simple(libc::PR_SET_DUMPABLE, 0)
}

/// Undoes what a parent may have left: parent-death signal, timer slack (50 µs), huge pages off.
///
/// # Errors
/// None expected.
pub fn reset_inherited() -> io::Result<()> {
    simple(libc::PR_SET_PDEATHSIG, 0)?;
    simple(libc::PR_SET_TIMERSLACK, 50_000)?;
    match simple(libc::PR_SET_THP_DISABLE, 0) {
        // A kernel without transparent huge pages has nothing to undo.
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => Ok(()),
        other => other,
    }
}

/// personality(2).
///
/// # Errors
/// None expected.
pub fn set_personality(persona: u32) -> io::Result<()> {
    // SAFETY: only an integer is passed.
    super::check(unsafe { libc::syscall(libc::SYS_personality, libc::c_ulong::from(persona)) })
        .map(drop)
}

/// keyctl(2) KEYCTL_JOIN_SESSION_KEYRING: a new, anonymous session keyring. A kernel without keys
/// has none to inherit.
///
/// # Errors
/// EDQUOT, ENOMEM.
pub fn new_session_keyring() -> io::Result<()> {
    let name = std::ptr::null::<libc::c_char>();
    // SAFETY: a null name asks for an anonymous keyring.
    match super::check(unsafe {
        libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, name)
    }) {
        Err(e) if e.raw_os_error() == Some(libc::ENOSYS) => Ok(()),
        other => other.map(drop),
    }
}

/// struct sched_attr, first version (48 bytes).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Scheduling {
    size: u32,
    /// SCHED_*.
    pub policy: u32,
    /// SCHED_FLAG_*.
    pub flags: u64,
    /// Niceness.
    pub nice: i32,
    /// Real-time priority.
    pub priority: u32,
    /// Nanoseconds, SCHED_DEADLINE.
    pub runtime: u64,
    /// Nanoseconds, SCHED_DEADLINE.
    pub deadline: u64,
    /// Nanoseconds, SCHED_DEADLINE.
    pub period: u64,
}

/// sched_setattr(2).
///
/// # Errors
/// EINVAL, EPERM (raising without CAP_SYS_NICE), EBUSY (deadline admission).
pub fn set_scheduling(mut scheduling: Scheduling) -> io::Result<()> {
    scheduling.size = u32::try_from(size_of::<Scheduling>()).unwrap_or(0);
    // SAFETY: a live sched_attr that says its own size; pid 0 is the caller.
    super::check(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const scheduling, 0) })
        .map(drop)
}

/// sched_setaffinity(2) to every CPU that the cpuset allows.
///
/// # Errors
/// None expected.
pub fn reset_affinity() -> io::Result<()> {
    // The kernel intersects with the cpuset: all ones means all that is allowed.
    let all = [u64::MAX; 128];
    // SAFETY: pointer and size describe `all`.
    super::check(unsafe {
        libc::syscall(libc::SYS_sched_setaffinity, 0, size_of_val(&all), all.as_ptr())
    })
    .map(drop)
}

/// ioprio_set(2) of the caller: class in bits 13 and up, level below.
///
/// # Errors
/// EINVAL, EPERM.
pub fn set_io_priority(priority: u32) -> io::Result<()> {
    const WHO_PROCESS: i32 = 1;
    // SAFETY: only integers are passed.
    super::check(unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, priority) }).map(drop)
}

/// A resource limit, soft and hard; `u64::MAX` is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// The soft limit.
    pub soft: u64,
    /// The hard limit.
    pub hard: u64,
}

/// prlimit(2) of the caller.
///
/// # Errors
/// EPERM when the hard limit rises without CAP_SYS_RESOURCE; EINVAL when soft exceeds hard.
pub fn set_limit(resource: u32, limit: Limit) -> io::Result<()> {
    let new = libc::rlimit64 { rlim_cur: limit.soft, rlim_max: limit.hard };
    let old = std::ptr::null_mut::<libc::rlimit64>();
    // SAFETY: `new` is a live rlimit64; a null `old` is allowed; pid 0 is the caller.
    super::check(unsafe { libc::syscall(libc::SYS_prlimit64, 0, resource, &raw const new, old) })
        .map(drop)
}

/// The caller's limit.
///
/// # Errors
/// EINVAL for an unknown resource.
pub fn get_limit(resource: u32) -> io::Result<Limit> {
    let mut old = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    let new = std::ptr::null::<libc::rlimit64>();
    // SAFETY: a null `new` is allowed; `old` is a live rlimit64 that the kernel may write.
    super::check(unsafe { libc::syscall(libc::SYS_prlimit64, 0, resource, new, &raw mut old) })?;
    Ok(Limit { soft: old.rlim_cur, hard: old.rlim_max })
}

/// The name of a resource, as getrlimit(2) writes it.
pub fn limit_name(resource: u32) -> &'static str {
    match resource {
        libc::RLIMIT_CPU => "RLIMIT_CPU",
        libc::RLIMIT_FSIZE => "RLIMIT_FSIZE",
        libc::RLIMIT_DATA => "RLIMIT_DATA",
        libc::RLIMIT_STACK => "RLIMIT_STACK",
        libc::RLIMIT_CORE => "RLIMIT_CORE",
        libc::RLIMIT_RSS => "RLIMIT_RSS",
        libc::RLIMIT_NPROC => "RLIMIT_NPROC",
        libc::RLIMIT_NOFILE => "RLIMIT_NOFILE",
        libc::RLIMIT_MEMLOCK => "RLIMIT_MEMLOCK",
        libc::RLIMIT_AS => "RLIMIT_AS",
        libc::RLIMIT_LOCKS => "RLIMIT_LOCKS",
        libc::RLIMIT_SIGPENDING => "RLIMIT_SIGPENDING",
        libc::RLIMIT_MSGQUEUE => "RLIMIT_MSGQUEUE",
        libc::RLIMIT_NICE => "RLIMIT_NICE",
        libc::RLIMIT_RTPRIO => "RLIMIT_RTPRIO",
        libc::RLIMIT_RTTIME => "RLIMIT_RTTIME",
        _ => "a resource of no name",
    }
}

/// A seccomp program and how it is loaded.
pub struct Filter {
    program: Vec<libc::sock_filter>,
    flags: u32,
}

impl Filter {
    /// A program of `struct sock_filter`, 8 bytes each in the machine's byte order; flags are
    /// SECCOMP_FILTER_FLAG_*.
    ///
    /// # Errors
    /// EINVAL: empty, too long to be told, or a length that is no multiple of 8.
    pub fn new(program: &[u8], flags: u32) -> io::Result<Self> {
        let invalid = || io::Error::from_raw_os_error(libc::EINVAL);
        let (words, rest) = program.as_chunks::<8>();
        libc::c_ushort::try_from(words.len()).map_err(|_| invalid())?;
        if words.is_empty() || !rest.is_empty() {
            return Err(invalid());
        }
        let program = words
            .iter()
            .map(|&[a, b, jt, jf, k0, k1, k2, k3]| libc::sock_filter {
                code: u16::from_ne_bytes([a, b]),
                jt,
                jf,
                k: u32::from_ne_bytes([k0, k1, k2, k3]),
            })
            .collect();
        Ok(Self { program, flags })
    }

    /// seccomp(2) SECCOMP_SET_MODE_FILTER. Allocates nothing.
    ///
    /// # Errors
    /// EINVAL (the verifier), EACCES (neither CAP_SYS_ADMIN nor no_new_privs), ENOMEM (all programs
    /// together are too long).
    pub fn load(&self) -> io::Result<()> {
        let len = libc::c_ushort::try_from(self.program.len())
            .map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
        let program = libc::sock_fprog { len, filter: self.program.as_ptr().cast_mut() };
        let mode = libc::SECCOMP_SET_MODE_FILTER;
        // SAFETY: `program` describes the live array; the kernel copies it and writes nothing.
        super::check(unsafe {
            libc::syscall(libc::SYS_seccomp, mode, self.flags, &raw const program)
        })
        .map(drop)
    }
}
