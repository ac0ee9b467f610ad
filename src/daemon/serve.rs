//! Sockets, engine, signals: in this order, so that callers get an answer from the first moment on.
//!
//! A stop drains the RPCs in flight and leaves every pod running: their shims live on, and the next
//! start adopts them.

use super::notify;
use crate::config::Config;
use crate::cri::streaming::{StreamingError, StreamingServer};
use crate::cri::{self, EngineGate, ServerError, Socket};
use crate::engine::{Engine, EngineError};
use crate::error::ErrorKind;
use std::io;
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
    let streaming = StreamingServer::bind(&config.streaming, gate.clone(), stop.clone()).await?;
    let routes = cri::routes(&gate, &streaming.urls(), &stop);
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
            opened = Engine::open(config.clone(), stop.clone()) => opened.map_err(DaemonError::Engine),
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
    let work = async {
        let (served, opened, ()) = tokio::join!(server, engine, streaming.serve());
        (served, opened)
    };
    tokio::pin!(work);
    let (served, opened) = tokio::select! {
        both = &mut work => both,
        () = async { tokio::join!(signals, notify::watchdog()); } => work.await,
    };
    if let Some(engine) = opened? {
        engine.shutdown().await;
    }
    served?;
    info!("stopped");
    Ok(())
}
