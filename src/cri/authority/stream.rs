//! The authority filter as a tokio stream that tonic serves.

use super::frames::AuthorityFilter;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tonic::transport::server::{Connected, UdsConnectInfo};

/// What the ready buffer may keep when it is empty.
const KEPT_CAPACITY: usize = 4 << 10;

/// A client's connection whose `:authority` values are acceptable.
#[derive(Debug)]
pub(crate) struct AuthorityStream<S = UnixStream> {
    inner: S,
    filter: AuthorityFilter,
    /// Filtered bytes that did not yet leave, from `sent` on.
    ready: Vec<u8>,
    sent: usize,
}

impl<S> AuthorityStream<S> {
    /// A connection that was just accepted.
    pub(crate) fn new(inner: S) -> Self {
        Self { inner, filter: AuthorityFilter::new(), ready: Vec::new(), sent: 0 }
    }

    /// Moves filtered bytes into `buf`; whether there were any.
    fn drain(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let waiting = self.ready.get(self.sent..).unwrap_or_default();
        let n = waiting.len().min(buf.remaining());
        buf.put_slice(waiting.get(..n).unwrap_or_default());
        self.sent += n;
        if self.sent == self.ready.len() {
            self.ready.clear();
            self.ready.shrink_to(KEPT_CAPACITY);
            self.sent = 0;
        }
        n > 0
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for AuthorityStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.drain(buf) || buf.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            let before = buf.filled().len();
            ready!(Pin::new(&mut this.inner).poll_read(cx, buf))?;
            let fresh = buf.filled().get(before..).unwrap_or_default();
            if fresh.is_empty() {
                this.filter.finish(&mut this.ready);
                this.drain(buf);
                return Poll::Ready(Ok(()));
            }
            if fresh.len() <= this.filter.pass_through() {
                this.filter.passed(fresh.len());
                return Poll::Ready(Ok(()));
            }
            this.filter.push(fresh, &mut this.ready);
            buf.set_filled(before);
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for AuthorityStream<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

impl Connected for AuthorityStream<UnixStream> {
    type ConnectInfo = UdsConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.inner.connect_info()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt as _;

    #[tokio::test]
    async fn a_stream_gives_all_bytes_to_a_reader_with_a_small_buffer() {
        let mut wire = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        wire.extend(b"\0\0\x06\x01\x04\0\0\0\x01\x41\x04/a%b");
        wire.extend(b"\0\0\x03\x00\x01\0\0\0\x01/%/");
        let mut stream = AuthorityStream::new(wire.as_slice());
        let (mut all, mut buf) = (Vec::new(), [0; 3]);
        loop {
            match stream.read(&mut buf).await.unwrap() {
                0 => break,
                n => all.extend_from_slice(&buf[..n]),
            }
        }
        assert_eq!(all.len(), wire.len());
        assert!(all.ends_with(b"\x41\x04.a.b\0\0\x03\x00\x01\0\0\0\x01/%/"));
    }

    #[tokio::test]
    async fn a_stream_that_ends_within_a_header_block_gives_what_it_held() {
        let mut wire = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        wire.extend(b"\0\0\x06\x01\x04\0\0\0\x01\x41\x04/");
        let mut all = Vec::new();
        AuthorityStream::new(wire.as_slice()).read_to_end(&mut all).await.unwrap();
        assert_eq!(all, wire);
    }
}
