//! A process's terminal: one of its container's own devpts, so that its name is one inside.
//!
//! The child opens it, since only the child sees the container's mounts, and hands the master over
//! by a socket before it goes on. A container that makes this wait holds up nobody but the child,
//! which has a deadline.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::sys::statfs::{DEVPTS_SUPER_MAGIC, fstatfs};

use super::step::{At, Step, StepError};
use crate::sys::path::{Resolve, open_in};
use crate::sys::{socket, terminal};

/// Where the multiplexer of a container's devpts is. `/dev/ptmx` leads there by convention only.
const PTMX: &str = "dev/pts/ptmx";

/// Opens a terminal below `root` and sends its master away; the other end.
pub(super) fn open(
    root: BorrowedFd<'_>,
    host_proc: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
) -> Result<OwnedFd, StepError> {
    let detail = || format!("/{PTMX}");
    // Looked at before it is opened: the image may have put anything there.
    let seen = open_in(root, Path::new(PTMX), libc::O_PATH, 0, Resolve::InRoot)
        .on(Step::Terminal, detail)?;
    if fstatfs(&seen).on(Step::Terminal, detail)?.filesystem_type() != DEVPTS_SUPER_MAGIC {
        let detail = format!("/{PTMX} is not of a devpts file system");
        return Err(StepError { step: Step::Terminal, errno: libc::ENOTTY, detail });
    }
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let link = format!("self/fd/{}", seen.as_raw_fd());
    let master = nix::fcntl::openat(host_proc, link.as_str(), flags, Mode::empty())
        .on(Step::Terminal, detail)?;
    let slave = terminal::unlock(master.as_fd()).on(Step::Terminal, detail)?;
    socket::send(to, b"T", &[master.as_fd()]).on(Step::Terminal, || "hand it over")?;
    Ok(slave)
}

/// The master that a child has sent.
///
/// # Errors
/// EAGAIN when it has not; UnexpectedEof when it never will.
pub fn take_terminal(from: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let (mut buffer, mut fds) = ([0u8; 1], Vec::new());
    socket::receive(from, &mut buffer, &mut fds)?;
    fds.pop().ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}
