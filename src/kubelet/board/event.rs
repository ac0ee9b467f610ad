//! What happened to a pod, or to the node, in the words that `kubectl describe` has for it. What repeats is counted.

use crate::clock::{now_nanos, rfc3339};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// How many different events are kept of a pod, and of the node.
const KEPT: usize = 200;

/// Whether somebody should look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventKind {
    /// As it should be.
    Normal,
    /// Not as it should be.
    Warning,
}

/// One event, or several that say the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// Whether somebody should look.
    #[serde(rename = "type")]
    pub kind: EventKind,
    /// One word: `Pulled`, `BackOff`, `Unhealthy`.
    pub reason: String,
    /// The sentence.
    pub message: String,
    /// The pod, `namespace/name`; empty for an event of the node.
    pub pod: String,
    /// The node, if it was the node's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The container, if it was one's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// How often.
    pub count: u32,
    /// The first time, nanoseconds since 1970.
    pub first_nanos: i64,
    /// The last time, nanoseconds since 1970.
    pub last_nanos: i64,
}

impl Event {
    /// The last time as text, RFC 3339.
    pub fn last(&self) -> String {
        rfc3339(self.last_nanos)
    }

    /// One that happened now.
    pub(super) fn now((kind, reason, message): (EventKind, &str, String)) -> Self {
        let now = now_nanos();
        Self {
            kind,
            reason: reason.to_owned(),
            message,
            pod: String::new(),
            node: None,
            container: None,
            count: 1,
            first_nanos: now,
            last_nanos: now,
        }
    }

    /// Whether the other says the same.
    fn repeats(&self, other: &Self) -> bool {
        self.reason == other.reason
            && self.message == other.message
            && self.pod == other.pod
            && self.node == other.node
            && self.container == other.container
    }
}

/// The newest events, the oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Events(VecDeque<Event>);

impl Events {
    /// Adds an event, or counts it.
    pub fn add(&mut self, event: &Event) {
        let known = self.0.iter().position(|known| known.repeats(event));
        let event = match known.and_then(|at| self.0.remove(at)) {
            Some(known) => Event {
                count: known.count.saturating_add(event.count),
                last_nanos: event.last_nanos,
                ..known
            },
            None => event.clone(),
        };
        self.0.push_back(event);
        if self.0.len() > KEPT {
            self.0.pop_front();
        }
    }

    /// All of them, the oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Event> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(message: &str, at: i64) -> Event {
        Event {
            kind: EventKind::Warning,
            reason: "BackOff".into(),
            message: message.into(),
            pod: "n/p".into(),
            node: None,
            container: None,
            count: 1,
            first_nanos: at,
            last_nanos: at,
        }
    }

    #[test]
    fn what_repeats_is_counted_and_comes_last() {
        let mut events = Events::default();
        for (message, at) in [("a", 1), ("b", 2), ("a", 3)] {
            events.add(&event(message, at));
        }
        let rows: Vec<_> = events
            .iter()
            .map(|e| (e.message.as_str(), e.count, e.first_nanos, e.last_nanos))
            .collect();
        assert_eq!(rows, [("b", 1, 2, 2), ("a", 2, 1, 3)]);
    }

    #[test]
    fn the_oldest_go_first() {
        let mut events = Events::default();
        for n in 0..1000 {
            events.add(&event(&n.to_string(), n));
        }
        assert_eq!(events.iter().count(), KEPT);
        assert_eq!(events.iter().next().unwrap().message, "800");
    }
}
