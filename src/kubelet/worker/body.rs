//! What a worker knows of its pod.

use super::failure::Failure;
use super::host::Host;
use super::kill::Until;
use super::steps::Steps;
use crate::cri::client::CriError;
use crate::kubelet::backoff::{Backoff, CAP};
use crate::kubelet::board::EventKind;
use crate::kubelet::http::tallies::{ProbedPod, Registered};
use crate::kubelet::observed::{Instance, Observed, Remembered, observe};
use crate::kubelet::plan::Health;
use crate::kubelet::spec::{members, name, namespace, spec, uid};
use crate::kubelet::status::{Input, Verdict, Waiting, api_time, container_id, containers, status};
use crate::probes::pod::Restored;
use crate::probes::tracker::{Phase, Recorded};
use crate::probes::{PodProbes, Report};
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;
use tokio::sync::mpsc;

/// A pod, as its worker knows it.
pub(super) struct Body {
    pub(super) host: Arc<Host>,
    pub(super) pod: Arc<Pod>,
    pub(super) origin: String,
    pub(super) remembered: Remembered,
    pub(super) probes: PodProbes,
    /// Shows what they came to.
    tallies: Registered,
    pub(super) reports: mpsc::UnboundedReceiver<Report>,
    /// Kept, so that a pod without probes waits for reports that never come.
    told: mpsc::UnboundedSender<Report>,
    /// Of containers that crash.
    pub(super) crashes: Backoff,
    /// Whether those count that crashed before this run of the daemon.
    pub(super) crashes_resumed: bool,
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
    pub(super) hooked: Mutex<BTreeSet<String>>,
    /// When the pod's end began, and how long it may take.
    pub(super) until: Option<Until>,
    /// Since when no source wants the pod.
    pub(super) deleted: Option<SystemTime>,
    pub(super) verdict: Option<Verdict>,
    pub(super) steps: Steps,
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
        let probes = probes(&host, &pod, &told);
        let tallies = registered(&host, &pod, &probes);
        let crashes = Backoff::new(host.settings.crash_cap);
        let counts = counts(&host.board.status(uid(&pod)));
        let steps = Steps::new(&host.board, &pod);
        Self {
            host,
            pod,
            origin,
            remembered: Remembered::default(),
            probes,
            tallies,
            reports,
            told,
            crashes,
            crashes_resumed: false,
            pulls: Backoff::new(CAP),
            pull_failures: BTreeMap::new(),
            failures: BTreeMap::new(),
            messages: BTreeMap::new(),
            health: Health::default(),
            hooked: Mutex::default(),
            until: None,
            deleted: None,
            verdict: None,
            steps,
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
        self.host.board.publish(&self.shown(), &self.origin, made);
    }

    /// The pod as everybody may see it: one that is being deleted says since when.
    fn shown(&self) -> Pod {
        let mut pod = (*self.pod).clone();
        if let Some(deleted) = self.deleted {
            pod.metadata.deletion_timestamp = Some(api_time(deleted));
            let grace = i64::try_from(self.own_grace().as_secs()).ok();
            pod.metadata.deletion_grace_period_seconds = grace;
        }
        pod
    }

    /// Another pod of the same uid: its probes are others, too.
    pub(super) fn replace(&mut self, pod: Arc<Pod>) {
        let (old, new) = (spec(&self.pod), spec(&pod));
        // What was only added to has no other probes: they go on, with what they have found.
        if old.containers != new.containers || old.init_containers != new.init_containers {
            self.probes = probes(&self.host, &pod, &self.told);
            self.tallies = registered(&self.host, &pod, &self.probes);
        }
        self.steps.replace(&pod);
        self.pod = pod;
    }

    /// Notes which ephemeral containers have been there, also when the runtime has them no more: none begins twice.
    pub(super) fn remember_added(&mut self) {
        let status = self.last_status();
        let added = status.ephemeral_container_statuses.into_iter().flatten();
        let made = added.filter(|status| status.container_id.is_some());
        self.counts.extend(made.map(|status| (status.name, 0)));
    }

    /// The name of a container's instance with its id, short, for people.
    pub(super) fn told(instance: &Instance) -> String {
        let short: String = instance.id.chars().take(13).collect();
        format!("{} ({short})", instance.name)
    }
}

/// Shows what a pod's probes came to, as long as it is kept.
fn registered(host: &Host, pod: &Pod, probes: &PodProbes) -> Registered {
    let of = ProbedPod {
        uid: uid(pod).to_owned(),
        namespace: namespace(pod).to_owned(),
        name: name(pod).to_owned(),
    };
    host.tallies.register(of, probes.tally_reader())
}

/// The probes of a pod, with what was known of its containers before.
fn probes(host: &Host, pod: &Pod, told: &mpsc::UnboundedSender<Report>) -> PodProbes {
    let mut probes = PodProbes::new(&host.checker, pod, told, &host.tasks, host.began.elapsed());
    let before = host.board.status(uid(pod));
    for status in containers(&before) {
        let Some(id) = container_id(status) else { continue };
        let phase = if status.started == Some(true) { Phase::Started } else { Phase::Starting };
        let readiness = if status.ready { Recorded::Success } else { Recorded::Failure };
        probes.restore(id, Restored { phase, readiness });
    }
    probes
}

/// How often each container of a status was started, less one.
fn counts(status: &PodStatus) -> BTreeMap<String, u32> {
    containers(status)
        .filter(|status| status.container_id.is_some())
        .map(|s| (s.name.clone(), u32::try_from(s.restart_count).unwrap_or(0)))
        .collect()
}
