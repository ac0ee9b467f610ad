//! The streams of a command, between its descriptors and the messages of a client.
//!
//! Nothing runs beside the answer: whoever drops it, because the client went away, drops the
//! session, which kills the command's whole tree.

use super::proto::exec_input::Input;
use super::proto::exec_output::Output;
use super::proto::{ExecInput, ExecOutput, Resize};
use crate::engine::ExecSession;
use crate::sys::{async_fd, terminal};
use futures::StreamExt as _;
use futures::future::ready;
use futures::stream::{once, select};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::BoxStream;
use tonic::{Status, Streaming};

/// How much is read at once, bytes.
const BLOCK: usize = 32 << 10;
/// How long output is still read after the command has ended: what it left running may keep the
/// streams open for ever.
const DRAIN: Duration = Duration::from_millis(500);
/// What ends the input of a terminal in its usual mode.
const END_OF_TRANSMISSION: &[u8] = &[4];

type Sender = mpsc::Sender<Result<ExecOutput, Status>>;

/// The outputs of a command, and at last its exit code, while its inputs are passed on.
///
/// # Errors
/// A descriptor that cannot be watched.
pub(super) fn outputs(
    mut session: ExecSession,
    inputs: Streaming<ExecInput>,
    tty: bool,
    size: Option<Resize>,
) -> Result<BoxStream<ExecOutput>, Status> {
    let streams = Streams::open(&mut session, tty)
        .map_err(|error| Status::internal(format!("watch the streams of a command: {error}")))?;
    if let (Some(terminal), Some(size)) = (&streams.terminal, size) {
        resize(terminal, &size);
    }
    let (sender, receiver) = mpsc::channel(4);
    let driver = once(run(session, streams, inputs, sender)).filter_map(|()| ready(None));
    Ok(select(ReceiverStream::new(receiver), driver).boxed())
}

struct Streams {
    stdin: Option<AsyncFd<OwnedFd>>,
    stdout: AsyncFd<OwnedFd>,
    stderr: Option<AsyncFd<OwnedFd>>,
    terminal: Option<OwnedFd>,
}

impl Streams {
    fn open(session: &mut ExecSession, tty: bool) -> io::Result<Self> {
        // The session stays whole: dropping it is what kills the command.
        let output = &session.stdout;
        let (stdin, terminal) = if tty {
            (Some(output.try_clone()?), Some(output.try_clone()?))
        } else {
            (session.stdin.take(), None)
        };
        Ok(Self {
            stdin: stdin.map(async_fd::watch).transpose()?,
            stdout: async_fd::watch(output.try_clone()?)?,
            stderr: session.stderr.take().map(async_fd::watch).transpose()?,
            terminal,
        })
    }
}

async fn run(
    mut session: ExecSession,
    streams: Streams,
    inputs: Streaming<ExecInput>,
    sender: Sender,
) {
    let Streams { stdin, stdout, stderr, terminal } = streams;
    let outputs = async {
        let stderr = async {
            if let Some(stderr) = &stderr {
                pass_output(stderr, Output::Stderr, &sender).await;
            }
        };
        tokio::join!(pass_output(&stdout, Output::Stdout, &sender), stderr);
    };
    let ended = async {
        tokio::pin!(outputs);
        tokio::select! {
            code = session.wait() => {
                tokio::time::timeout(DRAIN, outputs).await.ok();
                code
            }
            () = &mut outputs => session.wait().await,
        }
    };
    let code = tokio::select! {
        code = ended => code,
        () = pass_inputs(inputs, stdin, terminal) => return,
    };
    let last = match code {
        Some(code) => Ok(ExecOutput { output: Some(Output::ExitCode(code)) }),
        None => Err(Status::unavailable("the pod's shim has gone, and the exit code with it")),
    };
    sender.send(last).await.ok();
}

/// Passes output on until its end.
async fn pass_output(fd: &AsyncFd<OwnedFd>, stream: fn(Vec<u8>) -> Output, sender: &Sender) {
    let mut block = vec![0; BLOCK];
    // EIO is the end of a terminal: nobody has its other side open.
    while let Ok(count @ 1..) = read(fd, &mut block).await {
        let bytes = block.get(..count).unwrap_or_default().to_vec();
        if sender.send(Ok(ExecOutput { output: Some(stream(bytes)) })).await.is_err() {
            return;
        }
    }
}

/// Passes input on for ever; ends only when the client is gone.
async fn pass_inputs(
    mut inputs: Streaming<ExecInput>,
    mut stdin: Option<AsyncFd<OwnedFd>>,
    terminal: Option<OwnedFd>,
) {
    loop {
        let input = match inputs.message().await {
            Ok(Some(message)) => message.input,
            // It has said all it will; it still listens.
            Ok(None) => break,
            Err(_) => return,
        };
        match input {
            Some(Input::Stdin(bytes)) => {
                if let Some(fd) = &stdin
                    && write_all(fd, &bytes).await.is_err()
                {
                    // The command does not read any more.
                    stdin = None;
                }
            }
            Some(Input::CloseStdin(_)) => close(&mut stdin, terminal.is_some()).await,
            Some(Input::Resize(size)) => {
                if let Some(terminal) = &terminal {
                    resize(terminal, &size);
                }
            }
            Some(Input::Start(_)) | None => {}
        }
    }
    close(&mut stdin, terminal.is_some()).await;
    std::future::pending().await
}

async fn close(stdin: &mut Option<AsyncFd<OwnedFd>>, is_terminal: bool) {
    if let Some(fd) = stdin.take().filter(|_| is_terminal) {
        // A command that has closed its terminal needs no end of it.
        write_all(&fd, END_OF_TRANSMISSION).await.ok();
    }
}

fn resize(terminal: &OwnedFd, size: &Resize) {
    let side = |count: u32| u16::try_from(count).unwrap_or(u16::MAX);
    // A command that has ended has no size.
    terminal::resize(terminal.as_fd(), side(size.columns), side(size.rows)).ok();
}

async fn read(fd: &AsyncFd<OwnedFd>, block: &mut [u8]) -> io::Result<usize> {
    loop {
        let mut ready = fd.readable().await?;
        if let Ok(result) =
            ready.try_io(|fd| nix::unistd::read(fd.get_ref(), block).map_err(io::Error::from))
        {
            return result;
        }
    }
}

async fn write_all(fd: &AsyncFd<OwnedFd>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let mut ready = fd.writable().await?;
        if let Ok(result) =
            ready.try_io(|fd| nix::unistd::write(fd.get_ref(), bytes).map_err(io::Error::from))
        {
            bytes = bytes.get(result?..).unwrap_or_default();
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::pipe;

    #[tokio::test]
    async fn output_is_passed_on_to_its_end() {
        let (read, write) = pipe::pipe().unwrap();
        let read = async_fd::watch(read).unwrap();
        nix::unistd::write(&write, b"hello").unwrap();
        drop(write);
        let (sender, mut receiver) = mpsc::channel(4);
        pass_output(&read, Output::Stdout, &sender).await;
        drop(sender);
        let message = receiver.recv().await.unwrap().unwrap();
        assert_eq!(message.output, Some(Output::Stdout(b"hello".to_vec())));
        assert!(receiver.recv().await.is_none());
    }

    #[tokio::test]
    async fn more_than_a_pipe_holds_is_written_as_it_is_read() {
        let (read_end, write_end) = pipe::stdin_pipe().unwrap();
        let write_end = async_fd::watch(write_end).unwrap();
        let bytes = vec![7_u8; 1 << 20];
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            io::Read::read_to_end(&mut std::fs::File::from(read_end), &mut all).unwrap();
            all.len()
        });
        write_all(&write_end, &bytes).await.unwrap();
        drop(write_end);
        assert_eq!(reader.join().unwrap(), bytes.len());
    }

    #[tokio::test]
    async fn a_reader_that_is_gone_is_an_error() {
        let (read_end, write_end) = pipe::stdin_pipe().unwrap();
        drop(read_end);
        let write_end = async_fd::watch(write_end).unwrap();
        // More than a pipe holds.
        assert!(write_all(&write_end, &[0; 1 << 20]).await.is_err());
    }
}
