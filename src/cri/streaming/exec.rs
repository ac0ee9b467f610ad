//! An exec session: a command of its own in a running container, whose streams are the client's.
//!
//! It ends with the command (and then with all that the command said), or with the client: then the command
//! and everything it started are killed. What a command leaves in the background when it ends goes on.

use super::channels::{Channels, Input, Streams};
use super::outcome::Outcome;
use super::pump::{END_OF_TRANSMISSION, Sink, Source};
use super::resize::Sizes;
use crate::engine::{Engine, EngineError, ExecSession, ExecStreams, Killer};
use crate::error::chain;
use crate::sys::terminal;
use crate::sys::tty::Size;
use std::future::pending;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long a command with a terminal waits for the terminal's size before it begins. Clients that know one
/// send it at once.
const FIRST_SIZE: Duration = Duration::from_millis(100);

/// What is to be run.
#[derive(Clone, Debug)]
pub(in crate::cri) struct Command {
    pub(in crate::cri) container: String,
    pub(in crate::cri) words: Vec<String>,
    pub(in crate::cri) streams: Streams,
}

/// Runs the session to its end.
pub(super) async fn run(engine: &Engine, command: Command, channels: Channels) {
    let Channels { stdin, stdout, stderr, resize, end, gone } = channels;
    let mut sizes = resize.map(Sizes::new);
    let mut size = None;
    if let Some(sizes) = &mut sizes {
        size = tokio::time::timeout(FIRST_SIZE, sizes.next()).await.ok().flatten();
    }
    // To its end, also when the client goes meanwhile: the command would begin with the end of its input.
    let (mut session, process) = match open(engine, &command, size).await {
        Ok(open) => open,
        Err(why) => {
            drop((stdin, stdout, stderr, sizes));
            return end.tell(&Outcome::Failed(why)).await;
        }
    };
    let killer = session.killer();
    let outcome = async {
        let Process { input, output, errors, terminal } = process;
        let ended = CancellationToken::new();
        let code = async {
            let code = session.wait().await;
            ended.cancel();
            code
        };
        let errors = async {
            if let Some(errors) = &errors {
                errors.pass(stderr, &ended).await;
            }
        };
        let outputs = async { tokio::join!(code, output.pass(stdout, &ended), errors).0 };
        let code = tokio::select! {
            code = outputs => code,
            () = feed(input, stdin, terminal.is_some()) => None,
            () = follow(sizes, terminal.as_ref()) => None,
        };
        match code {
            Some(code) => Outcome::of_code(code),
            None => Outcome::Failed("the pod's shim has gone, and the exit code with it".into()),
        }
    };
    tokio::pin!(outcome);
    // Dropped before what holds the command's streams: a command whose client is gone must not take that for the end
    // of its input.
    let mut first = KillFirst(Some(killer));
    let outcome = tokio::select! {
        biased;
        () = gone.cancelled() => return,
        outcome = &mut outcome => outcome,
    };
    first.0 = None;
    end.tell(&outcome).await;
}

/// Kills the command when it is dropped.
struct KillFirst(Option<Killer>);

impl Drop for KillFirst {
    fn drop(&mut self) {
        if let Some(killer) = &self.0 {
            killer.kill();
        }
    }
}

struct Process {
    input: Option<Sink>,
    output: Source,
    errors: Option<Source>,
    terminal: Option<OwnedFd>,
}

async fn open(
    engine: &Engine,
    command: &Command,
    size: Option<Size>,
) -> Result<(ExecSession, Process), String> {
    let Command { container, words, streams } = command;
    let wants = if streams.tty {
        ExecStreams::Terminal { size }
    } else {
        ExecStreams::Pipes { stdin: streams.stdin }
    };
    let opened = engine.exec_open(container, words.clone(), wants).await;
    let mut session = opened.map_err(|error: EngineError| chain(&error))?;
    let process = process(&mut session, streams.tty);
    process
        .map(|process| (session, process))
        .map_err(|error| format!("watch the streams of a command: {error}"))
}

fn process(session: &mut ExecSession, tty: bool) -> io::Result<Process> {
    // The session stays whole: dropping it is what kills the command.
    let output = session.stdout.try_clone()?;
    if tty {
        return Ok(Process {
            input: Some(Sink::new(output.try_clone()?)?),
            terminal: Some(output.try_clone()?),
            output: Source::terminal(output)?,
            errors: None,
        });
    }
    Ok(Process {
        input: session.stdin.take().map(Sink::new).transpose()?,
        output: Source::pipe(output)?,
        errors: session.stderr.take().map(Source::pipe).transpose()?,
        terminal: None,
    })
}

/// Passes input on; never ends.
async fn feed(input: Option<Sink>, stdin: Option<Input>, is_terminal: bool) {
    if let (Some(sink), Some(mut stdin)) = (input, stdin)
        && sink.fill(&mut stdin).await
        && is_terminal
    {
        // A command that has closed its terminal needs no end of it.
        sink.write_all(END_OF_TRANSMISSION).await.ok();
    }
    // By here both sides are dropped: a pipe's reader sees its end, a client that says more is not heard.
    pending().await
}

/// Follows the client's window; never ends.
async fn follow(sizes: Option<Sizes>, terminal: Option<&OwnedFd>) {
    if let (Some(mut sizes), Some(terminal)) = (sizes, terminal) {
        while let Some(size) = sizes.next().await {
            // A command that has ended has no size.
            terminal::resize(terminal.as_fd(), size.columns, size.rows).ok();
        }
    }
    pending().await
}
