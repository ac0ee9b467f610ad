//! The codec of frames: what a head says, what a control frame holds, and how ours are written.
//!
//! All numbers are big-endian. A head has 8 bytes:
//!
//! | | bytes 0–1 | bytes 2–3 | byte 4 | bytes 5–7 |
//! | --- | --- | --- | --- | --- |
//! | data, § 2.2.2 | 0, stream id | stream id | flags | length |
//! | control, § 2.2.1 | 1, version 3 | type | flags | length |
//!
//! | type | frame | payload | received | sent |
//! | --- | --- | --- | --- | --- |
//! | 1 | SYN_STREAM, § 2.6.1 | stream, associated stream, priority, slot, headers | opens a stream | never |
//! | 2 | SYN_REPLY, § 2.6.2 | stream, headers | inflated, then nothing | for each SYN_STREAM |
//! | 3 | RST_STREAM, § 2.6.3 | stream, status | ends a stream | ends a stream |
//! | 4 | SETTINGS, § 2.6.4 | count, then flags, id, value of each | initial window | never |
//! | 6 | PING, § 2.6.5 | id | odd ones are sent back | as an answer |
//! | 7 | GOAWAY, § 2.6.6 | last stream, status | no more streams | at the end |
//! | 8 | HEADERS, § 2.6.7 | stream, headers | inflated; its FIN counts | never |
//! | 9 | WINDOW_UPDATE, § 2.6.8 | stream or 0, bytes | more may be sent | as data is consumed |
//!
//! Flags: 0x01 FIN, and in SYN_STREAM 0x02 UNIDIRECTIONAL. Others are ignored, as are unknown types. A
//! SYN_STREAM's associated stream, priority and slot say nothing to us.

use super::violation::Violation;

/// Bytes of a head.
pub(super) const HEAD: usize = 8;

/// The most bytes of data in a frame of ours: streams take turns by frames.
pub(super) const DATA: usize = 32 * 1024;

const VERSION: u16 = 3;
const FIN: u8 = 0x01;
const UNIDIRECTIONAL: u8 = 0x02;
const STREAM_ID: u32 = u32::MAX >> 1;
const INITIAL_WINDOW_SIZE: u32 = 7;

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const SETTINGS: u16 = 4;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const HEADERS: u16 = 8;
const WINDOW_UPDATE: u16 = 9;

/// Why a stream is reset, § 2.6.3. Those that we send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Status {
    InvalidStream = 2,
    RefusedStream = 3,
    Cancel = 5,
    FlowControlError = 7,
    StreamAlreadyClosed = 9,
}

/// Why a session ends, § 2.6.6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Goodbye {
    Ok = 0,
    ProtocolError = 1,
}

/// The first 8 bytes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Head {
    Data { stream: u32, fin: bool, length: u32 },
    Control { kind: u16, flags: u8, length: u32 },
}

impl Head {
    pub(super) fn parse(bytes: [u8; HEAD]) -> Result<Self, Violation> {
        let [a, b, c, d, flags, x, y, z] = bytes;
        let length = u32::from_be_bytes([0, x, y, z]);
        if a & 0x80 == 0 {
            let stream = u32::from_be_bytes([a, b, c, d]);
            return Ok(Self::Data { stream, fin: flags & FIN != 0, length });
        }
        match u16::from_be_bytes([a & 0x7f, b]) {
            VERSION => Ok(Self::Control { kind: u16::from_be_bytes([c, d]), flags, length }),
            other => Err(Violation::Version(other)),
        }
    }
}

/// A control frame, its headers still compressed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Control<'a> {
    SynStream {
        stream: u32,
        fin: bool,
        unidirectional: bool,
        block: &'a [u8],
    },
    SynReply {
        block: &'a [u8],
    },
    RstStream {
        stream: u32,
    },
    /// The last initial window that it holds.
    Settings {
        initial_window: Option<u32>,
    },
    Ping {
        id: u32,
    },
    Goaway,
    Headers {
        stream: u32,
        fin: bool,
        block: &'a [u8],
    },
    WindowUpdate {
        stream: u32,
        bytes: u32,
    },
}

/// Whether a type is one of the table.
pub(super) fn is_known(kind: u16) -> bool {
    matches!(kind, SYN_STREAM..=SETTINGS | PING..=WINDOW_UPDATE)
}

impl<'a> Control<'a> {
    /// Takes a known frame apart.
    pub(super) fn parse(kind: u16, flags: u8, payload: &'a [u8]) -> Result<Self, Violation> {
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        Self::take(kind, flags, payload).ok_or(Violation::Length { kind, length })
    }

    fn take(kind: u16, flags: u8, payload: &'a [u8]) -> Option<Self> {
        let (fin, unidirectional) = (flags & FIN != 0, flags & UNIDIRECTIONAL != 0);
        let (first, rest) = number(payload)?;
        let stream = first & STREAM_ID;
        match kind {
            SYN_STREAM => {
                let (_associated, rest) = number(rest)?;
                let (_priority_and_slot, block) = rest.split_first_chunk::<2>()?;
                Some(Self::SynStream { stream, fin, unidirectional, block })
            }
            SYN_REPLY => Some(Self::SynReply { block: rest }),
            HEADERS => Some(Self::Headers { stream, fin, block: rest }),
            SETTINGS => Some(Self::Settings { initial_window: initial_window(first, rest)? }),
            PING => rest.is_empty().then_some(Self::Ping { id: first }),
            RST_STREAM => number(rest)?.1.is_empty().then_some(Self::RstStream { stream }),
            GOAWAY => number(rest)?.1.is_empty().then_some(Self::Goaway),
            WINDOW_UPDATE => {
                let (bytes, rest) = number(rest)?;
                let bytes = bytes & STREAM_ID;
                rest.is_empty().then_some(Self::WindowUpdate { stream, bytes })
            }
            _ => None,
        }
    }
}

fn number(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((u32::from_be_bytes(*number), rest))
}

/// The initial window among settings; `None` when they are not as many as `count`.
#[expect(clippy::option_option, reason = "not well-formed, and without it, are two things")]
fn initial_window(count: u32, settings: &[u8]) -> Option<Option<u32>> {
    let (settings, rest) = settings.as_chunks::<8>();
    if !rest.is_empty() || usize::try_from(count).ok()? != settings.len() {
        return None;
    }
    let of = |[_flags, a, b, c, value @ ..]: &[u8; 8]| {
        (u32::from_be_bytes([0, *a, *b, *c]) == INITIAL_WINDOW_SIZE)
            .then_some(u32::from_be_bytes(*value))
    };
    Some(settings.iter().filter_map(of).next_back())
}

/// Appends the head of a data frame of at most [`DATA`] bytes.
pub(super) fn put_data_head(out: &mut Vec<u8>, stream: u32, bytes: usize, fin: bool) {
    out.extend_from_slice(&stream.to_be_bytes());
    put_flags_and_length(out, if fin { FIN } else { 0 }, bytes);
}

/// Appends a SYN_REPLY with compressed headers.
pub(super) fn put_syn_reply(out: &mut Vec<u8>, stream: u32, block: &[u8]) {
    put_control(out, SYN_REPLY, 4 + block.len());
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(block);
}

/// Appends a RST_STREAM.
pub(super) fn put_rst_stream(out: &mut Vec<u8>, stream: u32, status: Status) {
    put_control(out, RST_STREAM, 8);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(&(status as u32).to_be_bytes());
}

/// Appends a PING.
pub(super) fn put_ping(out: &mut Vec<u8>, id: u32) {
    put_control(out, PING, 4);
    out.extend_from_slice(&id.to_be_bytes());
}

/// Appends a GOAWAY.
pub(super) fn put_goaway(out: &mut Vec<u8>, last_stream: u32, why: Goodbye) {
    put_control(out, GOAWAY, 8);
    out.extend_from_slice(&last_stream.to_be_bytes());
    out.extend_from_slice(&(why as u32).to_be_bytes());
}

/// Appends a WINDOW_UPDATE; stream 0 is the session.
pub(super) fn put_window_update(out: &mut Vec<u8>, stream: u32, bytes: u32) {
    put_control(out, WINDOW_UPDATE, 8);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(&bytes.to_be_bytes());
}

fn put_control(out: &mut Vec<u8>, kind: u16, length: usize) {
    out.extend_from_slice(&(0x8000 | VERSION).to_be_bytes());
    out.extend_from_slice(&kind.to_be_bytes());
    put_flags_and_length(out, 0, length);
}

fn put_flags_and_length(out: &mut Vec<u8>, flags: u8, length: usize) {
    // Ours are far below 2^24.
    let length = u32::try_from(length).unwrap_or(u32::MAX) & 0x00ff_ffff;
    out.extend_from_slice(&(length | u32::from(flags) << 24).to_be_bytes());
}
