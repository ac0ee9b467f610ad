//! Joins a client that asks for an upgrade to the runtime's URL: the head of its request is passed on, and once the
//! runtime has agreed, bytes go both ways, whatever the protocol.

use super::answer::{Answer, Refusal, text};
use super::shown::Shown;
use crate::error::chain;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{
    AUTHORIZATION, CONTENT_LENGTH, COOKIE, HOST, HeaderMap, HeaderValue, TRANSFER_ENCODING,
};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_util::either::Either;
use tracing::debug;

/// How long the runtime, which has just given the URL, may take to answer there.
const PATIENCE: Duration = Duration::from_secs(30);
/// How much of a refusal's text is passed on, bytes.
const MOST_TEXT: usize = 64 << 10;

/// Where to.
pub(super) struct Upgrade<'a> {
    /// What the runtime has given.
    pub(super) url: &'a str,
    /// What goes behind it.
    pub(super) query: Option<&'a str>,
}

fn failed(cause: impl Into<String>) -> Refusal {
    Refusal::new(StatusCode::BAD_GATEWAY, cause)
}

/// Passes the request on to the runtime, and its answer back.
pub(super) async fn join(
    shown: &Shown,
    to: Upgrade<'_>,
    mut request: Request<Incoming>,
) -> Result<Answer, Refusal> {
    let url = reqwest::Url::parse(to.url)
        .map_err(|error| failed(format!("the runtime's address {:?}: {error}", to.url)))?;
    let late = |_| failed(format!("the runtime did not answer at {url} in time"));
    let asked = async {
        let stream = connect(shown, &url).await?;
        let (mut send, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| failed(format!("ask the runtime at {url}: {}", chain(&error))))?;
        let stop = shown.stop.clone();
        shown.tasks.spawn(async move {
            tokio::select! {
                // What fails is told to whom asks or reads.
                _ = connection.with_upgrades() => {}
                () = stop.cancelled() => {}
            }
        });
        let sent = send.send_request(onward(&request, &url, to.query)?).await;
        sent.map_err(|error| failed(format!("ask the runtime at {url}: {}", chain(&error))))
    };
    let mut answer = tokio::time::timeout(PATIENCE, asked).await.map_err(late)??;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return refused(answer).await;
    }
    let runtime = hyper::upgrade::on(&mut answer);
    let client = hyper::upgrade::on(&mut request);
    let stop = shown.stop.clone();
    shown.tasks.spawn(async move {
        let joined = async {
            // The client's comes only when the answer below has been sent.
            let (client, runtime) = tokio::try_join!(client, runtime)?;
            let (mut client, mut runtime) = (TokioIo::new(client), TokioIo::new(runtime));
            let passed = tokio::io::copy_bidirectional(&mut client, &mut runtime).await;
            Ok::<_, hyper::Error>(passed)
        };
        tokio::select! {
            joined = joined => debug!(?joined, "a stream has ended"),
            () = stop.cancelled() => {}
        }
    });
    let mut upgraded = text("");
    *upgraded.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *upgraded.headers_mut() = passed_on(answer.headers());
    Ok(upgraded)
}

async fn connect(
    shown: &Shown,
    url: &reqwest::Url,
) -> Result<Either<TcpStream, tokio_rustls::client::TlsStream<TcpStream>>, Refusal> {
    let cannot = |cause: String| failed(format!("connect to the runtime at {url}: {cause}"));
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let port = url.port_or_known_default().unwrap_or_default();
    let stream = TcpStream::connect((host, port)).await.map_err(|e| cannot(e.to_string()))?;
    // A key is sent when it is typed.
    stream.set_nodelay(true).map_err(|e| cannot(e.to_string()))?;
    match url.scheme() {
        "https" => {
            let shaken = shown.trust.connect(host, stream).await;
            Ok(Either::Right(shaken.map_err(|e| cannot(chain(&e)))?))
        }
        _ => Ok(Either::Left(stream)),
    }
}

/// The head of the request, as the runtime gets it. It has no body: what the client says comes after the upgrade.
fn onward(
    request: &Request<Incoming>,
    url: &reqwest::Url,
    query: Option<&str>,
) -> Result<Request<Empty<Bytes>>, Refusal> {
    let mut target = url.path().to_owned();
    let queries: Vec<&str> = url.query().into_iter().chain(query).collect();
    if !queries.is_empty() {
        target = format!("{target}?{}", queries.join("&"));
    }
    let authority = format!("{}:{}", url.host_str().unwrap_or_default(), url.port().unwrap_or(80));
    let uri = target.parse::<hyper::Uri>();
    let uri = uri.map_err(|e| failed(format!("the runtime's address {target:?}: {e}")))?;
    let host = HeaderValue::from_str(&authority);
    let host = host.map_err(|e| failed(format!("the runtime's host {authority:?}: {e}")))?;
    let mut onward = Request::new(Empty::new());
    *onward.method_mut() = request.method().clone();
    *onward.uri_mut() = uri;
    *onward.headers_mut() = passed_on(request.headers());
    onward.headers_mut().insert(HOST, host);
    Ok(onward)
}

/// All headers but those that are between two sides alone, or nobody else's business.
fn passed_on(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    for name in [HOST, AUTHORIZATION, COOKIE, CONTENT_LENGTH, TRANSFER_ENCODING] {
        headers.remove(name);
    }
    headers
}

/// What the runtime says instead.
async fn refused(answer: Response<Incoming>) -> Result<Answer, Refusal> {
    let (head, body) = answer.into_parts();
    let body = Limited::new(body, MOST_TEXT).collect().await;
    let body = body.map_err(|error| failed(format!("read the runtime's answer: {error}")))?;
    let mut passed = text(body.to_bytes());
    *passed.status_mut() = head.status;
    let mut headers = passed_on(&head.headers);
    headers.remove(hyper::header::CONNECTION);
    *passed.headers_mut() = headers;
    Ok(passed)
}

#[cfg(test)]
#[path = "proxy_tests.rs"]
mod tests;
