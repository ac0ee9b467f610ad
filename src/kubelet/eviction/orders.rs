//! The orders by which pods end. Each is noted before it is given, so that the next run knows of it.

use super::EVICTED;
use super::Order;
use super::log::{DecisionLog, Record};
use super::recall::{Unfinished, unfinished};
use super::usage::Pods;
use crate::blocking;
use crate::clock::{now_nanos, rfc3339};
use crate::kubelet::board::EventKind;
use crate::kubelet::spec::uid;
use crate::kubelet::status::{Verdict, start_time};
use crate::kubelet::worker::{Ending, Host};
use crate::lock::lock;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};
use tokio::sync::mpsc;
use tracing::{info, warn};

/// Who ends pods.
pub(super) struct Orders {
    host: Arc<Host>,
    log: DecisionLog,
    sender: mpsc::Sender<Order>,
    /// Who was told to end, as long as there is something of it, with the time of its start: a pod of the same uid may
    /// begin anew.
    told: Mutex<BTreeMap<String, Option<Time>>>,
    /// How many went for what they stored themselves.
    of_storage: AtomicU64,
}

/// A pod that has to go.
pub(super) struct Doomed {
    pub(super) pod: Arc<Pod>,
    /// Its grace; none: its own.
    pub(super) grace: Option<Duration>,
    /// The decision, with what is said of it.
    pub(super) record: Record,
    /// The signal, as metrics name it.
    pub(super) signal: &'static str,
}

impl Orders {
    /// Orders to the workers of a host, noted below `state`.
    pub(super) fn new(host: Arc<Host>, state: &Path, sender: mpsc::Sender<Order>) -> Self {
        Self {
            host,
            log: DecisionLog::new(state.join("evictions.log")),
            sender,
            told: Mutex::default(),
            of_storage: AtomicU64::new(0),
        }
    }

    /// The pods that the last run had told to end and that have something left: nobody has to decide that again.
    pub(super) async fn recall(&self) -> Vec<Unfinished> {
        let log = self.log.clone();
        let past = blocking::run("read the decisions of the last run", move || log.read()).await;
        let past = past.unwrap_or_default();
        let pods = self.host.board.pods();
        let all = unfinished(past, &pods, SystemTime::now());
        for one in &all {
            lock(&self.told).insert(one.uid.clone(), one.start.clone());
            let Some(view) = pods.get(&one.uid) else { continue };
            if !view.events.iter().any(|event| event.reason == EVICTED) {
                let what = (EventKind::Warning, EVICTED, one.verdict.message.clone());
                self.host.board.event(&view.pod, None, what);
            }
        }
        all
    }

    /// Forgets the pods of which there is nothing any more.
    pub(super) fn forget(&self, pods: &Pods) {
        lock(&self.told).retain(|uid, start| {
            pods.get(uid).is_some_and(|pod| start_time(pod) == start.as_ref())
        });
    }

    /// Whether a pod was told to end.
    pub(super) fn is_told(&self, uid: &str) -> bool {
        lock(&self.told).contains_key(uid)
    }

    /// How many pods went so far for what they stored themselves.
    pub(super) fn of_storage(&self) -> u64 {
        self.of_storage.load(Ordering::Relaxed)
    }

    /// Ends a pod that uses more local storage than it may.
    pub(super) async fn evict_for_storage(&self, doomed: Doomed) -> bool {
        let told = self.evict(doomed).await;
        self.of_storage.fetch_add(u64::from(told), Ordering::Relaxed);
        told
    }

    /// Ends a pod; not if it was told already.
    pub(super) async fn evict(&self, doomed: Doomed) -> bool {
        let Doomed { pod, grace, mut record, signal } = doomed;
        let start = start_time(&pod).cloned();
        let before = lock(&self.told).insert(uid(&pod).to_owned(), start.clone());
        if before.is_some_and(|before| before == start) {
            return false;
        }
        record.time = rfc3339(now_nanos());
        record.grace_seconds = grace.map(|grace| grace.as_secs());
        record.victim_uid = Some(uid(&pod).to_owned());
        record.victim_start = start;
        let message = record.message.clone();
        self.host.board.event(&pod, None, (EventKind::Warning, EVICTED, message.clone()));
        self.note(record).await;
        self.host.evictions.count(signal);
        let verdict = Some(verdict(&message));
        self.order(uid(&pod), Ending { grace, verdict, ..Ending::default() }).await;
        true
    }

    /// Tells the worker of a pod.
    pub(super) async fn order(&self, uid: &str, ending: Ending) {
        if self.sender.send((uid.to_owned(), ending)).await.is_err() {
            // The kubelet half ends: the next one finds it in the log.
            warn!(pod_uid = uid, "nobody ends the pod");
        }
    }

    /// Notes a decision.
    pub(super) async fn note(&self, record: Record) {
        let Record { signal, hard, threshold, observed, victim, .. } = &record;
        info!(signal, hard, threshold, observed, victim, "eviction decision");
        let log = self.log.clone();
        let noted = blocking::run("note a decision", move || log.append(&record)).await;
        if let Ok(Err(error)) = noted {
            warn!(%error, "a decision was not noted in evictions.log");
        }
    }
}

/// What is said of a pod that was evicted.
pub(super) fn verdict(message: &str) -> Verdict {
    Verdict { reason: EVICTED.to_owned(), message: message.to_owned() }
}
