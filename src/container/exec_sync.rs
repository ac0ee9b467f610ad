//! ExecSync: a command, its output, its exit code. Exec probes make it the most frequent verb.

use super::exec::{self, Started};
use super::object::Container;
use crate::engine::view::ExecOutput;
use crate::error::{AtStep, ErrorKind, StepFailed};
use crate::node::Node;
use crate::shim::client::ExecIo;
use crate::sys::pipe;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::unix::pipe::Receiver;

/// The most that is kept of each stream; the rest is read and dropped (CRI, ExecSync).
const KEEP_BYTES: usize = 16 << 20;
/// How many bytes are read at once.
const CHUNK_BYTES: usize = 64 << 10;

/// Runs `command` and waits for it no longer than `limit`.
///
/// # Errors
/// DeadlineExceeded after `limit`: the command and everything it started are killed then, the
/// container goes on. FailedPrecondition when it cannot be started.
pub async fn exec_sync(
    node: &Arc<Node>,
    container: &Arc<Container>,
    command: Vec<String>,
    limit: Option<Duration>,
) -> Result<ExecOutput, StepFailed> {
    let deadline = limit.map(|limit| tokio::time::Instant::now() + limit);
    let (out, stdout) = pipe::pipe().at("make a pipe")?;
    let (err, stderr) = pipe::pipe().at("make a pipe")?;
    let io = ExecIo::Pipes { stdin: None, stdout: Some(stdout), stderr: Some(stderr) };
    let too_late = || StepFailed {
        step: "wait for the command",
        kind: ErrorKind::DeadlineExceeded,
        source: "it did not end in time and was killed".into(),
    };
    // A start that takes too long is dropped, and with it what it started.
    let mut started = until(deadline, exec::start(node, container, command, io, None))
        .await
        .ok_or_else(too_late)??;
    let output = until(deadline, collect(&mut started, out, err)).await.ok_or_else(too_late)??;
    started.slot.ended();
    Ok(output)
}

/// The outcome of `work`, or `None` at the deadline.
async fn until<T>(
    deadline: Option<tokio::time::Instant>,
    work: impl Future<Output = T>,
) -> Option<T> {
    match deadline {
        Some(deadline) => tokio::time::timeout_at(deadline, work).await.ok(),
        None => Some(work.await),
    }
}

async fn collect(
    started: &mut Started,
    out: OwnedFd,
    err: OwnedFd,
) -> Result<ExecOutput, StepFailed> {
    let out = Receiver::from_owned_fd(out).at("read the command's output")?;
    let err = Receiver::from_owned_fd(err).at("read the command's errors")?;
    let (mut stdout, mut stderr) = (Stream::new(out), Stream::new(err));
    let exit_code = loop {
        tokio::select! {
            code = &mut started.exit => break code.map_err(|_| gone())?,
            read = stdout.read(), if stdout.open => read.at("read the command's output")?,
            read = stderr.read(), if stderr.open => read.at("read the command's errors")?,
        }
    };
    // All that the command wrote is in the pipes by now. A child of it that holds them open must
    // not keep the answer waiting.
    stdout.drain().at("read the command's output")?;
    stderr.drain().at("read the command's errors")?;
    Ok(ExecOutput { stdout: stdout.kept, stderr: stderr.kept, exit_code })
}

fn gone() -> StepFailed {
    StepFailed {
        step: "wait for the command",
        kind: ErrorKind::Internal,
        source: "the pod's shim is gone, and the command with it".into(),
    }
}

struct Stream {
    pipe: Receiver,
    kept: Vec<u8>,
    open: bool,
}

impl Stream {
    fn new(pipe: Receiver) -> Self {
        Self { pipe, kept: Vec::new(), open: true }
    }

    /// Waits for more and takes it.
    async fn read(&mut self) -> io::Result<()> {
        self.pipe.readable().await?;
        let mut chunk = vec![0u8; CHUNK_BYTES];
        match self.pipe.try_read(&mut chunk) {
            Ok(0) => self.open = false,
            Ok(n) => self.keep(&chunk, n),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(e) => return Err(e),
        }
        Ok(())
    }

    /// Takes what is there now, but no more than a pipe holds: that is all that the command can
    /// have left, and a child of it may go on writing. Reads the descriptor itself, because the
    /// runtime does not know yet that a pipe it never waited for is readable.
    fn drain(&mut self) -> io::Result<()> {
        let mut left = pipe::capacity(self.pipe.as_fd());
        let mut chunk = vec![0u8; CHUNK_BYTES];
        while self.open && left > 0 {
            match nix::unistd::read(&self.pipe, &mut chunk) {
                Ok(0) => self.open = false,
                Ok(n) => {
                    left = left.saturating_sub(n);
                    self.keep(&chunk, n);
                }
                Err(nix::errno::Errno::EAGAIN) => break,
                Err(nix::errno::Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    fn keep(&mut self, chunk: &[u8], read: usize) {
        let room = KEEP_BYTES.saturating_sub(self.kept.len());
        self.kept.extend_from_slice(chunk.get(..read.min(room)).unwrap_or_default());
    }
}
