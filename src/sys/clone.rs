//! clone3(2) that returns twice, like fork(2), for a process with one thread (Linux 5.3; into a
//! cgroup: 5.7).
//!
//! The child has a copy of the memory; with one thread no lock is held by another, so it may do
//! what it likes and ends in exec or [`exit`].

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::process::SingleThreaded;

const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// How the parent and the child of a fork stand to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kinship {
    /// An ordinary child.
    Child,
    /// A child that the caller waits for until it has exec'd or ended (CLONE_VFORK).
    Awaited,
    /// A child of the caller's own parent (CLONE_PARENT). The exit signal is the caller's.
    Sibling,
}

/// The two sides of a fork.
#[derive(Debug)]
pub enum Forked {
    /// This is the child.
    Child,
    /// This is the caller.
    Parent {
        /// The child's pid.
        pid: i32,
        /// The child's pidfd.
        pidfd: OwnedFd,
    },
}

/// Forks into the cgroup behind `cgroup` and into new `namespaces` (CLONE_NEW* bits).
///
/// # Errors
/// The errno of clone3(2): EAGAIN (pids.max, RLIMIT_NPROC), ENOMEM, EPERM, ENOSPC (too many
/// namespaces), EBUSY and EOPNOTSUPP (the cgroup cannot take processes), ENODEV (it is gone).
pub fn fork(
    _proof: &SingleThreaded,
    kinship: Kinship,
    namespaces: u64,
    cgroup: Option<BorrowedFd<'_>>,
) -> io::Result<Forked> {
    let mut pidfd: i32 = -1;
    // SAFETY: clone_args is plain data for which all-zero is valid.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = bits(libc::CLONE_PIDFD) | namespaces;
    args.pidfd = (&raw mut pidfd).addr() as u64;
    match kinship {
        Kinship::Child => args.exit_signal = u64::from(libc::SIGCHLD.cast_unsigned()),
        Kinship::Awaited => {
            args.flags |= bits(libc::CLONE_VFORK);
            args.exit_signal = u64::from(libc::SIGCHLD.cast_unsigned());
        }
        // The kernel refuses an exit signal beside CLONE_PARENT.
        Kinship::Sibling => args.flags |= bits(libc::CLONE_PARENT),
    }
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::from(cgroup.as_raw_fd().cast_unsigned());
    }
    // SAFETY: `args` is a live clone_args of the size given, `pidfd` a live int for the result. No
    // stack and no CLONE_VM: the child returns here on a copy of this stack. `_proof` says that no
    // other thread exists whose locks the copy could find held.
    let pid = super::check(unsafe {
        libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>())
    })?;
    if pid == 0 {
        return Ok(Forked::Child);
    }
    let pid = i32::try_from(pid).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    // SAFETY: CLONE_PIDFD stored a new descriptor that nobody else owns.
    Ok(Forked::Parent { pid, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } })
}

/// A CLONE_* flag as clone3(2) takes it.
pub fn bits(flag: i32) -> u64 {
    u64::from(flag.cast_unsigned())
}

/// _exit(2): ends the process at once, without destructors or exit handlers.
pub fn exit(code: i32) -> ! {
    // SAFETY: _exit has no demands.
    unsafe { libc::_exit(code) }
}

/// execve(2) of `program` with prepared arguments. Returns only when it failed.
pub fn exec(program: &std::ffi::CStr, args: &Strings, env: &Strings) -> io::Error {
    // SAFETY: `program` is NUL-terminated; both arrays hold NUL-terminated strings that live as
    // long as the `Strings`, and end in a null pointer.
    unsafe { libc::execve(program.as_ptr(), args.pointers.as_ptr(), env.pointers.as_ptr()) };
    io::Error::last_os_error()
}

/// execveat(2) of the open file `program`. Returns only when it failed.
pub fn exec_file(program: BorrowedFd<'_>, args: &Strings, env: &Strings) -> io::Error {
    // SAFETY: the path is the empty string; both arrays as for `exec`.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program.as_raw_fd(),
            c"".as_ptr(),
            args.pointers.as_ptr(),
            env.pointers.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    io::Error::last_os_error()
}

/// Strings in the form that execve(2) takes.
#[derive(Debug)]
pub struct Strings {
    pointers: Vec<*const libc::c_char>,
    _strings: Vec<std::ffi::CString>,
}

impl Strings {
    /// Copies the strings.
    ///
    /// # Errors
    /// EINVAL when one holds a NUL byte.
    pub fn new(strings: &[String]) -> io::Result<Self> {
        Self::of_bytes(strings.iter().map(String::as_bytes))
    }

    /// Copies the strings, which need not be UTF-8.
    ///
    /// # Errors
    /// As [`Strings::new`].
    pub fn of_bytes<'a>(strings: impl Iterator<Item = &'a [u8]>) -> io::Result<Self> {
        let strings = strings
            .map(std::ffi::CString::new)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
        let end = std::iter::once(std::ptr::null());
        // The heap memory of a CString does not move with it.
        let pointers = strings.iter().map(|s| s.as_ptr()).chain(end).collect();
        Ok(Self { pointers, _strings: strings })
    }
}
