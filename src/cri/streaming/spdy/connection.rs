//! All that a session knows, without I/O: streams, credit, and what waits to be sent.
//!
//! Frames come in by [`receive`](super::receive), go out by [`transmit`](super::transmit); what the handles do is in
//! [`handles`](super::handles). Each call wakes whom it concerns: the driver, a reader, a writer.
//!
//! | phase | frames in | frames out | then |
//! | --- | --- | --- | --- |
//! | `Open` | taken | all | `Finishing`, `Farewell`, `Over` |
//! | `Finishing` | control only, data is dropped | all that was written | GOAWAY, `Farewell` |
//! | `Farewell` | dropped | control | all is flushed: `Leaving` |
//! | `Leaving` | dropped | none | the peer closes, or a deadline: `Over` |
//! | `Over` | none | none | |

use super::driver::{Closed, PIECE};
use super::entry::{End, Entry, wake};
use super::frame::{self, Goodbye, Status};
use super::headers::{Deflater, Headers, Inflater};
use super::limits::Limits;
use super::state::{Event, State, next};
use super::violation::Violation;
use super::window::{Consumed, Credit};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::task::{Context, Poll, Waker};

/// How far a session is; see the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    Finishing,
    Farewell(Closed),
    Leaving(Closed),
    Over(Closed),
}

/// See the header.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) limits: Limits,
    pub(super) phase: Phase,
    pub(super) streams: HashMap<u32, Entry>,
    /// The largest id of the peer's.
    pub(super) last: u32,
    /// Ids below that the peer has not used yet.
    pub(super) late: BTreeSet<u32>,
    /// Whether the peer has sent GOAWAY.
    pub(super) going: bool,
    /// Streams that nobody has accepted yet.
    pub(super) arrived: VecDeque<(u32, Headers)>,
    /// Received and not read, with the headers of `arrived`, in bytes.
    pub(super) unread: usize,
    /// Whether the socket is not read until `unread` is less.
    pub(super) paused: bool,
    /// Written and not in a frame, in bytes.
    pub(super) queued: usize,
    /// Streams with something to send, in turn.
    pub(super) ready: VecDeque<u32>,
    /// Control frames to send.
    pub(super) control: Vec<u8>,
    pub(super) inflater: Inflater,
    pub(super) deflater: Deflater,
    pub(super) credit: Credit,
    consumed: Consumed,
    driver: Option<Waker>,
    pub(super) acceptor: Option<Waker>,
    finisher: Option<Waker>,
    abandoned: bool,
}

/// Control frames that wait, in bytes: beyond, nothing is read that would be answered.
const CONTROL: usize = 64 * 1024;

impl Connection {
    pub(super) fn new(limits: Limits) -> Self {
        let mut control = Vec::new();
        // Streams that nobody reads take from it. The peer starts with the default.
        let more = limits.session_window().saturating_sub(super::limits::DEFAULT_WINDOW);
        if more > 0 {
            frame::put_window_update(&mut control, 0, more);
        }
        Self {
            limits,
            phase: Phase::Open,
            streams: HashMap::new(),
            last: 0,
            late: BTreeSet::new(),
            going: false,
            arrived: VecDeque::new(),
            unread: 0,
            paused: false,
            queued: 0,
            ready: VecDeque::new(),
            control,
            inflater: Inflater::new(limits.header_block),
            deflater: Deflater::new(),
            credit: Credit::new(),
            consumed: Consumed::default(),
            driver: None,
            acceptor: None,
            finisher: None,
            abandoned: false,
        }
    }

    /// Has the driver woken by what follows.
    pub(super) fn register_driver(&mut self, cx: &Context<'_>) {
        self.driver = Some(cx.waker().clone());
    }

    /// Whether the socket shall be read.
    pub(super) fn wants_input(&mut self) -> bool {
        match self.phase {
            Phase::Open | Phase::Finishing => {
                // One more piece has room, unless it had none: then only at half.
                let half = self.limits.received / 2;
                let room = if self.paused { half } else { half.min(PIECE) };
                self.paused = self.unread + room > self.limits.received;
                !self.paused && self.control.len() < CONTROL
            }
            Phase::Farewell(_) | Phase::Leaving(_) => true,
            Phase::Over(_) => false,
        }
    }

    /// Ends a stream, and tells the peer.
    pub(super) fn reset(&mut self, id: u32, status: Status) {
        frame::put_rst_stream(&mut self.control, id, status);
        self.close(id);
        wake(&mut self.driver);
    }

    /// Ends a stream in both directions.
    pub(super) fn close(&mut self, id: u32) {
        if let Some(entry) = self.streams.get_mut(&id) {
            self.queued -= entry.close();
            self.forget(id);
        }
    }

    /// Removes a stream that is over. With the last one of an abandoned session, that is over, too.
    pub(super) fn forget(&mut self, id: u32) {
        if self.streams.get(&id).is_some_and(Entry::is_over) {
            self.streams.remove(&id);
        }
        if self.abandoned && self.streams.values().all(Entry::is_dropped) {
            self.finish();
        }
    }

    /// Nobody accepts streams any more. The session ends with those that are held.
    pub(super) fn abandon(&mut self) {
        self.abandoned = true;
        for (id, headers) in std::mem::take(&mut self.arrived) {
            self.read_on(headers.size());
            self.reset(id, Status::RefusedStream);
            self.drop_receiver(id);
            self.drop_sender(id);
        }
        self.forget(0);
    }

    /// Whether a new stream would be accepted by somebody.
    pub(super) fn accepts(&self) -> bool {
        self.phase == Phase::Open && !self.going && !self.abandoned
    }

    /// No more than what was written goes out, then GOAWAY.
    pub(super) fn finish(&mut self) {
        if self.phase == Phase::Open {
            self.phase = Phase::Finishing;
            let mut bytes = 0;
            for entry in self.streams.values_mut() {
                bytes += std::mem::take(&mut entry.received.bytes).len();
                entry.end(End::Broken);
                wake(&mut entry.sending.writer);
            }
            self.read_on(bytes);
            wake(&mut self.driver);
        }
    }

    /// Waits for all to be flushed, or for the peer to be gone.
    pub(super) fn poll_finished(&mut self, cx: &Context<'_>) -> Poll<()> {
        if matches!(self.phase, Phase::Leaving(_) | Phase::Over(_)) {
            return Poll::Ready(());
        }
        self.finisher = Some(cx.waker().clone());
        Poll::Pending
    }

    /// All that was written is in frames: says goodbye.
    pub(super) fn farewell(&mut self) {
        if self.phase == Phase::Finishing && self.is_drained() {
            frame::put_goaway(&mut self.control, self.last, Goodbye::Ok);
            self.phase = Phase::Farewell(Closed::Finished);
            self.close_all();
        }
    }

    /// The peer broke the protocol: says so, and nothing more.
    pub(super) fn fail(&mut self, violation: Violation) {
        if matches!(self.phase, Phase::Open | Phase::Finishing) {
            frame::put_goaway(&mut self.control, self.last, Goodbye::ProtocolError);
            self.phase = Phase::Farewell(Closed::Violation(violation));
            self.close_all();
        }
    }

    /// All is flushed.
    pub(super) fn leave(&mut self) {
        if let Phase::Farewell(closed) = &self.phase {
            self.phase = Phase::Leaving(closed.clone());
            wake(&mut self.finisher);
        }
    }

    /// The end, unless there was one.
    pub(super) fn over(&mut self, closed: Closed) {
        if !matches!(self.phase, Phase::Over(_)) {
            self.phase = Phase::Over(closed);
            self.control = Vec::new();
            self.close_all();
            wake(&mut self.finisher);
        }
    }

    fn close_all(&mut self) {
        self.queued = 0;
        self.ready.clear();
        for entry in self.streams.values_mut() {
            entry.close();
        }
        self.streams.retain(|_, entry| !entry.is_over());
        wake(&mut self.acceptor);
    }

    /// Puts a stream that has something to send into the list, and wakes the driver for it.
    pub(super) fn list(&mut self, id: u32) {
        if let Some(entry) = self.streams.get_mut(&id).filter(|entry| entry.has_output()) {
            if !std::mem::replace(&mut entry.sending.listed, true) {
                self.ready.push_back(id);
            }
            wake(&mut self.driver);
        }
    }

    /// Grants what was consumed, of a stream and of the session.
    pub(super) fn grant(&mut self, id: Option<u32>, bytes: usize) {
        if !matches!(self.phase, Phase::Open | Phase::Finishing) {
            return;
        }
        let before = self.control.len();
        if let Some(more) = self.consumed.add(bytes) {
            frame::put_window_update(&mut self.control, 0, more);
        }
        if let Some(id) = id
            && let Some(entry) = self.streams.get_mut(&id)
            && matches!(entry.state, State::Open | State::WeDone)
            && let Some(more) = entry.received.consumed.add(bytes)
        {
            frame::put_window_update(&mut self.control, id, more);
        }
        if self.control.len() > before {
            wake(&mut self.driver);
        }
    }

    /// Counts what is held no more, and goes on reading.
    pub(super) fn read_on(&mut self, bytes: usize) {
        self.unread = self.unread.saturating_sub(bytes);
        if self.paused && self.unread <= self.limits.received / 2 {
            wake(&mut self.driver);
        }
    }

    /// What an event does to a stream that exists.
    pub(super) fn step(&mut self, id: u32, event: Event) {
        if let Some(entry) = self.streams.get_mut(&id)
            && let Ok(state) = next(entry.state, event)
        {
            entry.state = state;
        }
    }
}
