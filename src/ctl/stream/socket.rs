//! A WebSocket (RFC 6455) to where the daemon says that a stream is.

use super::error::StreamError;
use super::tls::Trust;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::{HeaderValue, Uri, header, uri};
use tokio_tungstenite::tungstenite::{self, handshake::client::Response};
use tokio_tungstenite::{WebSocketStream, client_async};
use tokio_util::either::Either;

/// The protocol: channels that can be ended one by one, and a status as the last word.
const V5: &str = "v5.channel.k8s.io";

/// How long the daemon, which has just given the URL, may take to answer there.
const PATIENCE: Duration = Duration::from_secs(10);
/// How much of a refusal's text is told, characters.
const MOST_TEXT: usize = 300;

/// A connection.
pub(in crate::ctl) type Socket = WebSocketStream<Either<TcpStream, TlsStream<TcpStream>>>;

/// Connects.
///
/// # Errors
/// An odd URL, a connection that cannot be had, an answer that is no stream.
pub(in crate::ctl) async fn connect(url: &str, trust: &Trust) -> Result<Socket, StreamError> {
    let Target { address, host, port, tls, uri } = parse_url(url)?;
    let mut request = uri.into_client_request().map_err(|_| StreamError::Url("it is none"))?;
    request.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(V5));
    let opened = tokio::time::timeout(PATIENCE, async {
        let failed = |source| StreamError::Connect { address: address.clone(), source };
        let stream = TcpStream::connect((host.as_str(), port)).await.map_err(failed)?;
        // A key is sent when it is typed.
        stream.set_nodelay(true).map_err(failed)?;
        let stream = match tls {
            true => Either::Right(trust.connect(&host, stream).await?),
            false => Either::Left(stream),
        };
        client_async(request, stream).await.map_err(|error| refused(&address, error))
    });
    let (socket, response) = opened.await.map_err(|_| StreamError::Connect {
        address: address.clone(),
        source: std::io::ErrorKind::TimedOut.into(),
    })??;
    // The handshake has made sure of it.
    if chosen(&response) == Some(V5) { Ok(socket) } else { Err(StreamError::Silent) }
}

/// Where a URL leads.
#[derive(Debug, PartialEq, Eq)]
struct Target {
    /// For people.
    address: String,
    host: String,
    port: u16,
    tls: bool,
    /// With the scheme of a WebSocket.
    uri: Uri,
}

fn parse_url(url: &str) -> Result<Target, StreamError> {
    let uri: Uri = url.parse().map_err(|_| StreamError::Url("it is none"))?;
    // The connection is made here, whichever scheme the request has.
    let (scheme, tls, usual) = match uri.scheme_str() {
        Some("http") => ("ws", false, 80),
        Some("https") => ("wss", true, 443),
        _ => return Err(StreamError::Url("its scheme is not http")),
    };
    let authority = uri.authority().ok_or(StreamError::Url("it has no host"))?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    let (address, port) = (authority.to_string(), authority.port_u16().unwrap_or(usual));
    let mut parts = uri.into_parts();
    parts.scheme = scheme.parse::<uri::Scheme>().ok();
    let uri = Uri::from_parts(parts).map_err(|_| StreamError::Url("it has no path"))?;
    Ok(Target { address, host, port, tls, uri })
}

fn chosen(response: &Response) -> Option<&str> {
    response.headers().get(header::SEC_WEBSOCKET_PROTOCOL)?.to_str().ok()
}

fn refused(address: &str, error: tungstenite::Error) -> StreamError {
    let address = address.to_owned();
    match error {
        tungstenite::Error::Http(response) => {
            let body = response.body().as_deref().unwrap_or_default();
            let text = String::from_utf8_lossy(body);
            let text = text.lines().next().unwrap_or_default().chars().take(MOST_TEXT).collect();
            StreamError::Refused { address, status: response.status().as_u16(), text }
        }
        source => StreamError::Open { address, source: Box::new(source) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_leads_to_a_host_and_a_port() {
        for (url, host, port, uri) in [
            ("http://127.0.0.1:81/exec/t?x=1", "127.0.0.1", 81, "ws://127.0.0.1:81/exec/t?x=1"),
            ("http://[::1]:81/a", "::1", 81, "ws://[::1]:81/a"),
            ("http://node/a", "node", 80, "ws://node/a"),
            ("https://node/a", "node", 443, "wss://node/a"),
        ] {
            let target = parse_url(url).unwrap();
            assert_eq!((target.host.as_str(), target.port), (host, port), "{url}");
            assert_eq!(target.uri.to_string(), uri, "{url}");
            assert_eq!(target.tls, url.starts_with("https"), "{url}");
        }
    }

    #[test]
    fn what_is_no_stream_is_refused_without_its_secret() {
        for url in ["", "/exec/secret", "http:///exec/secret", "ftp://h/secret", "a b secret"] {
            let error = parse_url(url).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{url}: {error}");
        }
    }
}
