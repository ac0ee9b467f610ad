//! The terminal of a person: its size and its mode. ioctl_tty(2), termios(3).

use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

/// A terminal's size in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Characters a line.
    pub columns: u16,
    /// Lines.
    pub rows: u16,
}

/// `TIOCGWINSZ`: the size of a terminal.
///
/// # Errors
/// ENOTTY when it is none.
pub fn size(terminal: BorrowedFd<'_>) -> io::Result<Size> {
    // SAFETY: winsize is plain data for which all-zero is a valid value.
    let mut size: libc::winsize = unsafe { std::mem::zeroed() };
    // SAFETY: TIOCGWINSZ writes one winsize to the pointer, which is to a live one.
    let result = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    super::check(result.into())?;
    Ok(Size { columns: size.ws_col, rows: size.ws_row })
}

/// A terminal in raw mode: every key goes to the program. Dropping it restores the former mode.
#[derive(Debug)]
pub struct Raw {
    terminal: OwnedFd,
    former: Termios,
}

impl Raw {
    /// Sets the terminal to raw mode.
    ///
    /// # Errors
    /// ENOTTY when it is none.
    pub fn enter(terminal: BorrowedFd<'_>) -> io::Result<Self> {
        let terminal = terminal.try_clone_to_owned()?;
        let former = tcgetattr(terminal.as_fd())?;
        let mut raw = former.clone();
        cfmakeraw(&mut raw);
        tcsetattr(terminal.as_fd(), SetArg::TCSANOW, &raw)?;
        Ok(Self { terminal, former })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // The terminal may have gone away; then there is nothing to restore.
        tcsetattr(self.terminal.as_fd(), SetArg::TCSANOW, &self.former).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::termios::LocalFlags;

    #[test]
    fn a_size_that_is_set_is_the_size_of_both_ends() {
        let pty = nix::pty::openpty(None, None).unwrap();
        crate::sys::terminal::resize(pty.master.as_fd(), 132, 43).unwrap();
        assert_eq!(size(pty.slave.as_fd()).unwrap(), Size { columns: 132, rows: 43 });
    }

    #[test]
    fn raw_mode_ends_with_its_guard() {
        let pty = nix::pty::openpty(None, None).unwrap();
        let echoes =
            || tcgetattr(pty.slave.as_fd()).unwrap().local_flags.contains(LocalFlags::ECHO);
        assert!(echoes());
        let raw = Raw::enter(pty.slave.as_fd()).unwrap();
        assert!(!echoes());
        drop(raw);
        assert!(echoes());
    }

    #[test]
    fn what_is_no_terminal_is_told() {
        let file = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(size(file.as_fd()).unwrap_err().raw_os_error(), Some(libc::ENOTTY));
        assert!(Raw::enter(file.as_fd()).is_err());
    }
}
