//! Pseudo terminals of a devpts instance: pty(7), ioctl_tty(2).

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};

/// Both ends of a new pseudo terminal.
#[derive(Debug)]
pub struct Pty {
    /// The end that the terminal's owner reads and writes. Non-blocking.
    pub master: OwnedFd,
    /// The end that is a terminal.
    pub slave: OwnedFd,
}

/// Opens a new pseudo terminal by the `ptmx` file of a devpts instance, needing no path for its
/// other end (TIOCGPTPEER, Linux 4.13).
///
/// # Errors
/// ENOSPC when there are too many; ENOENT, EPERM.
pub fn open(ptmx: &CStr) -> io::Result<Pty> {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: the path is NUL-terminated.
    let master =
        super::new_fd(unsafe { libc::open(ptmx.as_ptr(), flags | libc::O_NONBLOCK) }.into())?;
    let unlock: libc::c_int = 0;
    // SAFETY: TIOCSPTLCK reads an int, which is live.
    let done = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlock) };
    super::check(done.into())?;
    // SAFETY: TIOCGPTPEER takes open flags and returns a new descriptor.
    let slave =
        super::new_fd(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags) }.into())?;
    Ok(Pty { master, slave })
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
