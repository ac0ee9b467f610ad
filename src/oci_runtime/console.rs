//! Handing a terminal's master over: one message with the descriptor, as runc sends it.

use super::error::{Doing as _, RuntimeError};
use crate::sys::socket;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// The name that goes with the descriptor; receivers print it at most.
const NAME: &[u8] = b"/dev/ptmx";

/// Checks what was asked for and connects: who receives must be there before anything is made.
///
/// # Errors
/// A terminal without a socket, a socket without a terminal; nobody listens.
pub(super) fn connect(
    terminal: bool,
    socket: Option<&Path>,
) -> Result<Option<UnixStream>, RuntimeError> {
    match (terminal, socket) {
        (false, None) => Ok(None),
        (true, None) => Err(RuntimeError::refused(
            "the process has a terminal: --console-socket says where its master is sent",
        )),
        (false, Some(_)) => Err(RuntimeError::refused(
            "--console-socket needs a process with a terminal (process.terminal, --tty)",
        )),
        (true, Some(path)) => UnixStream::connect(path)
            .map(Some)
            .doing(|| format!("connect to the console socket {}", path.display())),
    }
}

/// Sends the master.
pub(super) fn send(to: &UnixStream, master: BorrowedFd<'_>) -> Result<(), RuntimeError> {
    blocking(master).doing(|| "prepare the terminal")?;
    socket::send(to.as_fd(), NAME, &[master]).doing(|| "send the terminal")?;
    Ok(())
}

/// Receivers decide by themselves whether they wait.
pub(super) fn blocking(master: BorrowedFd<'_>) -> nix::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(master, FcntlArg::F_GETFL)?);
    fcntl(master, FcntlArg::F_SETFL(flags - OFlag::O_NONBLOCK)).map(drop)
}

/// A socket pair by which a child hands its terminal over: ours, and the child's.
pub(super) fn pair() -> Result<(OwnedFd, OwnedFd), RuntimeError> {
    socket::pair().doing(|| "make a socket pair")
}
