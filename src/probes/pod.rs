//! The probes of a pod: a worker each, and what they say of its containers.
//!
//! Whoever keeps the pod running calls [`sync`](PodProbes::sync) with the containers that run whenever they may be
//! others, and asks. Answers are about the containers of the last `sync`, from the moment it returns. Dropped, nothing
//! of it goes on.

use super::check::Checker;
use super::outcome::{Finding, LastResult, Report, Tally};
use super::spec::{Kind, Probe};
use super::tracker::{Phase, Recorded, Tracker};
use super::worker::{Board, Shared, Target, Told, Worker};
use crate::lock::lock;
use crate::sys::random;
use k8s_openapi::api::core::v1;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tracing::Instrument as _;

/// A container that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// Its name.
    pub container: String,
    /// Its id.
    pub container_id: String,
    /// Since when.
    pub started_at: SystemTime,
    /// The pod's first address; the node's for a pod in the node's network.
    pub address: Option<IpAddr>,
}

/// What was known of a container when the daemon ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restored {
    /// Whether it had started.
    pub phase: Phase,
    /// What its readiness probe said.
    pub readiness: Recorded,
}

/// Whether the pod is to go on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Life {
    Wanted,
    Deleting,
}

/// The probes of a pod.
pub struct PodProbes {
    containers: BTreeMap<String, Container>,
    restored: BTreeMap<String, Restored>,
    life: Life,
}

/// How many attempts came to what, for each probe of a pod.
pub struct TallyReader(Vec<(String, Kind, Arc<Mutex<Board>>)>);

impl TallyReader {
    /// As it is now: container, probe, numbers.
    pub fn read(&self) -> Vec<(String, Kind, Tally)> {
        let of = |(name, kind, board): &(String, Kind, Arc<Mutex<Board>>)| {
            (name.clone(), *kind, lock(board).tally)
        };
        self.0.iter().map(of).collect()
    }
}

/// A container of the pod and its probes.
struct Container {
    told: Arc<watch::Sender<Told>>,
    probes: BTreeMap<Kind, Slot>,
}

struct Slot {
    board: Arc<Mutex<Board>>,
    task: Option<AbortOnDropHandle<()>>,
}

impl PodProbes {
    /// Starts a worker for each probe of the pod's containers and of its restartable init containers. What they find is
    /// told to `reports`. `daemon_age` is how long this daemon has been running: the probes of a daemon that has just
    /// started begin spread over their first period.
    pub fn new(
        checker: &Arc<Checker>,
        pod: &v1::Pod,
        reports: &mpsc::UnboundedSender<Report>,
        tasks: &TaskTracker,
        daemon_age: Duration,
    ) -> Self {
        let spec = pod.spec.as_ref();
        let always = |of: &&v1::Container| of.restart_policy.as_deref() == Some("Always");
        let sidecars = spec.and_then(|s| s.init_containers.as_deref()).unwrap_or_default();
        let regular = spec.map(|s| s.containers.as_slice()).unwrap_or_default();
        let pod_uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let begin = Instant::now();
        let start = |container: &v1::Container| {
            let told = Told { target: None, phase: Phase::Starting };
            let told = Arc::new(watch::Sender::new(told));
            let slot = |kind: Kind| {
                let probe = Probe::of(kind, kind.of(container)?, container);
                let board = Arc::new(Mutex::new(Board::new(kind)));
                let shared = Shared {
                    checker: Arc::clone(checker),
                    told: Arc::clone(&told),
                    board: Arc::clone(&board),
                    reports: reports.clone(),
                };
                let tick = begin + delay(probe.timing.period, daemon_age);
                let span =
                    tracing::debug_span!("probe", pod_uid, container = container.name, %kind);
                let worker = Worker::new(container.name.clone(), probe, shared);
                let task = tasks.spawn(worker.run(tick).instrument(span));
                Some((kind, Slot { board, task: Some(AbortOnDropHandle::new(task)) }))
            };
            let probes = Kind::ALL.into_iter().filter_map(slot).collect();
            (container.name.clone(), Container { told, probes })
        };
        let containers = sidecars.iter().filter(always).chain(regular).map(start).collect();
        Self { containers, restored: BTreeMap::new(), life: Life::Wanted }
    }

    /// What is known of a container from an earlier daemon. To be told before the container is in a
    /// [`sync`](Self::sync) for the first time; later it says nothing.
    pub fn restore(&mut self, container_id: &str, known: Restored) {
        self.restored.insert(container_id.to_owned(), known);
    }

    /// These containers run now, and no others. The same again changes nothing.
    pub fn sync(&mut self, running: &[Running], now: SystemTime) {
        for (name, container) in &self.containers {
            let running = running.iter().find(|running| running.container == *name);
            let known = running.and_then(|r| self.restored.get(&r.container_id)).copied();
            container.sync(running, known, self.life, now);
        }
    }

    /// Whether a container runs and its startup probe, if it has one, has succeeded.
    pub fn started(&self, container: &str) -> bool {
        let of = self.containers.get(container);
        of.is_some_and(|of| of.current().is_some_and(|told| told.phase == Phase::Started))
    }

    /// Whether a container has [started](Self::started) and its readiness probe, if it has one, succeeds.
    pub fn ready(&self, container: &str) -> bool {
        self.started(container)
            && self.containers.get(container).is_some_and(|of| {
                let recorded = of.probes.get(&Kind::Readiness).map(|s| lock(&s.board).recorded);
                recorded.is_none_or(|recorded| recorded == Recorded::Success)
            })
    }

    /// Why a container that runs must end: its liveness or startup probe has failed.
    pub fn must_end(&self, container: &str) -> Option<Finding> {
        let of = self.containers.get(container)?;
        of.current()?;
        let failed = |kind| lock(&of.probes.get(&kind)?.board).failed.clone();
        failed(Kind::Liveness).or_else(|| failed(Kind::Startup))
    }

    /// The pod is being deleted: liveness and startup probes end and count as succeeded, readiness probes go on.
    pub fn deleting(&mut self) {
        self.life = Life::Deleting;
        for container in self.containers.values_mut() {
            for (kind, slot) in &mut container.probes {
                if *kind != Kind::Readiness {
                    slot.task = None;
                    lock(&slot.board).end(Recorded::Success);
                }
            }
            container.told.send_modify(|told| told.phase = Phase::Started);
        }
    }

    /// The last attempt of a probe.
    pub fn last(&self, container: &str, kind: Kind) -> Option<LastResult> {
        lock(&self.slot(container, kind)?.board).last.clone()
    }

    /// What a probe says; `None` where there is none.
    pub fn recorded(&self, container: &str, kind: Kind) -> Option<Recorded> {
        Some(lock(&self.slot(container, kind)?.board).recorded)
    }

    /// How many attempts came to what, for each probe there is.
    pub fn tallies(&self) -> Vec<(String, Kind, Tally)> {
        self.tally_reader().read()
    }

    /// What tells the [`tallies`](Self::tallies) to somebody else, also when the probes have ended.
    pub fn tally_reader(&self) -> TallyReader {
        let of = |(name, container): (&String, &Container)| {
            let of = |(kind, slot): (&Kind, &Slot)| (name.clone(), *kind, Arc::clone(&slot.board));
            container.probes.iter().map(of).collect::<Vec<_>>()
        };
        TallyReader(self.containers.iter().flat_map(of).collect())
    }

    fn slot(&self, container: &str, kind: Kind) -> Option<&Slot> {
        self.containers.get(container)?.probes.get(&kind)
    }
}

impl Container {
    /// What the probes are told, while the container runs.
    fn current(&self) -> Option<Told> {
        Some(self.told.borrow().clone()).filter(|told| told.target.is_some())
    }

    fn sync(
        &self,
        running: Option<&Running>,
        known: Option<Restored>,
        life: Life,
        now: SystemTime,
    ) {
        let before = self.told.borrow().target.clone();
        let Some(running) = running else {
            if before.is_some() {
                self.told.send_modify(|told| told.target = None);
                self.boards(|_, board| board.end(Recorded::Failure));
            }
            return;
        };
        let same = before.filter(|before| before.id == running.container_id);
        if let Some(same) = &same {
            if same.address != running.address {
                let target = Target { address: running.address, ..(**same).clone() };
                self.told.send_modify(|told| told.target = Some(Arc::new(target)));
            }
            return;
        }
        let age = now.duration_since(running.started_at).unwrap_or_default();
        let target = Target {
            id: running.container_id.clone(),
            address: running.address,
            seen: (Instant::now(), age),
            readiness: known.map_or(Tracker::first(Kind::Readiness), |known| known.readiness),
        };
        let waits = self.probes.contains_key(&Kind::Startup) && life == Life::Wanted;
        let phase = match known {
            _ if !waits => Phase::Started,
            Some(known) => known.phase,
            None => Phase::Starting,
        };
        self.boards(|kind, board| {
            let first = match (kind, phase, life) {
                (Kind::Readiness, ..) => target.readiness,
                (Kind::Startup, Phase::Started, _) | (_, _, Life::Deleting) => Recorded::Success,
                _ => Tracker::first(kind),
            };
            board.begin(&target.id, first);
        });
        self.told.send_replace(Told { target: Some(Arc::new(target)), phase });
    }

    fn boards(&self, change: impl Fn(Kind, &mut Board)) {
        for (kind, slot) in &self.probes {
            change(*kind, &mut lock(&slot.board));
        }
    }
}

/// How long the first attempt waits: some time of the first period, after the daemon's start.
fn delay(period: Duration, daemon_age: Duration) -> Duration {
    if daemon_age >= period {
        return Duration::ZERO;
    }
    // Without random bytes all begin together.
    let random = random::bytes().map(u32::from_ne_bytes).unwrap_or(0);
    period.mul_f64(f64::from(random) / (f64::from(u32::MAX) + 1.0))
}

#[cfg(test)]
#[path = "pod_tests.rs"]
mod tests;
