//! Whole file systems.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// syncfs(2): writes back the file system that holds the open file `file`.
///
/// # Errors
/// EIO, ENOSPC, EDQUOT of the write-back (Linux 5.8).
pub fn syncfs(file: impl AsFd) -> io::Result<()> {
    // SAFETY: the descriptor is open for the time of the call, because `file` is borrowed.
    super::check(libc::c_long::from(unsafe { libc::syncfs(file.as_fd().as_raw_fd()) })).map(drop)
}
