//! Sockets, engine, signals: in this order, so that callers get an answer from the first moment on.
//!
//! A stop drains the RPCs in flight and leaves every pod running: their shims live on, and the next
//! start adopts them.

use super::notify;
use crate::config::{self, Config};
use crate::cri::client::{Cri, EngineCri, RemoteCri};
use crate::cri::streaming::{StreamingError, StreamingServer};
use crate::cri::{self, EngineGate, ServerError, Socket};
use crate::engine::{Engine, EngineError};
use crate::error::ErrorKind;
use crate::kubelet::control::{self, KubeletGate};
use crate::kubelet::{self, KubeletError};
use crate::watch::Watcher;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::info;

/// A daemon that cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The socket or the server.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The streaming server.
    #[error(transparent)]
    Streaming(#[from] StreamingError),
    /// The engine.
    #[error("open the engine")]
    Engine(#[source] EngineError),
    /// The kubelet half.
    #[error("keep pods")]
    Kubelet(#[source] KubeletError),
    /// The runtime that the kubelet half drives.
    #[error("connect to the runtime at {path}")]
    Endpoint {
        /// Its socket.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Signals cannot be waited for.
    #[error("wait for signals")]
    Signals(#[source] io::Error),
}

impl DaemonError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Server(e) => e.kind(),
            Self::Streaming(e) => e.kind(),
            Self::Engine(e) => e.kind(),
            Self::Kubelet(e) => e.kind(),
            Self::Endpoint { .. } => ErrorKind::Unavailable,
            Self::Signals(_) => ErrorKind::Internal,
        }
    }
}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// The socket, the engine or the server failed.
pub async fn serve(config: Arc<Config>) -> Result<(), DaemonError> {
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).map_err(DaemonError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(DaemonError::Signals)?;
    let socket = Socket::bind(&config.server.socket, config.server.group.as_deref()).await?;
    info!(socket = %config.server.socket.display(), "listening");
    let gate = EngineGate::pending();
    let watcher = Watcher::default();
    let streaming = StreamingServer::bind(&config.streaming, gate.clone(), stop.clone()).await?;
    let urls = streaming.urls();
    let pods = KubeletGate::pending(config.kubelet.as_ref());
    let routes =
        cri::routes(&gate, &urls, &stop).add_service(control::service(pods.clone(), stop.clone()));
    let drain = Duration::from_secs(config.server.drain_seconds);
    let server = async {
        let result = socket.serve(routes, stop.clone().cancelled_owned(), drain).await;
        // A server that failed by itself takes the rest with it.
        stop.cancel();
        result
    };
    let signals = async {
        tokio::select! {
            _ = terminate.recv() => info!("SIGTERM: stopping, pods keep running"),
            _ = interrupt.recv() => info!("SIGINT: stopping, pods keep running"),
        }
        notify::stopping();
        stop.cancel();
    };
    let engine = async {
        let opened = tokio::select! {
            opened = Engine::open(config.clone(), &watcher, stop.clone()) => {
                opened.map_err(DaemonError::Engine)
            }
            // Recovery that is cut off is taken up by the next start, as after a crash.
            () = stop.cancelled() => return Ok(None),
        };
        match opened {
            Ok(engine) => {
                gate.open(engine.clone());
                notify::ready();
                info!("serving");
                stop.cancelled().await;
                Ok(Some(engine))
            }
            Err(failure) => {
                stop.cancel();
                Err(failure)
            }
        }
    };
    let kubelet = async {
        let Some(own) = &config.kubelet else { return Ok(()) };
        let kept = async {
            let cri = runtime(own, || EngineCri::new(&gate, &urls, &stop)).await?;
            let (config, watcher) = (Arc::clone(&config), watcher.clone());
            let served = kubelet::serve(config, cri, watcher, pods, stop.clone());
            served.await.map_err(DaemonError::Kubelet)
        };
        let kept = kept.await;
        // What cannot keep its pods does not pretend to.
        stop.cancel();
        kept
    };
    let work = async {
        let (served, opened, (), kept) = tokio::join!(server, engine, streaming.serve(), kubelet);
        (served, opened, kept)
    };
    tokio::pin!(work);
    let (served, opened, kept) = tokio::select! {
        all = &mut work => all,
        () = async { tokio::join!(signals, notify::watchdog()); } => work.await,
    };
    if let Some(engine) = opened? {
        engine.shutdown().await;
    }
    served?;
    kept?;
    info!("stopped");
    Ok(())
}

/// What runs the pods of the kubelet half: another runtime if one is configured, else the engine in this process.
async fn runtime(
    kubelet: &config::Kubelet,
    own: impl FnOnce() -> EngineCri,
) -> Result<Arc<dyn Cri>, DaemonError> {
    match &kubelet.runtime_endpoint {
        None => Ok(Arc::new(own())),
        Some(path) => match RemoteCri::connect(path).await {
            Ok(remote) => Ok(Arc::new(remote)),
            Err(source) => Err(DaemonError::Endpoint { path: path.clone(), source }),
        },
    }
}
