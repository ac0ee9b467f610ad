//! Pseudo terminals of a devpts instance: pty(7), ioctl_tty(2).

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};

use nix::fcntl::{FcntlArg, OFlag, fcntl};

/// Unlocks the pseudo terminal whose master was just opened, and opens its other end, without need
/// of a path for that (TIOCGPTPEER, Linux 4.13).
///
/// # Errors
/// ENOTTY when it is no master; EIO.
pub fn unlock(master: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let unlock: libc::c_int = 0;
    // SAFETY: TIOCSPTLCK reads an int, which is live.
    let done = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlock) };
    super::check(done.into())?;
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: TIOCGPTPEER takes open flags and returns a new descriptor.
    super::new_fd(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags) }.into())
}

/// Makes sure that a descriptor of another's making is a master, and that nobody waits on it.
///
/// # Errors
/// ENOTTY when it is none.
pub fn adopt(master: BorrowedFd<'_>) -> io::Result<()> {
    let mut number: libc::c_uint = 0;
    // SAFETY: TIOCGPTN, which masters alone know, writes an unsigned int, which is live.
    let known = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTN, &raw mut number) };
    super::check(known.into())?;
    let flags = OFlag::from_bits_retain(fcntl(master, FcntlArg::F_GETFL)?);
    fcntl(master, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

/// Sets the size in characters; the terminal's foreground processes get SIGWINCH.
///
/// # Errors
/// ENOTTY when `terminal` is none.
pub fn resize(terminal: BorrowedFd<'_>, width: u16, height: u16) -> io::Result<()> {
    let size = libc::winsize { ws_row: height, ws_col: width, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads a winsize, which is live.
    let done = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
    super::check(done.into()).map(drop)
}
