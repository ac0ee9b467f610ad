//! `berth attach`: this process's streams, joined to those of a running container.

use super::commands::AttachArgs;
use super::connect::Daemon;
use super::console::Console;
use super::error::CtlError;
use super::resolve::Inventory;
use super::stream::session::{self, End, Wiring};
use super::stream::socket;
use super::stream::status::Outcome;
use super::stream::{StreamError, Trust};
use crate::cri::proto as cri;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Attaches until the container ends, whose exit code is the answer then, or until this side has
/// detached.
pub(super) async fn attach(
    args: &AttachArgs,
    daemon: &Daemon,
    trust: &Trust,
    console: &mut Console,
) -> Result<u8, CtlError> {
    let all = Inventory::read(daemon).await?;
    let id = all.container(&args.container)?.id.clone();
    let streams = Streams::of(daemon, &id).await?;
    let subject = format!("to container {}", args.container);
    let stdin = streams.stdin && !args.no_stdin;
    let request = cri::AttachRequest {
        container_id: id.clone(),
        stdin,
        tty: streams.tty,
        stdout: true,
        // A terminal has no errors apart from its output.
        stderr: !streams.tty,
    };
    let answer = daemon.runtime.clone().attach(request).await;
    let url = answer.map_err(CtlError::rpc("attach", subject.clone()))?.into_inner().url;
    let wiring = Wiring { stdin, tty: streams.tty, redraw: true };
    match run(&url, trust, wiring).await.map_err(CtlError::stream("attach", subject))? {
        Some(code) => Ok(code),
        None => match exit_code(daemon, &id).await? {
            Some(code) => Ok(code),
            None => {
                console.note("detached");
                Ok(0)
            }
        },
    }
}

/// The exit code, unless it is the container that knows it.
async fn run(url: &str, trust: &Trust, wiring: Wiring) -> Result<Option<u8>, StreamError> {
    let socket = socket::connect(url, trust).await?;
    match session::run(socket, wiring).await? {
        End::Signal(code) => Ok(Some(code)),
        End::Told(Outcome::Failed(message)) => Err(StreamError::Failed(message)),
        End::Told(Outcome::Code(_)) => Ok(None),
        End::Silent => Err(StreamError::Silent),
    }
}

/// The exit code of a container that has ended.
async fn exit_code(daemon: &Daemon, id: &str) -> Result<Option<u8>, CtlError> {
    let request = cri::ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
    let status = match daemon.runtime.clone().container_status(request).await {
        Ok(answer) => answer.into_inner().status.unwrap_or_default(),
        // Somebody has removed it, and its exit code with it.
        Err(status) if status.code() == tonic::Code::NotFound => return Ok(Some(u8::MAX)),
        Err(status) => return Err(CtlError::rpc("look at", format!("container {id}"))(status)),
    };
    let exited = status.state() == cri::ContainerState::ContainerExited;
    Ok(exited.then(|| u8::try_from(status.exit_code).unwrap_or(u8::MAX)))
}

/// What a container was made with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Streams {
    stdin: bool,
    tty: bool,
}

impl Streams {
    async fn of(daemon: &Daemon, id: &str) -> Result<Self, CtlError> {
        let request = cri::ContainerStatusRequest { container_id: id.to_owned(), verbose: true };
        let answer = daemon.runtime.clone().container_status(request).await;
        let failed = CtlError::rpc("look at", format!("container {id}"));
        Ok(parse_streams(&answer.map_err(failed)?.into_inner().info))
    }
}

/// From the details of a verbose status.
fn parse_streams(info: &BTreeMap<String, String>) -> Streams {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Details {
        config: Streams,
    }
    let details = info.get("info").and_then(|text| serde_json::from_str::<Details>(text).ok());
    details.unwrap_or_default().config
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_streams_are_those_of_the_request() {
        let info = |text: &str| BTreeMap::from([("info".to_owned(), text.to_owned())]);
        for (text, stdin, tty) in [
            (r#"{"pid":1,"config":{"stdin":true,"tty":true,"name":"x"}}"#, true, true),
            (r#"{"config":{"stdin":true,"tty":false}}"#, true, false),
            (r#"{"config":{}}"#, false, false),
            ("{}", false, false),
        ] {
            assert_eq!(parse_streams(&info(text)), Streams { stdin, tty }, "{text}");
        }
    }
}
