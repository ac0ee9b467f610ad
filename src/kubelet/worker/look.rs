//! What follows from what the runtime shows: probes of what runs, and the last words of what has ended.

use super::body::Body;
use crate::kubelet::board::EventKind;
use crate::kubelet::observed::{Instance, Observed};
use crate::kubelet::plan::ProbeFailure;
use crate::kubelet::spec::{host_network, member, members};
use crate::kubelet::status::{message_budget, termination_message};
use crate::lock::lock;
use crate::probes::{Kind, Notice, Report, Running};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::SystemTime;

impl Body {
    /// Takes in what there is of the pod.
    pub(super) async fn look(&mut self, observed: &Observed) {
        self.look_at_probes(observed);
        self.read_last_words(observed).await;
        let there: BTreeSet<&String> = observed.instances.iter().map(|i| &i.id).collect();
        self.health.killed.retain(|id| there.contains(id));
        lock(&self.hooked).retain(|id| there.contains(id));
    }

    fn look_at_probes(&mut self, observed: &Observed) {
        let ips = observed.sandbox().map(|sandbox| sandbox.ips.clone()).unwrap_or_default();
        let in_host = host_network(&self.pod);
        let ip = if in_host { self.host.node.ips.first() } else { ips.first() };
        let newest = |instance: &&Instance| {
            observed.latest(&instance.name).is_some_and(|latest| latest.id == instance.id)
        };
        let running: Vec<Running> = observed
            .instances
            .iter()
            .filter(newest)
            .filter_map(|instance| {
                Some(Running {
                    container: instance.name.clone(),
                    container_id: instance.id.clone(),
                    started_at: instance.running()?,
                    address: ip.copied(),
                })
            })
            .collect();
        self.probes.sync(&running, SystemTime::now());
        self.health.started = running
            .iter()
            .filter(|running| self.probes.started(&running.container))
            .map(|running| running.container.clone())
            .collect();
        let failure = |running: &Running| {
            let finding = self.probes.must_end(&running.container)?;
            let probe = match finding.kind {
                Kind::Startup => "startup",
                Kind::Liveness | Kind::Readiness => "liveness",
            };
            Some((running.container.clone(), ProbeFailure { probe, grace: finding.grace }))
        };
        self.health.failed = running.iter().filter_map(failure).collect();
    }

    /// Tells of what probes found whatever is to be told of it.
    pub(super) fn take_reports(&mut self, first: Option<Report>) {
        let mut next = first;
        while let Some(report) = next {
            let (reason, Notice { container, message, .. }) = match report {
                Report::Unhealthy(notice) => ("Unhealthy", notice),
                Report::Warning(notice) => ("ProbeWarning", notice),
                // Found again by the next look.
                Report::Changed(_) => {
                    next = self.reports.try_recv().ok();
                    continue;
                }
            };
            self.container_event(&container, (EventKind::Warning, reason, message));
            next = self.reports.try_recv().ok();
        }
    }

    /// Reads the termination messages of the instances that have ended since.
    async fn read_last_words(&mut self, observed: &Observed) {
        let known = std::mem::take(&mut self.messages);
        let budget = message_budget(members(&self.pod).len());
        let mut new = Vec::new();
        for instance in &observed.instances {
            let Some(exit) = instance.exit() else { continue };
            if let Some(message) = known.get(&instance.id) {
                self.messages.insert(instance.id.clone(), message.clone());
                continue;
            }
            let policy = member(&self.pod, &instance.name)
                .and_then(|m| m.container.termination_message_policy.clone());
            let log = (exit.code != 0 && policy.as_deref() == Some("FallbackToLogsOnError"))
                .then(|| PathBuf::from(&instance.log_path));
            new.push((instance.id.clone(), instance.message_file.clone(), log));
        }
        if new.is_empty() {
            return;
        }
        let read = self.steps.run(&self.host, "read termination messages", move |_, _| {
            let message = |(id, file, log): (String, Option<String>, Option<PathBuf>)| {
                let file = file.map(PathBuf::from);
                (id, termination_message(file.as_deref(), log.as_deref(), budget))
            };
            new.into_iter().map(message).collect::<BTreeMap<_, _>>()
        });
        self.messages.extend(read.await.unwrap_or_default());
    }
}
