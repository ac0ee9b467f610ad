//! Any order of frames and of what the halves of streams do, against a model: states stay legal, bytes come in
//! order and once, and no window is overdrawn or forgotten.

use super::client::{FIN, control, data, initial_window, pair};
use super::connection::{Connection, Phase};
use super::decode::Decoder;
use super::fuzz::check;
use super::headers::DICTIONARY;
use super::limits::Limits;
use flate2::{Compress, Compression, FlushCompress};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::task::{Context, Poll, Waker};
use tokio::io::ReadBuf;

const STREAMS: u32 = 4;
const LIMITS: Limits = Limits {
    control_frame: 1024,
    header_block: 1024,
    streams: STREAMS as usize,
    received: 1 << 20,
    queued: 256 * 1024,
    queued_by_stream: 50_000,
    drain: std::time::Duration::ZERO,
};

#[derive(Clone, Debug)]
enum Op {
    // The peer, by the number of a stream.
    Open(u32, u8),
    Data(u32, u32, bool),
    Reset(u32),
    Window(u32, u32),
    Initial(u32),
    // We.
    Accept,
    Read(u32, usize),
    Write(u32, usize),
    Shut(u32),
    DropReceiver(u32),
    DropSender(u32),
    Fill,
}

fn op() -> impl Strategy<Value = Op> {
    let stream = || 0..STREAMS;
    prop_oneof![
        4 => (stream(), 0..4_u8).prop_map(|(n, flags)| Op::Open(n, flags)),
        6 => (stream(), 0..40_000_u32, prop::bool::weighted(0.1)).prop_map(|(n, size, fin)| Op::Data(n, size, fin)),
        1 => stream().prop_map(Op::Reset),
        3 => (0..=STREAMS, 0..100_000_u32).prop_map(|(n, size)| Op::Window(n, size)),
        1 => (0..200_000_u32).prop_map(Op::Initial),
        4 => Just(Op::Accept),
        6 => (stream(), 0..60_000_usize).prop_map(|(n, size)| Op::Read(n, size)),
        6 => (stream(), 0..60_000_usize).prop_map(|(n, size)| Op::Write(n, size)),
        1 => stream().prop_map(Op::Shut),
        1 => stream().prop_map(Op::DropReceiver),
        1 => stream().prop_map(Op::DropSender),
        6 => Just(Op::Fill),
    ]
}

/// What a peer and our side know of a stream.
#[derive(Debug, Default)]
struct Seen {
    /// Data of the peer's: sent, read here or dropped, granted.
    sent: usize,
    read: usize,
    granted: usize,
    /// Data of ours: written, and arrived at the peer.
    written: usize,
    arrived: usize,
    window: i64,
    replied: bool,
    unidirectional: bool,
    peer_fin: bool,
    shut: bool,
    fin: bool,
    /// By the peer, or told to it.
    reset: bool,
    has_receiver: bool,
    has_sender: bool,
    receiver_dropped: bool,
}

struct World {
    connection: Connection,
    decoder: Decoder,
    deflate: Compress,
    streams: BTreeMap<u32, Seen>,
    /// Of the session, and whether each is kept to.
    window: i64,
    initial: i64,
    of_streams: bool,
    of_session: bool,
    /// Data of the peer's that was dropped or read, and granted.
    consumed: usize,
    granted: usize,
}

fn id(n: u32) -> u32 {
    2 * n + 1
}

/// The byte at a place of a stream.
fn at(place: usize) -> u8 {
    u8::try_from(place % 251).unwrap()
}

fn text(from: usize, size: usize) -> Vec<u8> {
    (from..from + size).map(at).collect()
}

impl World {
    fn new() -> Self {
        let mut deflate = Compress::new(Compression::fast(), true);
        deflate.set_dictionary(DICTIONARY).unwrap();
        Self {
            connection: Connection::new(LIMITS),
            decoder: Decoder::new(LIMITS.control_frame),
            deflate,
            streams: BTreeMap::new(),
            window: 65536,
            initial: 65536,
            of_streams: false,
            of_session: false,
            consumed: 0,
            granted: 0,
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        let mut bytes = bytes;
        while let Some(item) = self.decoder.next(&mut bytes).unwrap() {
            self.connection.receive(item).unwrap();
        }
    }

    fn apply(&mut self, op: &Op) {
        let cx = &Context::from_waker(Waker::noop());
        match *op {
            Op::Open(n, flags) => self.open(n, flags),
            Op::Data(n, size, fin) => self.data(n, size as usize, fin),
            Op::Reset(n) => {
                self.send(&control(3, 0, &pair(id(n), 5)));
                if let Some(seen) = self.streams.get_mut(&id(n)) {
                    seen.reset = true;
                }
            }
            Op::Window(n, size) => {
                let stream = if n == STREAMS { 0 } else { id(n) };
                self.send(&control(9, 0, &pair(stream, size)));
                self.of_streams = true;
                if stream == 0 {
                    self.of_session = true;
                    self.window += i64::from(size);
                } else if let Some(seen) = self.streams.get_mut(&stream) {
                    seen.window += i64::from(size);
                }
            }
            Op::Initial(size) => {
                self.send(&initial_window(size));
                self.of_streams = true;
                let by = i64::from(size) - std::mem::replace(&mut self.initial, i64::from(size));
                self.streams.values_mut().for_each(|seen| seen.window += by);
            }
            Op::Accept => {
                if let Poll::Ready(accepted) = self.connection.poll_accept(cx) {
                    let seen = self.streams.get_mut(&accepted.unwrap().0).unwrap();
                    (seen.has_receiver, seen.has_sender) = (true, true);
                }
            }
            Op::Read(n, size) => self.read(n, size),
            Op::Write(n, size) => self.write(n, size),
            Op::Shut(n) => {
                if let Some(seen) = self.streams.get_mut(&id(n)).filter(|seen| seen.has_sender) {
                    let done = self.connection.shut(id(n));
                    let fine = seen.shut || seen.unidirectional || !seen.reset;
                    assert_eq!(done.is_ok(), fine);
                    seen.shut |= done.is_ok();
                }
            }
            Op::DropReceiver(n) => {
                if let Some(seen) = self.streams.get_mut(&id(n)).filter(|seen| seen.has_receiver) {
                    (seen.has_receiver, seen.receiver_dropped) = (false, true);
                    self.consumed += seen.sent - seen.read;
                    seen.read = seen.sent;
                    self.connection.drop_receiver(id(n));
                }
            }
            Op::DropSender(n) => {
                if let Some(seen) = self.streams.get_mut(&id(n)).filter(|seen| seen.has_sender) {
                    seen.has_sender = false;
                    seen.reset |= !seen.shut && !seen.unidirectional;
                    self.connection.drop_sender(id(n));
                }
            }
            Op::Fill => self.fill(),
        }
    }

    fn open(&mut self, n: u32, flags: u8) {
        if self.streams.contains_key(&id(n)) {
            return;
        }
        let mut block = Vec::with_capacity(256);
        let plain = [&[0, 0, 0, 1, 0, 0, 0, 1, b'n', 0, 0, 0, 1][..], &[at(n as usize)]].concat();
        self.deflate.compress_vec(&plain, &mut block, FlushCompress::Sync).unwrap();
        self.send(&control(1, flags, &[&pair(id(n), 0)[..], &[0, 0], &block].concat()));
        let unidirectional = flags & 2 != 0;
        let seen = Seen {
            window: self.initial,
            unidirectional,
            peer_fin: flags & FIN != 0,
            ..Seen::default()
        };
        self.streams.insert(id(n), seen);
    }

    fn data(&mut self, n: u32, size: usize, fin: bool) {
        let Some(seen) = self.streams.get_mut(&id(n)) else {
            // A stream that never comes.
            let frame = data(id(n) + 100, 0, &text(0, size));
            self.consumed += size;
            return self.send(&frame);
        };
        let frame = data(id(n), u8::from(fin), &text(seen.sent, size));
        // What comes too late is dropped; it also counts as consumed.
        let over = seen.reset || (seen.peer_fin && (seen.fin || seen.unidirectional));
        if over || seen.peer_fin {
            self.consumed += size;
            seen.reset |= !over;
        } else {
            seen.sent += size;
            seen.peer_fin = fin;
            if seen.receiver_dropped {
                seen.read = seen.sent;
                self.consumed += size;
            }
        }
        self.send(&frame);
    }

    fn read(&mut self, n: u32, size: usize) {
        let cx = &Context::from_waker(Waker::noop());
        let Some(seen) = self.streams.get_mut(&id(n)).filter(|seen| seen.has_receiver) else {
            return;
        };
        let (mut buffer, size) = (vec![0; size + 1], size + 1);
        let mut into = ReadBuf::new(&mut buffer);
        let got = self.connection.poll_read(id(n), cx, &mut into);
        let bytes = into.filled();
        assert!(bytes == text(seen.read, (seen.sent - seen.read).min(size)));
        if bytes.is_empty() {
            match got {
                Poll::Ready(Ok(())) => assert!(seen.peer_fin, "an end without a FIN"),
                Poll::Ready(Err(_)) => assert!(seen.reset && !seen.peer_fin, "broken by nothing"),
                Poll::Pending => assert!(!seen.peer_fin && !seen.reset, "waits for nothing"),
            }
        }
        seen.read += bytes.len();
        self.consumed += bytes.len();
    }

    fn write(&mut self, n: u32, size: usize) {
        let cx = &Context::from_waker(Waker::noop());
        let Some(seen) = self.streams.get_mut(&id(n)).filter(|seen| seen.has_sender) else {
            return;
        };
        match self.connection.poll_write(id(n), cx, &text(seen.written, size + 1)) {
            Poll::Ready(Ok(written)) => {
                assert!(!seen.shut && !seen.reset && !seen.unidirectional && written > 0);
                seen.written += written;
            }
            Poll::Ready(Err(_)) => assert!(seen.shut || seen.reset || seen.unidirectional),
            Poll::Pending => assert!(self.connection.queued > LIMITS.queued_reserve()),
        }
    }

    /// What the peer gets.
    fn fill(&mut self) {
        let mut out = Vec::new();
        self.connection.fill(&mut out);
        let mut rest = &out[..];
        while let Some((head, after)) = rest.split_first_chunk::<8>() {
            let length = u32::from_be_bytes([0, head[5], head[6], head[7]]) as usize;
            let (payload, after) = after.split_at(length);
            rest = after;
            let number = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
            if head[0] == 0 {
                self.arrived(u32::from_be_bytes(head[..4].try_into().unwrap()), head[4], payload);
                continue;
            }
            let seen = self.streams.get_mut(&number(0));
            match (head[3], seen) {
                (2, Some(seen)) => {
                    assert!(!seen.replied && !seen.unidirectional);
                    seen.replied = true;
                }
                (3, Some(seen)) => seen.reset = true,
                (3, None) => assert_eq!(number(4), 2),
                (9, None) => self.granted += number(4) as usize,
                (9, Some(seen)) => seen.granted += number(4) as usize,
                other => panic!("{other:?}"),
            }
        }
    }

    fn arrived(&mut self, id: u32, flags: u8, bytes: &[u8]) {
        let seen = self.streams.get_mut(&id).unwrap();
        assert!(seen.replied && !seen.fin && !seen.reset, "{id} is not to send: {seen:?}");
        assert!(bytes == text(seen.arrived, bytes.len()), "{id} sends other bytes");
        assert!(!bytes.is_empty() || flags & FIN != 0, "{id} sends nothing");
        seen.arrived += bytes.len();
        seen.fin = flags & FIN != 0;
        assert!(!seen.fin || (seen.shut && seen.arrived == seen.written), "{id} ends too early");
        let size = i64::try_from(bytes.len()).unwrap();
        (seen.window, self.window) = (seen.window - size, self.window - size);
        assert!(size == 0 || !self.of_streams || seen.window >= 0, "{id} overdraws its window");
        assert!(size == 0 || !self.of_session || self.window >= 0, "{id} overdraws the session's");
    }

    /// What must hold when all frames are out.
    fn compare(&mut self) {
        check(&self.connection);
        let step = 32 * 1024;
        // The session's window was made larger once, before.
        let larger = LIMITS.session_window() as usize - 65536;
        let granted = self.granted - larger;
        assert!(
            granted <= self.consumed && self.consumed < granted + step,
            "{granted} of {}",
            self.consumed
        );
        for (id, seen) in &self.streams {
            assert!(seen.granted <= seen.read, "{id} is granted too much");
            let open = !seen.peer_fin && !seen.reset;
            assert!(!open || seen.read < seen.granted + step, "{id} is granted too little");
        }
    }

    /// Lets all go, without windows.
    fn drain(&mut self) {
        self.apply(&Op::Window(STREAMS, 1 << 29));
        (0..STREAMS).for_each(|n| self.apply(&Op::Window(n, 1 << 29)));
        (0..20).for_each(|_| self.fill());
        self.compare();
        for (id, seen) in self.streams.iter().filter(|(_, seen)| !seen.reset) {
            assert_eq!(seen.arrived, seen.written, "{id} has bytes left");
            assert!(seen.fin || seen.unidirectional || !seen.shut, "{id} has no FIN");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn any_order_keeps_states_legal_and_the_accounts_right(ops in prop::collection::vec(op(), 1..120)) {
        let mut world = World::new();
        for op in &ops {
            world.apply(op);
            check(&world.connection);
        }
        world.fill();
        world.drain();
        assert_eq!(world.connection.phase, Phase::Open);
    }
}
