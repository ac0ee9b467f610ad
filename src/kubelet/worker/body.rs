//! What a worker knows of its pod.

use super::failure::Failure;
use super::host::Host;
use crate::blocking::Overdue;
use crate::cri::client::CriError;
use crate::kubelet::backoff::{Backoff, CAP};
use crate::kubelet::board::EventKind;
use crate::kubelet::observed::{Instance, Observed, Remembered, observe};
use crate::kubelet::plan::Health;
use crate::kubelet::spec::{members, uid};
use crate::kubelet::status::{Input, Verdict, Waiting, status};
use crate::probes::{PodProbes, Report};
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::SystemTime;
use tokio::sync::mpsc;

/// A pod, as its worker knows it.
pub(super) struct Body {
    pub(super) host: Arc<Host>,
    pub(super) pod: Arc<Pod>,
    pub(super) origin: String,
    pub(super) remembered: Remembered,
    pub(super) probes: PodProbes,
    pub(super) reports: mpsc::UnboundedReceiver<Report>,
    /// Of containers that crash.
    pub(super) crashes: Backoff,
    /// Of images that cannot be pulled.
    pub(super) pulls: Backoff,
    /// How each of them failed last.
    pub(super) pull_failures: BTreeMap<String, PullFailure>,
    /// What went wrong with each container's last try.
    pub(super) failures: BTreeMap<String, Failure>,
    /// Termination messages, by instance.
    pub(super) messages: BTreeMap<String, String>,
    /// What probes say.
    pub(super) health: Health,
    /// Instances whose preStop hook has run.
    pub(super) hooked: BTreeSet<String>,
    pub(super) verdict: Option<Verdict>,
    pub(super) overdue: Overdue,
    /// How often each container was restarted, by what was known before the runtime lost it.
    pub(super) counts: BTreeMap<String, u32>,
}

/// A pull that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PullFailure {
    pub(super) at: SystemTime,
    pub(super) message: String,
}

impl Body {
    pub(super) fn new(host: Arc<Host>, pod: Arc<Pod>, origin: String) -> Self {
        let (told, reports) = mpsc::unbounded_channel();
        let age = host.began.elapsed();
        let probes = PodProbes::new(&host.checker, &pod, &told, &host.tasks, age);
        let crashes = Backoff::new(host.settings.crash_cap);
        let counts = counts(&host.board.status(uid(&pod)));
        Self {
            host,
            pod,
            origin,
            remembered: Remembered::default(),
            probes,
            reports,
            crashes,
            pulls: Backoff::new(CAP),
            pull_failures: BTreeMap::new(),
            failures: BTreeMap::new(),
            messages: BTreeMap::new(),
            health: Health::default(),
            hooked: BTreeSet::new(),
            verdict: None,
            overdue: Overdue::default(),
            counts,
        }
    }

    pub(super) fn uid(&self) -> &str {
        uid(&self.pod)
    }

    /// What the runtime has of the pod.
    pub(super) async fn observe(&mut self) -> Result<Observed, CriError> {
        let host = Arc::clone(&self.host);
        let pod = Arc::clone(&self.pod);
        observe(&*host.cri, uid(&pod), &mut self.remembered).await
    }

    pub(super) fn event(&self, kind: EventKind, reason: &str, message: String) {
        self.host.board.event(&self.pod, None, (kind, reason, message));
    }

    pub(super) fn container_event(&self, container: &str, what: (EventKind, &str, String)) {
        self.host.board.event(&self.pod, Some(container), what);
    }

    /// The last status that was published.
    pub(super) fn last_status(&self) -> PodStatus {
        self.host.board.status(self.uid())
    }

    /// Publishes the pod's status. `waiting` goes before what went wrong.
    pub(super) fn publish(
        &self,
        observed: &Observed,
        waiting: &BTreeMap<String, Waiting>,
        ended: bool,
    ) {
        let mut all: BTreeMap<String, Waiting> = self
            .failures
            .iter()
            .map(|(name, failure)| (name.clone(), failure.waiting.clone()))
            .collect();
        all.extend(waiting.clone());
        let ready = members(&self.pod)
            .into_iter()
            .filter(|member| self.probes.ready(member.name()))
            .map(|member| member.name().to_owned())
            .collect();
        let made = status(&Input {
            pod: &self.pod,
            observed,
            started: &self.health.started,
            ready: &ready,
            waiting: &all,
            messages: &self.messages,
            verdict: self.verdict.as_ref(),
            ended,
            previous: &self.last_status(),
            host_ips: &self.host.node.ips,
            runtime: &self.host.runtime,
            now: SystemTime::now(),
        });
        self.host.board.publish(&self.pod, &self.origin, made);
    }

    /// The name of a container's instance with its id, short, for people.
    pub(super) fn told(instance: &Instance) -> String {
        let short: String = instance.id.chars().take(13).collect();
        format!("{} ({short})", instance.name)
    }
}

/// How often each container of a status was started, less one.
fn counts(status: &PodStatus) -> BTreeMap<String, u32> {
    let init = status.init_container_statuses.iter().flatten();
    let all = init.chain(status.container_statuses.iter().flatten());
    all.filter(|status| status.container_id.is_some())
        .map(|s| (s.name.clone(), u32::try_from(s.restart_count).unwrap_or(0)))
        .collect()
}
