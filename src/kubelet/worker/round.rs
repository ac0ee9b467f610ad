//! Look, plan, act; again until there is nothing to do.

use super::body::Body;
use crate::kubelet::backoff::{Before, Held};
use crate::kubelet::board::EventKind;
use crate::kubelet::observed::{Instance, Observed};
use crate::kubelet::plan::{Input, Plan, backoff_key, plan};
use crate::kubelet::spec::{container_hash, members, spec, uid};
use crate::kubelet::status::{Verdict, Waiting, containers};
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};
use tracing::warn;

/// How a round ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Round {
    /// There is nothing to do, before that moment at least.
    Idle(Option<SystemTime>),
    /// The pod has ended by itself, or its time is over.
    Finished,
}

/// After how long a runtime that did not answer is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

impl Body {
    /// Brings the pod as near to what it is to be as it can be now.
    pub(super) async fn round(&mut self) -> Round {
        loop {
            let observed = match self.observe().await {
                Ok(observed) => observed,
                Err(error) => {
                    warn!(pod_uid = self.uid(), %error, "the runtime does not tell of the pod");
                    return Round::Idle(Some(SystemTime::now() + ASK_AGAIN));
                }
            };
            self.look(&observed).await;
            self.resume_crashes(&observed);
            self.remember_added();
            let now = SystemTime::now();
            if let Some(verdict) = self.over_deadline(now) {
                self.event(EventKind::Normal, "DeadlineExceeded", verdict.message.clone());
                self.verdict = Some(verdict);
                return Round::Finished;
            }
            let plan = plan(&Input {
                pod: &self.pod,
                observed: &observed,
                health: &self.health,
                backoff: &self.crashes,
                counts: &self.counts,
                now,
            });
            let plan = self.without_failed(plan, now);
            let held = self.crash_loops(&plan);
            self.publish(&observed, &held, false);
            if plan.finished {
                return Round::Finished;
            }
            if plan.is_idle() {
                self.sweep(&observed).await;
                return Round::Idle(self.wake(&plan));
            }
            if !self.apply(&plan, &observed).await {
                let observed = self.observe().await.unwrap_or(observed);
                self.publish(&observed, &held, false);
                return Round::Idle(self.wake(&plan));
            }
        }
    }

    /// The plan without what has just failed and is not worth another try yet. The sandbox counts as a
    /// container without a name.
    fn without_failed(&mut self, mut plan: Plan, now: SystemTime) -> Plan {
        let waits = |name: &str| self.failures.get(name).is_some_and(|f| f.again > now);
        if plan.sandbox.is_some() && waits("") {
            plan.sandbox = None;
            plan.rebuild = None;
        }
        plan.start.retain(|start| !waits(&start.name));
        plan
    }

    /// When the next round is due at the latest.
    fn wake(&self, plan: &Plan) -> Option<SystemTime> {
        let now = SystemTime::now();
        let failed = self.failures.values().map(|f| f.again).filter(|again| *again > now);
        let deadline = self.deadline();
        failed.chain(plan.wake()).chain(deadline).min()
    }

    fn deadline(&self) -> Option<SystemTime> {
        let seconds = u64::try_from(spec(&self.pod).active_deadline_seconds?).ok()?;
        let started = self.last_status().start_time?.0;
        let started = u64::try_from(started.as_second()).ok()?;
        Some(SystemTime::UNIX_EPOCH + Duration::from_secs(started + seconds))
    }

    fn over_deadline(&self, now: SystemTime) -> Option<Verdict> {
        self.deadline().filter(|deadline| *deadline <= now)?;
        Some(Verdict {
            reason: "DeadlineExceeded".to_owned(),
            message: "Pod was active on the node longer than its activeDeadlineSeconds".to_owned(),
        })
    }

    /// The containers that wait for the end of their back-off.
    fn crash_loops(&self, plan: &Plan) -> BTreeMap<String, Waiting> {
        let waiting = |(name, held): (&String, &Held)| {
            let message = format!(
                "back-off {}s restarting failed container={name} pod={}_{}({})",
                held.delay.as_secs(),
                crate::kubelet::spec::name(&self.pod),
                crate::kubelet::spec::namespace(&self.pod),
                uid(&self.pod),
            );
            (name.clone(), Waiting { reason: "CrashLoopBackOff".to_owned(), message })
        };
        let all: BTreeMap<String, Waiting> = plan.held.iter().map(waiting).collect();
        let before = self.last_status();
        for (name, waiting) in &all {
            let known = containers(&before).any(|status| {
                let waits = status.state.as_ref().and_then(|state| state.waiting.as_ref());
                status.name == *name
                    && waits.is_some_and(|w| w.message.as_ref() == Some(&waiting.message))
            });
            if !known {
                let what = (EventKind::Warning, "BackOff", waiting.message.clone());
                self.container_event(name, what);
            }
        }
        all
    }

    /// Goes on with the back-off of containers that crashed before this run of the daemon, by what the runtime has of
    /// them.
    fn resume_crashes(&mut self, observed: &Observed) {
        if self.crashes_resumed {
            return;
        }
        self.crashes_resumed = true;
        for member in members(&self.pod) {
            let latest = observed.latest(member.name());
            let hash = container_hash(member.container);
            let Some(latest) = latest.filter(|latest| latest.hash == hash) else { continue };
            let before = observed.before_latest(member.name()).and_then(Instance::exit);
            let before = Before {
                tries: latest.restarts,
                made: latest.created,
                failed: before.map(|exit| exit.finished),
            };
            self.crashes.resume(&backoff_key(&self.pod, member), before);
        }
    }

    /// Carries out a plan; whether all of it succeeded.
    async fn apply(&mut self, plan: &Plan, observed: &Observed) -> bool {
        if let Some(why) = plan.rebuild {
            let message = format!("Pod sandbox changed, it will be killed and re-created: {why}");
            self.event(EventKind::Normal, "SandboxChanged", message);
            if !self.stop_all(observed).await {
                return self.failed(
                    "",
                    "KillPodSandboxError",
                    "the pod's sandbox cannot be stopped",
                );
            }
        }
        let kills = plan.kill.iter().map(|kill| self.kill_planned(kill, observed));
        let killed = futures::future::join_all(kills).await;
        for (kill, ended) in plan.kill.iter().zip(killed) {
            self.health.killed.extend(kill.by_probe.then(|| kill.id.clone()));
            if let Err(error) = ended {
                return self.failed(&kill.name, "KillContainerError", &error.to_string());
            }
        }
        if let Some(attempt) = plan.sandbox {
            return self.create_sandbox(attempt).await;
        }
        if !plan.start.is_empty() && !self.set_up_volumes(&plan.start).await {
            return false;
        }
        let mut all_well = true;
        for start in &plan.start {
            // One that fails holds nobody up.
            all_well &= self.start(start, observed).await;
        }
        all_well
    }

    /// Notes what went wrong; `false`.
    pub(super) fn failed(&mut self, name: &str, reason: &str, message: &str) -> bool {
        let failure = super::failure::Failure::new(reason, message.to_owned(), SystemTime::now());
        self.failures.insert(name.to_owned(), failure);
        false
    }
}
