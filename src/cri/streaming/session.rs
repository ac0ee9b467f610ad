//! From an upgraded connection to the session that it was upgraded for.

use super::channels::Channels;
use super::connection::Lost;
use super::negotiate::{Agreed, Framing};
use super::server::{Process, Request, Shared};
use super::tunnel::Tunnel;
use super::websocket::{self, Form, Mux};
use super::{attach, command_spdy, command_websocket, exec, forward_spdy, forward_websocket, spdy};
use crate::engine::Engine;
use hyper_util::rt::TokioIo;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::task::TaskTracker;
use tracing::{debug, info};

/// How long the client may take to read that it was upgraded.
const UPGRADE_WITHIN: Duration = Duration::from_secs(10);

/// A session before it has begun.
pub(super) struct Session {
    pub(super) wanted: Request,
    pub(super) agreed: Agreed,
    /// For port-forward by channels.
    pub(super) ports: Vec<u16>,
    pub(super) lost: Lost,
    pub(super) shared: Arc<Shared>,
}

/// Runs the session to its end, or to the end of the daemon.
pub(super) async fn run(session: Session, io: hyper::upgrade::OnUpgrade) {
    let io = match tokio::time::timeout(UPGRADE_WITHIN, io).await {
        Ok(Ok(io)) => TokioIo::new(io),
        Ok(Err(error)) => return debug!(%error, "a client went away at its upgrade"),
        Err(_) => return debug!("a client did not read that it was upgraded"),
    };
    let Ok(engine) = session.shared.gate.engine().cloned() else { return };
    let stop = session.shared.stop.clone();
    debug!(protocol = session.agreed.protocol, "session");
    tokio::select! {
        () = serve(session, io, &engine) => debug!("session ended"),
        () = stop.cancelled() => info!("session cut off by the stop"),
    }
}

async fn serve<Io>(session: Session, io: Io, engine: &Engine)
where
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Session { wanted, agreed, ports, lost, shared } = session;
    let version = agreed.version();
    let (closed, idle) = lost.split();
    match agreed.framing {
        Framing::Tunnel { .. } => {
            let io = Tunnel::new(websocket::upgraded(io).await);
            let session = drive(io, closed, idle, &shared.tasks);
            over_spdy(engine, &shared, wanted, session, version).await;
        }
        Framing::Spdy => {
            let session = drive(io, closed, idle, &shared.tasks);
            over_spdy(engine, &shared, wanted, session, version).await;
        }
        Framing::WebSocket { base64, .. } => {
            let form = Form { base64, closes: version >= 5 };
            let lost = async {
                tokio::select! {
                    () = closed => {}
                    () = idle => debug!("a session without a byte for too long"),
                }
            };
            let inputs = match &wanted {
                Request::Streams(_) => vec![command_websocket::STDIN, command_websocket::RESIZE],
                Request::Forward(_) => forward_websocket::inputs(&ports),
            };
            let (mux, driver) = Mux::new(io, form, &inputs, lost);
            shared.tasks.spawn(driver);
            match wanted {
                Request::Streams(process) => {
                    let channels = command_websocket::channels(mux, process.streams(), version);
                    join(engine, &shared, process, channels.await).await;
                }
                Request::Forward(pod) => forward_websocket::run(engine, &pod, &ports, mux).await,
            }
        }
    }
}

/// A session of SPDY, driven by a task of its own until its end, or until nothing has moved for too long.
fn drive<Io>(
    io: Io,
    closed: impl Future<Output = ()> + Send + 'static,
    idle: impl Future<Output = ()> + Send + 'static,
    tasks: &TaskTracker,
) -> spdy::Session
where
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (session, driver) = spdy::serve(io, spdy::Limits::default(), closed);
    let gone = session.gone();
    tasks.spawn(async move {
        tokio::select! {
            closed = driver => debug!(?closed, "the connection has ended"),
            () = idle => debug!("a session without a byte for too long"),
        }
        gone.cancel();
    });
    session
}

async fn over_spdy(
    engine: &Engine,
    shared: &Shared,
    wanted: Request,
    session: spdy::Session,
    version: u8,
) {
    match wanted {
        Request::Streams(process) => {
            let opened = command_spdy::channels(session, process.streams(), version, &shared.tasks);
            if let Some(channels) = opened.await {
                join(engine, shared, process, channels).await;
            }
        }
        Request::Forward(pod) => forward_spdy::run(engine, &pod, session).await,
    }
}

/// Joins a client's streams to those of the process.
async fn join(engine: &Engine, shared: &Shared, process: Process, channels: Channels) {
    match process {
        Process::Exec(command) => exec::run(engine, command, channels).await,
        Process::Attach(target) => attach::run(engine, target, &shared.keys, channels).await,
    }
}
