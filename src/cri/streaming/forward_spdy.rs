//! Forwarded connections over SPDY: the client opens two streams for each, `error` and `data`, with the port
//! and what joins the two in their headers.

use super::command_spdy::{finish, writes};
use super::forward::{Connection, Pod};
use super::spdy::{Session, Stream};
use crate::engine::Engine;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::Instant;
use tracing::debug;

/// How long the second stream of a connection may come after the first.
const PAIR_WITHIN: Duration = Duration::from_secs(30);

/// Connects what the client asks for until it is gone.
pub(super) async fn run(engine: &Engine, pod: &Pod, mut session: Session) {
    let mut pairs = Pairs::default();
    let mut connections = FuturesUnordered::new();
    let gone = session.gone();
    loop {
        let stream = tokio::select! {
            stream = session.accept() => stream,
            Some(()) = connections.next() => continue,
            () = pairs.expire() => continue,
            () = gone.cancelled() => break,
        };
        let Some(stream) = stream else { break };
        if let Some(connection) = pairs.add(stream) {
            connections.push(connection.run(engine, &pod.sandbox));
        }
    }
    // No more connections come; those that are there go on while the client does.
    tokio::select! {
        () = async { while connections.next().await.is_some() {} } => {}
        () = gone.cancelled() => {}
    }
    finish(session).await;
}

/// Streams that wait for the other one of their connection.
#[derive(Default)]
struct Pairs {
    waiting: HashMap<String, (Instant, Kind, Stream)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Error,
    Data,
}

impl Pairs {
    /// The connection that `stream` completes. What cannot be part of one is dropped, and reset by that.
    fn add(&mut self, stream: Stream) -> Option<Connection> {
        let kind = match stream.header("streamtype")? {
            "error" => Kind::Error,
            "data" => Kind::Data,
            other => {
                debug!(kind = other, "a stream that is not expected");
                return None;
            }
        };
        let port = port(&stream)?;
        let name = name(&stream, kind);
        let Some((since, other_kind, other)) = self.waiting.remove(&name) else {
            self.waiting.insert(name, (Instant::now(), kind, stream));
            return None;
        };
        if kind == other_kind {
            self.waiting.insert(name, (since, other_kind, other));
            return None;
        }
        let (data, error) = if kind == Kind::Data { (stream, other) } else { (other, stream) };
        let (from, to) = data.split();
        let error = writes(error);
        let (from, to) = (Box::new(from), Box::new(to));
        Some(Connection { port, from, to, error, half_closes: true })
    }

    /// Drops what has waited too long; ends when it has done so.
    async fn expire(&mut self) {
        let Some(oldest) = self.waiting.values().map(|(since, ..)| *since).min() else {
            return std::future::pending().await;
        };
        tokio::time::sleep_until(oldest + PAIR_WITHIN).await;
        self.waiting.retain(|_, (since, ..)| since.elapsed() < PAIR_WITHIN);
    }
}

fn port(stream: &Stream) -> Option<u16> {
    let port = stream.header("port").and_then(|port| port.parse().ok()).filter(|port| *port > 0);
    if port.is_none() {
        debug!(port = stream.header("port"), "a stream without a port");
    }
    port
}

/// What joins the streams of a connection: their request's id; from clients that have none, the order in which they are
/// opened, the error's first (the next id of a client's stream is two higher).
fn name(stream: &Stream, kind: Kind) -> String {
    match (stream.header("requestid"), kind) {
        (Some(id), _) => format!("request {id}"),
        (None, Kind::Error) => format!("stream {}", stream.id()),
        (None, Kind::Data) => format!("stream {}", stream.id().saturating_sub(2)),
    }
}
