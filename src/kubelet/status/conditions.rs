//! A pod's conditions. Their transition times change only with their value.

use super::make::{Input, api_time};
use super::read::{containers, has_ended};
use crate::kubelet::eviction::EVICTED;
use crate::kubelet::shutdown::TERMINATED;
use crate::kubelet::spec::{Role, members, spec};
use k8s_openapi::api::core::v1::{PodCondition, PodStatus};

/// Whether a condition holds, and if not why.
struct Value {
    holds: bool,
    reason: &'static str,
    message: String,
}

impl Value {
    fn of(holds: bool, reason: &'static str, message: String) -> Self {
        if holds { Self::holds() } else { Self { holds, reason, message } }
    }

    fn holds() -> Self {
        Self { holds: true, reason: "", message: String::new() }
    }
}

pub(super) fn conditions(input: &Input<'_>, status: &PodStatus) -> Vec<PodCondition> {
    let phase = status.phase.as_deref().unwrap_or_default();
    let unready = unready(input, status);
    let containers_ready = match phase {
        "Succeeded" => Value::of(false, "PodCompleted", String::new()),
        "Failed" => Value::of(false, "PodFailed", String::new()),
        _ => Value::of(
            unready.is_empty(),
            "ContainersNotReady",
            format!("containers with unready status: [{}]", unready.join(" ")),
        ),
    };
    let gates: Vec<&str> = open_gates(input);
    let ready = if containers_ready.holds {
        let message =
            format!("conditions of readiness gates that are not True: {}", gates.join(", "));
        Value::of(gates.is_empty(), "ReadinessGatesNotReady", message)
    } else {
        Value { holds: false, ..containers_ready.copy() }
    };
    let sandbox = input.observed.sandbox();
    let has_network = sandbox.is_some_and(|s| s.ready && (s.host_network || !s.ips.is_empty()));
    [
        ("PodReadyToStartContainers", Value::of(has_network, "", String::new())),
        ("Initialized", initialized(input, status, phase)),
        ("Ready", ready),
        ("ContainersReady", containers_ready),
        ("PodScheduled", Value::holds()),
    ]
    .into_iter()
    .map(|(kind, value)| condition(input, kind, value))
    .chain(disruption(input))
    .collect()
}

/// What ends a pod that ran, although it did nothing wrong.
const DISRUPTIONS: [&str; 2] = [EVICTED, TERMINATED];

/// DisruptionTarget, of a pod that was let in and then ended by the node; it stays.
fn disruption(input: &Input<'_>) -> Option<PodCondition> {
    const KIND: &str = "DisruptionTarget";
    let before = input.previous.conditions.iter().flatten().find(|c| c.type_ == KIND);
    if let Some(before) = before {
        return Some(before.clone());
    }
    let ended = has_ended(input.previous);
    let verdict = input.verdict.filter(|v| !ended && DISRUPTIONS.contains(&v.reason.as_str()))?;
    Some(PodCondition {
        type_: KIND.to_owned(),
        status: "True".to_owned(),
        reason: Some("TerminationByKubelet".to_owned()),
        message: Some(verdict.message.clone()),
        last_transition_time: Some(api_time(input.now)),
        ..PodCondition::default()
    })
}

impl Value {
    fn copy(&self) -> Self {
        Self { holds: self.holds, reason: self.reason, message: self.message.clone() }
    }
}

fn condition(input: &Input<'_>, kind: &str, value: Value) -> PodCondition {
    let text = if value.holds { "True" } else { "False" };
    let before = input.previous.conditions.iter().flatten().find(|c| c.type_ == kind);
    let unchanged = before.filter(|before| before.status == text);
    let reason = match (kind, value.reason) {
        ("Initialized", "") if input.ended => "PodCompleted",
        (_, reason) => reason,
    };
    PodCondition {
        type_: kind.to_owned(),
        status: text.to_owned(),
        reason: (!reason.is_empty()).then(|| reason.to_owned()),
        message: (!value.message.is_empty()).then_some(value.message),
        last_transition_time: unchanged
            .and_then(|before| before.last_transition_time.clone())
            .or_else(|| Some(api_time(input.now))),
        ..PodCondition::default()
    }
}

fn initialized(input: &Input<'_>, status: &PodStatus, phase: &str) -> Value {
    if phase == "Succeeded" {
        return Value::holds();
    }
    let roles = members(input.pod).into_iter().filter(|m| m.role != Role::App);
    let statuses = status.init_container_statuses.iter().flatten();
    let undone: Vec<&str> = roles
        .zip(statuses)
        .filter(|(member, status)| match member.role {
            Role::Sidecar => status.started != Some(true),
            _ => !status.ready,
        })
        .map(|(member, _)| member.name())
        .collect();
    let message = format!("containers with incomplete status: [{}]", undone.join(" "));
    Value::of(undone.is_empty(), "ContainersNotInitialized", message)
}

/// The containers that keep the pod from being ready: apps and sidecars.
fn unready(input: &Input<'_>, status: &PodStatus) -> Vec<String> {
    members(input.pod)
        .iter()
        .zip(containers(status))
        .filter(|(member, status)| member.role != Role::Init && !status.ready)
        .map(|(member, _)| member.name().to_owned())
        .collect()
}

/// The readiness gates whose condition does not hold.
fn open_gates<'a>(input: &Input<'a>) -> Vec<&'a str> {
    let gates = spec(input.pod).readiness_gates.iter().flatten();
    let holds = |kind: &str| {
        let conditions = input.pod.status.as_ref().and_then(|s| s.conditions.as_ref());
        conditions.into_iter().flatten().any(|c| c.type_ == kind && c.status == "True")
    };
    gates.map(|gate| gate.condition_type.as_str()).filter(|kind| !holds(kind)).collect()
}
