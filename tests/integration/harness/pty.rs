//! A person at a terminal: a pty, the command line at its other end, keys, and what is seen.

use super::node::Node;
use super::poll::{self, eventually};
use anyhow::{Context as _, Result, bail, ensure};
use berth::sys::terminal;
use berth::sys::tty::{self, Size};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::pty::openpty;
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, Termios, tcgetattr};
use nix::unistd::Pid;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// What a person types to end input.
pub(crate) const CTRL_D: &[u8] = b"\x04";
/// What a person types to interrupt.
pub(crate) const CTRL_C: &[u8] = b"\x03";
/// What a person types to leave an attached container.
pub(crate) const DETACH: &[u8] = b"\x10\x11";

/// A program at a terminal of its own. It ends with this.
pub(crate) struct Terminal {
    keys: File,
    seen: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
    /// Held open, so that the mode can be looked at when the program has ended.
    other: Option<OwnedFd>,
    before: Termios,
    child: Child,
}

impl Terminal {
    /// Runs the command line of a node at a terminal of 80 times 24.
    ///
    /// # Errors
    /// It cannot be started.
    pub(crate) fn berth(node: &Node, arguments: &[&str]) -> Result<Self> {
        Self::run(&node.command(arguments)?)
    }

    /// Runs a command whose controlling terminal it is, in the foreground.
    ///
    /// # Errors
    /// It cannot be started.
    pub(crate) fn run(command: &Command) -> Result<Self> {
        let pty = openpty(None, None).context("make a pty")?;
        for end in [&pty.master, &pty.slave] {
            fcntl(end, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
        }
        terminal::resize(pty.slave.as_fd(), 80, 24)?;
        let before = tcgetattr(&pty.slave)?;
        // Execs in its place, since it does not lead a process group.
        let child = Command::new("setsid")
            .arg("--ctty")
            .arg(command.get_program())
            .args(command.get_args())
            .stdin(Stdio::from(pty.slave.try_clone()?))
            .stdout(Stdio::from(pty.slave.try_clone()?))
            .stderr(Stdio::from(pty.slave.try_clone()?))
            .spawn()
            .context("run setsid")?;
        let mut screen = File::from(pty.master.try_clone()?);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let reader = {
            let seen = Arc::clone(&seen);
            std::thread::spawn(move || {
                let mut block = [0; 4096];
                // EIO: nobody has the other end open any more.
                while let Ok(count @ 1..) = screen.read(&mut block) {
                    seen.lock().unwrap_or_else(PoisonError::into_inner).extend(&block[..count]);
                }
            })
        };
        Ok(Self {
            keys: File::from(pty.master),
            seen,
            reader: Some(reader),
            other: Some(pty.slave),
            before,
            child,
        })
    }

    /// Its pid.
    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap_or(i32::MAX)
    }

    /// Types.
    ///
    /// # Errors
    /// The terminal is gone.
    pub(crate) fn keys(&mut self, keys: impl AsRef<[u8]>) -> Result<()> {
        self.keys.write_all(keys.as_ref()).context("type")
    }

    /// What was written to the terminal so far.
    pub(crate) fn text(&self) -> String {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&seen).into_owned()
    }

    /// Waits until a text was written.
    ///
    /// # Errors
    /// It is not.
    pub(crate) fn sees(&mut self, text: &str) -> Result<()> {
        let done = eventually(&format!("the terminal shows {text:?}"), || {
            Ok(self.text().contains(text).then_some(()))
        });
        done.with_context(|| format!("it shows {:?}", self.text()))
    }

    /// Gives it another size, as a window does that is pulled.
    ///
    /// # Errors
    /// The terminal is gone.
    pub(crate) fn resize(&self, columns: u16, rows: u16) -> Result<()> {
        terminal::resize(self.keys.as_fd(), columns, rows).context("resize")?;
        ensure!(tty::size(self.other()?)? == Size { columns, rows }, "another size");
        Ok(())
    }

    fn other(&self) -> Result<BorrowedFd<'_>> {
        self.other.as_ref().map(OwnedFd::as_fd).context("it is closed")
    }

    /// Whether keys go to the program as they are.
    ///
    /// # Errors
    /// The terminal is gone.
    pub(crate) fn is_raw(&self) -> Result<bool> {
        let now = tcgetattr(self.other()?)?;
        Ok(!now.local_flags.intersects(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG))
    }

    /// Whether the terminal's mode is the one from before the program ran.
    ///
    /// # Errors
    /// The terminal is gone.
    pub(crate) fn is_as_before(&self) -> Result<bool> {
        Ok(tcgetattr(self.other()?)? == self.before)
    }

    /// Waits until keys go to the program as they are.
    ///
    /// # Errors
    /// They do not.
    pub(crate) fn becomes_raw(&self) -> Result<()> {
        eventually("the terminal is in raw mode", || Ok(self.is_raw()?.then_some(())))
            .with_context(|| format!("it shows {:?}", self.text()))
    }

    /// Sends a signal to the program.
    ///
    /// # Errors
    /// It has ended.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        kill(Pid::from_raw(self.pid()), signal).context("signal")
    }

    /// Waits for the program's end.
    ///
    /// # Errors
    /// It does not end.
    pub(crate) fn end(&mut self) -> Result<ExitStatus> {
        let child = &mut self.child;
        let end = eventually("the command at the terminal ends", || Ok(child.try_wait()?));
        end.with_context(|| format!("it shows {:?}", self.text()))
    }

    /// Waits for its end by an exit code, and looks whether the terminal is as before.
    ///
    /// # Errors
    /// Another end, or another mode.
    pub(crate) fn ends_with(&mut self, code: i32) -> Result<()> {
        let status = self.end()?;
        if status.code() != Some(code) {
            bail!("it ended with {status} instead of {code} and showed {:?}", self.text());
        }
        ensure!(self.is_as_before()?, "the terminal's mode is another than before");
        Ok(())
    }

    /// Waits until the program is stopped, as `T` in its stat.
    ///
    /// # Errors
    /// It is not.
    pub(crate) fn is_stopped(&self) -> Result<()> {
        eventually("the command is stopped", || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid()))?;
            let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
            Ok((state == Some('T')).then_some(()))
        })
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        // The reader ends when the last other end is closed.
        drop(self.other.take());
        if let Some(reader) = self.reader.take() {
            poll::within(poll::DEADLINE, "the reader ends", || {
                Ok(reader.is_finished().then_some(()))
            })
            .ok();
        }
    }
}
