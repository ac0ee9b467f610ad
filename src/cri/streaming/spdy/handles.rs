//! What a session's handles do to it: accept, read, write, half-close, let go.

use super::connection::{Connection, Phase};
use super::entry::{End, take};
use super::frame::Status;
use super::headers::Headers;
use super::state::State;
use std::io::{Error, ErrorKind};
use std::task::{Context, Poll};
use tokio::io::ReadBuf;

impl Connection {
    /// The next stream of the peer's.
    pub(super) fn poll_accept(&mut self, cx: &Context<'_>) -> Poll<Option<(u32, Headers)>> {
        if matches!(self.phase, Phase::Farewell(_) | Phase::Leaving(_) | Phase::Over(_)) {
            return Poll::Ready(None);
        }
        match self.arrived.pop_front() {
            Some((id, headers)) => {
                self.read_on(headers.size());
                Poll::Ready(Some((id, headers)))
            }
            None => {
                self.acceptor = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Reads of a stream; at its end nothing is put into `into`.
    pub(super) fn poll_read(
        &mut self,
        id: u32,
        cx: &Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<Result<(), Error>> {
        let Some(entry) = self.streams.get_mut(&id) else {
            return Poll::Ready(Err(ErrorKind::ConnectionReset.into()));
        };
        let received = &mut entry.received;
        if received.bytes.is_empty() {
            return match received.end {
                _ if into.remaining() == 0 => Poll::Ready(Ok(())),
                Some(End::Fin) => Poll::Ready(Ok(())),
                Some(End::Broken) => Poll::Ready(Err(ErrorKind::ConnectionReset.into())),
                None => {
                    received.reader = Some(cx.waker().clone());
                    Poll::Pending
                }
            };
        }
        let bytes = received.bytes.len().min(into.remaining());
        take(&mut received.bytes, bytes, |piece| into.put_slice(piece));
        self.read_on(bytes);
        self.grant(Some(id), bytes);
        Poll::Ready(Ok(()))
    }

    /// Writes to a stream as much as there is room for.
    pub(super) fn poll_write(
        &mut self,
        id: u32,
        cx: &Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize, Error>> {
        let open = matches!(self.phase, Phase::Open);
        let (limits, pool) = (self.limits, (self.limits.queued / 2).saturating_sub(self.queued));
        let Some(entry) = self
            .streams
            .get_mut(&id)
            .filter(|entry| open && entry.may_send() && !entry.sending.shut)
        else {
            return Poll::Ready(Err(ErrorKind::BrokenPipe.into()));
        };
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let sending = &mut entry.sending;
        let own = limits.queued_by_stream.saturating_sub(sending.bytes.len());
        let reserve = limits.queued_reserve().saturating_sub(sending.bytes.len());
        let room = own.min(pool).max(reserve.min(own));
        let Some(taken) = bytes.get(..room.min(bytes.len())).filter(|taken| !taken.is_empty())
        else {
            sending.writer = Some(cx.waker().clone());
            return Poll::Pending;
        };
        sending.bytes.extend(taken);
        self.queued += taken.len();
        let written = taken.len();
        self.list(id);
        Poll::Ready(Ok(written))
    }

    /// A FIN follows what was written.
    pub(super) fn shut(&mut self, id: u32) -> Result<(), Error> {
        let open = matches!(self.phase, Phase::Open);
        match self.streams.get_mut(&id) {
            Some(entry) if entry.sending.shut || entry.state == State::WeDone => Ok(()),
            Some(entry) if open && entry.may_send() => {
                entry.sending.shut = true;
                self.list(id);
                Ok(())
            }
            _ => Err(ErrorKind::BrokenPipe.into()),
        }
    }

    /// The receiving half is gone: what is there and what comes is consumed.
    pub(super) fn drop_receiver(&mut self, id: u32) {
        let Some(entry) = self.streams.get_mut(&id) else { return };
        entry.received.dropped = true;
        entry.received.reader = None;
        let bytes = std::mem::take(&mut entry.received.bytes).len();
        self.read_on(bytes);
        self.grant(Some(id), bytes);
        self.forget(id);
    }

    /// The sending half is gone: without a FIN, the stream is cancelled.
    pub(super) fn drop_sender(&mut self, id: u32) {
        let Some(entry) = self.streams.get_mut(&id) else { return };
        entry.sending.dropped = true;
        entry.sending.writer = None;
        if entry.may_send() && !entry.sending.shut {
            self.reset(id, Status::Cancel);
        }
        self.forget(id);
    }
}
