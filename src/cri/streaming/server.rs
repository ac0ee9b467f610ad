//! The streaming server: it listens, hands out URLs, and turns each of them into a session, once.

use super::attach::Target;
use super::channels::Streams;
use super::detach::DetachKeys;
use super::exec::Command;
use super::forward::Pod;
use super::negotiate::Purpose;
use super::token::{Tokens, TooMany};
use super::{connection, http};
use crate::config::Streaming as Config;
use crate::cri::gate::EngineGate;
use crate::error::ErrorKind;
use crate::ids::random_hex_of;
use crate::tls::{self, Clients, TlsError};
use hyper_util::rt::TokioIo;
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Status;
use tracing::{debug, info, warn};

/// How much of a token nobody can guess, bytes.
const TOKEN_BYTES: usize = 16;
/// How many connections may be on their way to a session. Each has [`UPGRADE_WITHIN`] for it; of more, the oldest is
/// let go, so that silent ones keep nobody off.
const ARRIVING: usize = 256;
/// How many sessions there may be.
const SESSIONS: usize = 1024;
/// How long a client may take from its connection to its upgrade, TLS included.
const UPGRADE_WITHIN: Duration = Duration::from_secs(15);
/// How long a stop waits for the sessions to end.
const END_WITHIN: Duration = Duration::from_secs(2);

/// A streaming server that cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StreamingError {
    /// The address cannot be listened on.
    #[error("listen on streaming.address {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The certificate or its key.
    #[error("set up TLS for streaming")]
    Tls(#[source] TlsError),
}

impl StreamingError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Listen { source, .. } if source.kind() == io::ErrorKind::AddrInUse => {
                ErrorKind::AlreadyExists
            }
            Self::Listen { .. } => ErrorKind::Internal,
            Self::Tls(_) => ErrorKind::InvalidArgument,
        }
    }
}

/// What a URL stands for.
pub(super) enum Request {
    /// The streams of a command or of a container.
    Streams(Process),
    Forward(Pod),
}

/// Whose streams.
pub(super) enum Process {
    Exec(Command),
    Attach(Target),
}

impl Process {
    /// Which of them.
    pub(super) fn streams(&self) -> Streams {
        match self {
            Self::Exec(command) => command.streams,
            Self::Attach(target) => target.streams,
        }
    }
}

impl Request {
    /// Its part of the path.
    pub(super) fn path(&self) -> &'static str {
        match self {
            Self::Streams(Process::Exec(_)) => "exec",
            Self::Streams(Process::Attach(_)) => "attach",
            Self::Forward(_) => "portforward",
        }
    }

    pub(super) fn purpose(&self) -> Purpose {
        match self {
            Self::Streams(_) => Purpose::Command,
            Self::Forward(_) => Purpose::Forward,
        }
    }
}

/// What hands out URLs. Cheap to clone.
#[derive(Clone)]
pub struct Streaming(pub(super) Arc<Shared>);

pub(super) struct Shared {
    /// `http://address:port`.
    base: String,
    pub(super) tokens: Tokens<Request>,
    pub(super) gate: EngineGate,
    pub(super) keys: DetachKeys,
    pub(super) tasks: TaskTracker,
    pub(super) sessions: Arc<Semaphore>,
    pub(super) stop: CancellationToken,
    idle: Duration,
}

impl Streaming {
    pub(in crate::cri) fn exec(&self, command: Command) -> Result<String, Status> {
        self.url(Request::Streams(Process::Exec(command)))
    }

    pub(in crate::cri) fn attach(&self, target: Target) -> Result<String, Status> {
        self.url(Request::Streams(Process::Attach(target)))
    }

    pub(in crate::cri) fn port_forward(&self, pod: Pod) -> Result<String, Status> {
        self.url(Request::Forward(pod))
    }

    fn url(&self, request: Request) -> Result<String, Status> {
        let token = random_hex_of::<TOKEN_BYTES>();
        let token = token.map_err(|e| Status::internal(format!("make a token: {e}")))?;
        let url = format!("{}/{}/{token}", self.0.base, request.path());
        let kept = self.0.tokens.keep(token, request, Instant::now());
        kept.map_err(|error: TooMany| Status::resource_exhausted(error.to_string()))?;
        Ok(url)
    }
}

/// The server, listening.
pub struct StreamingServer {
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    shared: Arc<Shared>,
}

impl StreamingServer {
    /// Listens as configured. Sessions end when `stop` is cancelled.
    ///
    /// # Errors
    /// The address cannot be listened on, or the certificate cannot be used.
    pub async fn bind(
        config: &Config,
        gate: EngineGate,
        stop: CancellationToken,
    ) -> Result<Self, StreamingError> {
        let tls = match (&config.tls_cert, &config.tls_key) {
            (Some(certificate), Some(key)) => {
                Some(tls::acceptor(certificate, key, Clients::None).map_err(StreamingError::Tls)?)
            }
            _ => None,
        };
        let failed = |source| StreamingError::Listen { address: config.address, source };
        let listener = TcpListener::bind(config.address).await.map_err(failed)?;
        let mut address = listener.local_addr().map_err(failed)?;
        // A client of the socket is on this machine.
        match address.ip() {
            IpAddr::V4(any) if any.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
            IpAddr::V6(any) if any.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
            _ => {}
        }
        let scheme = if tls.is_some() { "https" } else { "http" };
        info!(%address, scheme, "streaming");
        let shared = Arc::new(Shared {
            base: format!("{scheme}://{address}"),
            tokens: Tokens::default(),
            gate,
            // Checked when the configuration was.
            keys: DetachKeys::parse(&config.detach_keys).unwrap_or_default(),
            tasks: TaskTracker::new(),
            sessions: Arc::new(Semaphore::new(SESSIONS)),
            stop,
            idle: Duration::from_secs(config.idle_timeout_seconds),
        });
        Ok(Self { listener, tls, shared })
    }

    /// What hands out this server's URLs.
    pub fn urls(&self) -> Streaming {
        Streaming(Arc::clone(&self.shared))
    }

    /// Serves until the stop, then ends the sessions.
    pub async fn serve(self) {
        let Self { listener, tls, shared } = self;
        let mut arriving = VecDeque::new();
        let stop = shared.stop.clone();
        let accept = async {
            loop {
                let stream = match listener.accept().await {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        // Out of descriptors: those that others give back are awaited.
                        warn!(%error, "cannot accept a streaming connection");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        continue;
                    }
                };
                let (tls, shared) = (tls.clone(), Arc::clone(&shared));
                let tasks = shared.tasks.clone();
                let arrival = tasks.spawn(async move {
                    let arrival = tokio::time::timeout(UPGRADE_WITHIN, arrive(stream, tls, shared));
                    if arrival.await.is_err() {
                        debug!("a streaming client took too long to ask");
                    }
                });
                admit(&mut arriving, arrival.abort_handle());
            }
        };
        tokio::select! {
            () = accept => {}
            () = stop.cancelled() => {}
        }
        drop(listener);
        shared.tasks.close();
        if tokio::time::timeout(END_WITHIN, shared.tasks.wait()).await.is_err() {
            info!(sessions = shared.tasks.len(), "streaming sessions were cut off");
        }
    }
}

/// Takes one more in, and lets the oldest go when there are too many.
fn admit(arriving: &mut VecDeque<AbortHandle>, arrival: AbortHandle) {
    if arriving.len() >= ARRIVING {
        arriving.retain(|arrival| !arrival.is_finished());
    }
    if arriving.len() >= ARRIVING
        && let Some(oldest) = arriving.pop_front()
    {
        oldest.abort();
    }
    arriving.push_back(arrival);
}

/// From a connection to its upgrade.
async fn arrive(stream: TcpStream, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    let served = async {
        connection::prepare(&stream)?;
        let socket = stream.as_fd().try_clone_to_owned()?;
        let idle = shared.idle;
        match tls {
            Some(tls) => {
                let stream = tls.accept(stream).await?;
                let (io, lost) = connection::notice(stream, &socket, idle)?;
                http::serve(TokioIo::new(io), lost, shared).await
            }
            None => {
                let (io, lost) = connection::notice(stream, &socket, idle)?;
                http::serve(TokioIo::new(io), lost, shared).await
            }
        }
    };
    if let Err(error) = served.await {
        let error: io::Error = error;
        debug!(%error, "a streaming connection failed");
    }
}
