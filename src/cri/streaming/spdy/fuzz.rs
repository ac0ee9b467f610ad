//! What the bytes of a peer must never do. `fuzz/` runs this under libFuzzer, and tests run it over changed
//! pieces of its corpus.

use super::connection::{Connection, Phase};
use super::decode::Decoder;
use super::entry::Entry;
use super::limits::Limits;
use super::state::State;
use std::task::{Context, Waker};
use tokio::io::ReadBuf;

const LIMITS: Limits = Limits {
    control_frame: 4096,
    header_block: 4096,
    streams: 8,
    received: 128 * 1024,
    queued: 16 * 1024,
    queued_by_stream: 4096,
    drain: std::time::Duration::ZERO,
};

/// A session whose peer sends these bytes, but for the first: that says in which pieces they come, and what
/// the halves of the streams do in between.
///
/// # Panics
/// When something that must always hold does not.
pub fn session(bytes: &[u8]) {
    let Some((script, bytes)) = bytes.split_first() else { return };
    let size = match script & 3 {
        0 => 1,
        1 => 13,
        2 => 1000,
        _ => usize::MAX,
    };
    let (mut decoder, mut connection) =
        (Decoder::new(LIMITS.control_frame), Connection::new(LIMITS));
    for (turn, mut piece) in (usize::from(*script >> 2)..).zip(bytes.chunks(size)) {
        while matches!(connection.phase, Phase::Open | Phase::Finishing) {
            match decoder.next(&mut piece) {
                Ok(None) => break,
                Ok(Some(item)) => {
                    if let Err(violation) = connection.receive(item) {
                        connection.fail(violation);
                    }
                }
                Err(violation) => connection.fail(violation),
            }
        }
        act(&mut connection, turn);
        check(&connection);
    }
}

/// One thing that is done here.
fn act(connection: &mut Connection, turn: usize) {
    let cx = &Context::from_waker(Waker::noop());
    let id = connection.streams.keys().copied().nth(turn % LIMITS.streams).unwrap_or(1);
    match turn % 11 {
        0 | 1 => {
            let _next = connection.poll_accept(cx);
        }
        2 | 3 => {
            let _read = connection.poll_read(id, cx, &mut ReadBuf::new(&mut [0; 50_000]));
        }
        4 | 5 => {
            let _written = connection.poll_write(id, cx, &[b'x'; 3000]);
        }
        6 | 7 => connection.fill(&mut Vec::new()),
        8 => {
            let _shut = connection.shut(id);
        }
        9 => connection.drop_receiver(id),
        _ => connection.drop_sender(id),
    }
}

/// What must always hold.
///
/// # Panics
/// When it does not.
pub(super) fn check(connection: &Connection) {
    let limits = &connection.limits;
    let entries = || connection.streams.values();
    let received: usize = entries().map(|entry| entry.received.bytes.len()).sum();
    let arrived: usize = connection.arrived.iter().map(|(_, headers)| headers.size()).sum();
    assert_eq!(connection.unread, received + arrived, "what is received");
    let queued: usize = entries().map(|entry| entry.sending.bytes.len()).sum();
    assert_eq!(connection.queued, queued, "what is queued");
    assert!(queued <= limits.queued, "{queued} bytes are queued");
    assert!(connection.streams.len() <= limits.streams, "streams");
    assert!(connection.late.len() <= 64, "ids that may still come");
    for (id, entry) in &connection.streams {
        assert!(id % 2 == 1 && *id <= connection.last, "{id} of {}", connection.last);
        assert!(!entry.is_over(), "{id} is over, and is kept");
        assert!(entry.sending.bytes.len() <= limits.queued_by_stream, "{id} has a queue too long");
        let ended = matches!(entry.state, State::PeerDone | State::Closed);
        assert!(!ended || entry.received.end.is_some(), "{id} is at its end, and does not say so");
        assert!(entry.state != State::Closed || entry.sending.bytes.is_empty(), "{id} is closed");
        listed(connection, *id, entry);
    }
}

/// A stream that can send is in the list, once; without a window it is not.
fn listed(connection: &Connection, id: u32, entry: &Entry) {
    let times = connection.ready.iter().filter(|ready| **ready == id).count();
    assert!(times <= 1, "{id} is listed {times} times");
    let sends = matches!(connection.phase, Phase::Open | Phase::Finishing);
    let held = connection.credit.streams && entry.sending.window.room() == 0;
    let fin = entry.sending.shut && entry.sending.bytes.is_empty();
    if sends && entry.has_output() && (fin || !held) {
        assert_eq!(times, 1, "{id} waits for nothing, and is not listed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::over_corpus;

    #[test]
    fn changed_sessions_are_ended_or_go_on() {
        over_corpus(session, "spdy", 20_000);
    }
}
