//! A pod as a whole.

use super::containers::containers;
use super::dns::{dns, host_aliases, host_names};
use super::metadata::metadata;
use super::names::{dns_label, dns_subdomain, label_value, qualified_name};
use super::problem::{At, FieldError, Problems};
use super::resources::pod_resources;
use super::security::pod_security;
use super::volumes::volumes;
use k8s_openapi::api::core::v1::{Pod, PodSpec, Toleration};

/// What a pod says of an API server that is not there.
const NO_API: &str = "needs an API server, which a static pod does not have";

/// Every violation of a pod that has its identity and its defaults.
pub fn validate_pod(pod: &Pod) -> Vec<FieldError> {
    let mut problems = Problems::default();
    metadata(&mut problems, &pod.metadata);
    let at = At::top("spec");
    match &pod.spec {
        Some(spec) => validate_spec(&mut problems, &at, spec),
        None => problems.required(&at, "a pod has a specification"),
    }
    problems.into_errors()
}

fn validate_spec(problems: &mut Problems, at: &At, spec: &PodSpec) {
    volumes(problems, &at.field("volumes"), spec);
    containers(problems, at, spec);
    pod_resources(problems, at, spec);
    pod_security(problems, at, spec);
    dns(problems, at, spec);
    host_names(problems, at, spec);
    host_aliases(problems, at, spec);
    lifetime(problems, at, spec);
    namespaces(problems, at, spec);
    scheduling(problems, at, spec);
    without_api(problems, at, spec);
}

fn lifetime(problems: &mut Problems, at: &At, spec: &PodSpec) {
    let policies = ["Always", "OnFailure", "Never"];
    problems.one_of(&at.field("restartPolicy"), spec.restart_policy.as_deref(), &policies);
    let grace = at.field("terminationGracePeriodSeconds");
    problems.not_negative(&grace, spec.termination_grace_period_seconds);
    let limits = 1..=i64::from(i32::MAX);
    if let Some(seconds) = spec.active_deadline_seconds.filter(|seconds| !limits.contains(seconds))
    {
        let why = "must be between 1 and 2147483647";
        problems.invalid(&at.field("activeDeadlineSeconds"), seconds, why);
    }
    if let Some(os) = &spec.os {
        problems.one_of(&at.field("os.name"), Some(&os.name), &["linux", "windows"]);
    }
}

/// Which namespaces of the node a pod may share.
fn namespaces(problems: &mut Problems, at: &At, spec: &PodSpec) {
    let of_node = [
        ("hostNetwork", spec.host_network),
        ("hostPID", spec.host_pid),
        ("hostIPC", spec.host_ipc),
    ];
    if spec.host_pid == Some(true) && spec.share_process_namespace == Some(true) {
        let why = "the processes of the pod are shared with the node's already by hostPID";
        problems.invalid(&at.field("shareProcessNamespace"), true, why);
    }
    for (name, shared) in of_node {
        if spec.host_users == Some(false) && shared == Some(true) {
            let why = format_args!("cannot be true together with hostUsers: false");
            problems.forbidden(&at.field(name), why);
        }
    }
}

/// What a scheduler reads: it has to be sound, and means no more here.
fn scheduling(problems: &mut Problems, at: &At, spec: &PodSpec) {
    if let Some(name) = spec.node_name.as_deref() {
        problems.check(&at.field("nodeName"), name, dns_subdomain(name));
    }
    let selector = at.field("nodeSelector");
    for (key, value) in spec.node_selector.iter().flatten() {
        problems.check(&selector, key, qualified_name(key));
        problems.check(&selector.key(key), value, label_value(value));
    }
    if let Some(class) = spec.priority_class_name.as_deref().filter(|class| !class.is_empty()) {
        problems.check(&at.field("priorityClassName"), class, dns_subdomain(class));
    }
    let policies = ["PreemptLowerPriority", "Never"];
    problems.one_of(&at.field("preemptionPolicy"), spec.preemption_policy.as_deref(), &policies);
    if let Some(class) = spec.runtime_class_name.as_deref() {
        problems.check(&at.field("runtimeClassName"), class, dns_subdomain(class));
    }
    for (at, toleration) in at.field("tolerations").each_of(&spec.tolerations) {
        tolerates(problems, &at, toleration);
    }
    for (at, gate) in at.field("readinessGates").each_of(&spec.readiness_gates) {
        let condition = &gate.condition_type;
        problems.check(&at.field("conditionType"), condition, qualified_name(condition));
    }
    for (at, secret) in at.field("imagePullSecrets").each_of(&spec.image_pull_secrets) {
        problems.check(&at.field("name"), &secret.name, dns_subdomain(&secret.name));
    }
}

fn tolerates(problems: &mut Problems, at: &At, toleration: &Toleration) {
    let operator = toleration.operator.as_deref().filter(|operator| !operator.is_empty());
    let key = toleration.key.as_deref().unwrap_or_default();
    let value = toleration.value.as_deref().unwrap_or_default();
    problems.one_of(&at.field("operator"), operator, &["Exists", "Equal", "Lt", "Gt"]);
    match key {
        "" if operator != Some("Exists") => {
            problems.invalid(
                &at.field("operator"),
                operator,
                "must be Exists where no key is named",
            );
        }
        "" => {}
        key => problems.check(&at.field("key"), key, qualified_name(key)),
    }
    if operator == Some("Exists") && !value.is_empty() {
        problems.invalid(&at.field("value"), value, "must be empty with the operator Exists");
    }
    let effects = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
    let effect = toleration.effect.as_deref().filter(|effect| !effect.is_empty());
    problems.one_of(&at.field("effect"), effect, &effects);
    if toleration.toleration_seconds.is_some() && effect != Some("NoExecute") {
        let why = "is only for the effect NoExecute";
        problems.forbidden(&at.field("tolerationSeconds"), why);
    }
}

/// What cannot be without an API server.
fn without_api(problems: &mut Problems, at: &At, spec: &PodSpec) {
    let account = spec.service_account_name.as_deref().unwrap_or_default();
    if !account.is_empty() {
        let why = format_args!("the service account {account:?} {NO_API}");
        problems.forbidden(&at.field("serviceAccountName"), why);
    }
    let lists = [
        ("resourceClaims", spec.resource_claims.as_ref().map_or(0, Vec::len)),
        ("schedulingGates", spec.scheduling_gates.as_ref().map_or(0, Vec::len)),
        ("evictionResponders", spec.eviction_responders.as_ref().map_or(0, Vec::len)),
    ];
    for (name, _) in lists.into_iter().filter(|(_, length)| *length > 0) {
        problems.forbidden(&at.field(name), NO_API);
    }
    if spec.scheduling_group.is_some() {
        problems.forbidden(&at.field("schedulingGroup"), NO_API);
    }
}

/// The name of a container or volume.
pub(super) fn name(problems: &mut Problems, at: &At, name: &str) {
    match name {
        "" => problems.required(at, "it needs a name"),
        name => problems.check(at, name, dns_label(name)),
    }
}

#[cfg(test)]
#[path = "pod_tests/mod.rs"]
mod tests;
