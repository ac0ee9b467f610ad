//! A session of a command at its URL, over WebSocket: every message begins with its channel.
//! The channels are those of Kubernetes' remote commands; version 4 is what every runtime with WebSocket speaks.

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt as _, StreamExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const ERROR: u8 = 3;

/// How much of its input a command is sent at once, bytes; kubectl does the same.
const BLOCK: usize = 32 << 10;

/// A version of the channel protocol.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Version {
    V4,
    V5,
}

impl Version {
    fn name(self) -> &'static str {
        match self {
            Self::V4 => "v4.channel.k8s.io",
            Self::V5 => "v5.channel.k8s.io",
        }
    }
}

/// A command's streams. Dropping it is the end of the command.
pub(crate) struct Session {
    sender: SplitSink<WebSocketStream<TcpStream>, Message>,
    receiver: SplitStream<WebSocketStream<TcpStream>>,
    /// Bytes of output that nobody has waited for yet.
    unread: u64,
}

enum Event {
    Output(u64),
    /// The command has ended with 0.
    Success,
}

impl Session {
    pub(crate) async fn open(url: &str, version: Version) -> Result<Self> {
        let rest = url.strip_prefix("http://").with_context(|| format!("{url} is not http"))?;
        let address = rest.split('/').next().unwrap_or_default();
        let mut request = format!("ws://{rest}").into_client_request()?;
        request.headers_mut().insert("sec-websocket-protocol", version.name().parse()?);
        let stream = TcpStream::connect(address).await.with_context(|| address.to_owned())?;
        stream.set_nodelay(true)?;
        let (socket, answer) = tokio_tungstenite::client_async(request, stream)
            .await
            .with_context(|| format!("{url} with {}", version.name()))?;
        let chosen = answer.headers().get("sec-websocket-protocol");
        ensure!(chosen.is_some_and(|name| name == version.name()), "{chosen:?} was chosen");
        let (sender, receiver) = socket.split();
        Ok(Self { sender, receiver, unread: 0 })
    }

    /// Waits for so many bytes of output.
    pub(crate) async fn hear(&mut self, bytes: u64) -> Result<()> {
        self.exchange(0, bytes).await
    }

    /// Sends so many zeros as input, and meanwhile waits for so many bytes of output.
    pub(crate) async fn exchange(&mut self, sent: usize, heard: u64) -> Result<()> {
        let Self { sender, receiver, unread } = self;
        let block = Bytes::from(vec![STDIN; 1 + BLOCK]);
        let send = async {
            let mut left = sent;
            while left > 0 {
                let count = left.min(BLOCK);
                sender.send(Message::Binary(block.slice(..=count))).await.context("send input")?;
                left -= count;
            }
            Ok(())
        };
        let hear = async {
            while *unread < heard {
                match next(receiver).await? {
                    Event::Output(count) => *unread += count,
                    Event::Success => bail!("the command ended after {unread} bytes"),
                }
            }
            Ok(())
        };
        tokio::try_join!(send, hear)?;
        self.unread -= heard;
        Ok(())
    }

    /// A line of input.
    pub(crate) async fn say(&mut self, line: &str) -> Result<()> {
        let message = [&[STDIN], line.as_bytes(), b"\n"].concat();
        self.sender.send(Message::binary(message)).await.context("send input")
    }

    /// Waits until the Status tells that the command has ended with 0.
    pub(crate) async fn success(mut self) -> Result<()> {
        while let Event::Output(_) = next(&mut self.receiver).await? {}
        Ok(())
    }
}

async fn next(receiver: &mut SplitStream<WebSocketStream<TcpStream>>) -> Result<Event> {
    loop {
        let bytes = match receiver.next().await.context("no Status")?? {
            Message::Binary(bytes) => bytes,
            Message::Close(_) => bail!("the connection was closed without a Status"),
            _ => continue,
        };
        match bytes.split_first() {
            // A session is greeted by a message without content.
            Some((_, [])) | None => {}
            Some((&STDOUT, output)) => return Ok(Event::Output(u64::try_from(output.len())?)),
            Some((&ERROR, status)) => {
                let told: serde_json::Value = serde_json::from_slice(status)?;
                ensure!(told.get("status").is_some_and(|s| s == "Success"), "{told}");
                return Ok(Event::Success);
            }
            Some((channel, content)) => {
                bail!("{:?} on channel {channel}", String::from_utf8_lossy(content))
            }
        }
    }
}
