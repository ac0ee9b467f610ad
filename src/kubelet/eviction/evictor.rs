//! The loop: look, make room, end a pod.
//!
//! Looks come one after the other and take little time. What a look leads to may take long (the runtime removes images,
//! files are counted), and goes on beside them: a [`Prepared`] comes back, and a pod goes only if it still has to.
//!
//! One pod goes a round: that of the first threshold that is passed, in the order of [`machine`](super::machine), and none
//! while the last one ends. What nobody needs is removed for a disk in any case, also while a pod ends or while memory is
//! short, too.

use super::collect::Collector;
use super::keeper::StorageKeeper;
use super::log::{Reclaimed, Record};
use super::machine::{Crossing, Machine, Resource};
use super::orders::{Doomed, Orders, verdict};
use super::rank::{Candidate, rank};
use super::recall::SHORTEST;
use super::reclaim::reclaim;
use super::signals::{Signals, ask_image_place};
use super::usage::{Meter, Pods, running};
use super::victim::{Victim, waited_for};
use super::words;
use crate::blocking::Overdue;
use crate::clock::ticks;
use crate::config;
use crate::kubelet::board::EventKind;
use crate::kubelet::spec::grace;
use crate::kubelet::worker::{Ending, Host};
use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use k8s_openapi::api::core::v1::Pod;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tracing::{info, warn};

/// A pod to be ended, by its uid, and how.
pub type Order = (String, Ending);

/// How long it may take to remove what nobody needs before a pod has to go.
const RECLAIMED_WITHIN: Duration = Duration::from_secs(30);
/// How long a look for a victim's volumes may take.
const SEEN_WITHIN: Duration = Duration::from_secs(2);

/// What ends pods when something is short.
pub struct Evictor {
    host: Arc<Host>,
    config: config::Eviction,
    machine: Machine,
    signals: Signals,
    collector: Arc<Collector>,
    orders: Arc<Orders>,
    meter: Meter,
    /// The thresholds that have to be acted on, as of the last look.
    acts: Vec<Crossing>,
    /// The last victim of a signal, until it has given back what it held.
    waits: Option<Victim>,
    /// Looks for its volumes that hang.
    hanging: Overdue,
    /// The signals for which there is nobody to go: they are told once.
    nobody: BTreeSet<&'static str>,
    under_way: FuturesUnordered<BoxFuture<'static, Step>>,
    /// What of it there is, one of each.
    busy: BTreeSet<Lane>,
}

/// What goes on beside the looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Lane {
    /// Asking where images are.
    Place,
    /// For disks: making room, and who has to go.
    Disks,
    /// For memory and process ids: who has to go.
    Processes,
}

/// The end of something that went on.
enum Step {
    Place(Result<PathBuf, String>),
    Prepared(Prepared),
}

/// What was found out, and done, for a threshold.
struct Prepared {
    lane: Lane,
    crossing: Crossing,
    reclaimed: Reclaimed,
    /// Who may have to go; none: nobody, now.
    candidates: Option<Result<Vec<Candidate>, String>>,
    /// How many pods had gone for their own storage when it began.
    of_storage: u64,
}

/// What is to be found out for a threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Aim {
    /// Room is made with what nobody needs.
    Reclaim,
    /// If that does not do, a pod goes.
    Evict,
}

impl Evictor {
    /// One for the pods of a host, whose state is below `state`. Orders go to whoever has the workers.
    pub fn new(
        host: Arc<Host>,
        config: config::Eviction,
        state: &Path,
        collector: Arc<Collector>,
        orders: mpsc::Sender<Order>,
    ) -> Self {
        Self {
            machine: Machine::new(&config),
            signals: Signals::new(state.to_owned()),
            orders: Arc::new(Orders::new(Arc::clone(&host), state, orders)),
            meter: Meter::new(Arc::clone(&host)),
            host,
            config,
            collector,
            acts: Vec::new(),
            waits: None,
            hanging: Overdue::default(),
            nobody: BTreeSet::new(),
            under_way: FuturesUnordered::new(),
            busy: BTreeSet::new(),
        }
    }

    /// What keeps pods within their own storage; it runs beside this one.
    pub fn storage_keeper(&self) -> StorageKeeper {
        StorageKeeper {
            host: Arc::clone(&self.host),
            orders: Arc::clone(&self.orders),
            meter: self.meter.clone(),
            every: Duration::from_secs(self.config.check_seconds),
            told: BTreeMap::new(),
        }
    }

    /// Takes up what the last run had begun, and takes a first look, so that nobody is let in whom the second would end.
    /// How the pods go on ending that were told to, by uid.
    pub async fn begin(&mut self) -> BTreeMap<String, Ending> {
        let unfinished = self.orders.recall().await;
        self.waits = unfinished.iter().rfind(|one| one.makes_room).map(Victim::of);
        let place = ask_image_place(&*self.host.cri).await;
        self.signals.told(place);
        self.decide().await;
        unfinished.into_iter().map(|one| (one.uid.clone(), one.ending())).collect()
    }

    /// Looks every so often, for ever.
    pub async fn run(mut self) {
        let mut pulse = ticks(Duration::from_secs(self.config.check_seconds));
        loop {
            tokio::select! {
                _ = pulse.tick() => self.round().await,
                Some(step) = self.under_way.next() => match step {
                    Step::Place(place) => {
                        self.busy.remove(&Lane::Place);
                        self.signals.told(place);
                    }
                    Step::Prepared(prepared) => {
                        self.busy.remove(&prepared.lane);
                        self.act(prepared).await;
                    }
                },
            }
        }
    }

    async fn round(&mut self) {
        if self.signals.has_to_ask() && self.busy.insert(Lane::Place) {
            let cri = Arc::clone(&self.host.cri);
            let ask = async move { Step::Place(ask_image_place(&*cri).await) };
            self.under_way.push(Box::pin(ask));
        }
        self.decide().await;
        let pods = Pods::of(self.host.board.pods());
        self.orders.forget(&pods);
        let Some(first) = self.acts.first().copied() else { return };
        let is_waiting = self.is_waiting(&pods).await;
        if !first.rule.measure.of_disks() && !is_waiting {
            self.prepare(first, Aim::Evict, &pods).await;
        }
        let disk = self.acts.iter().find(|crossing| crossing.rule.measure.of_disks()).copied();
        if let Some(disk) = disk {
            let aim = if disk == first && !is_waiting { Aim::Evict } else { Aim::Reclaim };
            self.prepare(disk, aim, &pods).await;
        }
    }

    /// Reads the signals and tells what is short.
    async fn decide(&mut self) {
        let readings = self.signals.read().await;
        let decision = self.machine.look(&readings, Instant::now());
        let changed = self.host.pressure.send_if_modified(|known| {
            let other = *known != decision.pressure;
            *known = decision.pressure;
            other
        });
        if changed {
            let holds = decision.pressure.to_string();
            info!(pressure = holds, "what the node is short of has changed");
        }
        let knows = |all: &[Crossing], one: &Crossing| all.iter().any(|of| of.rule == one.rule);
        for crossing in decision.acts.iter().filter(|one| !knows(&self.acts, one)) {
            let message = words::passed(crossing);
            let (signal, available) = (crossing.rule.measure.name(), crossing.reading.available);
            info!(signal, hard = crossing.rule.hard, available, "a threshold is passed");
            let what = (EventKind::Warning, "EvictionThresholdMet", message);
            self.host.board.node_event(&self.host.node.name, what);
        }
        for crossing in self.acts.iter().filter(|one| !knows(&decision.acts, one)) {
            let signal = crossing.rule.measure.name();
            info!(signal, hard = crossing.rule.hard, "a threshold is passed no more");
            self.nobody.remove(signal);
        }
        self.acts = decision.acts;
    }

    /// Whether the last victim's end is worth waiting for. One that ends slowly has to hurry when a hard threshold is
    /// passed.
    async fn is_waiting(&mut self, pods: &Pods) -> bool {
        let Some(victim) = self.waits.clone() else { return false };
        let gone = match pods.ended.get(&victim.uid) {
            Some(pod) => running(pod).is_empty() && self.gave_back(&victim.uid).await,
            None => !pods.active.contains_key(&victim.uid),
        };
        if gone {
            self.waits = None;
            return false;
        }
        let now = Instant::now();
        if self.acts.iter().any(|crossing| crossing.rule.hard) && !victim.hard {
            let ending = Ending {
                grace: Some(SHORTEST),
                verdict: Some(victim.verdict.clone()),
                ..Ending::default()
            };
            self.orders.order(&victim.uid, ending).await;
            let until = now + waited_for(SHORTEST);
            self.waits = Some(Victim { hard: true, until, ..victim });
            return true;
        }
        if victim.until > now {
            return true;
        }
        warn!(pod_uid = victim.uid, "an evicted pod does not end: another has to go");
        self.waits = None;
        false
    }

    /// Whether the volumes of a pod are gone.
    async fn gave_back(&mut self, uid: &str) -> bool {
        let volumes = self.host.pod_dir(uid).join("volumes");
        let look = self
            .hanging
            .run_within("look for a pod's volumes", SEEN_WITHIN, move |_| !volumes.exists());
        look.await.unwrap_or(false)
    }

    /// Begins to do something about a threshold, if nothing of the kind is under way.
    async fn prepare(&mut self, crossing: Crossing, aim: Aim, pods: &Pods) {
        let measure = crossing.rule.measure;
        let lane = if measure.of_disks() { Lane::Disks } else { Lane::Processes };
        if !self.busy.insert(lane) {
            return;
        }
        let apart = measure.of_disks() && self.signals.apart().await;
        // Where images are apart, room for pods alone is made by nothing but pods.
        let for_images = self.acts.iter().any(|other| other.rule.measure.of_images());
        let reclaims = measure.of_disks() && (!apart || for_images);
        // The worker of who is still ending, the last victim's among them, has yet to see how containers ended.
        let over = |uid: &str, pod: &Pod| {
            running(pod).is_empty() && self.waits.as_ref().is_none_or(|victim| victim.uid != uid)
        };
        let ended = pods.ended.iter().filter(|(uid, pod)| over(uid, pod));
        let ended: BTreeSet<String> = ended.map(|(uid, _)| uid.clone()).collect();
        let mut active = pods.active.clone();
        active.retain(|uid, _| !self.orders.is_told(uid));
        let (host, collector) = (Arc::clone(&self.host), Arc::clone(&self.collector));
        let (meter, of_storage) = (self.meter.clone(), self.orders.of_storage());
        self.under_way.push(Box::pin(async move {
            let reclaimed = match reclaims {
                true => in_time(reclaim(&host, &ended, &collector)).await,
                false => Reclaimed::default(),
            };
            let candidates = match aim {
                Aim::Reclaim => None,
                Aim::Evict => {
                    let pods = active.into_values().collect();
                    Some(meter.candidates(pods, (measure, apart)).await)
                }
            };
            Step::Prepared(Prepared { lane, crossing, reclaimed, candidates, of_storage })
        }));
    }

    /// Ends the pod that has to go first, if one still has to.
    async fn act(&mut self, prepared: Prepared) {
        let Prepared { crossing, reclaimed, candidates, of_storage, .. } = prepared;
        let measure = crossing.rule.measure;
        let mut record = Record::of_signal(&crossing);
        let of_memory = measure.resource() == Resource::Memory;
        record.kernel_available = of_memory.then_some(self.signals.kernel_available);
        record.reclaimed = reclaimed;
        record.met = self.acts.iter().map(|one| one.rule.measure.name()).collect();
        // All that took its time, and room may have been made meanwhile, by this or by others.
        let readings = self.signals.read().await;
        if crossing.is_resolved(&readings) {
            record.message = format!("{} Room has been made since.", words::lack(&crossing));
            return self.orders.note(record).await;
        }
        let is_first = self.acts.first().is_some_and(|first| first.rule.measure == measure);
        let others_went = measure.of_disks() && self.orders.of_storage() != of_storage;
        let Some(candidates) =
            candidates.filter(|_| is_first && self.waits.is_none() && !others_went)
        else {
            return self.only_reclaimed(&crossing, record).await;
        };
        match candidates {
            Ok(all) => {
                record.candidates = rank(measure.resource(), all);
                self.evict_first(crossing, record).await;
            }
            // Who is evicted by chance is evicted for nothing.
            Err(error) => {
                warn!(error, "what pods use is not known: none is evicted in this round");
                self.only_reclaimed(&crossing, record).await;
            }
        }
    }

    async fn evict_first(&mut self, crossing: Crossing, mut record: Record) {
        let mut active = Pods::of(self.host.board.pods()).active;
        active.retain(|uid, _| !self.orders.is_told(uid));
        record.candidates.retain(|candidate| active.contains_key(&candidate.uid));
        let first = record.candidates.first().cloned();
        let pod = first.as_ref().and_then(|first| active.remove(&first.uid));
        let (Some(first), Some(pod)) = (first, pod) else {
            return self.nobody_goes(crossing, record).await;
        };
        self.nobody.clear();
        record.message = words::verdict(&crossing, &first);
        let grace = match (crossing.rule.hard, self.config.max_pod_grace_seconds) {
            (true, _) => Some(SHORTEST),
            (false, most) => most.map(|most| Duration::from_secs(most).max(SHORTEST)),
        };
        record.victim = Some(first.pod.clone());
        let longest = grace.unwrap_or_else(|| self::grace(&pod));
        self.waits = Some(Victim {
            uid: first.uid.clone(),
            hard: crossing.rule.hard,
            until: Instant::now() + waited_for(longest),
            verdict: verdict(&record.message),
        });
        let signal = crossing.rule.measure.name();
        self.machine.evicted_for(crossing.rule.measure.resource());
        self.orders.evict(Doomed { pod, grace, record, signal }).await;
    }

    /// Tells, once, that nobody can go.
    async fn nobody_goes(&mut self, crossing: Crossing, mut record: Record) {
        let signal = crossing.rule.measure.name();
        if !self.nobody.insert(signal) && record.reclaimed == Reclaimed::default() {
            return;
        }
        record.message = format!("{} There is no pod that may go.", words::lack(&crossing));
        warn!(signal, message = record.message, "the node is short of something");
        self.orders.note(record).await;
    }

    /// Notes what was removed, if anything was.
    async fn only_reclaimed(&mut self, crossing: &Crossing, mut record: Record) {
        if record.reclaimed == Reclaimed::default() {
            return;
        }
        record.message = format!("{} What nobody needs was removed.", words::lack(crossing));
        self.orders.note(record).await;
    }
}

async fn in_time(reclaiming: impl Future<Output = Reclaimed>) -> Reclaimed {
    tokio::time::timeout(RECLAIMED_WITHIN, reclaiming).await.unwrap_or_else(|_| {
        warn!("the runtime takes too long to remove what nobody needs");
        Reclaimed::default()
    })
}
