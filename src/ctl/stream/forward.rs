//! One forwarded connection: a TCP connection here, joined to a port of a pod.
//!
//! Each direction ends for itself: what is said last is still heard after the other side has ended.

use super::channel::{self, Forwarded, Forwarding};
use super::error::StreamError;
use super::socket::{self, Socket};
use super::tls::Trust;
use futures::{Sink, SinkExt as _, Stream, StreamExt as _};
use std::future::pending;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{Error, Message};

/// How much is read at once, bytes.
const BLOCK: usize = 32 << 10;
/// How long a farewell may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// Connects to `port` by what PortForward has answered, and passes everything on until the daemon says that both
/// sides have ended, or this one broke.
///
/// # Errors
/// What the daemon says, or a connection to it that cannot be had or broke.
pub(in crate::ctl) async fn forward(
    url: &str,
    trust: &Trust,
    port: u16,
    local: TcpStream,
) -> Result<(), StreamError> {
    let separator = if url.contains('?') { '&' } else { '?' };
    let url = format!("{url}{separator}port={port}");
    let socket = socket::connect(&url, trust).await?;
    // What is small and waited for shall not wait for more.
    local.set_nodelay(true).map_err(StreamError::local("set up the connection"))?;
    join(socket, local).await
}

async fn join(socket: Socket, mut local: TcpStream) -> Result<(), StreamError> {
    let (mut to, mut from) = socket.split();
    let (mut read, mut write) = local.split();
    let cut_off = async {
        match say(&mut read, &mut to).await {
            // The daemon ends it when the pod has heard all of it, and has said all itself.
            Said::All => pending().await,
            Said::CutOff => {}
        }
    };
    let end = tokio::select! {
        end = hear(&mut from, &mut write) => end,
        () = cut_off => Ok(()),
    };
    tokio::time::timeout(FAREWELL, to.close()).await.ok();
    end
}

/// How what is said here has ended.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    All,
    /// The connection here broke: there is nobody to listen either.
    CutOff,
}

/// Passes on what is said here, and its end.
async fn say(read: &mut (impl AsyncRead + Unpin), to: &mut (impl Sink<Message> + Unpin)) -> Said {
    let mut block = vec![0; BLOCK];
    loop {
        let message = match read.read(&mut block).await {
            Ok(count @ 1..) => channel::data(channel::DATA, block.get(..count).unwrap_or_default()),
            Ok(_) => {
                // Whoever reads the connection finds out why it cannot be said.
                to.send(channel::end(channel::DATA)).await.ok();
                return Said::All;
            }
            Err(_) => return Said::CutOff,
        };
        if to.send(message).await.is_err() {
            return Said::All;
        }
    }
}

/// Passes on what comes, until the connection to the daemon ends or nobody listens.
async fn hear(
    from: &mut (impl Stream<Item = Result<Message, Error>> + Unpin),
    write: &mut (impl AsyncWrite + Unpin),
) -> Result<(), StreamError> {
    let mut forwarding = Forwarding::default();
    while let Some(message) = from.next().await {
        let bytes = match message.map_err(StreamError::lost)? {
            Message::Binary(bytes) => bytes,
            Message::Close(_) => break,
            _ => continue,
        };
        match forwarding.parse(&bytes) {
            Forwarded::Data(bytes) => {
                if write.write_all(&bytes).await.is_err() {
                    return Ok(());
                }
            }
            Forwarded::End => {
                // Who has gone needs no end.
                write.shutdown().await.ok();
            }
            Forwarded::Error(text) => {
                let text = String::from_utf8_lossy(&text).trim().to_owned();
                return Err(StreamError::Failed(text));
            }
            Forwarded::Nothing => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::stream;

    fn binary(bytes: &'static [u8]) -> Result<Message, Error> {
        Ok(Message::Binary(bytes.into()))
    }

    #[tokio::test]
    async fn data_comes_without_its_channel_and_an_error_is_told() {
        let opening =
            || vec![binary(b"\x00\x50\x00"), binary(b"\x01\x50\x00"), binary(b"\x00page")];
        let mut write = Vec::new();
        let mut messages = opening();
        messages.push(binary(b"\xff\x00"));
        hear(&mut stream::iter(messages), &mut write).await.unwrap();
        assert_eq!(write, b"page");
        let mut messages = opening();
        messages.push(binary(b"\x01connection refused\n"));
        let heard = hear(&mut stream::iter(messages), &mut write).await;
        assert_eq!(heard.unwrap_err().to_string(), "connection refused");
    }

    #[tokio::test]
    async fn the_end_of_what_is_said_is_said() {
        let (mut to, sent) = futures::channel::mpsc::unbounded();
        assert_eq!(say(&mut &b"ask"[..], &mut to).await, Said::All);
        drop(to);
        let sent: Vec<_> = sent.collect().await;
        assert_eq!(sent, [channel::data(0, b"ask"), channel::end(0)]);
    }

    #[tokio::test]
    async fn a_connection_that_broke_has_no_end_to_be_told() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let far = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut near, _) = listener.accept().await.unwrap();
        near.write_all(b"unread").await.unwrap();
        far.readable().await.unwrap();
        // What is closed with something unread is reset.
        drop(far);
        let (mut to, sent) = futures::channel::mpsc::unbounded();
        assert_eq!(say(&mut near, &mut to).await, Said::CutOff);
        drop(to);
        assert!(sent.collect::<Vec<_>>().await.is_empty());
    }
}
