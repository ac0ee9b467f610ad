//! Moves bytes between the socket and the [`Connection`]: one future, large reads and writes, and no lock
//! held while the socket is asked.

use super::connection::{Connection, Phase};
use super::decode::Decoder;
use super::violation::Violation;
use crate::lock::lock;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};
use tokio_util::sync::CancellationToken;

/// Bytes that are read from the socket at once.
pub(super) const PIECE: usize = 64 * 1024;

/// Rounds of writing and reading before others get their turn.
const ROUNDS: usize = 32;

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Closed {
    /// By [`Session::finish`](super::Session::finish), or with the last stream of a dropped session.
    Finished,
    /// The peer closed the connection before.
    PeerGone,
    /// The peer was said to be gone while it was not read.
    HungUp,
    /// The connection broke.
    Io(std::io::ErrorKind),
    /// The peer broke the protocol, and was told so.
    Violation(Violation),
}

/// What all handles of a session share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) connection: Mutex<Connection>,
    pub(super) gone: CancellationToken,
}

impl Shared {
    fn over(&self, closed: Closed) {
        // First: the streams' end must not be taken for the peer's.
        self.gone.cancel();
        lock(&self.connection).over(closed);
    }
}

/// See the header.
pub(super) struct Driver<Io> {
    shared: Arc<Shared>,
    io: Io,
    hung_up: Pin<Box<dyn Future<Output = ()> + Send>>,
    is_hung_up: bool,
    decoder: Decoder,
    /// What is read at once, and what of it was not taken yet.
    piece: Box<[u8]>,
    untaken: Range<usize>,
    /// What is written, and how much of it is.
    out: Vec<u8>,
    written: usize,
    /// Whether something was written since the last flush.
    unflushed: bool,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Driver<Io> {
    pub(super) fn new(
        shared: Arc<Shared>,
        io: Io,
        hung_up: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        let limits = lock(&shared.connection).limits;
        Self {
            shared,
            io,
            hung_up: Box::pin(hung_up),
            is_hung_up: false,
            decoder: Decoder::new(limits.control_frame),
            piece: vec![0; PIECE].into(),
            untaken: 0..0,
            out: Vec::new(),
            written: 0,
            unflushed: false,
            deadline: None,
        }
    }

    /// Until the session is over.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Closed> {
        // First, so that nothing that happens from here on is missed.
        lock(&self.shared.connection).register_driver(cx);
        self.is_hung_up = self.is_hung_up || self.hung_up.as_mut().poll(cx).is_ready();
        for _ in 0..ROUNDS {
            let wrote = self.write(cx);
            let read = self.read(cx);
            self.watch_the_end(cx);
            if let Phase::Over(closed) = &lock(&self.shared.connection).phase {
                return Poll::Ready(closed.clone());
            }
            if !wrote.is_ready() && !read.is_ready() {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Writes one batch. Ready when something was done.
    fn write(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut farewell = None;
        if self.written == self.out.len() {
            self.out.clear();
            self.written = 0;
            let mut connection = lock(&self.shared.connection);
            connection.farewell();
            connection.fill(&mut self.out);
            if let Phase::Farewell(closed) = &connection.phase {
                farewell = Some(closed.clone());
            }
        }
        let mut done = Poll::Pending;
        while let Some(rest) = self.out.get(self.written..).filter(|rest| !rest.is_empty()) {
            match Pin::new(&mut self.io).poll_write(cx, rest) {
                Poll::Pending => return done,
                Poll::Ready(Ok(0)) => self.fail(std::io::ErrorKind::WriteZero),
                Poll::Ready(Err(error)) => self.fail(error.kind()),
                Poll::Ready(Ok(bytes)) => {
                    self.written += bytes;
                    self.unflushed = true;
                    done = Poll::Ready(());
                    continue;
                }
            }
            return Poll::Ready(());
        }
        if self.unflushed {
            match ready!(Pin::new(&mut self.io).poll_flush(cx)) {
                Ok(()) => self.unflushed = false,
                Err(error) => self.fail(error.kind()),
            }
            return Poll::Ready(());
        }
        if let Some(closed) = farewell {
            // One that goes its ways regularly closes first: some, as npm's, forget what they have not yet
            // looked at when the socket ends.
            if closed != Closed::Finished {
                ready!(Pin::new(&mut self.io).poll_shutdown(cx)).ok();
            }
            lock(&self.shared.connection).leave();
            return Poll::Ready(());
        }
        done
    }

    /// Reads one piece. Ready when something was done.
    fn read(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !lock(&self.shared.connection).wants_input() {
            if self.is_hung_up {
                self.shared.over(Closed::HungUp);
            }
            return Poll::Pending;
        }
        if self.untaken.is_empty() {
            let mut buffer = ReadBuf::new(&mut self.piece);
            match ready!(Pin::new(&mut self.io).poll_read(cx, &mut buffer)) {
                Err(error) => self.fail(error.kind()),
                Ok(()) if buffer.filled().is_empty() => self.end(Closed::PeerGone),
                Ok(()) => self.untaken = 0..buffer.filled().len(),
            }
        }
        self.take();
        Poll::Ready(())
    }

    /// Takes what was read, as far as there is room: a few bytes may be many when they are inflated.
    fn take(&mut self) {
        let mut connection = lock(&self.shared.connection);
        let mut bytes = self.piece.get(self.untaken.clone()).unwrap_or_default();
        while matches!(connection.phase, Phase::Open | Phase::Finishing) {
            if !connection.wants_input() {
                self.untaken.start = self.untaken.end - bytes.len();
                return;
            }
            match self.decoder.next(&mut bytes) {
                Ok(None) => break,
                Ok(Some(item)) => {
                    if let Err(violation) = connection.receive(item) {
                        connection.fail(violation);
                    }
                }
                Err(violation) => connection.fail(violation),
            }
        }
        self.untaken = 0..0;
    }

    fn fail(&self, kind: std::io::ErrorKind) {
        self.end(Closed::Io(kind));
    }

    /// The connection is no more. What was said before counts: then this was to be expected.
    fn end(&self, otherwise: Closed) {
        let phase = lock(&self.shared.connection).phase.clone();
        match phase {
            Phase::Farewell(closed) | Phase::Leaving(closed) => self.shared.over(closed),
            Phase::Open | Phase::Finishing | Phase::Over(_) => self.shared.over(otherwise),
        }
    }

    /// A peer that is told to be gone, or to be wrong, has a while to close.
    fn watch_the_end(&mut self, cx: &mut Context<'_>) {
        let (phase, limits) = {
            let connection = lock(&self.shared.connection);
            (connection.phase.clone(), connection.limits)
        };
        match phase {
            Phase::Farewell(Closed::Violation(_)) => self.shared.gone.cancel(),
            Phase::Leaving(_) => {}
            _ => return,
        }
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(sleep(limits.drain)));
        if deadline.as_mut().poll(cx).is_ready() {
            // Once: all is flushed, and nobody is waited for any more.
            let _shut = Pin::new(&mut self.io).poll_shutdown(cx);
            self.end(Closed::PeerGone);
        }
    }
}

/// Also when its task is aborted, nobody waits for it.
impl<Io> Drop for Driver<Io> {
    fn drop(&mut self) {
        self.shared.over(Closed::PeerGone);
    }
}
