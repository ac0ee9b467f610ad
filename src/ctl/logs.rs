//! `berth logs`.

use super::commands::LogsArgs;
use super::connect::Daemon;
use super::console::Console;
use super::error::CtlError;
use super::log_of_pod;
use super::log_reader::{LogReader, Stream, parse_line};
use super::log_since::Since;
use super::resolve::Inventory;
use crate::cri::proto as cri;
use jiff::Timestamp;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often a followed log is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How many looks pass between two questions whether the container still runs.
const ASK_EVERY: u32 = 5;

/// Prints the log of a container, or of a container of a pod that the kubelet half keeps on the runtime at `endpoint`,
/// if it is not the daemon's own.
pub(super) async fn logs(
    args: &LogsArgs,
    daemon: &Daemon,
    endpoint: Option<&Path>,
    console: &mut Console,
) -> Result<(), CtlError> {
    if let Some((keeper, id)) = log_of_pod::find(args, daemon, endpoint, console).await? {
        return print_log(&id, args, &keeper, console).await;
    }
    let id = Inventory::read(daemon).await?.container(&args.name)?.id.clone();
    print_log(&id, args, daemon, console).await
}

async fn print_log(
    id: &str,
    args: &LogsArgs,
    daemon: &Daemon,
    console: &mut Console,
) -> Result<(), CtlError> {
    let status = status(daemon, id)
        .await?
        .ok_or_else(|| CtlError::NotFound { what: "container", name: args.name.clone() })?;
    if status.log_path.is_empty() {
        return Err(CtlError::Refused {
            problem: format!("container {:?} has no log", args.name),
            hint: "its pod has no log directory, or it has no log path",
        });
    }
    let path = PathBuf::from(status.log_path);
    let fail = |operation| CtlError::file(operation, path.clone());
    let mut reader = match open(&path, args.tail) {
        Ok(reader) => reader,
        // Created, and never started.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && !args.follow => return Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            wait_for(&path, daemon, id).await?;
            open(&path, args.tail).map_err(fail("open"))?
        }
        Err(e) => return Err(fail("open")(e)),
    };
    let mut since = Since::of(args.since, args.since_time, Timestamp::now());
    let mut print = |line: &[u8]| {
        if since.has(line) { print_line(line, args.timestamps, console) } else { Ok(()) }
    };
    if args.follow {
        follow(&mut reader, daemon, id, &mut print).await?;
    }
    reader.read_lines(&mut print)?;
    while reader.turn(true)? {
        reader.read_lines(&mut print)?;
    }
    reader.read_rest(&mut print)
}

/// All that there is of a log; the end of its newest file when only that is wanted.
fn open(path: &Path, tail: Option<usize>) -> std::io::Result<LogReader> {
    match tail {
        Some(_) => LogReader::open(path, tail),
        None => LogReader::open_oldest(path),
    }
}

/// Prints until the container has ended.
async fn follow(
    reader: &mut LogReader,
    daemon: &Daemon,
    id: &str,
    print: &mut impl FnMut(&[u8]) -> Result<(), CtlError>,
) -> Result<(), CtlError> {
    let mut looks = 0_u32;
    loop {
        reader.read_lines(&mut *print)?;
        // Whether it runs is asked before the last look, so that nothing comes after it.
        let ended = looks.is_multiple_of(ASK_EVERY) && !is_running(daemon, id).await?;
        reader.read_lines(&mut *print)?;
        while reader.turn(ended)? {
            reader.read_lines(&mut *print)?;
        }
        if ended {
            return Ok(());
        }
        looks = looks.wrapping_add(1);
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Waits until there is a log, or will never be one.
async fn wait_for(path: &Path, daemon: &Daemon, id: &str) -> Result<(), CtlError> {
    while !path.exists() && is_running_or_new(daemon, id).await? {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}

fn print_line(line: &[u8], timestamps: bool, console: &mut Console) -> Result<(), CtlError> {
    let entry = parse_line(line);
    let mut bytes = Vec::with_capacity(line.len() + 1);
    if timestamps {
        bytes.extend_from_slice(entry.time);
        bytes.push(b' ');
    }
    bytes.extend_from_slice(entry.text);
    if entry.full {
        bytes.push(b'\n');
    }
    match entry.stream {
        Stream::Out => console.write(&bytes),
        Stream::Err => console.write_err(&bytes),
    }
}

async fn is_running(daemon: &Daemon, id: &str) -> Result<bool, CtlError> {
    let status = status(daemon, id).await?;
    Ok(status.is_some_and(|status| status.state() == cri::ContainerState::ContainerRunning))
}

async fn is_running_or_new(daemon: &Daemon, id: &str) -> Result<bool, CtlError> {
    use cri::ContainerState::{ContainerCreated, ContainerRunning};
    let status = status(daemon, id).await?;
    Ok(status.is_some_and(|status| matches!(status.state(), ContainerCreated | ContainerRunning)))
}

/// What the daemon says about a container; `None` when it has gone.
pub(super) async fn status(
    daemon: &Daemon,
    id: &str,
) -> Result<Option<cri::ContainerStatus>, CtlError> {
    let request = cri::ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
    match daemon.runtime.clone().container_status(request).await {
        Ok(answer) => Ok(answer.into_inner().status),
        Err(status) if status.code() == tonic::Code::NotFound => Ok(None),
        Err(status) => Err(CtlError::rpc("ask for", format!("container {id}"))(status)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::console::tests::captured;

    #[test]
    fn streams_are_kept_apart_and_partial_lines_joined() {
        let (mut console, out, err) = captured();
        for line in ["t1 stdout P one ", "t2 stdout F two", "t3 stderr F oh"] {
            print_line(line.as_bytes(), false, &mut console).unwrap();
        }
        assert_eq!((out.text().as_str(), err.text().as_str()), ("one two\n", "oh\n"));
        let (mut console, out, _) = captured();
        print_line(b"t1 stdout F x", true, &mut console).unwrap();
        assert_eq!(out.text(), "t1 x\n");
    }
}
