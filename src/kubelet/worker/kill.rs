//! Ending containers: preStop, SIGTERM, grace, SIGKILL.
//!
//! preStop runs inside the grace; what it leaves of it is the container's, but at least two seconds. All apps
//! end at once, their sidecars after them in reverse order, within the same grace (KEP-753).

use super::body::Body;
use crate::cri::client::CriError;
use crate::cri::proto;
use crate::kubelet::board::EventKind;
use crate::kubelet::observed::{Instance, Observed};
use crate::kubelet::plan::Kill;
use crate::kubelet::spec::{Role, grace, member, members};
use crate::lock::lock;
use crate::probes::hooks::{HookTarget, run_hook};
use k8s_openapi::api::core::v1::LifecycleHandler;
use std::time::{Duration, Instant};

/// What a container gets after its preStop hook, whatever that left.
const LEAST: Duration = Duration::from_secs(2);
/// The least grace of a pod.
const LEAST_OF_POD: Duration = Duration::from_secs(1);

/// The time until which something has to end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Until {
    from: Instant,
    grace: Duration,
}

impl Until {
    /// From now on.
    pub(super) fn within(grace: Duration) -> Self {
        Self { from: Instant::now(), grace }
    }

    /// No later than `grace` from now.
    pub(super) fn or_sooner(self, grace: Duration) -> Self {
        Self { grace: self.grace.min(self.from.elapsed().saturating_add(grace)), ..self }
    }

    fn left(self) -> Duration {
        self.grace.saturating_sub(self.from.elapsed())
    }
}

impl Body {
    /// The grace of the pod when nobody says otherwise.
    pub(super) fn own_grace(&self) -> Duration {
        let deletion = self.pod.metadata.deletion_grace_period_seconds;
        let deletion = deletion.and_then(|s| u64::try_from(s).ok()).map(Duration::from_secs);
        deletion.unwrap_or_else(|| grace(&self.pod)).max(LEAST_OF_POD)
    }

    /// Ends one container, as planned.
    pub(super) async fn kill_planned(
        &self,
        kill: &Kill,
        observed: &Observed,
    ) -> Result<(), CriError> {
        let Some(instance) = observed.instances.iter().find(|i| i.id == kill.id) else {
            return Ok(());
        };
        let deletion = self.pod.metadata.deletion_grace_period_seconds.is_some();
        let grace = kill.grace.filter(|_| !deletion).unwrap_or_else(|| self.own_grace());
        let message = format!("Stopping container {}: {}", Self::told(instance), kill.why);
        self.container_event(&instance.name, (EventKind::Normal, "Killing", message));
        let until = Until::within(grace);
        self.pre_stop(instance, observed, until).await;
        self.stop(instance, until.left().max(LEAST)).await
    }

    /// Ends all containers, apps before their sidecars; the first error, after all were tried.
    pub(super) async fn kill_all(&self, observed: &Observed, until: Until) -> Result<(), CriError> {
        let mut sidecars = Vec::new();
        let mut apps = Vec::new();
        for instance in observed.alive() {
            let message = format!("Stopping container {}", Self::told(instance));
            self.container_event(&instance.name, (EventKind::Normal, "Killing", message));
            match member(&self.pod, &instance.name).map(|m| m.role) {
                Some(Role::Sidecar) => sidecars.push(instance),
                _ => apps.push(instance),
            }
        }
        let order: Vec<&str> = members(&self.pod).iter().map(|m| m.name()).collect();
        sidecars.sort_by_key(|i| std::cmp::Reverse(order.iter().position(|n| *n == i.name)));
        let of_apps = futures::future::join_all(apps.into_iter().map(|instance| async move {
            self.pre_stop(instance, observed, until).await;
            self.stop(instance, until.left().max(LEAST)).await
        }));
        // Their hooks begin with those of the others; their end waits for theirs.
        let hooks = futures::future::join_all(
            sidecars.iter().map(|instance| self.pre_stop(instance, observed, until)),
        );
        let (ended, _) = tokio::join!(of_apps, hooks);
        let mut result = ended.into_iter().collect::<Result<Vec<()>, _>>().map(|_| ());
        for instance in sidecars {
            let stopped = self.stop(instance, until.left()).await;
            result = result.and(stopped);
        }
        result
    }

    async fn stop(&self, instance: &Instance, grace: Duration) -> Result<(), CriError> {
        // Whole seconds, rounded up: less than asked for is never given.
        let seconds = grace.as_secs() + u64::from(grace.subsec_nanos() > 0);
        let request = proto::StopContainerRequest {
            container_id: instance.id.clone(),
            timeout: i64::try_from(seconds).unwrap_or(i64::MAX),
        };
        match self.host.cri.stop_container(request).await {
            Err(error) if error.is_not_found() => Ok(()),
            result => result.map(|_| ()),
        }
    }

    /// Runs a container's preStop hook, once, for no longer than the grace.
    async fn pre_stop(&self, instance: &Instance, observed: &Observed, until: Until) {
        if instance.running().is_none() || !self.hook_is_due(&instance.id) || until.left().is_zero()
        {
            return;
        }
        let Some(member) = member(&self.pod, &instance.name) else { return };
        let hook = member.container.lifecycle.as_ref().and_then(|l| l.pre_stop.as_ref());
        let Some(hook) = hook else { return };
        lock(&self.hooked).insert(instance.id.clone());
        let ran = self.hook(hook, instance, observed, Some(until.left())).await;
        if let Err(message) = ran {
            let what = (EventKind::Warning, "FailedPreStopHook", message);
            self.container_event(&instance.name, what);
        }
    }

    /// Whether an instance's preStop hook has not begun yet.
    fn hook_is_due(&self, id: &str) -> bool {
        !lock(&self.hooked).contains(id)
    }

    /// Runs a hook of a container; why it failed.
    pub(super) async fn hook(
        &self,
        hook: &LifecycleHandler,
        instance: &Instance,
        observed: &Observed,
        limit: Option<Duration>,
    ) -> Result<(), String> {
        let Some(member) = member(&self.pod, &instance.name) else { return Ok(()) };
        let sandbox = observed.sandbox();
        let ip = sandbox.and_then(|sandbox| match sandbox.host_network {
            true => self.host.node.ips.first().copied(),
            false => sandbox.ips.first().copied(),
        });
        let target =
            HookTarget { container: member.container, container_id: &instance.id, address: ip };
        let ran = run_hook(&self.host.checker, hook, target, limit).await;
        ran.map_err(|error| crate::error::chain(&error))
    }
}
