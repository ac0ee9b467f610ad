//! Keeping pods within the local storage that they may use.
//!
//! A task of its own: what hangs here (a runtime that does not answer, a file system that does not) keeps nobody from
//! looking at the node's memory. What cannot be measured is told as an event of its pod, once, and its limits are kept as
//! far as it is known.

use super::log::Record;
use super::orders::{Doomed, Orders};
use super::recall::SHORTEST;
use super::storage::{has_limits, over};
use super::usage::{AT_ONCE, LocalUse, Meter, Pods};
use crate::clock::ticks;
use crate::kubelet::board::EventKind;
use crate::kubelet::spec::{full_name, uid};
use crate::kubelet::worker::Host;
use futures::StreamExt as _;
use futures::stream;
use k8s_openapi::api::core::v1::Pod;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The reason of the event of a pod that was not measured.
const NOT_MEASURED: &str = "StorageNotMeasured";

/// What keeps pods within their local storage.
pub struct StorageKeeper {
    pub(super) host: Arc<Host>,
    pub(super) orders: Arc<Orders>,
    pub(super) meter: Meter,
    /// How often it looks.
    pub(super) every: Duration,
    /// What was told of pods that could not be measured, by uid.
    pub(super) told: BTreeMap<String, String>,
}

impl StorageKeeper {
    /// Looks every so often, for ever.
    pub async fn run(mut self) {
        let mut pulse = ticks(self.every);
        loop {
            pulse.tick().await;
            self.round().await;
        }
    }

    /// Ends every pod that uses more local storage than it may.
    async fn round(&mut self) {
        let pods = Pods::of(self.host.board.pods());
        self.meter.forget(|uid| pods.get(uid).is_some());
        self.told.retain(|uid, _| pods.active.contains_key(uid));
        let due = |pod: &Arc<Pod>| {
            has_limits(pod) && !self.orders.is_told(uid(pod)) && !super::is_critical(pod)
        };
        let due: Vec<Arc<Pod>> = pods.active.into_values().filter(due).collect();
        let meter = self.meter.clone();
        let measured = due.into_iter().map(|pod| async {
            let local = meter.local(Arc::clone(&pod)).await;
            (pod, local)
        });
        let mut measured = stream::iter(measured).buffer_unordered(AT_ONCE);
        while let Some((pod, local)) = measured.next().await {
            self.judge(pod, local).await;
        }
    }

    async fn judge(&mut self, pod: Arc<Pod>, local: LocalUse) {
        self.tell(&pod, local.unknown.join("; "));
        let Some(over) = over(&pod, &local) else { return };
        let record = Record::of_storage(&over, &full_name(&pod));
        let grace = Some(SHORTEST);
        self.orders.evict_for_storage(Doomed { pod, grace, record, signal: over.signal }).await;
    }

    /// Tells what is not known of a pod, if that is another than before.
    fn tell(&mut self, pod: &Pod, unknown: String) {
        let known = self.told.get(uid(pod)).map(String::as_str).unwrap_or_default();
        if *known == *unknown {
            return;
        }
        self.told.insert(uid(pod).to_owned(), unknown.clone());
        if !unknown.is_empty() {
            let message = format!("limits of local storage are not kept in full: {unknown}");
            self.host.board.event(pod, None, (EventKind::Warning, NOT_MEASURED, message));
        }
    }
}
