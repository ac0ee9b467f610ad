//! Sandboxes as replies.

use super::{info, path};
use crate::cri::proto;
use crate::engine::view::SandboxView;
use crate::idmap::IdRange;
use crate::sandbox::config::{PidNamespace, PodNamespace, SandboxConfig, SandboxMetadata};
use serde_json::json;
use std::collections::BTreeMap;

/// A sandbox in a list.
pub(crate) fn sandbox(view: &SandboxView) -> proto::PodSandbox {
    proto::PodSandbox {
        id: view.id.to_string(),
        metadata: Some(metadata(&view.config.metadata)),
        state: state(view).into(),
        created_at: view.created_at_nanos,
        labels: view.config.labels.clone(),
        annotations: view.config.annotations.clone(),
        runtime_handler: view.handler.clone(),
    }
}

/// A sandbox's status.
pub(crate) fn sandbox_status(view: &SandboxView) -> proto::PodSandboxStatus {
    let mut ips = view.ips.iter().map(ToString::to_string);
    let ip = ips.next().unwrap_or_default();
    let options = namespace_options(&view.config);
    proto::PodSandboxStatus {
        id: view.id.to_string(),
        metadata: Some(metadata(&view.config.metadata)),
        state: state(view).into(),
        created_at: view.created_at_nanos,
        network: Some(proto::PodSandboxNetworkStatus {
            ip,
            additional_ips: ips.map(|ip| proto::PodIp { ip }).collect(),
        }),
        linux: Some(proto::LinuxPodSandboxStatus {
            namespaces: Some(proto::Namespace { options: Some(options) }),
        }),
        labels: view.config.labels.clone(),
        annotations: view.config.annotations.clone(),
        runtime_handler: view.handler.clone(),
    }
}

/// Details for people and tools.
pub(crate) fn sandbox_info(view: &SandboxView) -> BTreeMap<String, String> {
    info(&json!({
        "sandboxID": view.id,
        "pid": view.pause_pid,
        "shimPid": view.shim_pid,
        "netns": view.netns.as_deref().map(path),
        "cgroup": view.cgroup,
        "message": view.message,
        "leftOut": view.left_out,
        "config": *view.config,
    }))
}

pub(super) fn metadata(m: &SandboxMetadata) -> proto::PodSandboxMetadata {
    proto::PodSandboxMetadata {
        name: m.name.clone(),
        uid: m.uid.clone(),
        namespace: m.namespace.clone(),
        attempt: m.attempt,
    }
}

fn state(view: &SandboxView) -> proto::PodSandboxState {
    if view.ready {
        proto::PodSandboxState::SandboxReady
    } else {
        proto::PodSandboxState::SandboxNotready
    }
}

/// Ranges of ids.
pub(super) fn id_mappings(ranges: &[IdRange]) -> Vec<proto::IdMapping> {
    let one = |range: &IdRange| proto::IdMapping {
        host_id: range.host,
        container_id: range.container,
        length: range.length,
    };
    ranges.iter().map(one).collect()
}

fn namespace_options(config: &SandboxConfig) -> proto::NamespaceOption {
    let shared = |namespace: PodNamespace| match namespace {
        PodNamespace::Pod => proto::NamespaceMode::Pod,
        PodNamespace::Node => proto::NamespaceMode::Node,
    };
    let (pid, target_id) = match &config.namespaces.pid {
        PidNamespace::Pod => (proto::NamespaceMode::Pod, ""),
        PidNamespace::Container => (proto::NamespaceMode::Container, ""),
        PidNamespace::Node => (proto::NamespaceMode::Node, ""),
        PidNamespace::Target(id) => (proto::NamespaceMode::Target, id.as_str()),
    };
    proto::NamespaceOption {
        network: shared(config.namespaces.network).into(),
        pid: pid.into(),
        ipc: shared(config.namespaces.ipc).into(),
        target_id: target_id.to_owned(),
        userns_options: config.userns.as_ref().map(|maps| proto::UserNamespace {
            mode: proto::NamespaceMode::Pod.into(),
            uids: id_mappings(&maps.uids),
            gids: id_mappings(&maps.gids),
        }),
    }
}
