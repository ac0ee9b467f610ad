//! The shim's end of the connection to berth.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use prost::Message as _;

use super::protocol::{Filled, FrameError, FrameReader, FrameWriter};
use super::wire::{self, message::Body, reply};

/// A berth that lets this much wait does not listen. It connects again and hears all from then.
const MAX_QUEUED: usize = 4 * 1024 * 1024;

/// One connection.
pub(super) struct Link {
    socket: OwnedFd,
    reader: FrameReader,
    writer: FrameWriter,
    /// Counts connections, so that no answer goes to another one than asked.
    pub(super) generation: u64,
    /// `Hello` was answered: events are told as they happen.
    pub(super) greeted: bool,
}

/// A request and its descriptors.
pub(super) struct Asked {
    pub(super) request: wire::Request,
    pub(super) fds: Vec<OwnedFd>,
}

impl Link {
    pub(super) fn new(socket: OwnedFd, generation: u64) -> Self {
        let (reader, writer) = (FrameReader::default(), FrameWriter::default());
        Self { socket, reader, writer, generation, greeted: false }
    }

    /// Whether something waits to be sent.
    pub(super) fn has_output(&self) -> bool {
        !self.writer.is_empty()
    }

    /// The requests that have come completely; `None` in place of the rest when the stream ended.
    pub(super) fn receive(&mut self) -> (Vec<Asked>, Result<Filled, FrameError>) {
        let mut asked = Vec::new();
        let state = loop {
            match self.reader.fill(self.socket.as_fd()) {
                Ok(Filled::Some) => {}
                other => break other,
            }
        };
        let state = state.and_then(|filled| {
            while let Some(frame) = self.reader.next_frame()? {
                let request =
                    wire::Request::decode(frame.message.as_slice()).map_err(FrameError::Decode)?;
                asked.push(Asked { request, fds: frame.fds });
            }
            Ok(filled)
        });
        (asked, state)
    }

    /// Queues an answer.
    pub(super) fn reply(
        &mut self,
        id: u64,
        result: reply::Result,
        fds: Vec<OwnedFd>,
    ) -> Result<(), FrameError> {
        let reply = wire::Reply { id, result: Some(result) };
        self.push(Body::Reply(reply), fds)
    }

    /// Queues an event.
    pub(super) fn event(&mut self, event: wire::Event) -> Result<(), FrameError> {
        self.push(Body::Event(event), Vec::new())
    }

    fn push(&mut self, body: Body, fds: Vec<OwnedFd>) -> Result<(), FrameError> {
        self.writer.push(&wire::Message { body: Some(body) }, fds)?;
        if self.writer.queued_bytes() > MAX_QUEUED {
            return Err(FrameError::TooLarge { bytes: self.writer.queued_bytes(), fds: 0 });
        }
        Ok(())
    }

    /// Sends what the socket takes.
    pub(super) fn flush(&mut self) -> Result<bool, FrameError> {
        self.writer.flush(self.socket.as_fd())
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
