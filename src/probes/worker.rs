//! One probe of one container of a pod: a task with one timer.
//!
//! Ticks are a period apart, from the pod's beginning on, whenever its containers start; while nothing can be due the
//! timer is not set. A readiness probe does not wait for its tick when its container has started, and counts its ticks
//! from there. An attempt that takes longer than a period is followed by the next at once, and by one only.

use super::check::Checker;
use super::outcome::{
    Answer, Finding, LastResult, Notice, Outcome, Report, Tally, Verdict, excerpt,
};
use super::spec::{Kind, Probe};
use super::tracker::{Due, Phase, Recorded, Tracker};
use crate::error::chain;
use crate::lock::lock;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

/// A container that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// Its id.
    pub(super) id: String,
    /// The pod's address.
    pub(super) address: Option<IpAddr>,
    /// When this was learnt, and how long it had been running then.
    pub(super) seen: (Instant, Duration),
    /// Whether it was ready when the daemon ended.
    pub(super) readiness: Recorded,
}

impl Target {
    fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.seen.0) + self.seen.1
    }

    /// What is known of it before the first attempt.
    pub(super) fn first(&self, kind: Kind) -> Recorded {
        match kind {
            Kind::Readiness => self.readiness,
            Kind::Liveness | Kind::Startup => Tracker::first(kind),
        }
    }
}

/// What the probes of a container are told of it, and tell each other.
#[derive(Clone, Debug)]
pub(super) struct Told {
    /// The container, if it runs.
    pub(super) target: Option<Arc<Target>>,
    /// How far it is.
    pub(super) phase: Phase,
}

/// What is known of a probe's container, for everybody to read.
#[derive(Debug)]
pub(super) struct Board {
    /// Of which container; empty when there is none.
    pub(super) container_id: String,
    /// The result.
    pub(super) recorded: Recorded,
    /// The failure that is the result.
    pub(super) failed: Option<Finding>,
    /// The last attempt, be it on the container before.
    pub(super) last: Option<LastResult>,
    /// All attempts.
    pub(super) tally: Tally,
}

impl Board {
    pub(super) fn new(kind: Kind) -> Self {
        Self {
            container_id: String::new(),
            recorded: Tracker::first(kind),
            failed: None,
            last: None,
            tally: Tally::default(),
        }
    }

    /// There is another container.
    pub(super) fn begin(&mut self, id: &str, recorded: Recorded) {
        id.clone_into(&mut self.container_id);
        self.recorded = recorded;
        self.failed = None;
    }

    /// Nothing more is to be said of this container: not by an attempt that is just ending, either.
    pub(super) fn end(&mut self, recorded: Recorded) {
        self.begin("", recorded);
    }
}

/// Where a worker finds what it shares.
pub(super) struct Shared {
    pub(super) checker: Arc<Checker>,
    pub(super) told: Arc<watch::Sender<Told>>,
    pub(super) board: Arc<Mutex<Board>>,
    pub(super) reports: mpsc::UnboundedSender<Report>,
}

/// The state of the task.
pub(super) struct Worker {
    container: String,
    probe: Probe,
    shared: Shared,
    news: watch::Receiver<Told>,
    tracker: Tracker,
    /// What was known when it last looked.
    known: Option<(Arc<Target>, Phase)>,
}

/// What a look at what is told has shown.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// Nothing that matters here.
    Same,
    /// Another state of the container.
    Anew,
    /// A container that has started just now, and a probe that does not wait for its tick.
    Started,
}

impl Worker {
    pub(super) fn new(container: String, probe: Probe, shared: Shared) -> Self {
        let tracker = Tracker::new(probe.kind, &probe.timing);
        let news = shared.told.subscribe();
        Self { container, probe, shared, news, tracker, known: None }
    }

    /// Probes until it is dropped. The ticks begin at `tick`, and so do attempts.
    pub(super) async fn run(mut self, mut tick: Instant) {
        let period = self.probe.timing.period;
        let mut timer = pin!(sleep_until(tick));
        timer.as_mut().await;
        loop {
            let seen = self.look();
            let now = Instant::now();
            match seen {
                Seen::Same => {}
                Seen::Anew => tick = not_before(now, tick, period),
                Seen::Started => tick = now,
            }
            let due = self.due(now);
            match due {
                Due::In(left) if seen == Seen::Started => tick = now + left,
                Due::In(left) => tick = not_before(now + left, tick, period),
                Due::Yes | Due::No => {}
            }
            if due == Due::No || tick > now {
                if due != Due::No {
                    timer.as_mut().reset(tick);
                }
                tokio::select! {
                    biased;
                    changed = self.news.changed() => match changed {
                        Ok(()) => continue,
                        Err(_) => return,
                    },
                    () = &mut timer, if due != Due::No => {}
                }
            }
            self.attempt().await;
            tick = after(tick, period, Instant::now());
        }
    }

    fn due(&self, now: Instant) -> Due {
        match &self.known {
            Some((target, phase)) => self.tracker.due(*phase, target.age(now)),
            None => Due::No,
        }
    }

    /// Takes what is told.
    fn look(&mut self) -> Seen {
        let told = self.news.borrow_and_update().clone();
        let before = self.known.take();
        self.known = told.target.map(|target| (target, told.phase));
        match (&before, &self.known) {
            (None, None) => Seen::Same,
            (Some(_), None) => {
                self.tracker.gone();
                Seen::Anew
            }
            (before, Some((target, phase))) => {
                let same = before.as_ref().filter(|(before, _)| before.id == target.id);
                if same.is_none() {
                    self.tracker.begin(target.first(self.probe.kind));
                }
                match same {
                    Some((_, before)) if before == phase => Seen::Same,
                    _ if self.probe.kind == Kind::Readiness && *phase == Phase::Started => {
                        Seen::Started
                    }
                    _ => Seen::Anew,
                }
            }
        }
    }

    /// One attempt, whose answer counts if the container is still there then.
    async fn attempt(&mut self) {
        let Some((target, _)) = self.known.clone() else { return };
        let answer = self.shared.checker.attempt(&self.probe, &target.id, target.address).await;
        let now = self.news.borrow().target.as_ref().map(|target| target.id.clone());
        if now.as_ref() == Some(&target.id) {
            self.take(answer, &target.id);
        }
    }

    fn take(&mut self, answer: Answer, id: &str) {
        let (outcome, message, report) = self.read(answer, id);
        tracing::debug!(?outcome, message, "an attempt has ended");
        let changed = outcome.and_then(|outcome| self.tracker.record(outcome));
        let finding = changed.map(|outcome| self.finding(id, outcome, &message));
        self.post(id, outcome, message, finding.clone());
        if self.probe.kind == Kind::Startup && changed == Some(Outcome::Success) {
            self.shared.told.send_if_modified(|told| {
                let mine = told.target.as_ref().is_some_and(|target| target.id == id);
                let waits = mine && told.phase == Phase::Starting;
                if waits {
                    told.phase = Phase::Started;
                }
                waits
            });
        }
        // Nobody listens when the pod is at its end.
        for report in report.into_iter().chain(finding.map(Report::Changed)) {
            self.shared.reports.send(report).ok();
        }
    }

    /// What an answer counts as, what it says, and what an event tells of it.
    fn read(&self, answer: Answer, id: &str) -> (Option<Outcome>, String, Option<Report>) {
        let kind = self.probe.kind;
        let notice = |said: &str, message: &str| Notice {
            container: self.container.clone(),
            container_id: id.to_owned(),
            kind,
            message: format!("{kind} probe {said}: {message}"),
        };
        match answer {
            Ok(Verdict::Success(message)) => (Some(Outcome::Success), excerpt(&message), None),
            Ok(Verdict::Warning(message)) => {
                let message = excerpt(&message);
                let report = Report::Warning(notice("succeeded with a warning", &message));
                (Some(Outcome::Success), message, Some(report))
            }
            Ok(Verdict::Failure(message)) => {
                let message = excerpt(&message);
                let report = Report::Unhealthy(notice("failed", &message));
                (Some(Outcome::Failure), message, Some(report))
            }
            Err(e) => {
                let message = excerpt(&chain(&e));
                let report = Report::Unhealthy(notice("could not be made", &message));
                (None, message, Some(report))
            }
        }
    }

    fn finding(&self, id: &str, outcome: Outcome, message: &str) -> Finding {
        Finding {
            container: self.container.clone(),
            container_id: id.to_owned(),
            kind: self.probe.kind,
            outcome,
            message: message.to_owned(),
            grace: self.probe.grace.filter(|_| outcome == Outcome::Failure),
        }
    }

    /// Writes down what everybody may read.
    fn post(&self, id: &str, outcome: Option<Outcome>, message: String, changed: Option<Finding>) {
        let mut board = lock(&self.shared.board);
        match outcome {
            Some(Outcome::Success) => board.tally.successful += 1,
            Some(Outcome::Failure) => board.tally.failed += 1,
            None => board.tally.unknown += 1,
        }
        if board.container_id != id {
            return;
        }
        let container_id = id.to_owned();
        board.last = Some(LastResult { at: SystemTime::now(), container_id, outcome, message });
        board.recorded = self.tracker.recorded();
        if let Some(finding) = changed {
            board.failed = Some(finding).filter(|finding| finding.outcome == Outcome::Failure);
        }
    }
}

/// The first tick that is not before `time`.
fn not_before(time: Instant, tick: Instant, period: Duration) -> Instant {
    let behind = time.saturating_duration_since(tick).as_nanos();
    tick + times(period, behind.div_ceil(period.as_nanos().max(1)))
}

/// The tick after an attempt of `tick` that ended `now`: the next, or the last one that was missed.
fn after(tick: Instant, period: Duration, now: Instant) -> Instant {
    let missed = now.saturating_duration_since(tick).as_nanos() / period.as_nanos().max(1);
    tick + times(period, missed.max(1))
}

fn times(period: Duration, count: u128) -> Duration {
    period.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX))
}

#[cfg(test)]
#[path = "worker_tests.rs"]
mod tests;
