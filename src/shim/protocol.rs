//! The protocol between berth and a shim: messages, frames, version.
//!
//! A stream socket; the shim listens, berth connects, the newest connection counts. A frame is the
//! length of the message and the number of its descriptors, four bytes each, little endian, then
//! the message (`proto/shim/shim.proto`). Descriptors travel by SCM_RIGHTS with the frame's first
//! bytes: 253 with each byte until all are through.
//!
//! | request          | descriptors                              | answer            | deadline |
//! |------------------|------------------------------------------|-------------------|----------|
//! | `Hello`          | –                                        | `State`           | waits for starts in flight |
//! | `StartPause`     | pause cgroup                             | `Started`         | –        |
//! | `StartContainer` | cgroup, log if said, the plan's          | `Started`         | its own  |
//! | `StartExec`      | cgroup, stdin, stdout, stderr as said    | `Started` (+ terminal) | its own |
//! | `ReopenLog`      | the new file                             | `Done`            | –        |
//! | `Resize`         | –                                        | `Done`            | –        |
//! | `Forget`         | –                                        | `Done`            | –        |
//! | `Ack`            | –                                        | `Done`            | –        |
//! | `StopSignal`     | –                                        | `Done`            | –        |
//! | `Attach`         | control, stdin, stdout, stderr as said   | `Done`, later `AttachEnd` by control | – |
//! | `Shutdown`       | –                                        | `Done`, then the end of the stream | – |
//!
//! Every request has one answer, `Failed` if not the one above; answers come in any order, by id.
//! `Hello` is first on every connection. After its answer come all events that nobody has
//! acknowledged, in order, then new ones as they happen. Events have rising numbers; `Ack` drops
//! all up to one. What a shim of this version cannot read it answers with `Failed`.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use crate::sys::socket;

/// The version of the protocol that this build speaks.
pub const VERSION: u32 = 1;

/// The largest message: a request of 16 MiB to berth becomes little more than that.
const MAX_MESSAGE_BYTES: usize = 17 * 1024 * 1024;

/// The most descriptors of one frame: the eight bytes of the header carry at most 253 each.
const MAX_FRAME_FDS: usize = 8 * socket::MAX_FDS;

const HEADER_BYTES: usize = 8;

/// A stream that does not follow the protocol, or broke.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The socket failed.
    #[error("use the socket")]
    Socket(#[source] io::Error),
    /// A frame announces more than is allowed.
    #[error("frame of {bytes} bytes and {fds} descriptors is too large")]
    TooLarge {
        /// Its message's length.
        bytes: usize,
        /// Its number of descriptors.
        fds: usize,
    },
    /// A frame announces descriptors that did not come.
    #[error("frame with {announced} descriptors came with {received}")]
    MissingFds {
        /// What its header says.
        announced: usize,
        /// What there is.
        received: usize,
    },
    /// The message is not what is expected.
    #[error("decode a message")]
    Decode(#[source] prost::DecodeError),
}

/// What reading from a socket brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filled {
    /// Some bytes; there may be more.
    Some,
    /// Nothing for now.
    Nothing,
    /// The other side closed the stream.
    End,
}

/// One received message, not yet decoded.
#[derive(Debug)]
pub struct Frame {
    /// The message's bytes.
    pub message: Vec<u8>,
    /// Its descriptors, in order.
    pub fds: Vec<OwnedFd>,
}

/// Puts frames together from what a socket brings, in whatever pieces.
#[derive(Debug, Default)]
pub struct FrameReader {
    bytes: Vec<u8>,
    fds: VecDeque<OwnedFd>,
}

impl FrameReader {
    /// Reads once, without waiting.
    ///
    /// # Errors
    /// [`FrameError::Socket`].
    pub fn fill(&mut self, socket: BorrowedFd<'_>) -> Result<Filled, FrameError> {
        let mut buffer = [0u8; 8192];
        let mut fds = Vec::new();
        let result = socket::receive(socket, &mut buffer, &mut fds);
        self.fds.extend(fds);
        match result {
            Ok(0) => Ok(Filled::End),
            Ok(n) => {
                self.bytes.extend_from_slice(buffer.get(..n).unwrap_or_default());
                Ok(Filled::Some)
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(Filled::Nothing),
            Err(e) => Err(FrameError::Socket(e)),
        }
    }

    /// The next complete frame.
    ///
    /// # Errors
    /// A header that is not allowed. The stream is of no use after an error.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let Some((header, rest)) = self.bytes.split_first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let [l0, l1, l2, l3, f0, f1, f2, f3] = *header;
        let size = |bytes| usize::try_from(u32::from_le_bytes(bytes)).unwrap_or(usize::MAX);
        let (length, announced) = (size([l0, l1, l2, l3]), size([f0, f1, f2, f3]));
        if length > MAX_MESSAGE_BYTES || announced > MAX_FRAME_FDS {
            return Err(FrameError::TooLarge { bytes: length, fds: announced });
        }
        let Some(message) = rest.get(..length) else { return Ok(None) };
        let message = message.to_vec();
        if self.fds.len() < announced {
            return Err(FrameError::MissingFds { announced, received: self.fds.len() });
        }
        self.bytes.drain(..HEADER_BYTES + length);
        if self.bytes.is_empty() {
            self.bytes = Vec::new();
        }
        Ok(Some(Frame { message, fds: self.fds.drain(..announced).collect() }))
    }
}

#[derive(Debug)]
struct Outgoing {
    bytes: Vec<u8>,
    sent: usize,
    fds: VecDeque<OwnedFd>,
}

/// Frames on their way out.
#[derive(Debug, Default)]
pub struct FrameWriter {
    queue: VecDeque<Outgoing>,
    queued_bytes: usize,
}

impl FrameWriter {
    /// Appends one frame.
    ///
    /// # Errors
    /// [`FrameError::TooLarge`].
    pub fn push(
        &mut self,
        message: &impl prost::Message,
        fds: Vec<OwnedFd>,
    ) -> Result<(), FrameError> {
        let length = message.encoded_len();
        let too_large = || FrameError::TooLarge { bytes: length, fds: fds.len() };
        if length > MAX_MESSAGE_BYTES || fds.len() > MAX_FRAME_FDS {
            return Err(too_large());
        }
        let header = |n: usize| u32::try_from(n).map(u32::to_le_bytes).map_err(|_| too_large());
        let mut bytes = Vec::with_capacity(HEADER_BYTES + length);
        bytes.extend_from_slice(&header(length)?);
        bytes.extend_from_slice(&header(fds.len())?);
        bytes.extend_from_slice(&message.encode_to_vec());
        self.queued_bytes += bytes.len();
        self.queue.push_back(Outgoing { bytes, sent: 0, fds: fds.into() });
        Ok(())
    }

    /// Whether everything is sent.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// How much waits to be sent, bytes.
    pub fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    /// Sends what the socket takes; true when everything is sent.
    ///
    /// # Errors
    /// [`FrameError::Socket`].
    pub fn flush(&mut self, socket: BorrowedFd<'_>) -> Result<bool, FrameError> {
        while let Some(frame) = self.queue.front_mut() {
            match frame.send(socket) {
                Ok(n) => {
                    self.queued_bytes -= n;
                    if frame.sent == frame.bytes.len() {
                        self.queue.pop_front();
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(e) => return Err(FrameError::Socket(e)),
            }
        }
        Ok(true)
    }
}

impl Outgoing {
    /// One send: a byte with 253 descriptors while more of those wait, then all the rest.
    fn send(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        let now = self.fds.len().min(socket::MAX_FDS);
        let more = self.fds.len() > now;
        let end = if more { self.sent + 1 } else { self.bytes.len() };
        let bytes = self.bytes.get(self.sent..end).unwrap_or_default();
        let fds: Vec<BorrowedFd<'_>> = self.fds.iter().take(now).map(|fd| fd.as_fd()).collect();
        let n = socket::send(socket, bytes, &fds)?;
        drop(fds);
        // What is sent is in flight as a reference of its own.
        self.fds.drain(..now);
        self.sent += n;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::super::wire;
    use super::*;
    use proptest::prelude::*;
    use prost::Message as _;
    use std::os::fd::AsRawFd as _;
    use std::os::unix::net::UnixStream;

    fn text(bytes: usize) -> wire::Sysctl {
        wire::Sysctl { name: "x".repeat(bytes), value: String::new() }
    }

    fn null() -> OwnedFd {
        std::fs::File::open("/dev/null").unwrap().into()
    }

    /// Sends everything through a socket pair and returns what arrives.
    fn through(writer: &mut FrameWriter) -> Vec<Frame> {
        let (a, b) = UnixStream::pair().unwrap();
        a.set_nonblocking(true).unwrap();
        let (mut reader, mut frames) = (FrameReader::default(), Vec::new());
        loop {
            let done = writer.flush(a.as_fd()).unwrap();
            while reader.fill(b.as_fd()).unwrap() == Filled::Some {}
            while let Some(frame) = reader.next_frame().unwrap() {
                frames.push(frame);
            }
            if done {
                return frames;
            }
        }
    }

    #[test]
    fn frames_arrive_in_order_with_their_own_descriptors() {
        let mut writer = FrameWriter::default();
        writer.push(&text(3), vec![null(), null()]).unwrap();
        writer.push(&text(3_000_000), Vec::new()).unwrap();
        writer.push(&text(0), vec![null()]).unwrap();
        let frames = through(&mut writer);
        assert!(writer.is_empty());
        assert_eq!(writer.queued_bytes(), 0);
        assert_eq!(frames.iter().map(|f| f.fds.len()).collect::<Vec<_>>(), [2, 0, 1]);
        assert_eq!(
            wire::Sysctl::decode(frames[1].message.as_slice()).unwrap().name.len(),
            3_000_000
        );
    }

    #[test]
    fn more_descriptors_than_one_message_carries_arrive_in_order() {
        let files: Vec<_> = (0..600).map(|_| tempfile::tempfile().unwrap()).collect();
        for (n, file) in files.iter().enumerate() {
            file.set_len(n as u64).unwrap();
        }
        let mut writer = FrameWriter::default();
        writer.push(&text(5), files.into_iter().map(OwnedFd::from).collect()).unwrap();
        writer.push(&text(5), vec![null()]).unwrap();
        let frames = through(&mut writer);
        let sizes: Vec<u64> = frames[0]
            .fds
            .iter()
            .map(|fd| std::fs::metadata(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap().len())
            .collect();
        assert_eq!(sizes, (0..600).collect::<Vec<u64>>());
        assert_eq!(frames[1].fds.len(), 1);
    }

    #[test]
    fn a_frame_that_is_too_large_or_lacks_descriptors_is_refused() {
        let mut reader = FrameReader { bytes: vec![0xff; 8], ..FrameReader::default() };
        assert!(matches!(reader.next_frame(), Err(FrameError::TooLarge { .. })));
        let mut reader =
            FrameReader { bytes: vec![0, 0, 0, 0, 1, 0, 0, 0], ..FrameReader::default() };
        assert!(matches!(
            reader.next_frame(),
            Err(FrameError::MissingFds { announced: 1, received: 0 })
        ));
    }

    proptest! {
        #[test]
        fn any_bytes_are_frames_or_refused_and_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut reader = FrameReader { bytes, ..FrameReader::default() };
            while let Ok(Some(frame)) = reader.next_frame() {
                wire::Request::decode(frame.message.as_slice()).ok();
            }
        }
    }
}
