//! What happens on the node, told to everyone who listens.

use crate::clock;
use crate::ids::{ContainerId, SandboxId};
use tokio::sync::broadcast;

/// How many events a slow listener may lag before it is told that it missed some.
const BACKLOG: usize = 8192;

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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineEvent {
    /// When, Unix nanoseconds.
    pub at_nanos: i64,
    /// What.
    pub kind: EventKind,
    /// To which pod.
    pub sandbox: SandboxId,
    /// To which container; `None`: to the sandbox itself.
    pub container: Option<ContainerId>,
}

/// The bus.
#[derive(Clone, Debug)]
pub struct Bus(broadcast::Sender<EngineEvent>);

impl Default for Bus {
    fn default() -> Self {
        Self(broadcast::channel(BACKLOG).0)
    }
}

impl Bus {
    /// Tells everyone. Nobody listening is fine.
    pub fn tell(&self, kind: EventKind, sandbox: &SandboxId, container: Option<&ContainerId>) {
        self.0
            .send(EngineEvent {
                at_nanos: clock::now_nanos(),
                kind,
                sandbox: sandbox.clone(),
                container: container.cloned(),
            })
            .ok();
    }

    /// A listener for everything from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<EngineEvent> {
        self.0.subscribe()
    }
}
