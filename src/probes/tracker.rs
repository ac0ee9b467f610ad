//! What the attempts of one probe come to, container after container. Pure.
//!
//! | state | event | then |
//! | --- | --- | --- |
//! | any | a container with another id | its first result, no run, not held |
//! | any | the container runs no more | `Failure` |
//! | any | an attempt equal to those before it, fewer of them than the threshold | the result stays |
//! | any | as many equal attempts as the threshold | the result is theirs |
//! | liveness, startup | the result is `Failure` | held: nothing is tried until there is another container |
//! | startup | started | nothing is tried until there is another container |
//! | liveness, readiness | not started | nothing is tried until it has |
//!
//! The first result is `Failure` of readiness, `Success` of liveness, `Unknown` of startup. What could not be tried
//! never gets here. One difference from older kubelets: a new container ends the run of equal attempts, whatever it
//! was, so that the failures of one container are never counted to the next.

use super::outcome::Outcome;
use super::spec::{Kind, Timing};
use std::time::Duration;

/// What a probe says of its container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Recorded {
    /// Nothing yet.
    Unknown,
    /// That it is as it should be.
    Success,
    /// That it is not.
    Failure,
}

impl From<Outcome> for Recorded {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Success => Self::Success,
            Outcome::Failure => Self::Failure,
        }
    }
}

/// How far a container is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// It runs, and its startup probe has not succeeded.
    Starting,
    /// It runs, and has no startup probe, or one that has succeeded.
    Started,
}

/// Whether an attempt is to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Due {
    /// At the next tick.
    Yes,
    /// Not for this long, by the initial delay.
    In(Duration),
    /// Not until something happens to the container.
    No,
}

/// The state of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tracker {
    kind: Kind,
    initial_delay: Duration,
    successes: u32,
    failures: u32,
    recorded: Recorded,
    /// The last attempts that were equal, and how many.
    run: Option<(Outcome, u32)>,
    running: bool,
    held: bool,
}

impl Tracker {
    /// A probe whose container has never run.
    pub fn new(kind: Kind, timing: &Timing) -> Self {
        Self {
            kind,
            initial_delay: timing.initial_delay,
            successes: timing.successes,
            failures: timing.failures,
            recorded: Self::first(kind),
            run: None,
            running: false,
            held: false,
        }
    }

    /// What is said of a container before anything is known of it.
    pub fn first(kind: Kind) -> Recorded {
        match kind {
            Kind::Liveness => Recorded::Success,
            Kind::Readiness => Recorded::Failure,
            Kind::Startup => Recorded::Unknown,
        }
    }

    /// There is a container with a new id, of which `recorded` is known: the [first](Self::first) result, or the one
    /// that it had when the daemon ended.
    pub fn begin(&mut self, recorded: Recorded) {
        self.recorded = recorded;
        self.run = None;
        self.running = true;
        self.held = false;
    }

    /// The container runs no more.
    pub fn gone(&mut self) {
        self.recorded = Recorded::Failure;
        self.run = None;
        self.running = false;
    }

    /// What the probe says.
    pub fn recorded(&self) -> Recorded {
        self.recorded
    }

    /// Whether an attempt is to be made on a container in `phase` that has been running for `age`.
    pub fn due(&self, phase: Phase, age: Duration) -> Due {
        let mine = match self.kind {
            Kind::Startup => Phase::Starting,
            Kind::Liveness | Kind::Readiness => Phase::Started,
        };
        if !self.running || self.held || phase != mine {
            return Due::No;
        }
        // Both are whole seconds to a manifest: 1.9 s are one.
        match self.initial_delay.checked_sub(Duration::from_secs(age.as_secs())) {
            Some(left) if !left.is_zero() => Due::In(self.initial_delay.saturating_sub(age)),
            _ => Due::Yes,
        }
    }

    /// An attempt came to `outcome`. The result, if it is another now.
    pub fn record(&mut self, outcome: Outcome) -> Option<Outcome> {
        let before = self.run.filter(|(last, _)| *last == outcome).map_or(0, |(_, count)| count);
        let count = before.saturating_add(1);
        self.run = Some((outcome, count));
        let threshold = match outcome {
            Outcome::Success => self.successes,
            Outcome::Failure => self.failures,
        };
        if count < threshold {
            return None;
        }
        if outcome == Outcome::Failure && self.kind != Kind::Readiness {
            self.held = true;
        }
        let changed = self.recorded != outcome.into();
        self.recorded = outcome.into();
        changed.then_some(outcome)
    }
}

#[cfg(test)]
#[path = "tracker_tests.rs"]
mod tests;
