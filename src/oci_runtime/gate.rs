//! The stops of a container's first process, and what happens at them.
//!
//! ```text
//!  create                                    the process
//!    │  clone                                     │
//!    │◂─ built ── report pipe ───────────────────│ root file system built, root still the host's
//!    │  prestart, createRuntime hooks             │
//!    │── one byte, by the turn pipe ────────────▸│ createContainer hooks, pivot, …
//!    │◂─ waiting ── report pipe ─────────────────│
//!    ▪                                            │ listens on start.sock
//!  start                                          │
//!    │── connects, one byte ────────────────────▸│ startContainer hooks, user, filters, execve
//!    │◂─ ready, failed, or the end ──────────────│
//! ```
//!
//! A create that dies ends its turn pipe, and with it the process.

use super::hooks::{self, Hook};
use super::state::{Container, Status};
use crate::error::chain;
use crate::oci::{Hold, Step, StepError, tell_built, tell_waiting};
use crate::sys::{fds, socket};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

/// What `start` says on the socket.
pub(super) const GO: &[u8] = b"S";

/// What the process needs at its stops.
#[derive(Debug)]
pub(super) struct Gate<'a> {
    /// The container.
    pub(super) container: &'a Container,
    /// Where the root file system is.
    pub(super) root_at: &'a str,
    /// The read end of the turn pipe.
    pub(super) turn: OwnedFd,
    /// The listening socket.
    pub(super) listener: OwnedFd,
    /// Run at the first stop.
    pub(super) create_container: &'a [Hook],
    /// Run at the second.
    pub(super) start_container: &'a [Hook],
    /// The process's pid as the host sees it: known before the pivot only.
    pub(super) pid: Cell<i32>,
}

fn failed(step: Step, error: &io::Error, what: &str) -> StepError {
    StepError::new(step, error, what)
}

impl Gate<'_> {
    fn run(
        &self,
        name: &'static str,
        hooks: &[Hook],
        status: Status,
        directory: &Path,
    ) -> Result<(), StepError> {
        let state = self.container.state(status, self.pid.get());
        hooks::run_all(name, hooks, &state, directory).map_err(|error| StepError {
            step: Step::Hook,
            errno: 0,
            detail: chain(&error),
        })
    }

    /// The connection of a start. One that says nothing only wanted to know whether we wait.
    fn wait_for_start(&self) -> io::Result<OwnedFd> {
        loop {
            wait_readable(self.listener.as_fd())?;
            let Some(connection) = socket::accept(self.listener.as_fd())? else { continue };
            wait_readable(connection.as_fd())?;
            let mut byte = [0u8; 1];
            if matches!(nix::unistd::read(&connection, &mut byte), Ok(1)) {
                return Ok(connection);
            }
        }
    }
}

fn wait_readable(fd: BorrowedFd<'_>) -> io::Result<()> {
    loop {
        match poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], PollTimeout::NONE) {
            Err(nix::errno::Errno::EINTR) => {}
            other => return Ok(other.map(drop)?),
        }
    }
}

impl Hold for Gate<'_> {
    fn root_at(&self) -> &str {
        self.root_at
    }

    fn spare(&self) -> &str {
        // Covered by the root, when that is attached.
        self.root_at
    }

    fn fds(&self) -> Vec<u32> {
        [&self.turn, &self.listener].map(|fd| fds::number(fd.as_fd())).to_vec()
    }

    fn built(&self, report: BorrowedFd<'_>) -> Result<(), StepError> {
        // The host's /proc still: it tells the pid that the host knows.
        let own = std::fs::read_link("/proc/self")
            .map_err(|e| failed(Step::Start, &e, "read the own pid"))?;
        self.pid.set(own.to_str().and_then(|pid| pid.parse().ok()).unwrap_or(0));
        tell_built(report);
        let mut byte = [0u8; 1];
        match nix::unistd::read(&self.turn, &mut byte) {
            Ok(1) => {}
            Ok(_) => {
                let detail = "create has ended".to_owned();
                return Err(StepError { step: Step::Start, errno: 0, detail });
            }
            Err(e) => return Err(failed(Step::Start, &e.into(), "wait for create")),
        }
        let bundle = &self.container.record.bundle;
        self.run("createContainer", self.create_container, Status::Creating, bundle)
    }

    fn ready(&self, report: BorrowedFd<'_>) -> Result<(), StepError> {
        tell_waiting(report);
        let connection =
            self.wait_for_start().map_err(|e| failed(Step::Start, &e, "take the connection"))?;
        // From here on it is `start` that is told.
        fds::replace(connection.as_fd(), report)
            .map_err(|e| failed(Step::Start, &e, "take the connection"))?;
        self.run("startContainer", self.start_container, Status::Created, Path::new("/"))
    }
}
