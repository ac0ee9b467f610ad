//! Pods for tests of what is printed.

use super::inventory::KeptPod;
use crate::kubelet::board::{Event, EventKind};
use serde_json::Value;

/// A pod that was applied, without events.
pub(crate) fn kept(value: Value) -> KeptPod {
    KeptPod { pod: serde_json::from_value(value).unwrap(), origin: String::new(), events: vec![] }
}

/// A warning about a container, or, without a name, about the pod, at a second since 1970.
pub(crate) fn warning(container: &str, reason: &str, message: &str, at: i64) -> Event {
    Event {
        kind: EventKind::Warning,
        reason: reason.into(),
        message: message.into(),
        pod: "default/web".into(),
        node: None,
        container: Some(container.to_owned()).filter(|name| !name.is_empty()),
        count: 1,
        first_nanos: at * 1_000_000_000,
        last_nanos: at * 1_000_000_000,
    }
}
