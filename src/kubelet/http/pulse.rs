//! The pulse of the loop that turns what sources say into workers: whether it still turns.

use crate::lock::lock;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How often the loop tells that it turns.
pub const BEAT: Duration = Duration::from_secs(5);
/// After how long without a beat it does not turn any more.
const STILL: Duration = Duration::from_secs(30);

/// When the loop turned last. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Pulse(Arc<Mutex<Instant>>);

impl Pulse {
    /// It turns as of `now`.
    pub fn new(now: Instant) -> Self {
        Self(Arc::new(Mutex::new(now)))
    }

    /// It has turned at `now`.
    pub fn beat(&self, now: Instant) {
        *lock(&self.0) = now;
    }

    /// For how long it has not turned, if that is too long.
    pub fn still_for(&self, now: Instant) -> Option<Duration> {
        Some(now.saturating_duration_since(*lock(&self.0))).filter(|silence| *silence > STILL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_is_still_when_it_did_not_beat_for_long() {
        let start = Instant::now();
        let pulse = Pulse::new(start);
        assert_eq!(pulse.still_for(start + STILL), None);
        let late = STILL + Duration::from_secs(1);
        assert_eq!(pulse.still_for(start + late), Some(late));
        pulse.beat(start + late);
        assert_eq!(pulse.still_for(start + late), None);
    }
}
