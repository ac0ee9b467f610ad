//! The channel protocols over WebSocket: every message begins with the number of its channel.
//!
//! Version 5 has the channel 255 beside: the client closes the channel that the second byte names. With base64,
//! messages are text: the channel's digit, then base64. A WebSocket has no windows: a client that sends more than
//! is consumed is held by not reading its socket, which holds all its channels.

use super::channels::{Input, Output};
use super::pump::BLOCK;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, DuplexStream};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_util::sync::{CancellationToken, PollSender};

/// The channel that closes another one, in version 5.
const CLOSE: u8 = 255;
/// The largest message of a client, bytes. Those in use send 32 KiB at most.
const LARGEST: usize = 1 << 20;
/// How much of the channels may wait to be consumed before the socket is read no more, bytes; each has its share, and
/// one block at least.
const UNREAD: usize = 512 << 10;
/// How many messages may wait to be sent.
const UNSENT: usize = 4;
/// How long a client may take to answer the end.
const GOODBYE: Duration = Duration::from_secs(2);

/// How messages are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Form {
    /// As text.
    pub(super) base64: bool,
    /// The client can close a channel.
    pub(super) closes: bool,
}

/// The WebSocket that a connection has become; frames and messages are bounded.
pub(super) async fn upgraded<Io>(io: Io) -> WebSocketStream<Io>
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let config = WebSocketConfig::default()
        .max_message_size(Some(LARGEST))
        .max_frame_size(Some(LARGEST))
        .read_buffer_size(2 * BLOCK);
    WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await
}

/// The channels of one connection.
pub(super) struct Mux {
    sender: mpsc::Sender<Message>,
    inputs: HashMap<u8, DuplexStream>,
    form: Form,
    gone: CancellationToken,
}

impl Mux {
    /// The channels, and what moves their bytes until both sides have said all, or the client is gone.
    /// `inputs` are the channels that the client writes.
    pub(super) fn new<Io, Lost>(
        io: Io,
        form: Form,
        inputs: &[u8],
        lost: Lost,
    ) -> (Self, impl Future<Output = ()> + Send + use<Io, Lost>)
    where
        Io: AsyncRead + AsyncWrite + Unpin + Send,
        Lost: Future<Output = ()> + Send,
    {
        let (sender, receiver) = mpsc::channel(UNSENT);
        let unread = (UNREAD / inputs.len().max(1)).max(BLOCK);
        let pipes = |number: &u8| {
            let (near, far) = tokio::io::duplex(unread);
            ((*number, near), (*number, far))
        };
        let (near, far): (HashMap<_, _>, HashMap<_, _>) = inputs.iter().map(pipes).unzip();
        let gone = CancellationToken::new();
        let mux = Self { sender, inputs: near, form, gone: gone.clone() };
        let driver = async move {
            let mut inputs = far;
            // Cancelled also when this future is dropped; before the inputs end, which would look as if the client
            // had said all.
            let _gone = gone.drop_guard();
            let socket = upgraded(io).await;
            tokio::select! {
                () = drive(socket, form, &mut inputs, receiver) => {}
                () = lost => {}
            }
        };
        (mux, driver)
    }

    /// Cancelled when the client is gone.
    pub(super) fn gone(&self) -> CancellationToken {
        self.gone.clone()
    }

    /// What the client writes to a channel, once.
    pub(super) fn input(&mut self, channel: u8) -> Option<Input> {
        self.inputs.remove(&channel).map(|stream| Box::new(stream) as Input)
    }

    /// Writes to a channel.
    pub(super) fn output(&self, channel: u8) -> Output {
        Box::new(self.writer(channel, false))
    }

    /// Writes to a channel whose end the client is told where the protocol has a word for it.
    pub(super) fn output_with_end(&self, channel: u8) -> Output {
        Box::new(self.writer(channel, self.form.closes))
    }

    /// Whether a channel can be closed alone.
    pub(super) fn closes(&self) -> bool {
        self.form.closes
    }

    fn writer(&self, channel: u8, tells_end: bool) -> Writer {
        let sender = PollSender::new(self.sender.clone());
        Writer { sender, channel, base64: self.form.base64, tells_end }
    }

    /// A message without content.
    pub(super) async fn greet(&self, channel: u8) {
        // A client that is gone is noticed by what follows.
        self.sender.send(message(channel, &[], self.form.base64)).await.ok();
    }
}

async fn drive<Io>(
    socket: WebSocketStream<Io>,
    form: Form,
    inputs: &mut HashMap<u8, DuplexStream>,
    mut unsent: mpsc::Receiver<Message>,
) where
    Io: AsyncRead + AsyncWrite + Unpin + Send,
{
    let (mut sink, mut stream) = socket.split();
    let write = async {
        while let Some(message) = unsent.recv().await {
            if sink.send(message).await.is_err() {
                return;
            }
        }
        if sink.send(Message::Close(None)).await.is_ok() {
            tokio::time::sleep(GOODBYE).await;
        }
    };
    let read = async {
        while let Some(Ok(message)) = stream.next().await {
            let bytes = match message {
                Message::Binary(bytes) => bytes,
                Message::Text(text) => text.into(),
                Message::Close(_) => {
                    // Answered by whoever reads on.
                    tokio::time::timeout(GOODBYE, stream.next()).await.ok();
                    return;
                }
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => continue,
            };
            let Some((channel, content)) = parse(&bytes, form.base64) else { return };
            if channel == CLOSE && form.closes {
                inputs.remove(content.first().unwrap_or(&CLOSE));
            } else if let Some(input) = inputs.get_mut(&channel)
                && input.write_all(&content).await.is_err()
            {
                // Nobody reads it any more.
                inputs.remove(&channel);
            }
        }
    };
    tokio::select! {
        () = write => {}
        () = read => {}
    }
}

/// The channel of a message, and its content; `None` for what is no message of the protocol.
fn parse(bytes: &Bytes, base64: bool) -> Option<(u8, Bytes)> {
    let (first, rest) = (*bytes.first()?, bytes.slice(1..));
    if !base64 {
        return Some((first, rest));
    }
    let channel = first.checked_sub(b'0').filter(|digit| *digit < 10)?;
    Some((channel, STANDARD.decode(&rest).ok()?.into()))
}

fn message(channel: u8, content: &[u8], base64: bool) -> Message {
    if base64 {
        let mut text = String::with_capacity(1 + content.len().div_ceil(3) * 4);
        text.push(char::from(b'0'.saturating_add(channel)));
        STANDARD.encode_string(content, &mut text);
        return Message::text(text);
    }
    let mut bytes = Vec::with_capacity(1 + content.len());
    bytes.push(channel);
    bytes.extend_from_slice(content);
    Message::binary(bytes)
}

struct Writer {
    sender: PollSender<Message>,
    channel: u8,
    base64: bool,
    tells_end: bool,
}

fn closed<E>(_: E) -> io::Error {
    io::ErrorKind::BrokenPipe.into()
}

impl AsyncWrite for Writer {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.sender.poll_reserve(cx)).map_err(closed)?;
        let taken = buf.get(..BLOCK).unwrap_or(buf);
        let message = message(self.channel, taken, self.base64);
        self.sender.send_item(message).map_err(closed)?;
        Poll::Ready(Ok(taken.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.tells_end {
            ready!(self.sender.poll_reserve(cx)).map_err(closed)?;
            let last = message(CLOSE, &[self.channel], self.base64);
            self.sender.send_item(last).map_err(closed)?;
            self.tells_end = false;
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt as _;
    use tokio_util::task::TaskTracker;

    const BINARY: Form = Form { base64: false, closes: true };
    const TEXT: Form = Form { base64: true, closes: false };

    async fn client(io: DuplexStream) -> WebSocketStream<DuplexStream> {
        WebSocketStream::from_raw_socket(io, Role::Client, None).await
    }

    fn served(form: Form, inputs: &[u8]) -> (Mux, DuplexStream, tokio::task::JoinHandle<()>) {
        let (near, far) = tokio::io::duplex(64 << 10);
        let (mux, driver) = Mux::new(near, form, inputs, std::future::pending());
        (mux, far, TaskTracker::new().spawn(driver))
    }

    #[tokio::test]
    async fn bytes_go_both_ways_by_channel() {
        for (form, hello, answer) in [
            (BINARY, Message::binary(&b"\x00hello"[..]), Message::binary(&b"\x01there"[..])),
            (TEXT, Message::text("0aGVsbG8="), Message::text("1dGhlcmU=")),
        ] {
            let (mut mux, far, driver) = served(form, &[0]);
            let mut far = client(far).await;
            far.send(hello).await.unwrap();
            let mut text = [0; 5];
            mux.input(0).unwrap().read_exact(&mut text).await.unwrap();
            assert_eq!(&text, b"hello");
            mux.output(1).write_all(b"there").await.unwrap();
            assert_eq!(far.next().await.unwrap().unwrap(), answer);
            drop(mux);
            assert!(matches!(far.next().await, Some(Ok(Message::Close(_)))));
            drop(far);
            driver.await.unwrap();
        }
    }

    #[tokio::test]
    async fn version_5_tells_the_end_of_a_channel() {
        let (mut mux, far, _driver) = served(BINARY, &[0]);
        let mut far = client(far).await;
        far.send(Message::binary(&b"\x00last"[..])).await.unwrap();
        far.send(Message::binary(&b"\xff\x00"[..])).await.unwrap();
        let mut text = String::new();
        mux.input(0).unwrap().read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "last");
        mux.output_with_end(1).shutdown().await.unwrap();
        assert_eq!(far.next().await.unwrap().unwrap(), Message::binary(&b"\xff\x01"[..]));
        assert!(!mux.gone().is_cancelled());
        // The others have no word for it.
        let (mux, far, _driver) = served(Form { base64: false, closes: false }, &[0]);
        let mut far = client(far).await;
        mux.output_with_end(1).shutdown().await.unwrap();
        mux.greet(2).await;
        assert_eq!(far.next().await.unwrap().unwrap(), Message::binary(&b"\x02"[..]));
    }

    #[tokio::test]
    async fn what_is_no_message_ends_the_connection() {
        for (form, bad) in [
            (BINARY, Message::binary(Bytes::new())),
            (TEXT, Message::text("0?")),
            (TEXT, Message::text("x")),
            (BINARY, Message::binary(vec![0; LARGEST + 1])),
        ] {
            let (mux, far, driver) = served(form, &[0]);
            let mut far = client(far).await;
            far.send(bad).await.ok();
            driver.await.unwrap();
            assert!(mux.gone().is_cancelled());
        }
    }

    #[tokio::test]
    async fn a_client_that_nobody_listens_to_is_held() {
        let (mut mux, far, _driver) = served(BINARY, &[0, 4]);
        let mut far = client(far).await;
        let mut sent = 0;
        let block = Message::binary(vec![0; BLOCK + 1]);
        let quiet = Duration::from_millis(300);
        while tokio::time::timeout(quiet, far.send(block.clone())).await.is_ok() {
            sent += BLOCK;
            assert!(sent < 2 * UNREAD, "{sent} bytes are kept");
        }
        // A channel that is dropped holds nobody.
        drop(mux.input(0));
        far.send(Message::binary(&b"\x04size"[..])).await.unwrap();
        let mut size = [0; 4];
        mux.input(4).unwrap().read_exact(&mut size).await.unwrap();
        assert_eq!(&size, b"size");
    }
}
