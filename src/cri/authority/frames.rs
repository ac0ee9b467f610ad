//! Walks the HTTP/2 frames of a client and hands whole header blocks to [`hpack`](super::hpack).
//!
//! Pure: bytes in, bytes out, in any pieces. Everything leaves as it came and in the same length,
//! except `:authority`. Only header blocks are held back, until their last fragment has come; they
//! are bounded, and anything that cannot be followed ends the walk: from there on all bytes pass.

use super::hpack::Table;
use std::ops::Range;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEADER: usize = 9;
/// The longest header block with its frames that is held. The HTTP/2 library refuses far shorter
/// ones.
const MAX_HELD: usize = 256 << 10;
/// What the held buffer may keep between header blocks.
const KEPT_CAPACITY: usize = 4 << 10;

const TYPE_HEADERS: u8 = 0x1;
const TYPE_CONTINUATION: u8 = 0x9;
const FLAG_END_HEADERS: u8 = 0x4;
const FLAG_PADDED: u8 = 0x8;
const FLAG_PRIORITY: u8 = 0x20;
/// A stream dependency and a weight (RFC 9113, section 6.2).
const PRIORITY_LEN: usize = 5;

/// Where in the client's stream the walk is.
#[derive(Debug)]
enum State {
    /// In the connection preface; so many bytes were right.
    Preface(usize),
    /// In the header of a frame.
    FrameHeader,
    /// In the payload of a frame without headers; so many bytes are left.
    Payload(usize),
    /// In the payload of a frame with headers.
    HeaderPayload(HeaderFrame),
    /// The walk has ended: everything passes.
    Transparent,
}

/// A HEADERS or CONTINUATION frame.
#[derive(Clone, Copy, Debug)]
struct HeaderFrame {
    continuation: bool,
    flags: u8,
    /// Where its payload lies in the held bytes.
    begin: usize,
    end: usize,
}

/// The header block that is being collected.
#[derive(Debug)]
struct Block {
    stream: [u8; 4],
    /// Where its fragments lie in the held bytes.
    fragments: Vec<Range<usize>>,
}

/// The walk along one connection.
#[derive(Debug)]
pub(super) struct AuthorityFilter {
    state: State,
    table: Table,
    /// Bytes that have come and not yet left: a frame header, or a header block with its frames.
    held: Vec<u8>,
    /// Where in `held` the current frame begins.
    frame: usize,
    block: Option<Block>,
}

/// The walk cannot go on.
struct Lost;

impl AuthorityFilter {
    pub(super) fn new() -> Self {
        Self {
            state: State::Preface(0),
            table: Table::new(),
            held: Vec::new(),
            frame: 0,
            block: None,
        }
    }

    /// How many of the next bytes leave unseen and unchanged.
    pub(super) fn pass_through(&self) -> usize {
        match self.state {
            State::Payload(left) => left,
            State::Transparent => usize::MAX,
            _ => 0,
        }
    }

    /// Tells that so many bytes, at most [`Self::pass_through`], went by.
    pub(super) fn passed(&mut self, count: usize) {
        if let State::Payload(left) = &mut self.state {
            *left = left.saturating_sub(count);
            if *left == 0 {
                self.state = State::FrameHeader;
            }
        }
    }

    /// Takes the next bytes of the client and appends to `out` what can leave.
    pub(super) fn push(&mut self, mut input: &[u8], out: &mut Vec<u8>) {
        while !input.is_empty() {
            let taken = match self.state {
                State::Transparent | State::Payload(_) => {
                    let n = self.pass_through().min(input.len());
                    out.extend_from_slice(input.get(..n).unwrap_or_default());
                    self.passed(n);
                    n
                }
                State::Preface(seen) => self.take_preface(seen, input, out),
                State::FrameHeader => self.take_held(self.frame + FRAME_HEADER, input),
                State::HeaderPayload(frame) => self.take_held(frame.end, input),
            };
            input = input.get(taken..).unwrap_or_default();
            if self.settle(out).is_err() {
                self.give_up(out);
            }
        }
    }

    /// The client has closed its side: what is held leaves as it is.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) {
        self.give_up(out);
    }

    fn take_preface(&mut self, seen: usize, input: &[u8], out: &mut Vec<u8>) -> usize {
        let rest = PREFACE.get(seen..).unwrap_or_default();
        let n = rest.len().min(input.len());
        let part = input.get(..n).unwrap_or_default();
        out.extend_from_slice(part);
        self.state = if rest.get(..n) != Some(part) {
            State::Transparent
        } else if n == rest.len() {
            State::FrameHeader
        } else {
            State::Preface(seen + n)
        };
        n
    }

    /// Holds input until `end` bytes are held.
    fn take_held(&mut self, end: usize, input: &[u8]) -> usize {
        let n = end.saturating_sub(self.held.len()).min(input.len());
        self.held.extend_from_slice(input.get(..n).unwrap_or_default());
        n
    }

    /// Acts on whatever is complete in the held bytes.
    fn settle(&mut self, out: &mut Vec<u8>) -> Result<(), Lost> {
        if matches!(self.state, State::FrameHeader) && self.held.len() == self.frame + FRAME_HEADER
        {
            self.end_frame_header(out)?;
        }
        match self.state {
            State::HeaderPayload(frame) if self.held.len() == frame.end => {
                self.end_header_frame(frame, out)
            }
            _ => Ok(()),
        }
    }

    fn end_frame_header(&mut self, out: &mut Vec<u8>) -> Result<(), Lost> {
        let header = self.held.get(self.frame..).unwrap_or_default();
        let &[l0, l1, l2, kind, flags, s0, s1, s2, s3] = header else { return Err(Lost) };
        let len = usize::from(l0) << 16 | usize::from(l1) << 8 | usize::from(l2);
        // The highest bit of the stream is reserved.
        let stream = [s0 & 0x7f, s1, s2, s3];
        let continuation = match (&self.block, kind) {
            (None, TYPE_HEADERS) => {
                self.block = Some(Block { stream, fragments: Vec::new() });
                false
            }
            (None, _) => {
                self.release(out);
                self.state = if len == 0 { State::FrameHeader } else { State::Payload(len) };
                return Ok(());
            }
            // Nothing may come between the fragments of a block.
            (Some(block), TYPE_CONTINUATION) if block.stream == stream => true,
            (Some(_), _) => return Err(Lost),
        };
        let begin = self.held.len();
        let end = begin + len;
        if end > MAX_HELD {
            return Err(Lost);
        }
        self.state = State::HeaderPayload(HeaderFrame { continuation, flags, begin, end });
        Ok(())
    }

    fn end_header_frame(&mut self, frame: HeaderFrame, out: &mut Vec<u8>) -> Result<(), Lost> {
        let fragment = self.fragment(frame).ok_or(Lost)?;
        let block = self.block.as_mut().ok_or(Lost)?;
        block.fragments.push(fragment);
        if frame.flags & FLAG_END_HEADERS != 0 {
            self.rewrite_block()?;
            self.release(out);
        } else {
            self.frame = self.held.len();
        }
        self.state = State::FrameHeader;
        Ok(())
    }

    /// The payload without padding and priority.
    fn fragment(&self, frame: HeaderFrame) -> Option<Range<usize>> {
        let HeaderFrame { mut begin, mut end, .. } = frame;
        if !frame.continuation && frame.flags & FLAG_PADDED != 0 {
            let padding = usize::from(*self.held.get(begin..end)?.first()?);
            begin += 1;
            end = end.checked_sub(padding)?;
        }
        if !frame.continuation && frame.flags & FLAG_PRIORITY != 0 {
            begin += PRIORITY_LEN;
        }
        (begin <= end).then_some(begin..end)
    }

    /// Rewrites the collected block where it lies. A string may begin in one fragment and end in
    /// another, so the fragments are joined first and put back afterwards.
    fn rewrite_block(&mut self) -> Result<(), Lost> {
        let block = self.block.take().ok_or(Lost)?;
        let mut joined = Vec::new();
        for fragment in &block.fragments {
            joined.extend_from_slice(self.held.get(fragment.clone()).ok_or(Lost)?);
        }
        let result = self.table.rewrite(&mut joined);
        let mut rest = joined.as_slice();
        for fragment in block.fragments {
            let (part, tail) = rest.split_at_checked(fragment.len()).ok_or(Lost)?;
            self.held.get_mut(fragment).ok_or(Lost)?.copy_from_slice(part);
            rest = tail;
        }
        result.map_err(|_| Lost)
    }

    /// Lets everything held leave.
    fn release(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.held);
        self.held.shrink_to(KEPT_CAPACITY);
        self.frame = 0;
    }

    fn give_up(&mut self, out: &mut Vec<u8>) {
        self.release(out);
        self.block = None;
        self.state = State::Transparent;
    }
}
