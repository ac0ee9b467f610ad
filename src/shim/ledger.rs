//! Events that nobody has acknowledged yet, in order.

use super::wire::{Event, event::What};

/// Numbers events from 1 and keeps them until they are acknowledged.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    last: u64,
    unacknowledged: Vec<Event>,
}

impl Ledger {
    /// Enters an event.
    pub(super) fn push(&mut self, what: What) -> Event {
        self.last += 1;
        let event = Event { seq: self.last, what: Some(what) };
        self.unacknowledged.push(event.clone());
        event
    }

    /// Drops all events up to and including `seq`.
    pub(super) fn acknowledge(&mut self, seq: u64) {
        self.unacknowledged.retain(|event| event.seq > seq);
    }

    /// What is to be told to a new connection.
    pub(super) fn unacknowledged(&self) -> &[Event] {
        &self.unacknowledged
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shim::wire::PauseExited;

    #[test]
    fn events_stay_until_acknowledged_and_numbers_never_repeat() {
        let mut ledger = Ledger::default();
        for _ in 0..3 {
            ledger.push(What::PauseExited(PauseExited {}));
        }
        ledger.acknowledge(2);
        ledger.acknowledge(1);
        let left: Vec<u64> = ledger.unacknowledged().iter().map(|e| e.seq).collect();
        assert_eq!(left, [3]);
        ledger.acknowledge(u64::MAX);
        assert!(ledger.unacknowledged().is_empty());
        assert_eq!(ledger.push(What::PauseExited(PauseExited {})).seq, 4);
    }
}
