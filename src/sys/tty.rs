//! The terminal of a person: its size and its mode. ioctl_tty(2), termios(3).

use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::{getpgrp, tcgetpgrp};
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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

/// A terminal in raw mode: every key goes to the program. The former mode comes back when this is
/// dropped, and when a thread panics: a panic that aborts drops nothing.
pub struct Raw(Arc<Mode>);

struct Mode {
    terminal: OwnedFd,
    former: libc::termios,
    raw: AtomicBool,
}

impl Raw {
    /// Sets the terminal to raw mode.
    ///
    /// # Errors
    /// ENOTTY when it is none.
    pub fn enter(terminal: BorrowedFd<'_>) -> io::Result<Self> {
        let terminal = terminal.try_clone_to_owned()?;
        let former = tcgetattr(terminal.as_fd())?.into();
        let mode = Arc::new(Mode { terminal, former, raw: AtomicBool::new(false) });
        let of_panic = Arc::downgrade(&mode);
        let next = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            // Before the message, which would be a staircase in raw mode.
            if let Some(mode) = of_panic.upgrade() {
                mode.restore();
            }
            next(panic);
        }));
        mode.set()?;
        Ok(Self(mode))
    }

    /// The former mode, until [`Raw::again`].
    pub fn leave(&self) {
        self.0.restore();
    }

    /// Raw mode again, whoever has changed it meanwhile.
    ///
    /// # Errors
    /// EIO when the terminal has gone.
    pub fn again(&self) -> io::Result<()> {
        self.0.set()
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.0.restore();
    }
}

impl Mode {
    fn set(&self) -> io::Result<()> {
        let mut raw = Termios::from(self.former);
        cfmakeraw(&mut raw);
        self.raw.store(true, Ordering::Relaxed);
        Ok(tcsetattr(self.terminal.as_fd(), SetArg::TCSANOW, &raw)?)
    }

    fn restore(&self) {
        if self.raw.swap(false, Ordering::Relaxed) && !self.is_of_another() {
            let former = Termios::from(self.former);
            // The terminal may have gone away; then there is nothing to restore.
            tcsetattr(self.terminal.as_fd(), SetArg::TCSANOW, &former).ok();
        }
    }

    /// Whether a shell has taken the terminal back, with the mode it wants. To set one from the
    /// background would stop this process (SIGTTOU, termios(3)) instead of letting it end.
    fn is_of_another(&self) -> bool {
        tcgetpgrp(self.terminal.as_fd()).is_ok_and(|foreground| foreground != getpgrp())
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

    fn echoes(terminal: &OwnedFd) -> bool {
        tcgetattr(terminal.as_fd()).unwrap().local_flags.contains(LocalFlags::ECHO)
    }

    #[test]
    fn raw_mode_ends_with_its_guard() {
        let pty = nix::pty::openpty(None, None).unwrap();
        assert!(echoes(&pty.slave));
        let raw = Raw::enter(pty.slave.as_fd()).unwrap();
        assert!(!echoes(&pty.slave));
        raw.leave();
        assert!(echoes(&pty.slave));
        raw.again().unwrap();
        assert!(!echoes(&pty.slave));
        drop(raw);
        assert!(echoes(&pty.slave));
    }

    #[test]
    fn raw_mode_ends_with_a_panic_before_anything_is_dropped() {
        let pty = nix::pty::openpty(None, None).unwrap();
        let raw = Raw::enter(pty.slave.as_fd()).unwrap();
        assert!(!echoes(&pty.slave));
        // Of another thread, whose end drops nothing of this one.
        std::thread::spawn(|| panic!("as it may happen")).join().unwrap_err();
        assert!(echoes(&pty.slave));
        drop(raw);
    }

    #[test]
    fn what_is_no_terminal_is_told() {
        let file = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(size(file.as_fd()).unwrap_err().raw_os_error(), Some(libc::ENOTTY));
        assert!(Raw::enter(file.as_fd()).is_err());
    }
}
