//! Descriptors that a process is started with.

use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd};

/// Takes over the descriptor that this process was started with under `number`, and marks it
/// close-on-exec. Only `main` may call it, and once a number.
///
/// # Errors
/// EBADF when it is not open.
pub fn take_inherited(number: i32) -> io::Result<OwnedFd> {
    // SAFETY: F_SETFD takes an integer; a number that is not open answers EBADF.
    super::check(unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) }.into())?;
    // SAFETY: it is open, and by the caller's promise nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
