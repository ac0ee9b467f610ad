//! Descriptors on the daemon's event loop.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Watches `fd` for being readable and writable. Must be called on the runtime; the descriptor
/// must be non-blocking if it is read or written.
///
/// # Errors
/// EPERM for a file that cannot be polled; what epoll_ctl(2) answers.
pub fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd is open until it is dropped, is the same number always, and is owned by
    // what is returned.
    unsafe { AsyncFd::register(fd) }.map_err(Into::into)
}

/// Watches `fd` for being readable alone: a pidfd, which never becomes writable.
///
/// # Errors
/// As [`watch`].
pub fn watch_readable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: as in `watch`.
    unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.map_err(Into::into)
}
