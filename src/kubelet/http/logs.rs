//! `/containerLogs/{namespace}/{pod}/{container}`: a container's log as it comes, over rotations and until the container
//! ends where it is followed.

use super::answer::{Answer, Body, Refusal, text, text_as_it_comes};
use super::log_lines::{Cutter, LogQuery};
use super::pods::instances;
use super::query::Query;
use super::route::ContainerPath;
use super::shown::Shown;
use crate::blocking;
use crate::cri::client::Cri;
use crate::cri::proto;
use crate::ctl::CtlError;
use crate::ctl::log_reader::LogReader;
use crate::error::chain;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::StatusCode;
use hyper::body::{Bytes, Frame};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tracing::debug;

/// How often a followed log is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How many looks pass between two questions whether the container still runs.
const ASK_EVERY: u32 = 5;
/// How many pieces wait for a slow client; each is a block of the file.
const WAITING: usize = 2;

/// Answers with a log.
pub(super) async fn logs(
    shown: &Shown,
    path: &ContainerPath,
    query: Option<&str>,
) -> Result<Answer, Refusal> {
    let query = LogQuery::parse(&Query::parse(query), Timestamp::now())?;
    let (pod, all) = instances(shown, path).await?;
    let wanted = if query.previous { all.get(1) } else { all.first() };
    let Some(wanted) = wanted else { return Err(no_instance(&pod, path, &query)) };
    let request = proto::ContainerStatusRequest { container_id: wanted.id.clone(), verbose: false };
    let status = shown.cri.container_status(request).await?.status.unwrap_or_default();
    if status.log_path.is_empty() {
        return Err(Refusal::not_found(format!("container {:?} has no log", path.name)));
    }
    let log = PathBuf::from(status.log_path);
    let follow = query.follow.then(|| (Arc::clone(&shown.cri), wanted.id.clone()));
    let Some(source) = open(&log, &query, follow.as_ref()).await? else {
        return Ok(text(""));
    };
    let (told, pieces) = mpsc::channel(WAITING);
    let stop = shown.stop.clone();
    shown.tasks.spawn(async move {
        let sent = async {
            if let Err(error) = send(source, follow, &told).await {
                debug!(error = %chain(&error), "a container's log was not sent whole");
                // The client finds that it is cut off.
                told.send(Err(io::Error::other(chain(&error)))).await.ok();
            }
        };
        tokio::select! {
            () = sent => {}
            () = stop.cancelled() => {}
            () = told.closed() => {}
        }
    });
    let pieces = ReceiverStream::new(pieces).map(|piece| piece.map(Frame::data));
    let body: Body = StreamBody::new(pieces).boxed_unsync();
    Ok(text_as_it_comes(body))
}

fn no_instance(pod: &Pod, path: &ContainerPath, query: &LogQuery) -> Refusal {
    if query.previous {
        let cause = format!("no instance of container {:?} ran before this one", path.name);
        return Refusal::bad(cause);
    }
    let status = pod.status.clone().unwrap_or_default();
    let mut all = [
        status.container_statuses,
        status.init_container_statuses,
        status.ephemeral_container_statuses,
    ]
    .into_iter()
    .flatten()
    .flatten();
    let waiting = |status: ContainerStatus| status.state?.waiting;
    let waiting = all.find(|status| status.name == path.name).and_then(waiting);
    let reason = waiting.and_then(|waiting| {
        let reason = waiting.reason?;
        Some(match waiting.message {
            Some(message) => format!(": {reason}: {message}"),
            None => format!(": {reason}"),
        })
    });
    let reason = reason.unwrap_or_default();
    Refusal::bad(format!("container {:?} is waiting to start{reason}", path.name))
}

type Running = (Arc<dyn Cri>, String);

/// A log and what is taken of it.
struct Source {
    reader: LogReader,
    cutter: Cutter,
}

/// What is done with a log on a blocking thread.
#[derive(Clone, Copy)]
enum Step {
    /// Reads what was added.
    Read,
    /// Turns to the new file of a rotation, when the old one is quiet.
    Turn,
    /// The same, and at once: nothing is written any more.
    LastTurn,
    /// Takes a line that was never ended.
    Rest,
}

impl Source {
    /// What is to be sent, and whether there may be more of the same.
    fn step(&mut self, step: Step) -> Result<(Vec<u8>, bool), CtlError> {
        let Self { reader, cutter } = self;
        let mut out = Vec::new();
        let mut each = |line: &[u8]| {
            cutter.add(line, &mut out);
            Ok(())
        };
        let more = match step {
            Step::Read => reader.read_some(&mut each)?,
            Step::Turn => reader.turn(false)?,
            Step::LastTurn => reader.turn(true)?,
            Step::Rest => {
                reader.read_rest(&mut each)?;
                false
            }
        };
        Ok((out, more))
    }
}

/// Opens a log; one that is not there is waited for while the container that is followed may still write it.
async fn open(
    log: &Path,
    query: &LogQuery,
    follow: Option<&Running>,
) -> Result<Option<Source>, Refusal> {
    loop {
        // Asked before the look, so that nothing comes after it.
        let ended = match follow {
            Some(of) => !may_write(of).await,
            None => true,
        };
        let (path, tail) = (log.to_owned(), query.tail);
        let open = move || LogReader::open(&path, tail);
        match blocking::run("open a container's log", open).await? {
            Ok(reader) => return Ok(Some(Source { reader, cutter: Cutter::new(query) })),
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                let cause = format!("open {}: {error}", log.display());
                return Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, cause));
            }
            Err(_) if ended => return Ok(None),
            Err(_) => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
}

/// Whether the container may still write. A runtime that does not answer says nothing about that.
async fn may_write((cri, id): &Running) -> bool {
    use proto::ContainerState::{ContainerCreated, ContainerRunning};
    let request = proto::ContainerStatusRequest { container_id: id.clone(), verbose: false };
    match cri.container_status(request).await {
        Ok(answer) => answer
            .status
            .is_some_and(|status| matches!(status.state(), ContainerCreated | ContainerRunning)),
        Err(error) => !error.is_not_found(),
    }
}

type Pieces = mpsc::Sender<io::Result<Bytes>>;

/// Sends the log, until its end or until the container's.
async fn send(mut source: Source, follow: Option<Running>, to: &Pieces) -> Result<(), CtlError> {
    let mut looks = 0_u32;
    loop {
        // Whether it runs is asked before the last look, so that nothing comes after it.
        let ended = match &follow {
            None => true,
            Some(of) => looks.is_multiple_of(ASK_EVERY) && !may_write(of).await,
        };
        loop {
            let more;
            (source, more) = take(source, Step::Read, to).await?;
            if more {
                continue;
            }
            let turn = match (&follow, ended) {
                (None, _) => break,
                (Some(_), false) => Step::Turn,
                (Some(_), true) => Step::LastTurn,
            };
            let turned;
            (source, turned) = take(source, turn, to).await?;
            if !turned {
                break;
            }
        }
        if ended {
            take(source, Step::Rest, to).await?;
            return Ok(());
        }
        if source.cutter.is_done() {
            return Ok(());
        }
        looks = looks.wrapping_add(1);
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Makes a step and sends what comes of it; whether there may be more. Nothing more once as much was sent as was asked for.
async fn take(mut source: Source, step: Step, to: &Pieces) -> Result<(Source, bool), CtlError> {
    if source.cutter.is_done() {
        return Ok((source, false));
    }
    let work = move || source.step(step).map(|(piece, more)| (source, piece, more));
    let done = blocking::run("read a container's log", work).await;
    let (source, piece, more) = done.map_err(io::Error::other)??;
    if !piece.is_empty() && to.send(Ok(piece.into())).await.is_err() {
        return Err(CtlError::Output(io::ErrorKind::BrokenPipe.into()));
    }
    Ok((source, more))
}

#[cfg(test)]
#[path = "logs_tests.rs"]
mod tests;
