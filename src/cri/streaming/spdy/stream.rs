//! The halves of a stream.

use super::driver::Shared;
use super::headers::Headers;
use crate::lock::lock;
use std::io::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream that the peer has opened.
#[derive(Debug)]
pub struct Stream {
    headers: Headers,
    receiver: RecvHalf,
    sender: SendHalf,
}

impl Stream {
    pub(super) fn new(shared: Arc<Shared>, id: u32, headers: Headers) -> Self {
        let receiver = RecvHalf { shared: shared.clone(), id };
        Self { headers, receiver, sender: SendHalf { shared, id } }
    }

    /// Its id: odd, and of no other stream of the session.
    pub fn id(&self) -> u32 {
        self.receiver.id
    }

    /// The first value of a header of its SYN_STREAM. Names are in lower case, whatever the peer wrote.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)
    }

    /// Its two directions.
    pub fn split(self) -> (RecvHalf, SendHalf) {
        (self.receiver, self.sender)
    }
}

/// What the peer sends. Ends at its FIN, at once when that came with the SYN_STREAM.
///
/// What was received before a reset can still be read; then reads fail with `ConnectionReset`, as they do when
/// the peer is gone without a FIN. Dropped, what comes is consumed and nobody sees it.
#[derive(Debug)]
pub struct RecvHalf {
    shared: Arc<Shared>,
    id: u32,
}

impl AsyncRead for RecvHalf {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<Result<(), Error>> {
        lock(&self.shared.connection).poll_read(self.id, cx, into)
    }
}

impl Drop for RecvHalf {
    fn drop(&mut self) {
        lock(&self.shared.connection).drop_receiver(self.id);
    }
}

/// What we send. Writes wait when the peer takes nothing; they fail with `BrokenPipe` after a reset, after
/// [`Session::finish`](super::Session::finish), and when the peer is gone.
///
/// Its `shutdown` sends a FIN and does not wait. Dropped without, while the peer may still wait for
/// data, the stream is reset (CANCEL) **in both directions**: who only reads shuts it down first, or
/// holds it. `flush` does nothing: the driver sends as soon as it can.
#[derive(Debug)]
pub struct SendHalf {
    shared: Arc<Shared>,
    id: u32,
}

impl AsyncWrite for SendHalf {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize, Error>> {
        lock(&self.shared.connection).poll_write(self.id, cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(lock(&self.shared.connection).shut(self.id))
    }
}

impl Drop for SendHalf {
    fn drop(&mut self) {
        lock(&self.shared.connection).drop_sender(self.id);
    }
}
