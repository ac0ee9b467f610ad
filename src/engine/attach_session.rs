//! A client at the streams of a running container.

use super::containers::container_error;
use super::error::EngineError;
use super::open::Engine;
use crate::container::object::Container;
use crate::container::state::State;
use crate::error::{AtStep as _, ErrorKind, StepFailed};
use crate::ids::ContainerId;
use crate::shim::client::{AttachEnd, Attachment, Shim, ShimError, Wanted};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// What a client asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "the fields of the request")]
pub struct AttachWants {
    /// To talk.
    pub stdin: bool,
    /// To hear its output.
    pub stdout: bool,
    /// To hear its errors.
    pub stderr: bool,
    /// For a terminal: the container must have one.
    pub tty: bool,
}

/// An attached client: output from now on, input beside that of others.
///
/// A client that has said all: close `stdin`, then [`AttachSession::end_input`], and wait for the
/// end. A client that is gone: drop the session. Neither ends the container; its input is closed only
/// by `stdin_once`, and not when it is this daemon that stops.
pub struct AttachSession {
    /// Where input goes, non-blocking; `None` if it was not asked for.
    pub stdin: Option<OwnedFd>,
    /// Where output comes from, non-blocking. With a terminal, all of it.
    pub stdout: Option<OwnedFd>,
    /// Where errors come from, non-blocking.
    pub stderr: Option<OwnedFd>,
    /// Whether the container has a terminal.
    pub tty: bool,
    attachment: Attachment,
    shim: Shim,
    container: ContainerId,
    stopping: CancellationToken,
}

impl AttachSession {
    /// The client has said all that it will. Call it after `stdin` was closed: what is in the pipe is
    /// delivered, then the container's input is closed if it is `stdin_once`, without a terminal, and
    /// else the session ends with [`AttachEnd::InputEnded`].
    pub fn end_input(&self) {
        self.attachment.end_input();
    }

    /// Waits until it is over; output up to then is still to be read, to its end. May be cancelled
    /// and called again until it has answered.
    pub async fn wait(&self) -> AttachEnd {
        self.attachment.ended().await
    }

    /// Sets the size of the container's terminal.
    ///
    /// # Errors
    /// Precondition without a terminal; Unavailable when the shim does not answer.
    pub async fn resize(&self, columns: u16, rows: u16) -> Result<(), EngineError> {
        if !self.tty {
            return Err(EngineError::Precondition("the container has no terminal".into()));
        }
        self.shim
            .resize(&self.container, None, columns, rows)
            .await
            .at("resize the terminal")
            .map_err(|f| EngineError::step("Attach", self.container.short(), f))
    }
}

impl Drop for AttachSession {
    fn drop(&mut self) {
        // A client that comes back after a stop of berth finds the container's input open.
        if !self.stopping.is_cancelled() {
            self.attachment.end_input();
        }
    }
}

impl Engine {
    /// Whether Attach can be asked of a container.
    ///
    /// # Errors
    /// As [`Engine::attach_open`].
    pub fn attaches(&self, id: &str, wants: AttachWants) -> Result<(), EngineError> {
        self.attachable(id, wants).map(drop)
    }

    fn attachable(
        &self,
        id: &str,
        wants: AttachWants,
    ) -> Result<(Arc<Container>, Shim), EngineError> {
        self.ready()?;
        let container = self.settled_container(id)?;
        let config = container.config();
        check(wants, config.tty, config.stdin)?;
        match (container.state(), container.sandbox.shim()) {
            (State::Running { .. }, Some(shim)) => Ok((container, shim)),
            _ => Err(container_error("Attach", &container, not_running())),
        }
    }

    /// Attaches to a running container.
    ///
    /// # Errors
    /// NotFound; Invalid without a stream, or with a terminal and errors apart; Precondition when the
    /// container does not run, or has not what is asked for; ResourceExhausted when too many are
    /// attached.
    pub async fn attach_open(
        &self,
        id: &str,
        wants: AttachWants,
    ) -> Result<AttachSession, EngineError> {
        let (container, shim) = self.attachable(id, wants)?;
        let config = container.config();
        let failed = |f| container_error("Attach", &container, f);
        let wanted = Wanted {
            stdin: wants.stdin,
            stdout: wants.stdout,
            stderr: wants.stderr,
            stdin_once: config.stdin_once,
        };
        let attached = shim.attach(&container.id, wanted).await;
        let mut attachment = attached.map_err(|error| match error {
            ShimError::Step { errno: libc::ESRCH | libc::ENOENT, .. } => failed(not_running()),
            other => failed(refused(other)),
        })?;
        Ok(AttachSession {
            stdin: attachment.stdin.take(),
            stdout: attachment.stdout.take(),
            stderr: attachment.stderr.take(),
            tty: config.tty,
            attachment,
            shim,
            container: container.id.clone(),
            stopping: self.node.stopping.clone(),
        })
    }
}

fn not_running() -> StepFailed {
    StepFailed {
        step: "attach to the container",
        kind: ErrorKind::FailedPrecondition,
        source: "the container is not running".into(),
    }
}

/// What cannot be had of such a container.
fn check(wants: AttachWants, tty: bool, stdin: bool) -> Result<(), EngineError> {
    let AttachWants { stdin: talk, stdout, stderr, tty: terminal } = wants;
    if !(talk || stdout || stderr) {
        return Err(EngineError::Invalid("one of stdin, stdout and stderr must be wanted".into()));
    }
    if terminal && stderr {
        return Err(EngineError::Invalid("a terminal has no errors apart from its output".into()));
    }
    if terminal && !tty {
        return Err(EngineError::Precondition("the container has no terminal".into()));
    }
    if talk && !stdin {
        return Err(EngineError::Precondition("the container was made without stdin".into()));
    }
    Ok(())
}

fn refused(error: ShimError) -> StepFailed {
    const STEP: &str = "attach to the container";
    let (kind, source) = match &error {
        ShimError::Step { errno: libc::EINVAL, .. } => (
            ErrorKind::FailedPrecondition,
            "the pod's shim is of an older berth, which cannot attach; that of a new pod can"
                .into(),
        ),
        ShimError::Step { errno: libc::EPIPE, .. } => {
            (ErrorKind::FailedPrecondition, "the container's stdin is closed".into())
        }
        ShimError::Step { errno: libc::EAGAIN, .. } => {
            (ErrorKind::ResourceExhausted, "too many are attached to it".into())
        }
        other => (other.kind(), Box::new(error) as Box<dyn std::error::Error + Send + Sync>),
    };
    StepFailed { step: STEP, kind, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_container_does_not_have_is_refused() {
        let wants = |stdin, stdout, stderr, tty| AttachWants { stdin, stdout, stderr, tty };
        let kind = |wants, tty, stdin| check(wants, tty, stdin).err().map(|e| e.kind());
        for (wants, tty, stdin, expected) in [
            (wants(false, false, false, false), false, false, Some(ErrorKind::InvalidArgument)),
            (wants(false, true, true, true), true, true, Some(ErrorKind::InvalidArgument)),
            (wants(false, true, false, true), false, true, Some(ErrorKind::FailedPrecondition)),
            (wants(true, true, true, false), false, false, Some(ErrorKind::FailedPrecondition)),
            (wants(true, true, false, true), true, true, None),
            // Without a terminal of its own, a client hears the container's.
            (wants(true, true, true, false), true, true, None),
            (wants(false, false, true, false), false, false, None),
        ] {
            assert_eq!(kind(wants, tty, stdin), expected, "{wants:?} of {tty} {stdin}");
        }
    }
}
