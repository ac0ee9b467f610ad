//! The pod whose end is waited for before another goes.

use super::recall::Unfinished;
use crate::kubelet::status::Verdict;
use std::time::{Duration, Instant};

/// How long the end of a victim is waited for at least, and how much longer than one and a half times its grace.
const KILLED_WITHIN: Duration = Duration::from_secs(10);
const CLEANED_WITHIN: Duration = Duration::from_secs(30);

/// A pod whose end makes room.
#[derive(Clone, Debug)]
pub(super) struct Victim {
    pub(super) uid: String,
    pub(super) hard: bool,
    /// Until when it is waited for.
    pub(super) until: Instant,
    pub(super) verdict: Verdict,
}

impl Victim {
    /// One that the last run had told to end.
    pub(super) fn of(last: &Unfinished) -> Self {
        Self {
            uid: last.uid.clone(),
            hard: last.hard,
            until: Instant::now() + waited_for(last.left),
            verdict: last.verdict.clone(),
        }
    }
}

/// How long the end of a pod with a grace is waited for.
pub(super) fn waited_for(grace: Duration) -> Duration {
    grace.saturating_mul(3).checked_div(2).unwrap_or(grace).max(KILLED_WITHIN) + CLEANED_WITHIN
}

#[cfg(test)]
mod tests {
    use super::super::recall::SHORTEST;
    use super::*;

    #[test]
    fn a_victim_is_waited_for_as_long_as_it_may_take() {
        assert_eq!(waited_for(SHORTEST), Duration::from_secs(40));
        assert_eq!(waited_for(Duration::from_secs(60)), Duration::from_secs(120));
    }
}
