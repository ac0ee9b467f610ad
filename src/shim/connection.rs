//! The daemon's end of a connection: requests out, answers matched by id, events handed on.
//!
//! One task reads; it ends with the stream or with the last handle. Whoever asks writes. A request
//! whose asker goes away is sent nevertheless, and its answer is dropped.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prost::Message as _;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;

use super::api::{ShimError, ShimEvent};
use super::protocol::{Filled, Frame, FrameError, FrameReader, FrameWriter};
use super::wire::{self, message::Body, reply, request::Verb};
use crate::failpoint;
use crate::ids::SandboxId;
use crate::sys::async_fd;

/// Where events go.
pub type Events = mpsc::UnboundedSender<(SandboxId, ShimEvent)>;

type Answer = (Option<reply::Result>, Vec<OwnedFd>);

/// Requests in flight; `None` once the stream has ended.
type Waiting = Mutex<Option<HashMap<u64, oneshot::Sender<Answer>>>>;

struct Shared {
    socket: AsyncFd<OwnedFd>,
    waiting: Waiting,
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Option<HashMap<u64, oneshot::Sender<Answer>>>> {
        // A map that a panic interrupted is still a map.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection to a shim.
pub(super) struct Connection {
    shared: Arc<Shared>,
    writer: tokio::sync::Mutex<FrameWriter>,
    next_id: AtomicU64,
    reader: AbortHandle,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Connection {
    /// Takes over a connected, non-blocking socket. Must be called on the runtime.
    pub(super) fn new(
        socket: OwnedFd,
        sandbox: SandboxId,
        events: Events,
    ) -> Result<Self, ShimError> {
        let socket = async_fd::watch(socket)
            .map_err(|source| ShimError::Prepare { what: "watch the connection", source })?;
        let shared = Arc::new(Shared { socket, waiting: Mutex::new(Some(HashMap::new())) });
        let reader = read(Arc::clone(&shared), sandbox, events);
        #[expect(clippy::disallowed_methods, reason = "owned by the connection, aborted on drop")]
        let reader = tokio::spawn(reader).abort_handle();
        Ok(Self {
            shared,
            writer: tokio::sync::Mutex::default(),
            next_id: AtomicU64::new(1),
            reader,
        })
    }

    /// Sends one request and waits for its answer, no longer than `limit`.
    pub(super) async fn ask(
        &self,
        name: &'static str,
        verb: Verb,
        fds: Vec<OwnedFd>,
        limit: Duration,
    ) -> Result<(reply::Result, Vec<OwnedFd>), ShimError> {
        let asked = tokio::time::timeout(limit, self.ask_unlimited(name, verb, fds)).await;
        let (result, fds) = asked.map_err(|_| ShimError::Deadline { verb: name, limit })??;
        match result {
            Some(reply::Result::Failed(failed)) => Err(ShimError::Step {
                step: failed.step,
                errno: failed.errno.unwrap_or(0),
                message: failed.message.unwrap_or_default(),
            }),
            Some(result) => Ok((result, fds)),
            None => Err(ShimError::Answer(format!("nothing to {name}"))),
        }
    }

    async fn ask_unlimited(
        &self,
        name: &'static str,
        verb: Verb,
        fds: Vec<OwnedFd>,
    ) -> Result<Answer, ShimError> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        match &mut *self.shared.waiting() {
            Some(waiting) => waiting.insert(id, answer),
            None => return Err(ShimError::Disconnected(name)),
        };
        let request = wire::Request { id, verb: Some(verb) };
        let site = format!("shim {name}");
        failpoint::point(&site, "before");
        self.send(&request, fds).await.map_err(|e| match e {
            FrameError::Socket(_) => ShimError::Disconnected(name),
            other => ShimError::Protocol(other),
        })?;
        failpoint::point(&site, "after");
        answered.await.map_err(|_| ShimError::Disconnected(name))
    }

    /// Sends a request completely. The queue is kept over a cancellation, so that a frame that
    /// was sent in part is finished by the next sender.
    async fn send(&self, request: &wire::Request, fds: Vec<OwnedFd>) -> Result<(), FrameError> {
        let mut writer = self.writer.lock().await;
        writer.push(request, fds)?;
        loop {
            if writer.flush(self.shared.socket.get_ref().as_fd())? {
                return Ok(());
            }
            let mut ready = self.shared.socket.writable().await.map_err(FrameError::Socket)?;
            ready.clear_ready();
        }
    }
}

/// Reads until the stream ends or breaks, then fails what waits and says so.
async fn read(shared: Arc<Shared>, sandbox: SandboxId, events: Events) {
    if let Err(error) = read_frames(&shared, &sandbox, &events).await {
        tracing::warn!(
            sandbox_id = %sandbox,
            error = crate::error::chain(&error),
            "connection to the shim failed"
        );
    }
    // Dropping the senders tells the askers.
    shared.waiting().take();
    events.send((sandbox, ShimEvent::Disconnected)).ok();
}

async fn read_frames(
    shared: &Shared,
    sandbox: &SandboxId,
    events: &Events,
) -> Result<(), FrameError> {
    let mut reader = FrameReader::default();
    loop {
        let mut ready = shared.socket.readable().await.map_err(FrameError::Socket)?;
        match reader.fill(shared.socket.get_ref().as_fd()) {
            Ok(Filled::End) => return Ok(()),
            Ok(Filled::Nothing) => ready.clear_ready(),
            Ok(Filled::Some) => {}
            // The other side's end with something unread in it.
            Err(FrameError::Socket(e)) if e.kind() == io::ErrorKind::ConnectionReset => {
                return Ok(());
            }
            Err(e) => return Err(e),
        }
        while let Some(frame) = reader.next_frame()? {
            dispatch(shared, sandbox, events, frame)?;
        }
    }
}

fn dispatch(
    shared: &Shared,
    sandbox: &SandboxId,
    events: &Events,
    frame: Frame,
) -> Result<(), FrameError> {
    let message = wire::Message::decode(frame.message.as_slice()).map_err(FrameError::Decode)?;
    match message.body {
        Some(Body::Reply(reply)) => {
            let asker = shared.waiting().as_mut().and_then(|waiting| waiting.remove(&reply.id));
            if let Some(asker) = asker {
                // An asker that went away loses its answer.
                asker.send((reply.result, frame.fds)).ok();
            }
        }
        Some(Body::Event(event)) => {
            let seq = event.seq;
            match ShimEvent::from_wire(event) {
                Some(event) => {
                    events.send((sandbox.clone(), event)).ok();
                }
                None => tracing::warn!(sandbox_id = %sandbox, seq, "unknown event of a shim"),
            }
        }
        None => tracing::warn!(sandbox_id = %sandbox, "empty message of a shim"),
    }
    Ok(())
}
