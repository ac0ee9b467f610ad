//! Pipes.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};

/// pipe2(2) with O_CLOEXEC: the read end, non-blocking, and the write end, blocking, as a program
/// expects of its standard output.
///
/// # Errors
/// EMFILE, ENFILE.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    fcntl(&read, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok((read, write))
}

/// pipe2(2) with O_CLOEXEC for a program's standard input: the read end, blocking, and the write
/// end, non-blocking.
///
/// # Errors
/// EMFILE, ENFILE.
pub fn stdin_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    fcntl(&write, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok((read, write))
}

/// pipe2(2) with O_CLOEXEC, both ends non-blocking, that holds at least `capacity` bytes.
///
/// # Errors
/// EMFILE, ENFILE; EPERM above /proc/sys/fs/pipe-max-size without CAP_SYS_RESOURCE.
pub fn wide(capacity: i32) -> io::Result<(OwnedFd, OwnedFd)> {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
    fcntl(&write, FcntlArg::F_SETPIPE_SZ(capacity))?;
    Ok((read, write))
}

/// How many bytes wait in a pipe, by either of its ends (FIONREAD).
///
/// # Errors
/// ENOTTY where it is no pipe.
pub fn unread(fd: BorrowedFd<'_>) -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: FIONREAD writes an int, which is live.
    let done = unsafe { libc::ioctl(fd.as_raw_fd(), libc::FIONREAD, &raw mut bytes) };
    super::check(done.into())?;
    Ok(usize::try_from(bytes).unwrap_or(0))
}

/// How many bytes a pipe holds at most; 64 KiB where it is no pipe.
pub fn capacity(fd: BorrowedFd<'_>) -> usize {
    let size = nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_GETPIPE_SZ);
    size.ok().and_then(|n| usize::try_from(n).ok()).unwrap_or(64 * 1024)
}

/// pipe2(2) with O_CLOEXEC, both ends blocking: one process waits for another's turn.
///
/// # Errors
/// EMFILE, ENFILE.
pub fn turn() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?)
}
