//! Containers as replies.

use super::sandbox::id_mappings;
use super::{fit, info, path, tagged_id};
use crate::cgroups::{Limit, Resources};
use crate::container::config::{ContainerConfig, Mount, MountPropagation};
use crate::cri::from_proto::signal_number;
use crate::cri::proto;
use crate::engine::view::{ContainerState, ContainerView};
use serde_json::json;
use std::collections::BTreeMap;

/// A container in a list.
pub(crate) fn container(view: &ContainerView) -> proto::Container {
    proto::Container {
        id: view.id.to_string(),
        pod_sandbox_id: view.sandbox.to_string(),
        metadata: Some(metadata(&view.config)),
        image: Some(image_spec(&view.config)),
        image_ref: view.image_ref.clone(),
        state: state(view.state).into(),
        created_at: view.created_at_nanos,
        labels: view.config.labels.clone(),
        annotations: view.config.annotations.clone(),
        image_id: tagged_id(&view.image_id),
    }
}

/// A container's status.
pub(crate) fn container_status(view: &ContainerView) -> proto::ContainerStatus {
    proto::ContainerStatus {
        id: view.id.to_string(),
        metadata: Some(metadata(&view.config)),
        state: state(view.state).into(),
        created_at: view.created_at_nanos,
        started_at: view.started_at_nanos,
        finished_at: view.finished_at_nanos,
        exit_code: view.exit_code,
        image: Some(image_spec(&view.config)),
        image_ref: view.image_ref.clone(),
        reason: view.reason.clone(),
        message: view.message.clone(),
        labels: view.config.labels.clone(),
        annotations: view.config.annotations.clone(),
        mounts: mounts(view),
        log_path: view.log_path.as_deref().map(path).unwrap_or_default(),
        resources: Some(proto::ContainerResources {
            linux: Some(resources(&view.resources)),
            windows: None,
        }),
        image_id: tagged_id(&view.image_id),
        user: view.user.as_ref().map(user),
        stop_signal: signal_number(&view.stop_signal).into(),
    }
}

/// Details for people and tools.
pub(crate) fn container_info(view: &ContainerView) -> BTreeMap<String, String> {
    info(&json!({
        "sandboxID": view.sandbox,
        "pid": view.pid,
        "bundle": path(&view.bundle),
        "imageID": view.image_id,
        "config": *view.config,
        "resources": view.resources,
        "leftOut": view.left_out,
    }))
}

pub(super) fn metadata(config: &ContainerConfig) -> proto::ContainerMetadata {
    proto::ContainerMetadata { name: config.name.clone(), attempt: config.attempt }
}

fn image_spec(config: &ContainerConfig) -> proto::ImageSpec {
    proto::ImageSpec {
        image: config.image.clone(),
        user_specified_image: config.user_specified_image.clone(),
        ..proto::ImageSpec::default()
    }
}

fn state(state: ContainerState) -> proto::ContainerState {
    match state {
        ContainerState::Created => proto::ContainerState::ContainerCreated,
        ContainerState::Running => proto::ContainerState::ContainerRunning,
        ContainerState::Exited => proto::ContainerState::ContainerExited,
        ContainerState::Unknown => proto::ContainerState::ContainerUnknown,
    }
}

/// The mounts of the request, each image with what its name stood for.
fn mounts(view: &ContainerView) -> Vec<proto::Mount> {
    let each = |(index, asked): (usize, &Mount)| {
        let volume = view.volumes.iter().find(|volume| volume.mount == index);
        mount(asked, volume.map_or("", |volume| &volume.image_ref))
    };
    view.config.mounts.iter().enumerate().map(each).collect()
}

fn mount(mount: &Mount, image_ref: &str) -> proto::Mount {
    let image = mount.image.as_ref();
    proto::Mount {
        image: image.map(|volume| proto::ImageSpec {
            image: volume.image.clone(),
            user_specified_image: volume.user_specified_image.clone(),
            image_ref: image_ref.to_owned(),
            ..proto::ImageSpec::default()
        }),
        image_sub_path: image.map(|volume| path(&volume.sub_path)).unwrap_or_default(),
        container_path: path(&mount.container_path),
        host_path: path(&mount.host_path),
        readonly: mount.readonly,
        selinux_relabel: mount.selinux_relabel,
        propagation: match mount.propagation {
            MountPropagation::Private => proto::MountPropagation::PropagationPrivate,
            MountPropagation::HostToContainer => {
                proto::MountPropagation::PropagationHostToContainer
            }
            MountPropagation::Bidirectional => proto::MountPropagation::PropagationBidirectional,
        }
        .into(),
        recursive_read_only: mount.recursive_read_only,
        uid_mappings: mount.maps.as_ref().map(|m| id_mappings(&m.uids)).unwrap_or_default(),
        gid_mappings: mount.maps.as_ref().map(|m| id_mappings(&m.gids)).unwrap_or_default(),
        ..proto::Mount::default()
    }
}

fn user((uid, gid, groups): &(u32, u32, Vec<u32>)) -> proto::ContainerUser {
    proto::ContainerUser {
        linux: Some(proto::LinuxContainerUser {
            uid: i64::from(*uid),
            gid: i64::from(*gid),
            supplemental_groups: groups.iter().map(|g| i64::from(*g)).collect(),
        }),
    }
}

/// Absent values are zeros and no limit is -1, as they are in requests.
fn resources(r: &Resources) -> proto::LinuxContainerResources {
    let limit = |l: Option<Limit>| match l {
        None => 0,
        Some(Limit::Max) => -1,
        Some(Limit::Value(value)) => fit(value, i64::MAX),
    };
    let hugepages = r.hugepage_limits.iter();
    proto::LinuxContainerResources {
        cpu_period: fit(r.cpu_period.unwrap_or(0), i64::MAX),
        cpu_quota: limit(r.cpu_quota),
        cpu_shares: fit(r.cpu_shares.unwrap_or(0), i64::MAX),
        memory_limit_in_bytes: limit(r.memory_limit),
        oom_score_adj: i64::from(r.oom_score_adj.unwrap_or(0)),
        cpuset_cpus: r.cpuset_cpus.clone().unwrap_or_default(),
        cpuset_mems: r.cpuset_mems.clone().unwrap_or_default(),
        hugepage_limits: hugepages
            .map(|(size, limit)| proto::HugepageLimit { page_size: size.clone(), limit: *limit })
            .collect(),
        unified: r.unified.clone(),
        memory_swap_limit_in_bytes: limit(r.memory_swap_limit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cri::from_proto::update_resources;

    #[test]
    fn resources_are_told_as_they_were_given() {
        let given = proto::LinuxContainerResources {
            cpu_period: 100_000,
            cpu_quota: -1,
            cpu_shares: 512,
            memory_limit_in_bytes: 64 << 20,
            oom_score_adj: -998,
            cpuset_cpus: "0-1".into(),
            cpuset_mems: "0".into(),
            hugepage_limits: vec![proto::HugepageLimit { page_size: "2MB".into(), limit: 4 << 20 }],
            unified: BTreeMap::from([("memory.high".into(), "1000000".into())]),
            memory_swap_limit_in_bytes: 64 << 20,
        };
        let request = proto::UpdateContainerResourcesRequest {
            linux: Some(given.clone()),
            ..proto::UpdateContainerResourcesRequest::default()
        };
        assert_eq!(resources(&update_resources(&request).unwrap()), given);
        let nothing = resources(&Resources::default());
        assert_eq!(nothing, proto::LinuxContainerResources::default());
    }
}
