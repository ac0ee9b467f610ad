//! A command in a container with its streams open, for interactive use.

use super::containers::container_error;
use super::error::EngineError;
use super::open::Engine;
use crate::container::exec::{self, Killer, Slot};
use crate::container::state::State;
use crate::error::{AtStep, ErrorKind, StepFailed};
use crate::shim::client::ExecIo;
use crate::sys::pipe;
use crate::sys::tty::Size;
use std::os::fd::OwnedFd;
use tokio::sync::oneshot;

/// Which streams a command has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExecStreams {
    /// Pipes.
    Pipes {
        /// One for its input, too.
        stdin: bool,
    },
    /// A terminal.
    Terminal {
        /// What the command finds, if it is known by then.
        size: Option<Size>,
    },
}

/// An open command. Dropping it before [`ExecSession::wait`] has answered kills its whole tree.
pub struct ExecSession {
    /// Where its input goes, non-blocking; `None` without stdin, or with a terminal.
    pub stdin: Option<OwnedFd>,
    /// Where its output comes from. With a terminal: the pty, for both directions.
    pub stdout: OwnedFd,
    /// Its errors; `None` with a terminal.
    pub stderr: Option<OwnedFd>,
    exit: oneshot::Receiver<i32>,
    slot: Slot,
}

impl ExecSession {
    /// Waits for its end: 0 to 255, 128 + signal; `None` when the pod's shim is gone.
    pub async fn wait(&mut self) -> Option<i32> {
        let code = (&mut self.exit).await.ok();
        if code.is_some() {
            self.slot.ended();
        }
        code
    }

    /// What kills it from elsewhere.
    pub fn killer(&self) -> Killer {
        self.slot.killer()
    }
}

impl Engine {
    /// Whether Exec can be asked of a container.
    ///
    /// # Errors
    /// NotFound; Precondition when the container does not run.
    pub fn executes(&self, id: &str) -> Result<(), EngineError> {
        self.ready()?;
        let container = self.settled_container(id)?;
        match (container.state(), container.sandbox.shim()) {
            (State::Running { .. }, Some(_)) => Ok(()),
            _ => Err(container_error("Exec", &container, not_running())),
        }
    }

    /// Starts a command with open streams.
    ///
    /// # Errors
    /// NotFound; Precondition when the container does not run or the command cannot be executed.
    pub async fn exec_open(
        &self,
        id: &str,
        command: Vec<String>,
        streams: ExecStreams,
    ) -> Result<ExecSession, EngineError> {
        self.ready()?;
        let container = self.settled_container(id)?;
        let failed = |f| container_error("Exec", &container, f);
        if command.is_empty() {
            return Err(EngineError::Invalid("the command is empty".into()));
        }
        let (streams, io, size) = match streams {
            ExecStreams::Terminal { size } => (None, ExecIo::Tty, size),
            ExecStreams::Pipes { stdin } => {
                let (streams, io) = pipes(stdin).map_err(failed)?;
                (streams, io, None)
            }
        };
        let started = exec::start(&self.node, &container, command, io, size).await;
        let started = started.map_err(failed)?;
        let (stdin, stdout, stderr) = match (streams, started.terminal) {
            (Some(streams), _) => (streams.stdin, streams.stdout, Some(streams.stderr)),
            (None, Some(terminal)) => (None, terminal, None),
            (None, None) => return Err(failed(not_running())),
        };
        Ok(ExecSession { stdin, stdout, stderr, exit: started.exit, slot: started.slot })
    }
}

fn not_running() -> StepFailed {
    StepFailed {
        step: "run a command",
        kind: ErrorKind::FailedPrecondition,
        source: "the container is not running".into(),
    }
}

struct Streams {
    stdin: Option<OwnedFd>,
    stdout: OwnedFd,
    stderr: OwnedFd,
}

fn pipes(stdin: bool) -> Result<(Option<Streams>, ExecIo), StepFailed> {
    let (out, stdout) = pipe::pipe().at("make a pipe")?;
    let (err, stderr) = pipe::pipe().at("make a pipe")?;
    let (input, keep) = if stdin {
        let (read, write) = pipe::stdin_pipe().at("make a pipe")?;
        (Some(read), Some(write))
    } else {
        (None, None)
    };
    let io = ExecIo::Pipes { stdin: input, stdout: Some(stdout), stderr: Some(stderr) };
    Ok((Some(Streams { stdin: keep, stdout: out, stderr: err }), io))
}
