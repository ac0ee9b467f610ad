//! Engine events as replies.

use crate::cri::proto::ContainerEventType;
use crate::engine::view::EventKind;

/// The interface's kind of an event; `None` for one that it does not have.
pub(crate) fn event_type(kind: EventKind) -> Option<ContainerEventType> {
    match kind {
        EventKind::Created => Some(ContainerEventType::ContainerCreatedEvent),
        EventKind::Started => Some(ContainerEventType::ContainerStartedEvent),
        EventKind::Stopped => Some(ContainerEventType::ContainerStoppedEvent),
        EventKind::Deleted => Some(ContainerEventType::ContainerDeletedEvent),
        // Told by the reason of the stop that follows.
        EventKind::Oom => None,
    }
}
