//! The server: on a unix socket for root, and on TCP with TLS for whom the configuration lets in.

use super::access::Access;
use super::answer::Refusal;
use super::api::Api;
use super::error::HttpError;
use super::live::{Keeper, Live, keep};
use super::shown::Shown;
use super::user::{Caller, User};
use crate::blocking;
use crate::config;
use crate::cri::Socket;
use crate::cri::streaming::connection;
use crate::watch::Watcher;
use hyper::body::Incoming;
use hyper::header::AUTHORIZATION;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tracing::{debug, info, warn};

/// How many connections there may be over TCP; more are closed as they come.
const CONNECTIONS: usize = 512;
/// How long a client may take for the handshake of TLS.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// How long a client may take for a request's head; a connection may be idle for as long, too.
const HEAD_WITHIN: Duration = Duration::from_secs(60);
/// The largest head of a request, bytes: a command is a part of it.
const LARGEST_HEAD: usize = 64 << 10;
/// The most headers of a request.
const MOST_HEADERS: usize = 64;

/// The HTTP API, listening.
pub struct HttpServer {
    socket: Socket,
    tcp: Option<TcpListener>,
    api: Arc<Api>,
    keeper: Keeper,
    live: watch::Sender<Live>,
    watcher: Watcher,
}

/// Where the API is served from.
pub struct Place {
    /// `[kubelet]`.
    pub kubelet: config::Kubelet,
    /// The unix socket for root.
    pub socket: PathBuf,
    /// The folder of the certificate that the node signs itself.
    pub pki: PathBuf,
    /// That of the process, for the files of certificates and tokens.
    pub watcher: Watcher,
}

impl HttpServer {
    /// Listens.
    ///
    /// # Errors
    /// The address or the socket cannot be had, or a file of certificates or tokens cannot be used.
    pub async fn bind(place: Place, shown: Shown) -> Result<Self, HttpError> {
        let Place { kubelet, socket: path, pki, watcher } = place;
        let socket = Socket::bind_private(&path).await.map_err(HttpError::Socket)?;
        let address = kubelet.http_address;
        let node = shown.node.clone();
        let read = move || Keeper::read(kubelet, pki, node);
        let (keeper, live) = blocking::run("read the certificates and tokens", read).await??;
        let tcp = match address {
            Some(address) => {
                let failed = |source| HttpError::Listen { address, source };
                Some(TcpListener::bind(address).await.map_err(failed)?)
            }
            None => None,
        };
        info!(socket = %path.display(), address = address.map(tracing::field::display), "the kubelet's HTTP API");
        let (api, live) = (Arc::new(Api::new(shown)), watch::Sender::new(live));
        Ok(Self { socket, tcp, api, keeper, live, watcher })
    }

    /// Where it listens over TCP.
    pub fn address(&self) -> Option<SocketAddr> {
        self.tcp.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    /// Serves until the stop of what is shown. Connections are cut off then.
    pub async fn serve(self) {
        let Self { socket, tcp, api, keeper, live, watcher } = self;
        let stop = api.shown.stop.clone();
        let unix = async {
            loop {
                match socket.accept().await {
                    Ok(stream) => {
                        let served = serve(stream, Whom::Root, api.clone(), live.subscribe());
                        api.shown.tasks.spawn(served);
                    }
                    Err(error) => wait(&error).await,
                }
            }
        };
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        let over_tcp = async {
            let Some(listener) = &tcp else { return std::future::pending().await };
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => {
                        // Dropped, the connection is closed.
                        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
                        let served = shake(stream, api.clone(), live.subscribe(), place);
                        api.shown.tasks.spawn(served);
                    }
                    Err(error) => wait(&error).await,
                }
            }
        };
        tokio::select! {
            () = unix => {}
            () = over_tcp => {}
            () = keep(keeper, &live, &watcher) => {}
            () = stop.cancelled() => {}
        }
    }
}

/// Out of descriptors: those that others give back are awaited.
async fn wait(error: &io::Error) {
    warn!(%error, "cannot accept a connection to the kubelet's HTTP API");
    tokio::time::sleep(Duration::from_millis(100)).await;
}

/// Whom a connection is from, as far as the connection tells.
#[derive(Clone)]
enum Whom {
    Root,
    /// By its certificate, if it has shown one.
    Client(Option<User>),
}

async fn shake(
    stream: TcpStream,
    api: Arc<Api>,
    live: watch::Receiver<Live>,
    place: OwnedSemaphorePermit,
) {
    let stop = api.shown.stop.clone();
    let Some(tls) = live.borrow().tls.clone() else { return };
    let accepted = async {
        connection::prepare(&stream)?;
        tls.accept(stream).await
    };
    let accepted = tokio::select! {
        accepted = tokio::time::timeout(HANDSHAKE_WITHIN, accepted) => accepted,
        () = stop.cancelled() => return,
    };
    let stream = match accepted {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return debug!(%error, "a client of the kubelet's HTTP API has no TLS"),
        Err(_) => return debug!("a client of the kubelet's HTTP API took too long for TLS"),
    };
    let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let user = shown.and_then(|certificate| User::of_certificate(certificate));
    serve(stream, Whom::Client(user), api, live).await;
    drop(place);
}

/// Answers the requests of a connection, one after the other.
async fn serve(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    whom: Whom,
    api: Arc<Api>,
    live: watch::Receiver<Live>,
) {
    let stop = api.shown.stop.clone();
    let answer = |request: Request<Incoming>| {
        let access = Arc::clone(&live.borrow().access);
        let (whom, api) = (whom.clone(), Arc::clone(&api));
        async move {
            let answer = match caller(&whom, &access, &request) {
                Ok(caller) => api.answer(&access, &caller, request).await,
                Err(refusal) => Err(refusal),
            };
            Ok::<_, Infallible>(answer.unwrap_or_else(Refusal::answer))
        }
    };
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(LARGEST_HEAD)
        .max_headers(MOST_HEADERS)
        .serve_connection(TokioIo::new(io), service_fn(answer))
        .with_upgrades();
    tokio::select! {
        served = connection => {
            if let Err(error) = served {
                debug!(%error, "a connection to the kubelet's HTTP API failed");
            }
        }
        () = stop.cancelled() => {}
    }
}

fn caller(whom: &Whom, access: &Access, request: &Request<Incoming>) -> Result<Caller, Refusal> {
    let certificate = match whom {
        Whom::Root => return Ok(Caller::Root),
        Whom::Client(certificate) => certificate.as_ref(),
    };
    // One that is not text is not known, and is not the same as none.
    let header = request.headers().get(AUTHORIZATION).map(|value| value.to_str().unwrap_or("?"));
    let unknown = || {
        let cause = "neither a client certificate nor a bearer token that is known";
        Refusal::new(StatusCode::UNAUTHORIZED, cause)
    };
    access.authenticate(certificate, header).map(Caller::User).ok_or_else(unknown)
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
