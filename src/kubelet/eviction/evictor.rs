//! The loop: look, make room, end a pod.

use super::EVICTED;
use super::collect::Collector;
use super::log::{DecisionLog, Reclaimed, Record};
use super::machine::{Crossing, Machine, Resource};
use super::rank::rank;
use super::reclaim::reclaim;
use super::signals::Signals;
use super::storage::{has_limits, over};
use super::usage::{candidates, is_active, local, running};
use super::words;
use crate::blocking;
use crate::clock::ticks;
use crate::config;
use crate::kubelet::board::{EventKind, PodView};
use crate::kubelet::spec::{full_name, grace, uid};
use crate::kubelet::status::{Verdict, start_time};
use crate::kubelet::worker::{Ending, Host};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tracing::{info, warn};

/// A pod to be ended, by its uid, and how.
pub type Order = (String, Ending);

/// The shortest grace there is.
const SHORTEST: Duration = Duration::from_secs(1);
/// How long the end of a victim is waited for at least, and how much longer than one and a half times its grace.
const KILLED_WITHIN: Duration = Duration::from_secs(10);
const CLEANED_WITHIN: Duration = Duration::from_secs(30);

/// How long it may take to remove what nobody needs before a pod has to go.
const RECLAIMED_WITHIN: Duration = Duration::from_secs(30);

/// What ends pods when something is short.
pub struct Evictor {
    host: Arc<Host>,
    config: config::Eviction,
    machine: Machine,
    signals: Signals,
    collector: Arc<Collector>,
    log: DecisionLog,
    orders: mpsc::Sender<Order>,
    /// The last victim of a signal, until it has given back what it held.
    waits: Option<Victim>,
    /// Who was told to end, as long as there is something of it, with the time of its start: a pod of the same uid may
    /// begin anew.
    told: BTreeMap<String, Option<Time>>,
    /// The signal for which there is nobody to go: it is told once.
    nobody: Option<&'static str>,
}

/// A pod whose end makes room.
#[derive(Clone, Debug)]
struct Victim {
    uid: String,
    hard: bool,
    /// Until when it is waited for.
    until: Instant,
    verdict: Verdict,
}

/// The pods of a moment, by uid.
#[derive(Debug, Default)]
struct Pods {
    /// Those that are to run.
    active: BTreeMap<String, Arc<Pod>>,
    /// Those that have ended, or are being ended.
    ended: BTreeMap<String, Arc<Pod>>,
}

impl Pods {
    fn of(all: BTreeMap<String, PodView>) -> Self {
        let all = all.into_iter().map(|(uid, view)| (uid, view.pod));
        let (active, ended) = all.partition(|(_, pod)| is_active(pod));
        Self { active, ended }
    }
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
            log: DecisionLog::new(state.join("evictions.log")),
            host,
            config,
            collector,
            orders,
            waits: None,
            told: BTreeMap::new(),
            nobody: None,
        }
    }

    /// A first look, so that nobody is let in whom the second would end.
    pub async fn look(&mut self) {
        self.decide().await;
    }

    /// Looks every so often, for ever.
    pub async fn run(mut self) {
        let mut pulse = ticks(Duration::from_secs(self.config.check_seconds));
        loop {
            pulse.tick().await;
            self.round().await;
        }
    }

    async fn round(&mut self) {
        let act = self.decide().await;
        let pods = Pods::of(self.host.board.pods());
        self.told.retain(|uid, start| {
            let pod = pods.active.get(uid).or_else(|| pods.ended.get(uid));
            pod.is_some_and(|pod| start_time(pod) == start.as_ref())
        });
        let storage = self.keep_storage(pods.active.clone()).await;
        let Some(crossing) = act else {
            self.nobody = None;
            return;
        };
        if !storage && !self.is_waiting(crossing, &pods).await {
            self.act(crossing, pods).await;
        }
    }

    /// Reads the signals and tells what is short; what has to be done something about.
    async fn decide(&mut self) -> Option<Crossing> {
        let readings = self.signals.read(&*self.host.cri).await;
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
        decision.act
    }

    /// Ends every pod that uses more local storage than it may; whether there was one.
    async fn keep_storage(&mut self, active: BTreeMap<String, Arc<Pod>>) -> bool {
        let mut any = false;
        for pod in active.into_values() {
            let due = has_limits(&pod) && !self.told.contains_key(uid(&pod));
            if !due || super::is_critical(&pod) {
                continue;
            }
            let local = local(&self.host, Arc::clone(&pod)).await;
            let Some(over) = over(&pod, &local) else { continue };
            any = true;
            let record = Record::of_storage(&over, &full_name(&pod));
            self.evict(pod, Some(SHORTEST), (record, over.message)).await;
        }
        any
    }

    /// Whether the last victim's end is worth waiting for. One that ends slowly has to hurry when a hard threshold is
    /// passed.
    async fn is_waiting(&mut self, crossing: Crossing, pods: &Pods) -> bool {
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
        if crossing.rule.hard && !victim.hard {
            let ending = Ending {
                grace: Some(SHORTEST),
                verdict: Some(victim.verdict.clone()),
                ..Ending::default()
            };
            self.order(&victim.uid, ending).await;
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
    async fn gave_back(&self, uid: &str) -> bool {
        let volumes = self.host.pod_dir(uid).join("volumes");
        blocking::run("look for a pod's volumes", move || !volumes.exists()).await.unwrap_or(true)
    }

    /// Makes room: with what nobody needs if that does, else one pod has to go.
    async fn act(&mut self, crossing: Crossing, pods: Pods) {
        let measure = crossing.rule.measure;
        let apart = self.signals.apart(&*self.host.cri).await;
        let of = (measure, apart);
        let ended = pods.ended.keys().cloned().collect();
        let reclaiming = reclaim(&self.host, &ended, &self.collector, of);
        let reclaimed = match tokio::time::timeout(RECLAIMED_WITHIN, reclaiming).await {
            Ok(reclaimed) => reclaimed,
            Err(_) => {
                warn!("the runtime takes too long to remove what nobody needs");
                Reclaimed::default()
            }
        };
        let mut record = Record::of_signal(&crossing);
        let of_memory = measure.resource() == Resource::Memory;
        record.kernel_available = of_memory.then_some(self.signals.kernel_available);
        record.reclaimed = reclaimed;
        let mut active = pods.active;
        active.retain(|uid, _| !self.told.contains_key(uid));
        let all = match candidates(&self.host, active.values().cloned().collect(), of).await {
            Ok(all) => all,
            Err(error) => {
                // Who is evicted by chance is evicted for nothing.
                warn!(error, "what pods use is not known: none is evicted in this round");
                return;
            }
        };
        // All that took its time, and room may have been made meanwhile, by this or by others.
        let readings = self.signals.read(&*self.host.cri).await;
        if crossing.is_resolved(&readings) {
            record.message = format!("{} Room has been made since.", words::lack(&crossing));
            return self.note(record).await;
        }
        record.candidates = rank(measure.resource(), all);
        let first = record.candidates.first().cloned();
        let pod = first.as_ref().and_then(|first| active.remove(&first.uid));
        let (Some(first), Some(pod)) = (first, pod) else {
            return self.nobody_goes(crossing, record).await;
        };
        self.nobody = None;
        let message = words::verdict(&crossing, &first);
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
            verdict: verdict(&message),
        });
        self.evict(pod, grace, (record, message)).await;
    }

    /// Tells, once, that nobody can go.
    async fn nobody_goes(&mut self, crossing: Crossing, mut record: Record) {
        let signal = crossing.rule.measure.name();
        if self.nobody == Some(signal) && record.reclaimed == Reclaimed::default() {
            return;
        }
        self.nobody = Some(signal);
        record.message = format!("{} There is no pod that may go.", words::lack(&crossing));
        warn!(signal, message = record.message, "the node is short of something");
        self.note(record).await;
    }

    async fn evict(
        &mut self,
        pod: Arc<Pod>,
        grace: Option<Duration>,
        (mut record, message): (Record, String),
    ) {
        record.grace_seconds = grace.map(|grace| grace.as_secs());
        record.message.clone_from(&message);
        self.told.insert(uid(&pod).to_owned(), start_time(&pod).cloned());
        self.host.board.event(&pod, None, (EventKind::Warning, EVICTED, message.clone()));
        self.note(record).await;
        let verdict = Some(verdict(&message));
        self.order(uid(&pod), Ending { grace, verdict, ..Ending::default() }).await;
    }

    async fn order(&self, uid: &str, ending: Ending) {
        if self.orders.send((uid.to_owned(), ending)).await.is_err() {
            // The kubelet half ends: what is short is found again by the next one.
            warn!(pod_uid = uid, "nobody ends the pod");
        }
    }

    async fn note(&self, record: Record) {
        let Record { signal, hard, threshold, observed, victim, .. } = &record;
        info!(signal, hard, threshold, observed, victim, "eviction decision");
        let log = self.log.clone();
        let noted = blocking::run("note a decision", move || log.append(&record)).await;
        if let Ok(Err(error)) = noted {
            warn!(%error, "a decision was not noted in evictions.log");
        }
    }
}

fn verdict(message: &str) -> Verdict {
    Verdict { reason: EVICTED.to_owned(), message: message.to_owned() }
}

/// How long the end of a pod with a grace is waited for.
fn waited_for(grace: Duration) -> Duration {
    grace.saturating_mul(3).checked_div(2).unwrap_or(grace).max(KILLED_WITHIN) + CLEANED_WITHIN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_victim_is_waited_for_as_long_as_it_may_take() {
        assert_eq!(waited_for(SHORTEST), Duration::from_secs(40));
        assert_eq!(waited_for(Duration::from_secs(60)), Duration::from_secs(120));
    }
}
