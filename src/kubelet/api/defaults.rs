//! What a v1 Pod means where it says nothing, as an API server would fill it in.
//!
//! Twice is as good as once. The few priority classes that every cluster has are resolved here, too: no
//! admission plugin does it for a node on its own.

use super::pull_policy::default_policy;
use crate::kubelet::ephemeral::{as_container, as_ephemeral};
use crate::kubelet::quantity::{ResourceList, milli, whole};
use k8s_openapi::api::core::v1::{
    Container, DownwardAPIVolumeFile, EmptyDirVolumeSource, EnvVar, HTTPGetAction, Lifecycle,
    LifecycleHandler, Pod, PodSpec, Probe, ResourceRequirements, Volume, VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// Files of ConfigMaps and the like.
const FILE_MODE: i32 = 0o644;
/// From this priority on a pod is one that its node needs.
pub const NODE_CRITICAL: i32 = 2_000_001_000;
/// From this priority on a pod is one that the cluster needs.
pub const CLUSTER_CRITICAL: i32 = 2_000_000_000;
/// The classes that every cluster has, with their priorities.
pub const CRITICAL_CLASSES: [(&str, i32); 2] =
    [("system-node-critical", NODE_CRITICAL), ("system-cluster-critical", CLUSTER_CRITICAL)];

/// Fills in what is left out.
pub fn default_pod(pod: &mut Pod) {
    let Some(spec) = &mut pod.spec else { return };
    set(&mut spec.restart_policy, "Always");
    set(&mut spec.dns_policy, "ClusterFirst");
    set(&mut spec.scheduler_name, "default-scheduler");
    spec.termination_grace_period_seconds.get_or_insert(30);
    spec.enable_service_links.get_or_insert(true);
    spec.security_context.get_or_insert_default();
    // The older name of the same field.
    if spec.service_account_name.is_none() {
        spec.service_account_name.clone_from(&spec.service_account);
    }
    if spec.priority.is_none() {
        let own = spec.priority_class_name.as_deref();
        let class = CRITICAL_CLASSES.iter().find(|(name, _)| Some(*name) == own);
        spec.priority = class.map(|(_, priority)| *priority);
    }
    let host_network = spec.host_network == Some(true);
    for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
        default_container(container);
        if host_network {
            ports_of_the_node(container);
        }
    }
    for ephemeral in spec.ephemeral_containers.iter_mut().flatten() {
        let mut container = as_container(ephemeral);
        default_container(&mut container);
        *ephemeral = as_ephemeral(&container, ephemeral.target_container_name.take());
    }
    spec.volumes.iter_mut().flatten().for_each(default_volume);
    default_pod_requests(spec);
}

/// A text that is absent or empty gets its default.
fn set(field: &mut Option<String>, value: &str) {
    if field.as_deref().unwrap_or_default().is_empty() {
        *field = Some(value.to_owned());
    }
}

/// A number that is absent or 0 gets its default.
fn number(field: &mut Option<i32>, value: i32) {
    if field.unwrap_or_default() == 0 {
        *field = Some(value);
    }
}

fn default_container(container: &mut Container) {
    let policy = default_policy(container.image.as_deref().unwrap_or_default());
    set(&mut container.image_pull_policy, policy);
    set(&mut container.termination_message_path, "/dev/termination-log");
    set(&mut container.termination_message_policy, "File");
    for port in container.ports.iter_mut().flatten() {
        set(&mut port.protocol, "TCP");
    }
    container.env.iter_mut().flatten().for_each(default_variable);
    if let Some(resources) = &mut container.resources {
        requests_from_limits(resources);
    }
    let probes = [
        &mut container.liveness_probe,
        &mut container.readiness_probe,
        &mut container.startup_probe,
    ];
    probes.into_iter().flatten().for_each(default_probe);
    if let Some(Lifecycle { post_start, pre_stop, .. }) = &mut container.lifecycle {
        [post_start, pre_stop].into_iter().flatten().for_each(default_handler);
    }
    if let Some(security) = &mut container.security_context {
        set(&mut security.proc_mount, "Default");
    }
}

/// On the node's network a port of the container is one of the node.
fn ports_of_the_node(container: &mut Container) {
    for port in container.ports.iter_mut().flatten() {
        number(&mut port.host_port, port.container_port);
    }
}

fn default_variable(variable: &mut EnvVar) {
    let source = variable.value_from.as_mut();
    if let Some(field) = source.and_then(|source| source.field_ref.as_mut()) {
        set(&mut field.api_version, "v1");
    }
}

fn default_probe(probe: &mut Probe) {
    number(&mut probe.timeout_seconds, 1);
    number(&mut probe.period_seconds, 10);
    number(&mut probe.success_threshold, 1);
    number(&mut probe.failure_threshold, 3);
    if let Some(http) = &mut probe.http_get {
        default_http(http);
    }
    if let Some(grpc) = &mut probe.grpc {
        grpc.service.get_or_insert_default();
    }
}

fn default_handler(handler: &mut LifecycleHandler) {
    if let Some(http) = &mut handler.http_get {
        default_http(http);
    }
}

fn default_http(http: &mut HTTPGetAction) {
    set(&mut http.path, "/");
    set(&mut http.scheme, "HTTP");
}

fn default_volume(volume: &mut Volume) {
    if volume == &(Volume { name: volume.name.clone(), ..Volume::default() }) {
        volume.empty_dir = Some(EmptyDirVolumeSource::default());
    }
    if let Some(path) = &mut volume.host_path {
        path.type_.get_or_insert_default();
    }
    if let Some(map) = &mut volume.config_map {
        map.default_mode.get_or_insert(FILE_MODE);
    }
    if let Some(secret) = &mut volume.secret {
        secret.default_mode.get_or_insert(FILE_MODE);
    }
    if let Some(downward) = &mut volume.downward_api {
        downward.default_mode.get_or_insert(FILE_MODE);
        downward.items.iter_mut().flatten().for_each(default_file);
    }
    if let Some(projected) = &mut volume.projected {
        projected.default_mode.get_or_insert(FILE_MODE);
        projected.sources.iter_mut().flatten().for_each(default_projection);
    }
    if let Some(image) = &mut volume.image {
        let policy = default_policy(image.reference.as_deref().unwrap_or_default());
        set(&mut image.pull_policy, policy);
    }
}

fn default_projection(source: &mut VolumeProjection) {
    let items = source.downward_api.iter_mut().flat_map(|downward| downward.items.iter_mut());
    items.flatten().for_each(default_file);
}

fn default_file(file: &mut DownwardAPIVolumeFile) {
    if let Some(field) = &mut file.field_ref {
        set(&mut field.api_version, "v1");
    }
}

fn requests_from_limits(resources: &mut ResourceRequirements) {
    let Some(limits) = &resources.limits else { return };
    let requests = resources.requests.get_or_insert_default();
    for (name, limit) in limits {
        requests.entry(name.clone()).or_insert_with(|| limit.clone());
    }
}

/// Requests of a pod that has resources of its own: what its containers request together, else the pod's limit.
fn default_pod_requests(spec: &mut PodSpec) {
    let together = [("cpu", aggregate(spec, "cpu")), ("memory", aggregate(spec, "memory"))];
    let Some(resources) = &mut spec.resources else { return };
    if resources.limits.as_ref().is_none_or(ResourceList::is_empty)
        && resources.requests.as_ref().is_none_or(ResourceList::is_empty)
    {
        return;
    }
    let requests = resources.requests.get_or_insert_default();
    for (name, sum) in together {
        if let Some(sum) = sum {
            requests.entry(name.to_owned()).or_insert(sum);
        }
    }
    requests_from_limits(resources);
}

/// What a pod's containers request of a resource: that of all that run together, or more while one of its init
/// containers runs. None where no container requests any.
pub(super) fn aggregate(spec: &PodSpec, name: &str) -> Option<Quantity> {
    let mut any = false;
    let mut of = |container: &Container| {
        let requests = container.resources.as_ref().and_then(|r| r.requests.as_ref());
        let quantity = requests.and_then(|requests| requests.get(name));
        any |= quantity.is_some();
        let amount =
            if name == "cpu" { quantity.and_then(milli) } else { quantity.and_then(whole) };
        amount.unwrap_or_default()
    };
    let apps = spec.containers.iter().map(&mut of).fold(0, u64::saturating_add);
    let (mut sidecars, mut most) = (0_u64, 0_u64);
    for container in spec.init_containers.iter().flatten() {
        let own = of(container);
        if container.restart_policy.as_deref() == Some("Always") {
            sidecars = sidecars.saturating_add(own);
            most = most.max(sidecars);
        } else {
            most = most.max(sidecars.saturating_add(own));
        }
    }
    let sum = apps.saturating_add(sidecars).max(most);
    let text = if name == "cpu" { format!("{sum}m") } else { sum.to_string() };
    any.then_some(Quantity(text))
}

#[cfg(test)]
#[path = "defaults_tests.rs"]
mod tests;
