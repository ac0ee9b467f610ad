//! How long to wait before the next try of what fails again and again; pure, by the clock it is given.
//!
//! The first try comes at once, the next 10 s after the failure, then 20, 40, … up to the cap; whoever holds
//! out for two caps begins anew (kubelet's MaxContainerBackOff and client-go's flowcontrol.Backoff; the cap may
//! be lower, KEP-4603).

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

/// The first delay of containers and of image pulls.
pub const INITIAL: Duration = Duration::from_secs(10);
/// The longest delay unless the node says otherwise.
pub const CAP: Duration = Duration::from_secs(300);

/// The delays of one kind, by key.
#[derive(Clone, Debug)]
pub struct Backoff {
    initial: Duration,
    cap: Duration,
    entries: BTreeMap<String, Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    delay: Duration,
    updated: SystemTime,
}

/// A try that was made before this began to count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Before {
    /// How many tries came before it.
    pub tries: u32,
    /// When it was made.
    pub made: SystemTime,
    /// When the try before it had failed, if that is known.
    pub failed: Option<SystemTime>,
}

/// A try that has to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// How long after the failure.
    pub delay: Duration,
    /// Until when.
    pub until: SystemTime,
}

/// The time from one moment to another; none if the other comes first.
fn since(from: SystemTime, to: SystemTime) -> Duration {
    to.duration_since(from).unwrap_or_default()
}

impl Backoff {
    /// Delays from 10 s, or the cap if that is shorter, to `cap`.
    pub fn new(cap: Duration) -> Self {
        Self { initial: INITIAL.min(cap), cap, entries: BTreeMap::new() }
    }

    /// Whether the next try after a failure at `failed` has to wait still.
    pub fn held(&self, key: &str, failed: SystemTime, now: SystemTime) -> Option<Held> {
        let entry = self.entries.get(key).filter(|entry| !self.expired(entry, failed))?;
        // A failure of the future, by a clock that was set back, is one of now.
        let until = failed.min(now) + entry.delay;
        (until > now).then_some(Held { delay: entry.delay, until })
    }

    /// A try begins after a failure at `failed`: the one after it waits longer.
    pub fn step(&mut self, key: &str, failed: SystemTime, now: SystemTime) {
        let before = self.entries.get(key).filter(|entry| !self.expired(entry, failed));
        let delay = before.map_or(self.initial, |entry| (entry.delay * 2).min(self.cap));
        self.entries.insert(key.to_owned(), Entry { delay, updated: now });
    }

    /// Goes on from what was tried before this began to count, unless it has counted already. A try came no sooner than
    /// the delay allowed, so that the time since the failure before it tells how long that was at most, and how many
    /// tries there were, too. What failed when nobody knows has the first delay.
    pub fn resume(&mut self, key: &str, before: Before) {
        if before.tries == 0 || self.entries.contains_key(key) {
            return;
        }
        let waited = before.failed.map_or(Duration::ZERO, |failed| since(failed, before.made));
        // That long no delay is: something else was in its way, and of that much a delay would be over, too.
        let waited = if waited > self.cap * 2 { Duration::ZERO } else { waited };
        let mut delay = self.initial;
        for _ in 1..before.tries {
            // This long it had waited, so that the next waits for twice as long.
            if delay > waited || delay >= self.cap {
                break;
            }
            delay = (delay * 2).min(self.cap);
        }
        self.entries.insert(key.to_owned(), Entry { delay, updated: before.made });
    }

    /// It worked, or it is another thing now.
    pub fn forget(&mut self, key: &str) {
        self.entries.remove(key);
    }

    fn expired(&self, entry: &Entry, failed: SystemTime) -> bool {
        since(entry.updated, failed) > self.cap * 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds)
    }

    /// The delays of a thing that fails at once each time it is tried.
    fn delays(cap: u64, count: usize) -> Vec<u64> {
        let mut backoff = Backoff::new(Duration::from_secs(cap));
        let (mut now, mut delays) = (at(0), Vec::new());
        for _ in 0..count {
            let failed = now;
            let held = backoff.held("k", failed, now);
            delays.push(held.map_or(0, |held| held.delay.as_secs()));
            now = held.map_or(now, |held| held.until);
            assert_eq!(backoff.held("k", failed, now), None, "over at its end");
            backoff.step("k", failed, now);
        }
        delays
    }

    #[test]
    fn delays_double_up_to_the_cap() {
        assert_eq!(delays(300, 8), [0, 10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(delays(60, 6), [0, 10, 20, 40, 60, 60]);
        assert_eq!(delays(1, 4), [0, 1, 1, 1]);
    }

    #[test]
    fn a_count_that_was_lost_is_found_by_the_last_tries() {
        // Each try of a thing that fails at once, and the delay after it: as it was counted, and as it is found.
        for cap in [300, 60, 7] {
            let mut counted = Backoff::new(Duration::from_secs(cap));
            let (mut now, mut failed) = (at(0), None);
            for tries in 0..9 {
                let mut found = Backoff::new(Duration::from_secs(cap));
                found.resume("k", Before { tries, made: now, failed });
                let held = counted.held("k", now, now);
                assert_eq!(found.held("k", now, now), held, "{cap} {tries}");
                // A second late, as it may be.
                failed = Some(now);
                let next = held.map_or(now, |held| held.until + Duration::from_secs(1));
                counted.step("k", now, next);
                now = next;
            }
        }
    }

    #[test]
    fn a_count_that_was_lost_is_never_found_longer_than_it_can_have_been() {
        let mut found = Backoff::new(CAP);
        let delay =
            |found: &Backoff, key| found.held(key, at(500), at(500)).map(|h| h.delay.as_secs());
        // It waited for long, but it was the first.
        found.resume("first", Before { tries: 1, made: at(500), failed: Some(at(0)) });
        assert_eq!(delay(&found, "first"), Some(10));
        // It has crashed often, but not lately.
        found.resume("lately", Before { tries: 50, made: at(500), failed: Some(at(495)) });
        assert_eq!(delay(&found, "lately"), Some(10));
        found.resume("unknown", Before { tries: 3, made: at(500), failed: None });
        assert_eq!(delay(&found, "unknown"), Some(10));
        // An hour is no delay: the daemon was not there.
        let later = Duration::from_secs(3600);
        let made = at(500) + later;
        found.resume("hour", Before { tries: 50, made, failed: Some(at(500)) });
        assert_eq!(found.held("hour", made, made).map(|h| h.delay.as_secs()), Some(10));
        // What was counted counts.
        found.resume("lately", Before { tries: 50, made: at(500), failed: None });
        assert_eq!(delay(&found, "lately"), Some(10));
        // It has held out since.
        found.resume("well", Before { tries: 5, made: at(0), failed: None });
        assert_eq!(found.held("well", at(601), at(601)), None);
    }

    #[test]
    fn whoever_holds_out_for_two_caps_begins_anew() {
        let mut backoff = Backoff::new(CAP);
        for _ in 0..4 {
            backoff.step("k", at(0), at(0));
        }
        assert_eq!(backoff.held("k", at(600), at(600)).unwrap().delay.as_secs(), 80);
        assert_eq!(backoff.held("k", at(601), at(601)), None);
        backoff.step("k", at(601), at(601));
        assert_eq!(backoff.held("k", at(602), at(602)).unwrap().delay, INITIAL);
    }

    #[test]
    fn keys_are_apart_and_can_be_forgotten() {
        let mut backoff = Backoff::new(CAP);
        backoff.step("a", at(0), at(0));
        assert!(backoff.held("a", at(1), at(1)).is_some());
        assert!(backoff.held("b", at(1), at(1)).is_none());
        backoff.forget("a");
        assert!(backoff.held("a", at(1), at(1)).is_none());
    }

    #[test]
    fn a_clock_that_was_set_back_holds_nothing_for_longer_than_the_delay() {
        let mut backoff = Backoff::new(CAP);
        backoff.step("k", at(0), at(0));
        let held = backoff.held("k", at(5000), at(0));
        assert!(held.is_none_or(|held| held.until <= at(10)), "{held:?}");
    }
}
