//! A client's connection: what tells that the client is gone while nobody reads, or that nothing happens any more.

use crate::sys::async_fd;
use nix::sys::socket::{setsockopt, sockopt};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// After how much silence the kernel asks whether the peer is still there, and how often it asks.
const KEEPALIVE_SECONDS: u32 = 30;
const KEEPALIVE_PROBES: u32 = 4;
/// What a client that has closed its side said before is still read, if somebody reads: this long.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Sets what every client's socket gets: no delay of small messages, and probes after a silence, so that
/// a client's machine that vanished is noticed.
pub(crate) fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    setsockopt(stream, sockopt::KeepAlive, &true)?;
    setsockopt(stream, sockopt::TcpKeepIdle, &KEEPALIVE_SECONDS)?;
    setsockopt(stream, sockopt::TcpKeepInterval, &KEEPALIVE_SECONDS)?;
    setsockopt(stream, sockopt::TcpKeepCount, &KEEPALIVE_PROBES)?;
    Ok(())
}

/// Tells when a connection is lost, whether or not anybody reads it.
pub(super) struct Lost {
    socket: OwnedFd,
    moved: Arc<Moved>,
    idle: Duration,
}

impl Lost {
    /// Two futures: one ends when the peer has closed its side (and [`LAST_WORDS`] later), the other after `idle`
    /// without a byte in either direction.
    pub(super) fn split(
        self,
    ) -> (impl Future<Output = ()> + Send, impl Future<Output = ()> + Send) {
        let Self { socket, moved, idle } = self;
        let closed = async {
            if closed(socket).await.is_ok() {
                tokio::time::sleep(LAST_WORDS).await;
            } else {
                // Cannot be watched: reading tells.
                std::future::pending::<()>().await;
            }
        };
        (closed, async move { moved.stops_for(idle).await })
    }
}

/// Waits until the peer of a socket has closed its side: epoll tells it (EPOLLRDHUP) beside data that waits.
async fn closed(socket: OwnedFd) -> io::Result<()> {
    let socket = async_fd::watch_readable(socket)?;
    loop {
        let mut ready = socket.ready(Interest::READABLE).await?;
        if ready.ready().is_read_closed() {
            return Ok(());
        }
        ready.clear_ready();
    }
}

/// When a byte was last moved.
struct Moved {
    start: Instant,
    last_millis: AtomicU64,
}

impl Moved {
    fn now(&self) {
        let millis = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_millis.store(millis, Ordering::Relaxed);
    }

    async fn stops_for(&self, idle: Duration) {
        loop {
            let last = self.start + Duration::from_millis(self.last_millis.load(Ordering::Relaxed));
            if last.elapsed() >= idle {
                return;
            }
            tokio::time::sleep_until(last + idle).await;
        }
    }
}

/// A stream whose bytes are noticed.
pub(super) struct Noticed<Io> {
    io: Io,
    moved: Arc<Moved>,
}

/// The stream, and what tells that it is lost; `socket` is what it is below all layers.
pub(super) fn notice<Io>(
    io: Io,
    socket: &impl AsFd,
    idle: Duration,
) -> io::Result<(Noticed<Io>, Lost)> {
    let moved = Arc::new(Moved { start: Instant::now(), last_millis: AtomicU64::new(0) });
    let socket = socket.as_fd().try_clone_to_owned()?;
    let lost = Lost { socket, moved: Arc::clone(&moved), idle };
    Ok((Noticed { io, moved }, lost))
}

impl<Io: AsyncRead + Unpin> AsyncRead for Noticed<Io> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        if read.is_ready() {
            self.moved.now();
        }
        read
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for Noticed<Io> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        if written.is_ready() {
            self.moved.now();
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        if written.is_ready() {
            self.moved.now();
        }
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let far = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (listener.accept().await.unwrap().0, far)
    }

    #[tokio::test]
    async fn a_client_that_closes_is_lost_though_nobody_reads_what_it_said() {
        let (near, mut far) = pair().await;
        prepare(&near).unwrap();
        let socket = near.as_fd().try_clone_to_owned().unwrap();
        let (_noticed, lost) = notice(near, &socket, Duration::from_secs(3600)).unwrap();
        far.write_all(b"unread").await.unwrap();
        let (lost, _idle) = lost.split();
        tokio::pin!(lost);
        // Not by what is unread.
        tokio::time::timeout(LAST_WORDS, &mut lost).await.unwrap_err();
        drop(far);
        tokio::time::timeout(Duration::from_secs(30), lost).await.unwrap();
    }

    #[tokio::test]
    async fn silence_is_a_loss_and_a_byte_is_none() {
        let (near, mut far) = pair().await;
        let socket = near.as_fd().try_clone_to_owned().unwrap();
        let idle = Duration::from_millis(300);
        let (mut noticed, lost) = notice(near, &socket, idle).unwrap();
        let start = Instant::now();
        let (_closed, ended) = lost.split();
        tokio::pin!(ended);
        // Every byte begins the time anew.
        for _ in 0..4 {
            far.write_all(b"x").await.unwrap();
            noticed.read_u8().await.unwrap();
            tokio::time::timeout(idle / 3, &mut ended).await.unwrap_err();
        }
        ended.await;
        assert!(start.elapsed() >= idle + idle / 3 * 3, "{:?}", start.elapsed());
    }
}
