//! What a session knows of one stream.

use super::state::{Event, State, next};
use super::window::{Consumed, Window};
use std::collections::VecDeque;
use std::task::Waker;

/// How the peer's direction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Fin,
    /// By a reset, or with the session.
    Broken,
}

/// One stream, as long as it is open or one of its halves is held.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) state: State,
    pub(super) received: Received,
    pub(super) sending: Sending,
}

/// From the peer to us.
#[derive(Debug, Default)]
pub(super) struct Received {
    pub(super) bytes: VecDeque<u8>,
    pub(super) end: Option<End>,
    pub(super) consumed: Consumed,
    pub(super) reader: Option<Waker>,
    /// Whether the half is there no more: what comes is consumed at once.
    pub(super) dropped: bool,
}

/// From us to the peer.
#[derive(Debug)]
pub(super) struct Sending {
    pub(super) bytes: VecDeque<u8>,
    /// Whether a FIN follows the last byte.
    pub(super) shut: bool,
    /// Whether it is in the list of streams that have something to send.
    pub(super) listed: bool,
    pub(super) window: Window,
    pub(super) writer: Option<Waker>,
    pub(super) dropped: bool,
}

impl Entry {
    /// A stream that the peer has opened.
    pub(super) fn new(window: Window) -> Self {
        let sending = Sending {
            bytes: VecDeque::new(),
            shut: false,
            listed: false,
            window,
            writer: None,
            dropped: false,
        };
        Self { state: State::Open, received: Received::default(), sending }
    }

    /// Whether nothing follows, and nobody looks.
    pub(super) fn is_over(&self) -> bool {
        self.state == State::Closed && self.is_dropped()
    }

    /// Whether both halves are gone.
    pub(super) fn is_dropped(&self) -> bool {
        self.received.dropped && self.sending.dropped
    }

    /// Whether we may still send.
    pub(super) fn may_send(&self) -> bool {
        matches!(self.state, State::Open | State::PeerDone)
    }

    /// Whether there is a frame to send.
    pub(super) fn has_output(&self) -> bool {
        self.may_send() && (self.sending.shut || !self.sending.bytes.is_empty())
    }

    /// Ends the peer's direction; the first end counts.
    pub(super) fn end(&mut self, end: End) {
        self.received.end.get_or_insert(end);
        wake(&mut self.received.reader);
    }

    /// Ends both directions, without a word to the peer. Returns how much was not sent.
    pub(super) fn close(&mut self) -> usize {
        self.state = next(self.state, Event::Reset).unwrap_or(State::Closed);
        self.end(End::Broken);
        wake(&mut self.sending.writer);
        let unsent = self.sending.bytes.len();
        self.sending.bytes = VecDeque::new();
        unsent
    }
}

/// Wakes who waits, once.
pub(super) fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

/// Takes up to `size` bytes off the front, through `each` in one or two pieces.
pub(super) fn take(bytes: &mut VecDeque<u8>, size: usize, mut each: impl FnMut(&[u8])) {
    let (front, back) = bytes.as_slices();
    let (first, second) = match front.split_at_checked(size) {
        Some((first, _)) => (first, &[][..]),
        None => (front, back.get(..size - front.len()).unwrap_or(back)),
    };
    each(first);
    each(second);
    let taken = first.len() + second.len();
    bytes.drain(..taken);
    // The memory of a burst goes back, in steps that cost no more than the reading did.
    if bytes.capacity() > 64 * 1024 && bytes.len() <= bytes.capacity() / 4 {
        bytes.shrink_to(bytes.capacity() / 2);
    }
}
