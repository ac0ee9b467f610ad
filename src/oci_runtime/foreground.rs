//! Waiting for a process in the foreground: signals go to it, its terminal is shown on ours.

use crate::sys::process;
use crate::sys::terminal::resize;
use crate::sys::tty::{Raw, size};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::io::{self, IsTerminal as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

/// What a person, or a supervisor, sends to a program that it waits for.
const FORWARDED: [Signal; 8] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGCONT,
    Signal::SIGWINCH,
];

/// From before the process is there: no signal may end us without it.
#[derive(Debug)]
pub(super) struct Foreground {
    signals: SignalFd,
}

impl Foreground {
    /// Signals wait from now on. Processes that are made unblock them for themselves.
    pub(super) fn begin() -> io::Result<Self> {
        let set: SigSet = FORWARDED.into_iter().collect();
        set.thread_block()?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        Ok(Self { signals: SignalFd::with_flags(&set, flags)? })
    }

    /// Waits until the child behind `pidfd` has ended: its exit code.
    pub(super) fn attend(&self, pidfd: BorrowedFd<'_>, master: Option<OwnedFd>) -> io::Result<u8> {
        let mut terminal = master.map(Terminal::show).transpose()?;
        loop {
            let mut fds = vec![
                PollFd::new(pidfd, PollFlags::POLLIN),
                PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            ];
            if let Some(terminal) = &terminal {
                fds.extend(terminal.waits());
            }
            match poll(&mut fds, PollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                other => other?,
            };
            let ended = fds.first().and_then(PollFd::any).unwrap_or(false);
            let signalled = fds.get(1).and_then(PollFd::any).unwrap_or(false);
            drop(fds);
            if signalled {
                self.forward(pidfd, terminal.as_ref())?;
            }
            if let Some(terminal) = &mut terminal {
                terminal.pump()?;
            }
            if ended {
                if let Some(terminal) = &mut terminal {
                    terminal.drain();
                }
                let code = process::wait_pidfd(pidfd)?.exit_code();
                return Ok(u8::try_from(code).unwrap_or(u8::MAX));
            }
        }
    }

    fn forward(&self, pidfd: BorrowedFd<'_>, terminal: Option<&Terminal>) -> io::Result<()> {
        while let Some(info) = self.signals.read_signal()? {
            let number = i32::try_from(info.ssi_signo).unwrap_or(0);
            match terminal {
                Some(terminal) if number == libc::SIGWINCH => terminal.fit(),
                _ => match process::signal(pidfd, number) {
                    Err(e) if e.raw_os_error() == Some(libc::ESRCH) => {}
                    other => other?,
                },
            }
        }
        Ok(())
    }
}

/// A terminal that is shown on our own.
struct Terminal {
    master: OwnedFd,
    input: Input,
    /// Read from us, and not yet taken by the terminal.
    pending: Vec<u8>,
    _raw: Option<Raw>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Input {
    Open,
    Ended,
}

impl Terminal {
    /// `master` is non-blocking.
    fn show(master: OwnedFd) -> io::Result<Self> {
        let raw = io::stdin().is_terminal().then(|| Raw::enter(io::stdin().as_fd())).transpose()?;
        let terminal = Self { master, input: Input::Open, pending: Vec::new(), _raw: raw };
        terminal.fit();
        Ok(terminal)
    }

    /// Takes over the size of our own terminal, if we have one.
    fn fit(&self) {
        if let Ok(size) = size(io::stdin().as_fd()) {
            resize(self.master.as_fd(), size.columns, size.rows).ok();
        }
    }

    fn waits(&self) -> Vec<PollFd<'_>> {
        let writes = match self.pending.is_empty() {
            true => PollFlags::empty(),
            false => PollFlags::POLLOUT,
        };
        let mut fds = vec![PollFd::new(self.master.as_fd(), PollFlags::POLLIN | writes)];
        if self.input == Input::Open && self.pending.is_empty() {
            // SAFETY-free: a standard descriptor is open as long as the process.
            let stdin = crate::sys::fds::standard(crate::sys::fds::Standard::Input);
            fds.push(PollFd::new(stdin, PollFlags::POLLIN));
        }
        fds
    }

    /// Moves what is there, in both directions.
    fn pump(&mut self) -> io::Result<()> {
        self.show_some()?;
        if self.input == Input::Open && self.pending.is_empty() && readable(io::stdin().as_fd()) {
            let mut bytes = [0u8; 4096];
            match nix::unistd::read(io::stdin(), &mut bytes) {
                Ok(0) => {
                    self.input = Input::Ended;
                    // End of file, as a terminal says it.
                    self.pending.push(4);
                }
                Ok(n) => self.pending.extend_from_slice(bytes.get(..n).unwrap_or_default()),
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        if !self.pending.is_empty() {
            match nix::unistd::write(&self.master, &self.pending) {
                Ok(n) => drop(self.pending.drain(..n)),
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                // Nobody reads any more.
                Err(_) => {
                    self.pending.clear();
                    self.input = Input::Ended;
                }
            }
        }
        Ok(())
    }

    /// Shows what the terminal has at once; whether there was something.
    fn show_some(&self) -> io::Result<bool> {
        let mut bytes = [0u8; 4096];
        match nix::unistd::read(&self.master, &mut bytes) {
            Ok(n @ 1..) => {
                use io::Write as _;
                let mut out = io::stdout().lock();
                out.write_all(bytes.get(..n).unwrap_or_default())?;
                out.flush()?;
                Ok(true)
            }
            // The other end is closed (EIO), or there is nothing.
            _ => Ok(false),
        }
    }

    /// Shows what is left.
    fn drain(&self) {
        while self.show_some().unwrap_or(false) {}
    }
}

fn readable(fd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(fd, PollFlags::POLLIN)];
    matches!(poll(&mut fds, PollTimeout::ZERO), Ok(1))
}
