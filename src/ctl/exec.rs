//! `berth exec`: a command in a container, with this process's streams.

use super::commands::ExecArgs;
use super::connect::Daemon;
use super::error::CtlError;
use super::resolve::Inventory;
use super::stream::session::{self, End, Wiring};
use super::stream::socket;
use super::stream::status::Outcome;
use super::stream::{StreamError, Trust};
use crate::cri::proto as cri;

/// Runs the command; its exit code is the answer.
pub(super) async fn exec(args: &ExecArgs, daemon: &Daemon, trust: &Trust) -> Result<u8, CtlError> {
    let all = Inventory::read(daemon).await?;
    let subject = format!("command in container {}", args.container);
    let request = cri::ExecRequest {
        container_id: all.container(&args.container)?.id.clone(),
        cmd: args.command.clone(),
        tty: args.tty,
        stdin: args.interactive,
        stdout: true,
        // A terminal has no errors apart from its output.
        stderr: !args.tty,
    };
    let answer = daemon.runtime.clone().exec(request).await;
    let url = answer.map_err(CtlError::rpc("run", subject.clone()))?.into_inner().url;
    let wiring = Wiring { stdin: args.interactive, tty: args.tty, redraw: false };
    run(&url, trust, wiring).await.map_err(CtlError::stream("run", subject))
}

async fn run(url: &str, trust: &Trust, wiring: Wiring) -> Result<u8, StreamError> {
    let socket = socket::connect(url, trust).await?;
    match session::run(socket, wiring).await? {
        End::Told(Outcome::Code(code)) | End::Signal(code) => Ok(code),
        End::Told(Outcome::Failed(message)) => Err(StreamError::Failed(message)),
        End::Silent => Err(StreamError::Silent),
    }
}
