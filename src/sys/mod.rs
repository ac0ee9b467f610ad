//! The only unsafe code besides pause: one thin function per system call, by family.
//!
//! File descriptors come in as `BorrowedFd` and go out as `OwnedFd`, always close-on-exec. Errors
//! are `io::Error` with the errno; the caller adds what was attempted on what.

#![allow(unsafe_code)]

#[cfg(feature = "daemon")]
pub mod async_fd;
pub mod bpf;
pub mod caps;
pub mod clone;
pub mod fd;
pub mod fds;
pub mod fs;
pub mod heap;
pub mod memfd;
pub mod mount;
pub mod netns;
pub mod ns;
pub mod path;
pub mod pipe;
pub mod prctl;
pub mod process;
pub mod random;
#[cfg(feature = "daemon")]
#[cfg(test)]
#[cfg(feature = "daemon")]
pub(crate) mod seccomp_probe;
pub mod signals;
pub mod socket;
pub mod spawn;
mod spawn_child;
#[cfg(test)]
mod spawn_tests;
pub mod terminal;
#[cfg(feature = "daemon")]
pub mod tty;
pub mod userns;
pub(crate) mod vfork;

use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd};

/// The result of a raw system call as a value or the errno.
pub(crate) fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The result of a raw system call that returns a new descriptor, which nobody else owns.
pub(crate) fn new_fd(result: libc::c_long) -> io::Result<OwnedFd> {
    let fd =
        i32::try_from(check(result)?).map_err(|_| io::Error::from_raw_os_error(libc::EBADF))?;
    // SAFETY: the kernel has just made it for this process; nobody else can own it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
