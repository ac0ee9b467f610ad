//! Containers that are added to a pod that runs.

use super::containers::{Role, on_pod, one};
use super::ports::HostPorts;
use super::problem::{At, Problems};
use crate::kubelet::ephemeral::as_container;
use k8s_openapi::api::core::v1::{Container, PodSpec};
use std::collections::BTreeSet;

/// The ephemeral containers of a pod whose other containers have `names`.
pub(super) fn containers(problems: &mut Problems, at: &At, spec: &PodSpec, names: BTreeSet<&str>) {
    let mut taken: BTreeSet<String> = names.iter().map(|name| (*name).to_owned()).collect();
    for (at, ephemeral) in at.field("ephemeralContainers").each_of(&spec.ephemeral_containers) {
        let container = as_container(ephemeral);
        one(problems, &at, &container, Role::App);
        on_pod(problems, &at, spec, &container, &mut HostPorts::default());
        parts(problems, &at, &container);
        if !taken.insert(container.name.clone()) {
            problems.duplicate(&at.field("name"), &container.name);
        }
        let target = ephemeral.target_container_name.as_deref().unwrap_or_default();
        if !target.is_empty() && !names.contains(target) {
            problems.invalid(
                &at.field("targetContainerName"),
                target,
                "is no container of this pod",
            );
        }
    }
}

/// What would make of it more than a guest.
fn parts(problems: &mut Problems, at: &At, container: &Container) {
    let has = |list: Option<usize>| list.is_some_and(|length| length > 0);
    for (field, there) in [
        ("ports", has(container.ports.as_ref().map(Vec::len))),
        ("livenessProbe", container.liveness_probe.is_some()),
        ("readinessProbe", container.readiness_probe.is_some()),
        ("startupProbe", container.startup_probe.is_some()),
        ("lifecycle", container.lifecycle.is_some()),
        ("resources", container.resources.as_ref().is_some_and(|of| *of != Default::default())),
        ("resizePolicy", has(container.resize_policy.as_ref().map(Vec::len))),
        ("restartPolicy", container.restart_policy.is_some()),
        ("restartPolicyRules", has(container.restart_policy_rules.as_ref().map(Vec::len))),
    ] {
        if there {
            problems.forbidden(&at.field(field), "an ephemeral container has none");
        }
    }
    for (at, mount) in at.field("volumeMounts").each_of(&container.volume_mounts) {
        for (field, part) in [("subPath", &mount.sub_path), ("subPathExpr", &mount.sub_path_expr)] {
            if part.as_deref().is_some_and(|part| !part.is_empty()) {
                problems.forbidden(&at.field(field), "an ephemeral container mounts whole volumes");
            }
        }
    }
}
