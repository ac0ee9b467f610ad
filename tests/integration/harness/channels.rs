//! The remote command protocols over WebSocket, as a client speaks them: every message begins with its channel.

use super::Node;
use anyhow::{Context as _, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::{SinkExt as _, StreamExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};

pub(crate) const STDIN: u8 = 0;
pub(crate) const STDOUT: u8 = 1;
pub(crate) const STDERR: u8 = 2;
pub(crate) const ERROR: u8 = 3;
pub(crate) const RESIZE: u8 = 4;
const CLOSE: u8 = 255;

/// A client's connection. What has come is kept by channel.
pub(crate) struct Client<'a> {
    node: &'a Node,
    socket: WebSocketStream<TcpStream>,
    base64: bool,
    got: [Vec<u8>; 5],
    closed: Vec<u8>,
}

/// An answer that is no upgrade: its code, its text, the protocols that it says are known.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) code: u16,
    pub(crate) text: String,
    pub(crate) known: Vec<String>,
}

impl<'a> Client<'a> {
    /// Connects with one protocol, or with none.
    ///
    /// # Errors
    /// It is refused.
    pub(crate) fn connect(node: &'a Node, url: &str, protocol: &str) -> Result<Self> {
        match Self::try_connect(node, url, protocol)? {
            Ok(client) => Ok(client),
            Err(refused) => bail!("{url}: {refused:?}"),
        }
    }

    /// The same, where a refusal is an answer.
    ///
    /// # Errors
    /// There is no answer.
    pub(crate) fn try_connect(
        node: &'a Node,
        url: &str,
        protocol: &str,
    ) -> Result<Result<Self, Refused>> {
        let address = authority(url)?.to_owned();
        let mut request = url.replacen("http://", "ws://", 1).into_client_request()?;
        if !protocol.is_empty() {
            request.headers_mut().insert("sec-websocket-protocol", protocol.parse()?);
        }
        node.cri.run(async move {
            let stream = TcpStream::connect(&address).await?;
            match tokio_tungstenite::client_async(request, stream).await {
                Ok((socket, answer)) => {
                    let chosen = answer.headers().get("sec-websocket-protocol");
                    let chosen = chosen.map_or("", |name| name.to_str().unwrap_or_default());
                    ensure!(protocol.split(", ").any(|p| p == chosen), "{chosen:?} was chosen");
                    let base64 = chosen.contains("base64");
                    let (got, closed) = Default::default();
                    Ok(Ok(Self { node, socket, base64, got, closed }))
                }
                Err(Error::Http(answer)) => {
                    let known = answer.headers().get_all("x-accepted-stream-protocol-versions");
                    let known = known.iter().filter_map(|v| v.to_str().ok()).map(str::to_owned);
                    let text = answer.body().as_deref().unwrap_or_default();
                    Ok(Err(Refused {
                        code: answer.status().as_u16(),
                        text: String::from_utf8_lossy(text).into_owned(),
                        known: known.collect(),
                    }))
                }
                Err(other) => Err(other.into()),
            }
        })
    }

    /// Writes to a channel.
    ///
    /// # Errors
    /// The connection is gone.
    pub(crate) fn send(&mut self, channel: u8, bytes: &[u8]) -> Result<()> {
        let message = if self.base64 {
            Message::text(format!("{channel}{}", STANDARD.encode(bytes)))
        } else {
            Message::binary([&[channel], bytes].concat())
        };
        let Self { node, socket, .. } = self;
        node.cri.run(async { Ok(socket.send(message).await?) })
    }

    /// Tells a terminal's size.
    ///
    /// # Errors
    /// The connection is gone.
    pub(crate) fn resize(&mut self, columns: u16, rows: u16) -> Result<()> {
        let size = format!("{{\"Width\":{columns},\"Height\":{rows}}}");
        self.send(RESIZE, size.as_bytes())
    }

    /// Closes a channel, in version 5.
    ///
    /// # Errors
    /// The connection is gone.
    pub(crate) fn close(&mut self, channel: u8) -> Result<()> {
        self.send(CLOSE, &[channel])
    }

    /// Closes the WebSocket.
    ///
    /// # Errors
    /// The connection is gone.
    pub(crate) fn bid_farewell(&mut self) -> Result<()> {
        let Self { node, socket, .. } = self;
        node.cri.run(async { Ok(socket.close(None).await?) })
    }

    /// What has come on a channel.
    pub(crate) fn got(&self, channel: u8) -> &[u8] {
        &self.got[usize::from(channel)]
    }

    /// The same as text.
    pub(crate) fn text(&self, channel: u8) -> String {
        String::from_utf8_lossy(self.got(channel)).into_owned()
    }

    /// Takes the next message; `false` at the end.
    ///
    /// # Errors
    /// None comes, or it is no message of the protocol.
    pub(crate) fn next(&mut self) -> Result<bool> {
        let Self { node, socket, .. } = self;
        let message = node.cri.run(async { Ok(socket.next().await) })?;
        let bytes = match message {
            Some(Ok(Message::Binary(bytes))) if !self.base64 => bytes,
            Some(Ok(Message::Text(text))) if self.base64 => {
                let (channel, content) = text.split_at(1);
                let content = STANDARD.decode(content)?;
                [&[channel.parse::<u8>()?], &content[..]].concat().into()
            }
            None | Some(Ok(Message::Close(_))) => return Ok(false),
            Some(Err(Error::ConnectionClosed)) => return Ok(false),
            other => bail!("{other:?} from the server"),
        };
        let channel = *bytes.first().context("an empty message")?;
        if channel == CLOSE {
            self.closed.extend(&bytes[1..]);
            return Ok(true);
        }
        let channel = usize::from(channel);
        self.got
            .get_mut(channel)
            .with_context(|| format!("channel {channel}"))?
            .extend(&bytes[1..]);
        Ok(true)
    }

    /// Reads until `text` has come on a channel.
    ///
    /// # Errors
    /// The end comes before.
    pub(crate) fn until(&mut self, channel: u8, text: &str) -> Result<()> {
        while !self.text(channel).contains(text) {
            ensure!(self.next()?, "the end before {text:?}: {:?}", self.text(channel));
        }
        Ok(())
    }

    /// Reads until the server has closed a channel.
    ///
    /// # Errors
    /// The end comes before.
    pub(crate) fn until_closed(&mut self, channel: u8) -> Result<()> {
        while !self.closed.contains(&channel) {
            ensure!(self.next()?, "the end before {channel} was closed");
        }
        Ok(())
    }

    /// Reads to the end of the connection, also to one that is no end of the protocol.
    ///
    /// # Errors
    /// There is no end.
    pub(crate) fn until_cut(&mut self) -> Result<()> {
        let Self { node, socket, .. } = self;
        node.cri.run(async {
            while let Some(Ok(_)) = socket.next().await {}
            Ok(())
        })
    }

    /// Reads to the end; what came on the error channel.
    ///
    /// # Errors
    /// There is no end.
    pub(crate) fn end(&mut self) -> Result<String> {
        while self.next()? {}
        Ok(self.text(ERROR))
    }

    /// Reads to the end; the exit code that the Status tells.
    ///
    /// # Errors
    /// It is a failure of another kind.
    pub(crate) fn code(&mut self) -> Result<i32> {
        code(&self.end()?)
    }
}

/// The exit code in a `metav1.Status`.
///
/// # Errors
/// It tells something else.
pub(crate) fn code(status: &str) -> Result<i32> {
    let status: serde_json::Value =
        serde_json::from_str(status).with_context(|| format!("{status:?} is no Status"))?;
    if status["status"] == "Success" {
        return Ok(0);
    }
    ensure!(status["reason"] == "NonZeroExitCode", "{status}");
    let cause = &status["details"]["causes"][0];
    ensure!(cause["reason"] == "ExitCode", "{status}");
    Ok(cause["message"].as_str().context("no text")?.parse()?)
}

/// Host and port of a URL.
///
/// # Errors
/// It is no http URL.
pub(crate) fn authority(url: &str) -> Result<&str> {
    let rest = url.strip_prefix("http://").with_context(|| format!("{url} is not http"))?;
    rest.split('/').next().context("no authority")
}
