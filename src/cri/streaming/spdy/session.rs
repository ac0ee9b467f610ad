//! The handle of a session.

use super::connection::Connection;
use super::driver::{Closed, Driver, Shared};
use super::limits::Limits;
use super::stream::Stream;
use crate::lock::lock;
use std::future::{Future, poll_fn};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

/// The server's side of one connection, after its upgrade.
///
/// The future drives it, and is to run in a task of its own. It ends when both sides are done or the peer is
/// gone; dropping it before breaks all streams. `hung_up` shall resolve when the peer is gone: it is
/// how a session that does not read, since what it has received is not consumed, learns that. While it
/// reads, the end of what it reads tells, and `hung_up` does not matter.
pub fn serve<Io>(
    io: Io,
    limits: Limits,
    hung_up: impl Future<Output = ()> + Send + 'static,
) -> (Session, impl Future<Output = Closed> + Send)
where
    Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let connection = Mutex::new(Connection::new(limits));
    let shared = Arc::new(Shared { connection, gone: CancellationToken::new() });
    let mut driver = Driver::new(shared.clone(), io, hung_up);
    (Session { shared }, poll_fn(move |cx| driver.poll(cx)))
}

/// What accepts streams. When it is dropped, streams that come are refused, and the session ends with the last
/// one that is held.
#[derive(Debug)]
pub struct Session {
    pub(super) shared: Arc<Shared>,
}

impl Session {
    /// The next stream that the peer opens, already answered by a SYN_REPLY; `None` when the peer is gone.
    /// Streams wait here until they are accepted. After a GOAWAY of the peer's no more come.
    pub async fn accept(&mut self) -> Option<Stream> {
        let accepted = poll_fn(|cx| lock(&self.shared.connection).poll_accept(cx)).await;
        accepted.map(|(id, headers)| Stream::new(self.shared.clone(), id, headers))
    }

    /// Cancelled when the peer is gone: its end of the connection, an error, a broken protocol, or `hung_up`
    /// while nothing is read; and when the driver has ended.
    pub fn gone(&self) -> CancellationToken {
        self.shared.gone.clone()
    }

    /// Flushes all that was written and shut down so far, and says GOAWAY; the driver then waits for the peer to
    /// close, for [`Limits::drain`] at most, and closes the socket. What is received from here on is
    /// dropped, reads and writes fail. Returns when all is flushed or the peer is gone.
    ///
    /// It waits as long as the peer takes: who wants less puts a deadline around it, and drops the driver.
    pub async fn finish(self) {
        lock(&self.shared.connection).finish();
        poll_fn(|cx| lock(&self.shared.connection).poll_finished(cx)).await;
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        lock(&self.shared.connection).abandon();
    }
}
