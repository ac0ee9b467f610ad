//! The HTTP/1.1 side: one request a connection, which becomes a session or is told why not.
//!
//! | answer | when |
//! | --- | --- |
//! | 101 | the session begins |
//! | 400 | no upgrade is asked for, a header is missing, a port cannot be |
//! | 403 | none of the client's protocols is known; the known ones are in `X-Accepted-Stream-Protocol-Versions` |
//! | 404 | the token is unknown, was used, or has expired |
//! | 405 | neither GET nor POST |
//! | 503 | there are too many sessions |

use super::connection::Lost;
use super::forward_websocket::ports_of;
use super::negotiate::{self, ACCEPTED_HEADER, Agreed, Framing, PROTOCOL_HEADER, Refused};
use super::server::{Request, Shared};
use super::session::{self, Session};
use crate::lock::lock;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue, UPGRADE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Response, StatusCode};
use hyper_util::rt::TokioTimer;
use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tracing::Instrument as _;

/// How long a client may take for its request's head.
const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// The largest head of a request, bytes.
const LARGEST_HEAD: usize = 16 << 10;
/// The most headers of a request.
const MOST_HEADERS: usize = 64;

type Answer = Response<Full<Bytes>>;

/// Answers the connection's one request.
pub(super) async fn serve<Io>(io: Io, lost: Lost, shared: Arc<Shared>) -> io::Result<()>
where
    Io: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let lost = Mutex::new(Some(lost));
    let answer = |request| {
        let answer = begin(request, &lost, &shared).unwrap_or_else(refusal);
        async move { Ok::<_, Infallible>(answer) }
    };
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(LARGEST_HEAD)
        .max_headers(MOST_HEADERS)
        .serve_connection(io, service_fn(answer))
        .with_upgrades()
        .await
        .map_err(io::Error::other)
}

/// Why there is no session.
struct Refusal {
    code: StatusCode,
    text: String,
    accepted: &'static [&'static str],
}

fn refuse(code: StatusCode, text: impl Into<String>) -> Refusal {
    Refusal { code, text: text.into(), accepted: &[] }
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Bad(text) => refuse(StatusCode::BAD_REQUEST, text),
            Refused::NoProtocol(accepted) => {
                let text =
                    format!("none of the protocols is known; known are {}", accepted.join(", "));
                Self { code: StatusCode::FORBIDDEN, text, accepted }
            }
        }
    }
}

/// Begins the session that the request's URL stands for. The token is used up only when everything else is right.
fn begin(
    mut request: hyper::Request<Incoming>,
    lost: &Mutex<Option<Lost>>,
    shared: &Arc<Shared>,
) -> Result<Answer, Refusal> {
    if !matches!(*request.method(), Method::GET | Method::POST) {
        return Err(refuse(StatusCode::METHOD_NOT_ALLOWED, "the method must be GET or POST"));
    }
    let now = Instant::now();
    let gone = || {
        refuse(
            StatusCode::NOT_FOUND,
            "the URL is unknown, was used before, or is older than a minute",
        )
    };
    let mut path = request.uri().path().split('/').skip(1);
    let (Some(kind), Some(token), None) = (path.next(), path.next(), path.next()) else {
        return Err(gone());
    };
    let about = |kept: &Request| {
        (kept.path() == kind).then(|| {
            let agreed = negotiate::negotiate(request.headers(), kept.purpose())?;
            let ports = match (kept, &agreed.framing) {
                (Request::Forward(pod), Framing::WebSocket { base64, .. }) => {
                    ports_of(request.uri().query(), pod, *base64).map_err(Refused::Bad)?
                }
                _ => Vec::new(),
            };
            Ok::<_, Refused>((agreed, ports))
        })
    };
    let (agreed, ports) = shared.tokens.peek(token, now, about).flatten().ok_or_else(gone)??;
    let place = Arc::clone(&shared.sessions).try_acquire_owned();
    let place = place.map_err(|_| {
        refuse(StatusCode::SERVICE_UNAVAILABLE, "there are too many streaming sessions")
    })?;
    let wanted = shared.tokens.take(token, now).ok_or_else(gone)?;
    let Some(lost) = lock(lost).take() else {
        return Err(refuse(StatusCode::BAD_REQUEST, "one request a connection"));
    };
    let span = tracing::info_span!("stream", kind = wanted.path());
    let answer = upgrade(&agreed);
    let io = hyper::upgrade::on(&mut request);
    let session = Session { wanted, agreed, ports, lost, shared: Arc::clone(shared) };
    shared.tasks.spawn(
        async move {
            session::run(session, io).await;
            drop(place);
        }
        .instrument(span),
    );
    Ok(answer)
}

/// 101 and what both speak from now on.
fn upgrade(agreed: &Agreed) -> Answer {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    let protocol = agreed.protocol.map(HeaderValue::from_static);
    match &agreed.framing {
        Framing::Spdy => {
            headers.insert(UPGRADE, HeaderValue::from_static("SPDY/3.1"));
            headers.extend(
                protocol.map(|p| (hyper::header::HeaderName::from_static(PROTOCOL_HEADER), p)),
            );
        }
        Framing::WebSocket { key, .. } | Framing::Tunnel { key } => {
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
            let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes()));
            headers.extend(accept.ok().map(|a| (hyper::header::SEC_WEBSOCKET_ACCEPT, a)));
            headers.extend(protocol.map(|p| (hyper::header::SEC_WEBSOCKET_PROTOCOL, p)));
        }
    }
    answer
}

fn refusal(refusal: Refusal) -> Answer {
    let Refusal { code, text, accepted } = refusal;
    let mut answer = Response::new(Full::new(Bytes::from(text + "\n")));
    *answer.status_mut() = code;
    let headers = answer.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    for name in accepted {
        headers.append(ACCEPTED_HEADER, HeaderValue::from_static(name));
    }
    answer
}
