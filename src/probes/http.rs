//! httpGet: a server that answers with 200 to 399 is well.
//!
//! One connection a request, which is asked to close; no proxy; certificates are not checked; HTTP/1.1, over TLS,
//! too. Redirects are followed on the same host, at most [`MAX_REDIRECTS`] of them; one to another host is a warning.

use super::connect;
use super::outcome::{Answer, CheckError, READ_BYTES, Verdict};
use super::place::{Named, Next, Place};
use super::spec::HttpGet;
use super::stream::{self, Stream};
use crate::error::{ErrorKind, chain, kinded};
use bytes::Bytes;
use futures::future::{Either, select};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{HeaderMap, HeaderValue, LOCATION};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio_rustls::TlsConnector;

/// How many redirects are followed.
const MAX_REDIRECTS: usize = 10;
/// The most that a server's header may have.
const HEAD_BYTES: usize = 64 << 10;
/// How long a server may take to close a connection that it was asked to close. What it answered counts whether
/// it does or not.
const CLOSE_LIMIT: Duration = Duration::from_millis(50);

/// A request without an answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum HttpError {
    /// The request names no host, and the pod has no address.
    #[error("the pod has no address yet")]
    NoAddress,
    /// Nobody accepts the connection.
    #[error("connect to {place}")]
    Connect { place: Place, source: io::Error },
    /// The server does not speak TLS as we do.
    #[error("speak TLS with {place}")]
    Tls { place: Place, source: io::Error },
    /// The request cannot be written down.
    #[error("the request to {place} cannot be made")]
    Request { place: Place, source: hyper::http::Error },
    /// The server's answer is none, or ends too early.
    #[error("get {place}")]
    Exchange { place: Place, source: hyper::Error },
    /// It redirects on and on.
    #[error("{place} is after {MAX_REDIRECTS} redirects, and redirects")]
    Redirects { place: Place },
    /// It redirects to what is no URL.
    #[error("{place} redirects to what is no URL of HTTP")]
    Nowhere { place: Place },
}

impl HttpError {
    /// What the caller can do about it.
    pub(super) fn kind(&self) -> ErrorKind {
        match self {
            Self::NoAddress => ErrorKind::FailedPrecondition,
            Self::Request { .. } => ErrorKind::InvalidArgument,
            Self::Connect { .. }
            | Self::Tls { .. }
            | Self::Exchange { .. }
            | Self::Redirects { .. }
            | Self::Nowhere { .. } => ErrorKind::Unavailable,
        }
    }

    /// Whether the server answered a TLS handshake with something else, as one of HTTP without TLS does.
    pub(super) fn is_plain(&self) -> bool {
        matches!(self, Self::Tls { source, .. } if super::tls::is_plain(source))
    }
}
kinded!(HttpError);

/// The last answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    /// Its status.
    status: StatusCode,
    /// Where it leads, if that is another host.
    elsewhere: Option<String>,
}

/// Asks once and judges.
pub(super) async fn attempt(
    get: &HttpGet,
    address: Option<IpAddr>,
    tls: &TlsConnector,
    limit: Duration,
) -> Answer {
    match tokio::time::timeout(limit, ask(get, address, tls)).await {
        Ok(Ok(reply)) => Ok(judge(&reply)),
        Ok(Err(HttpError::NoAddress)) => Err(CheckError::NoAddress),
        Ok(Err(e)) => Ok(Verdict::Failure(chain(&e))),
        Err(_) => {
            let place = first(get, address).map(|place| place.to_string()).unwrap_or_default();
            Ok(Verdict::Failure(format!("get {place}: timed out after {} s", limit.as_secs())))
        }
    }
}

/// What the last answer says of the container. Its body is nobody's business.
fn judge(reply: &Reply) -> Verdict {
    let code = reply.status.as_u16();
    match (&reply.elsewhere, code) {
        (Some(place), _) => {
            Verdict::Warning(format!("status {code} leads to another host, not followed: {place}"))
        }
        (None, 200..300) => Verdict::Success(format!("status {code}")),
        (None, 300..400) => Verdict::Warning(format!("status {code} leads nowhere")),
        (None, _) => Verdict::Failure(format!("HTTP status {code}")),
    }
}

/// Where the request goes first.
fn first(get: &HttpGet, address: Option<IpAddr>) -> Result<Place, HttpError> {
    let host = get.host.clone().or_else(|| address.map(|address| address.to_string()));
    let host = host.ok_or(HttpError::NoAddress)?;
    Ok(Place::of(get.scheme, host, get.port, &get.path))
}

/// Asks, and follows where the answers lead on the same host. Takes as long as the server does.
///
/// # Errors
/// There is no last answer.
pub(super) async fn ask(
    get: &HttpGet,
    address: Option<IpAddr>,
    tls: &TlsConnector,
) -> Result<Reply, HttpError> {
    let mut place = first(get, address)?;
    // A host that the manifest names holds until a redirect names one.
    let mut own_host = get.headers.names_host();
    for _ in 0..=MAX_REDIRECTS {
        let authority = match own_host {
            true => None,
            false => HeaderValue::from_maybe_shared(Bytes::from(place.authority())).ok(),
        };
        let (status, location) = exchange(&place, get.headers.to(authority), tls).await?;
        let Some(location) = location else { return Ok(Reply { status, elsewhere: None }) };
        match place.next(&location) {
            Next::SameHost { place: next, named } => {
                own_host &= named == Named::No;
                place = next;
            }
            Next::OtherHost(elsewhere) => {
                return Ok(Reply { status, elsewhere: Some(elsewhere) });
            }
            Next::Nowhere => return Err(HttpError::Nowhere { place }),
        }
    }
    Err(HttpError::Redirects { place })
}

/// One request on one connection: the status, and where to it redirects.
async fn exchange(
    place: &Place,
    header: HeaderMap,
    tls: &TlsConnector,
) -> Result<(StatusCode, Option<String>), HttpError> {
    let request = request(place, header)?;
    let stream = stream::open(place, tls).await?;
    let failed = |source| HttpError::Exchange { place: place.clone(), source };
    let handshake = http1::Builder::new()
        .max_buf_size(HEAD_BYTES)
        .ignore_invalid_headers_in_responses(true)
        .allow_obsolete_multiline_headers_in_responses(true)
        .handshake::<_, Empty<Bytes>>(TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.map_err(failed)?;
    let answer = pin!(async move {
        let mut response = sender.send_request(request).await?;
        let rest = read(&mut response).await?;
        // Without its sender the connection knows that there is nothing more to wait for.
        drop(sender);
        Ok((response.status(), redirect(&response), rest))
    });
    // The connection moves what the request asks it to, in this task.
    let connection = pin!(connection.without_shutdown());
    let ((status, location, rest), parts) = match select(answer, connection).await {
        Either::Left((answer, connection)) => match answer.map_err(failed)? {
            // What is not read to its end is cut off.
            answer @ (_, _, Rest::Unread) => (answer, None),
            answer => (answer, connection.await.ok()),
        },
        Either::Right((parts, answer)) => (answer.await.map_err(failed)?, parts.ok()),
    };
    if let (Rest::None, Some(parts)) = (rest, parts) {
        end(parts.io.into_inner()).await;
    }
    Ok((status, location))
}

fn request(place: &Place, header: HeaderMap) -> Result<Request<Empty<Bytes>>, HttpError> {
    let request = Request::builder().method(Method::GET).uri(&place.target).body(Empty::new());
    let mut request =
        request.map_err(|source| HttpError::Request { place: place.clone(), source })?;
    *request.headers_mut() = header;
    Ok(request)
}

/// Whether something of an answer's body was not read.
enum Rest {
    None,
    Unread,
}

/// Reads what may be read of a body, and forgets it: a server shall see its answer taken.
async fn read(response: &mut Response<Incoming>) -> Result<Rest, hyper::Error> {
    let mut left = READ_BYTES;
    while let Some(frame) = response.body_mut().frame().await {
        let length = frame?.data_ref().map_or(0, Bytes::len);
        match left.checked_sub(length) {
            Some(rest) => left = rest,
            None => return Ok(Rest::Unread),
        }
    }
    Ok(Rest::None)
}

/// Where an answer redirects to.
fn redirect(response: &Response<Incoming>) -> Option<String> {
    let followed = matches!(response.status().as_u16(), 301..=303 | 307 | 308);
    let location = response.headers().get(LOCATION).filter(|_| followed)?;
    Some(String::from_utf8_lossy(location.as_bytes()).into_owned()).filter(|l| !l.is_empty())
}

/// Lets the server close first, as it was asked to.
async fn end(mut stream: Stream) {
    // Whether it does, or not, or says more: it has answered.
    tokio::time::timeout(CLOSE_LIMIT, stream.read(&mut [0])).await.ok();
    connect::reset(stream.into_tcp());
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;
