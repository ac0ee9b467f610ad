//! `berth exec`: a command in a container, with this process's streams.

use super::commands::ExecArgs;
use super::connect::Daemon;
use super::console::Console;
use super::error::CtlError;
use super::resolve::Inventory;
use crate::cri::own::proto as own;
use crate::sys::tty;
use own::exec_input::Input;
use own::exec_output::Output;
use std::io::{self, IsTerminal as _, Read as _};
use std::os::fd::AsFd as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// How much input is read at once, bytes.
const BLOCK: usize = 32 << 10;

/// Runs the command; its exit code is the answer.
pub(super) async fn exec(
    args: &ExecArgs,
    daemon: &Daemon,
    console: &mut Console,
) -> Result<u8, CtlError> {
    let all = Inventory::read(daemon).await?;
    let id = all.container(&args.container)?.id.clone();
    let (inputs, outgoing) = mpsc::channel(16);
    let start = own::ExecStart {
        container_id: id,
        cmd: args.command.clone(),
        tty: args.tty,
        stdin: args.interactive,
        size: args.tty.then(terminal_size).flatten(),
    };
    send(&inputs, Input::Start(start)).await;
    let subject = format!("command in container {}", args.container);
    let fail = |status| CtlError::rpc("run", subject.clone())(status);
    let answer = daemon.own.clone().exec(ReceiverStream::new(outgoing)).await;
    let mut outputs = answer.map_err(fail)?.into_inner();

    // Only now: an error before it is better read on a sane terminal.
    let _raw = raw_terminal(args)?;
    let mut resized = signal(SignalKind::window_change()).map_err(CtlError::Output)?;
    if args.interactive {
        let inputs = inputs.clone();
        // A thread of its own: a read of standard input cannot be taken back, and the process ends
        // without waiting for it.
        std::thread::spawn(move || pass_input(&inputs));
    }
    loop {
        tokio::select! {
            output = outputs.message() => match output.map_err(fail)?.and_then(|o| o.output) {
                Some(Output::Stdout(bytes)) => console.write(&bytes)?,
                Some(Output::Stderr(bytes)) => console.write_err(&bytes)?,
                Some(Output::ExitCode(code)) => return Ok(u8::try_from(code).unwrap_or(u8::MAX)),
                None => return Err(fail(tonic::Status::unknown("it ended without an exit code"))),
            },
            _ = resized.recv(), if args.tty => {
                if let Some(size) = terminal_size() {
                    send(&inputs, Input::Resize(size)).await;
                }
            }
        }
    }
}

async fn send(inputs: &mpsc::Sender<own::ExecInput>, input: Input) {
    // When nobody receives, the answer stream tells why.
    inputs.send(own::ExecInput { input: Some(input) }).await.ok();
}

/// Passes standard input on until it ends or nobody wants it.
fn pass_input(inputs: &mpsc::Sender<own::ExecInput>) {
    let mut block = vec![0; BLOCK];
    loop {
        let input = match io::stdin().read(&mut block) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Ok(0) | Err(_) => Input::CloseStdin(own::CloseStdin {}),
            Ok(count) => Input::Stdin(block.get(..count).unwrap_or_default().to_vec()),
        };
        let last = matches!(input, Input::CloseStdin(_));
        if inputs.blocking_send(own::ExecInput { input: Some(input) }).is_err() || last {
            return;
        }
    }
}

/// With a terminal on both sides, every key goes to the command.
fn raw_terminal(args: &ExecArgs) -> Result<Option<tty::Raw>, CtlError> {
    if !args.tty || !args.interactive || !io::stdin().is_terminal() {
        return Ok(None);
    }
    let raw = tty::Raw::enter(io::stdin().as_fd());
    raw.map(Some).map_err(CtlError::file("set the mode of", "the terminal"))
}

/// The size of the terminal, if there is one.
fn terminal_size() -> Option<own::Resize> {
    let size = tty::size(io::stdout().as_fd()).or_else(|_| tty::size(io::stdin().as_fd())).ok()?;
    Some(own::Resize { columns: size.columns.into(), rows: size.rows.into() })
}
