//! What happens on the node, told to everyone who listens: in one order, with times that never go
//! back, and with the objects as they were.

use crate::clock;
use crate::engine::view::{ContainerView, SandboxView};
use crate::failpoint;
use crate::ids::{ContainerId, SandboxId};
use crate::lock::lock;
use std::sync::{Arc, Mutex};
use tokio::sync::broadcast;

/// How many events a slow listener may lag before it is told that it missed some.
const BACKLOG: usize = 4096;

/// What happened to a sandbox or a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// It was made.
    Created,
    /// It runs.
    Started,
    /// It ended.
    Stopped,
    /// It is gone.
    Deleted,
    /// A process of it was killed for want of memory.
    Oom,
}

/// An event on the bus.
#[derive(Clone, Debug)]
pub struct EngineEvent {
    /// When, Unix nanoseconds; no earlier than the event before.
    pub at_nanos: i64,
    /// What.
    pub kind: EventKind,
    /// To which pod, as it was then.
    pub sandbox: Arc<SandboxView>,
    /// To which container, as it was then; `None`: to the sandbox itself.
    pub container: Option<Arc<ContainerView>>,
}

impl EngineEvent {
    /// The pod's id.
    pub fn sandbox_id(&self) -> &SandboxId {
        &self.sandbox.id
    }

    /// The container's id, if it happened to one.
    pub fn container_id(&self) -> Option<&ContainerId> {
        self.container.as_ref().map(|container| &container.id)
    }
}

/// The bus.
#[derive(Debug)]
pub struct Bus {
    sender: broadcast::Sender<EngineEvent>,
    /// The time of the newest event. Held while one is sent: their order is that of their times.
    newest: Mutex<i64>,
}

impl Default for Bus {
    fn default() -> Self {
        Self::with_backlog(failpoint::backlog(BACKLOG))
    }
}

impl Bus {
    /// A bus on which a listener may lag by this many events.
    pub(crate) fn with_backlog(backlog: usize) -> Self {
        Self { sender: broadcast::channel(backlog).0, newest: Mutex::new(0) }
    }

    /// Whether anyone listens: what is told needs copies.
    pub fn is_heard(&self) -> bool {
        self.sender.receiver_count() > 0
    }

    /// Tells everyone. Nobody listening is fine.
    pub fn tell(
        &self,
        kind: EventKind,
        sandbox: Arc<SandboxView>,
        container: Option<Arc<ContainerView>>,
    ) {
        let mut newest = lock(&self.newest);
        *newest = clock::now_nanos().max(*newest);
        let event = EngineEvent { at_nanos: *newest, kind, sandbox, container };
        self.sender.send(event).ok();
    }

    /// A listener for everything from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<EngineEvent> {
        self.sender.subscribe()
    }
}
