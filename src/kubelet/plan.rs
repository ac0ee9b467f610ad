//! What to do next for a pod that is to run; pure.
//!
//! `(pod, observed, health, back-off, now) → Plan`. A plan is carried out from top to bottom, and then made anew
//! from what is there by then, until there is nothing to do. Rules: KEP-753 for sidecars, KEP-5307 for restart
//! rules, the kubelet's computePodActions for the rest.
//!
//! * The sandbox must be one, READY, of the right network, with an address; else all of the pod ends and a
//!   new sandbox with it; init containers run again in a new sandbox.
//! * Init containers run one after the other; a sidecar lets the next one begin when it has started.
//! * Ephemeral containers begin as soon as there is a sandbox, once; one that is named no more is killed.
//! * Who fails its liveness or startup probe is killed and restarted by policy; who was made from another
//!   specification is killed and restarted in any case.
//! * A pod whose containers have all ended and are not started again is finished: its sidecars end, too.

use super::backoff::{Backoff, Held};
use super::ephemeral::ephemerals;
use super::observed::{Exit, Instance, InstanceState, Observed, Sandbox};
use super::spec::{
    Member, RestartPolicy, Role, container_hash, host_network, member, members, uid,
};
use k8s_openapi::api::core::v1::{Container, Pod};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

/// What probes say of the running containers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// The containers that have started: their startup probe has passed, or there is none.
    pub started: BTreeSet<String>,
    /// The containers that are to be killed, by name.
    pub failed: BTreeMap<String, ProbeFailure>,
    /// The instances that were killed for a probe: whatever their exit code, they have failed.
    pub killed: BTreeSet<String>,
}

/// A liveness or startup probe that has failed for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeFailure {
    /// `liveness` or `startup`.
    pub probe: &'static str,
    /// The grace that the probe gives, instead of the pod's.
    pub grace: Option<Duration>,
}

/// What a plan is made from.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// What there is of it.
    pub observed: &'a Observed,
    /// What its probes say.
    pub health: &'a Health,
    /// How long its containers have to wait.
    pub backoff: &'a Backoff,
    /// How often containers were restarted that the runtime knows nothing of any more.
    pub counts: &'a BTreeMap<String, u32>,
    /// The time.
    pub now: SystemTime,
}

/// What to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Every container and sandbox is to be stopped first, and why.
    pub rebuild: Option<&'static str>,
    /// Containers to be killed.
    pub kill: Vec<Kill>,
    /// A new sandbox, by its attempt.
    pub sandbox: Option<u32>,
    /// Containers to be started, in order.
    pub start: Vec<Start>,
    /// Containers that wait for the end of their back-off.
    pub held: BTreeMap<String, Held>,
    /// The pod has ended: nothing is started any more.
    pub finished: bool,
}

/// A container to be killed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kill {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Why.
    pub why: String,
    /// The grace of the probe that has failed, if it has one.
    pub grace: Option<Duration>,
    /// Whether a probe has failed: whatever its exit code, it has failed.
    pub by_probe: bool,
}

/// A container to be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// Its name.
    pub name: String,
    /// How many starts came before.
    pub restarts: u32,
    /// An instance that was made and never started, to be removed first.
    pub remove: Option<String>,
}

impl Plan {
    /// Whether there is nothing to do now.
    pub fn is_idle(&self) -> bool {
        self.rebuild.is_none()
            && self.kill.is_empty()
            && self.sandbox.is_none()
            && self.start.is_empty()
            && !self.finished
    }

    /// When there is something to do again by the clock alone.
    pub fn wake(&self) -> Option<SystemTime> {
        self.held.values().map(|held| held.until).min()
    }
}

/// The key of a container's back-off: another specification begins anew.
pub fn backoff_key(pod: &Pod, member: Member<'_>) -> String {
    format!("{}/{}/{}", uid(pod), member.name(), container_hash(member.container))
}

/// Makes the plan.
pub fn plan(input: &Input<'_>) -> Plan {
    let Input { pod, observed, .. } = *input;
    if observed.sandbox().is_some() && is_finished(input) {
        return Plan { finished: true, ..Plan::default() };
    }
    let current = match usable_sandbox(pod, observed) {
        Ok(sandbox) => sandbox,
        Err(why) => {
            let attempt = observed.sandbox().map_or(0, |sandbox| sandbox.attempt + 1);
            let left = observed.alive().next().is_some()
                || observed.sandboxes.iter().any(|sandbox| sandbox.ready);
            // What is to be started follows from what is there when the new sandbox is.
            return Plan {
                rebuild: left.then_some(why),
                sandbox: Some(attempt),
                ..Plan::default()
            };
        }
    };
    let mut plan = Plan::default();
    ephemeral_step(input, &mut plan);
    let initialized = init_step(input, current, &mut plan);
    for member in members(pod).into_iter().filter(|m| m.role == Role::App) {
        app_step(input, member, initialized, &mut plan);
    }
    plan
}

/// The sandbox in which the pod lives, or why it needs another.
fn usable_sandbox<'a>(pod: &Pod, observed: &'a Observed) -> Result<&'a Sandbox, &'static str> {
    let newest = observed.sandbox().ok_or("it has no sandbox")?;
    let ready = observed.sandboxes.iter().filter(|sandbox| sandbox.ready).count();
    if !newest.ready {
        Err("its sandbox has ended")
    } else if ready > 1 {
        Err("it has several sandboxes")
    } else if newest.host_network != host_network(pod) {
        Err("its network is another")
    } else if !newest.host_network && newest.ips.is_empty() {
        Err("its sandbox has no address")
    } else {
        Ok(newest)
    }
}

/// Whether everything that the pod was to do is done, or cannot be.
fn is_finished(input: &Input<'_>) -> bool {
    let Input { pod, observed, .. } = *input;
    let members = members(pod);
    let failed_init = members.iter().filter(|m| m.role == Role::Init).any(|member| {
        let sandbox = observed.sandbox().map_or("", |sandbox| &sandbox.id);
        let exit = observed.latest_in(sandbox, member.name()).and_then(Instance::exit);
        exit.is_some_and(|exit| exit.code != 0 && !member.restarts(pod, exit.code))
    });
    let mut apps = members.iter().filter(|m| m.role == Role::App);
    failed_init && !any_app_in_sandbox(input, &members)
        || apps.all(|member| {
            let latest = observed.latest(member.name());
            latest.is_some_and(|i| i.exit().is_some_and(|exit| !restarts(input, *member, i, exit)))
        })
}

/// Whether an instance that has ended is followed by another.
fn restarts(input: &Input<'_>, member: Member<'_>, instance: &Instance, exit: &Exit) -> bool {
    let by_probe = input.health.killed.contains(&instance.id);
    by_probe && member.policy(input.pod) != RestartPolicy::Never
        || member.restarts(input.pod, exit.code)
}

/// Whether an app container was made in the newest sandbox: then its init containers are done, even if nothing
/// is left of them.
fn any_app_in_sandbox(input: &Input<'_>, members: &[Member<'_>]) -> bool {
    let Some(sandbox) = input.observed.sandbox() else { return false };
    let mut apps = members.iter().filter(|m| m.role == Role::App);
    apps.any(|member| input.observed.latest_in(&sandbox.id, member.name()).is_some())
}

/// Plans the next step of the init containers and sidecars; whether the others may start.
fn init_step(input: &Input<'_>, sandbox: &Sandbox, plan: &mut Plan) -> bool {
    let Input { pod, observed, health, .. } = *input;
    let all = members(pod);
    let done = any_app_in_sandbox(input, &all);
    let init: Vec<Member<'_>> = all.into_iter().filter(|m| m.role != Role::App).collect();
    let of = |member: &Member<'_>| observed.latest_in(&sandbox.id, member.name());
    // Sidecars before the last one that was begun hold nobody up any more.
    let furthest = init.iter().rposition(|member| of(member).is_some()).unwrap_or(0);
    for (index, member) in init.iter().enumerate() {
        let instance = of(member);
        if member.role == Role::Sidecar {
            restart_step(input, *member, instance, plan);
            let started = instance.is_some_and(|i| i.running().is_some())
                && health.started.contains(member.name());
            if !started && !done && index >= furthest {
                return false;
            }
            continue;
        }
        if done {
            continue;
        }
        match instance.map(|instance| &instance.state) {
            Some(InstanceState::Exited(exit)) if exit.code == 0 => {}
            _ => {
                restart_step(input, *member, instance, plan);
                return false;
            }
        }
    }
    true
}

/// Begins what was added to the pod, and ends what was taken away again: nothing else of a pod can become nameless
/// while it lives.
fn ephemeral_step(input: &Input<'_>, plan: &mut Plan) {
    let Input { pod, observed, counts, .. } = *input;
    let added = ephemerals(pod);
    for Container { name, .. } in &added {
        let start = |restarts, remove| Start { name: name.clone(), restarts, remove };
        match observed.latest(name) {
            None if !counts.contains_key(name) => plan.start.push(start(0, None)),
            // Its start was cut off.
            Some(instance) if instance.state == InstanceState::Created => {
                plan.start.push(start(instance.restarts, Some(instance.id.clone())));
            }
            _ => {}
        }
    }
    let is_named = |name: &str| {
        member(pod, name).is_some() || added.iter().any(|container| container.name == name)
    };
    let nameless = observed.alive().filter(|instance| !is_named(&instance.name));
    plan.kill.extend(nameless.map(|instance| Kill {
        id: instance.id.clone(),
        name: instance.name.clone(),
        why: "the pod has it no more".to_owned(),
        grace: None,
        by_probe: false,
    }));
}

/// Plans what becomes of an app container.
fn app_step(input: &Input<'_>, member: Member<'_>, may_start: bool, plan: &mut Plan) {
    let instance = input.observed.latest(member.name());
    if may_start || instance.is_some_and(|instance| instance.running().is_some()) {
        restart_step(input, member, instance, plan);
    }
}

/// Kills what must not go on, and starts what is to run: now, or when its back-off is over.
fn restart_step(
    input: &Input<'_>,
    member: Member<'_>,
    instance: Option<&Instance>,
    plan: &mut Plan,
) {
    let Input { pod, observed, health, backoff, counts, now } = *input;
    let name = member.name().to_owned();
    let next = |remove| Start {
        name: member.name().to_owned(),
        restarts: observed
            .latest(member.name())
            .map(|instance| instance.restarts)
            .or_else(|| counts.get(member.name()).copied())
            .map_or(0, |restarts| restarts.saturating_add(1)),
        remove,
    };
    let Some(instance) = instance else {
        plan.start.push(next(None));
        return;
    };
    let changed = !instance.hash.is_empty() && instance.hash != container_hash(member.container);
    let kill = |why: &str| Kill {
        id: instance.id.clone(),
        name: name.clone(),
        why: why.to_owned(),
        grace: None,
        by_probe: false,
    };
    match &instance.state {
        InstanceState::Created => {
            // Its start was cut off. It has not run, so that this is no restart.
            let again = Start { restarts: instance.restarts, ..next(Some(instance.id.clone())) };
            plan.start.push(again);
        }
        InstanceState::Unknown => {
            plan.kill.push(kill("its state is unknown"));
            if member.policy(pod) != RestartPolicy::Never {
                plan.start.push(next(None));
            }
        }
        InstanceState::Running { .. } if changed => {
            plan.kill.push(kill("its specification has changed"));
            plan.start.push(next(None));
        }
        InstanceState::Running { .. } => {
            let Some(failure) = health.failed.get(member.name()) else { return };
            let why = format!("it failed its {} probe", failure.probe);
            // What becomes of it then follows from its exit.
            plan.kill.push(Kill { grace: failure.grace, by_probe: true, ..kill(&why) });
        }
        InstanceState::Exited(exit) => {
            if !changed && !restarts(input, member, instance, exit) {
                return;
            }
            match backoff.held(&backoff_key(pod, member), exit.finished, now) {
                Some(held) => {
                    plan.held.insert(name, held);
                }
                None => plan.start.push(next(None)),
            }
        }
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
