//! Namespaces: setns(2), unshare(2), and the names of a UTS namespace.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::process::SingleThreaded;

/// setns(2): joins namespaces of `kinds` (CLONE_NEW* bits) of the process behind a pidfd (Linux
/// 5.8), or the one behind a namespace descriptor. A pid namespace is joined by later children.
///
/// # Errors
/// EINVAL (not of that kind, or a pid namespace that is no descendant), EPERM, ESRCH (the process
/// is gone).
pub fn join(_proof: &SingleThreaded, fd: BorrowedFd<'_>, kinds: u32) -> io::Result<()> {
    // SAFETY: only integers are passed; one thread, so no other thread's view changes.
    super::check(unsafe { libc::syscall(libc::SYS_setns, fd.as_raw_fd(), kinds) }).map(drop)
}

/// unshare(2) of `kinds` (CLONE_NEW* bits).
///
/// # Errors
/// EPERM, ENOSPC, ENOMEM.
pub fn unshare(_proof: &SingleThreaded, kinds: u32) -> io::Result<()> {
    // SAFETY: only an integer is passed; one thread.
    super::check(unsafe { libc::syscall(libc::SYS_unshare, kinds) }).map(drop)
}

/// sethostname(2), at most 64 bytes.
///
/// # Errors
/// EINVAL when it is longer, EPERM.
pub fn set_hostname(name: &str) -> io::Result<()> {
    // SAFETY: the pointer and the length describe `name`.
    super::check(unsafe { libc::syscall(libc::SYS_sethostname, name.as_ptr(), name.len()) })
        .map(drop)
}

/// setdomainname(2), at most 64 bytes.
///
/// # Errors
/// EINVAL when it is longer, EPERM.
pub fn set_domainname(name: &str) -> io::Result<()> {
    // SAFETY: the pointer and the length describe `name`.
    super::check(unsafe { libc::syscall(libc::SYS_setdomainname, name.as_ptr(), name.len()) })
        .map(drop)
}
