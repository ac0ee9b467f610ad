//! All of a pod's status.

use super::conditions::conditions;
use super::containers::{Context, Waiting, container_status};
use super::phase::phase;
use crate::kubelet::ephemeral::ephemerals;
use crate::kubelet::observed::Observed;
use crate::kubelet::qos::qos;
use crate::kubelet::spec::{Member, Role, members};
use k8s_openapi::api::core::v1::{HostIP, Pod, PodIP, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::SystemTime;

/// A phase that was decided from outside, and why: a deadline, an eviction, a refused admission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// `DeadlineExceeded`, `Evicted`, `OutOfcpu`, …
    pub reason: String,
    /// More of it.
    pub message: String,
}

/// What a status is made from.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// What there is of it.
    pub observed: &'a Observed,
    /// Its containers that have started.
    pub started: &'a BTreeSet<String>,
    /// Its containers that are ready, of those that run.
    pub ready: &'a BTreeSet<String>,
    /// Why containers wait, by name.
    pub waiting: &'a BTreeMap<String, Waiting>,
    /// Termination messages, by instance.
    pub messages: &'a BTreeMap<String, String>,
    /// Why the pod has failed, if it was not for its containers.
    pub verdict: Option<&'a Verdict>,
    /// Whether the pod has ended: nothing of it runs or will.
    pub ended: bool,
    /// The status before.
    pub previous: &'a PodStatus,
    /// The node's addresses.
    pub host_ips: &'a [IpAddr],
    /// The runtime's name, before `://` in ids.
    pub runtime: &'a str,
    /// The time.
    pub now: SystemTime,
}

/// A moment as the API writes it: whole seconds.
pub fn api_time(at: SystemTime) -> Time {
    let seconds = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    Time(k8s_openapi::jiff::Timestamp::from_second(seconds).unwrap_or_default())
}

/// Makes the status.
pub fn status(input: &Input<'_>) -> PodStatus {
    let Input { pod, observed, previous, .. } = *input;
    let context = Context::new(input);
    let mut init = Vec::new();
    let mut apps = Vec::new();
    for member in members(pod) {
        let of = container_status(&context, member);
        match member.role {
            Role::App => apps.push(of),
            Role::Init | Role::Sidecar => init.push(of),
            Role::Ephemeral => {}
        }
    }
    let added = ephemerals(pod);
    let added: Vec<_> = added
        .iter()
        .map(|container| container_status(&context, Member { role: Role::Ephemeral, container }))
        .collect();
    let terminal = previous.phase.as_deref().filter(|p| matches!(*p, "Succeeded" | "Failed"));
    let phase = match (terminal, input.verdict) {
        (Some(phase), _) => phase.to_owned(),
        (None, Some(_)) => "Failed".to_owned(),
        (None, None) => phase(pod, &init, &apps, input.ended).to_owned(),
    };
    let sandbox = observed.sandbox().filter(|sandbox| sandbox.ready);
    let pod_ips: Vec<IpAddr> = match sandbox {
        Some(sandbox) if sandbox.host_network => input.host_ips.to_vec(),
        Some(sandbox) => sandbox.ips.clone(),
        None => Vec::new(),
    };
    let some = |ips: &[IpAddr]| ips.first().map(ToString::to_string);
    let mut status = PodStatus {
        phase: Some(phase),
        reason: input.verdict.map(|v| v.reason.clone()).or_else(|| previous.reason.clone()),
        message: input.verdict.map(|v| v.message.clone()).or_else(|| previous.message.clone()),
        host_ip: some(input.host_ips),
        host_ips: Some(input.host_ips.iter().map(|ip| HostIP { ip: ip.to_string() }).collect()),
        pod_ip: some(&pod_ips),
        pod_ips: (!pod_ips.is_empty())
            .then(|| pod_ips.iter().map(|ip| PodIP { ip: ip.to_string() }).collect()),
        start_time: Some(previous.start_time.clone().unwrap_or_else(|| api_time(input.now))),
        qos_class: Some(qos(pod).to_string()),
        init_container_statuses: (!init.is_empty()).then_some(init),
        container_statuses: Some(apps),
        ephemeral_container_statuses: (!added.is_empty()).then_some(added),
        ..PodStatus::default()
    };
    status.conditions = Some(conditions(input, &status));
    status
}

#[cfg(test)]
#[path = "make_tests.rs"]
mod tests;
