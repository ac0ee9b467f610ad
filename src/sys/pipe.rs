//! Pipes.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

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
