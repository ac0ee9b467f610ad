//! `berth inspect`: everything about one pod, container or image, for programs.

use super::commands::InspectArgs;
use super::connect::Daemon;
use super::console::Console;
use super::error::CtlError;
use super::format::rfc3339;
use super::list::state_name;
use super::resolve::{Inventory, Named};
use crate::cri::CORRUPT;
use crate::cri::proto as cri;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Prints what a name means, in full.
pub(super) async fn inspect(
    args: &InspectArgs,
    daemon: &Daemon,
    console: &mut Console,
) -> Result<(), CtlError> {
    let all = Inventory::read(daemon).await?;
    let document = match all.any(&args.name)? {
        Some(Named::Pod(pod)) => inspect_pod(daemon, &all, &pod.id).await?,
        Some(Named::Container(container)) => inspect_container(daemon, &container.id).await?,
        None => inspect_image(daemon, &args.name, "pod, container or image").await?,
    };
    console.document(args.output, &document)
}

async fn inspect_pod(daemon: &Daemon, all: &Inventory, id: &str) -> Result<Value, CtlError> {
    let request = cri::PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), verbose: true };
    let answer = daemon.runtime.clone().pod_sandbox_status(request).await;
    let answer = answer.map_err(CtlError::rpc("inspect", format!("pod {id}")))?.into_inner();
    let status = answer.status.unwrap_or_default();
    let containers = all.containers.iter().filter(|container| container.pod_sandbox_id == id);
    let containers: Vec<Value> = containers
        .map(|container| {
            json!({
                "id": container.id,
                "name": container.metadata.as_ref().map(|metadata| &metadata.name),
                "state": state_name(container.state()),
            })
        })
        .collect();
    let ready = status.state() == cri::PodSandboxState::SandboxReady;
    let network = status.network.clone().unwrap_or_default();
    let further = network.additional_ips.iter().map(|ip| ip.ip.clone());
    let ips: Vec<String> =
        std::iter::once(network.ip.clone()).chain(further).filter(|ip| !ip.is_empty()).collect();
    let options = status
        .linux
        .as_ref()
        .and_then(|linux| linux.namespaces.as_ref())
        .and_then(|namespaces| namespaces.options.as_ref());
    let namespaces = options.map(|options| {
        json!({
            "network": options.network().as_str_name(),
            "pid": options.pid().as_str_name(),
            "ipc": options.ipc().as_str_name(),
        })
    });
    let metadata = status.metadata.unwrap_or_default();
    Ok(json!({
        "kind": "Pod",
        "status": {
            "id": status.id,
            "name": metadata.name,
            "namespace": metadata.namespace,
            "uid": metadata.uid,
            "attempt": metadata.attempt,
            "state": if ready { "Ready" } else { "NotReady" },
            "createdAt": rfc3339(status.created_at),
            "ips": ips,
            "namespaces": namespaces,
            "labels": status.labels,
            "annotations": status.annotations,
            "runtimeHandler": status.runtime_handler,
            "containers": containers,
        },
        "info": info(answer.info),
    }))
}

async fn inspect_container(daemon: &Daemon, id: &str) -> Result<Value, CtlError> {
    let request = cri::ContainerStatusRequest { container_id: id.to_owned(), verbose: true };
    let answer = daemon.runtime.clone().container_status(request).await;
    let answer = answer.map_err(CtlError::rpc("inspect", format!("container {id}")))?.into_inner();
    let status = answer.status.unwrap_or_default();
    Ok(json!({
        "kind": "Container",
        "status": container_status(&status),
        "info": info(answer.info),
    }))
}

fn container_status(status: &cri::ContainerStatus) -> Value {
    let mounts: Vec<Value> = status.mounts.iter().map(mount).collect();
    let image = status.image.clone().unwrap_or_default();
    let user = status.user.as_ref().and_then(|user| user.linux.as_ref()).map(|user| {
        json!({
            "uid": user.uid,
            "gid": user.gid,
            "supplementalGroups": user.supplemental_groups,
        })
    });
    let resources = status.resources.as_ref().and_then(|all| all.linux.as_ref()).map(resources);
    let exited = status.state() == cri::ContainerState::ContainerExited;
    json!({
        "id": status.id,
        "name": status.metadata.as_ref().map(|metadata| &metadata.name),
        "attempt": status.metadata.as_ref().map(|metadata| metadata.attempt),
        "state": state_name(status.state()),
        "createdAt": rfc3339(status.created_at),
        "startedAt": rfc3339(status.started_at),
        "finishedAt": rfc3339(status.finished_at),
        "exitCode": exited.then_some(status.exit_code),
        "reason": status.reason,
        "message": status.message,
        "image": image.image,
        "userSpecifiedImage": image.user_specified_image,
        "imageRef": status.image_ref,
        "imageId": status.image_id,
        "logPath": status.log_path,
        "stopSignal": status.stop_signal().as_str_name(),
        "user": user,
        "mounts": mounts,
        "resources": resources,
        "labels": status.labels,
        "annotations": status.annotations,
    })
}

fn mount(mount: &cri::Mount) -> Value {
    let propagation = match mount.propagation() {
        cri::MountPropagation::PropagationPrivate => "private",
        cri::MountPropagation::PropagationHostToContainer => "host-to-container",
        cri::MountPropagation::PropagationBidirectional => "bidirectional",
    };
    json!({
        "containerPath": mount.container_path,
        "hostPath": mount.host_path,
        "readOnly": mount.readonly,
        "recursiveReadOnly": mount.recursive_read_only,
        "propagation": propagation,
    })
}

/// Only what was asked for.
fn resources(linux: &cri::LinuxContainerResources) -> Value {
    let numbers = [
        ("cpuPeriod", linux.cpu_period),
        ("cpuQuota", linux.cpu_quota),
        ("cpuShares", linux.cpu_shares),
        ("memoryLimitBytes", linux.memory_limit_in_bytes),
        ("memorySwapLimitBytes", linux.memory_swap_limit_in_bytes),
        ("oomScoreAdj", linux.oom_score_adj),
    ];
    let mut map: Map<String, Value> = numbers
        .into_iter()
        .filter(|(_, number)| *number != 0)
        .map(|(name, number)| (name.to_owned(), json!(number)))
        .collect();
    for (name, text) in [("cpusetCpus", &linux.cpuset_cpus), ("cpusetMems", &linux.cpuset_mems)] {
        if !text.is_empty() {
            map.insert(name.to_owned(), json!(text));
        }
    }
    if !linux.unified.is_empty() {
        map.insert("unified".to_owned(), json!(linux.unified));
    }
    Value::Object(map)
}

/// All about an image.
pub(super) async fn inspect_image(
    daemon: &Daemon,
    name: &str,
    what: &'static str,
) -> Result<Value, CtlError> {
    let spec = cri::ImageSpec { image: name.to_owned(), ..Default::default() };
    let request = cri::ImageStatusRequest { image: Some(spec), verbose: true };
    let missing = || CtlError::NotFound { what, name: name.to_owned() };
    let answer = match daemon.images.clone().image_status(request).await {
        Ok(answer) => answer.into_inner(),
        // A text that is no image's name either.
        Err(status) if status.code() == tonic::Code::InvalidArgument => return Err(missing()),
        Err(status) => return Err(CtlError::rpc("inspect", format!("image {name}"))(status)),
    };
    let image = match answer.image {
        Some(image) => image,
        // The status of one that has to be pulled again is none.
        None => super::images::listed(name, daemon).await?.ok_or_else(missing)?,
    };
    Ok(json!({
        "kind": "Image",
        "status": {
            "id": image.id,
            "tags": image.repo_tags,
            "digests": image.repo_digests,
            "sizeBytes": image.size,
            "uid": image.uid.map(|uid| uid.value),
            "username": image.username,
            "pinned": image.pinned,
            "corrupt": image.spec.and_then(|mut spec| spec.annotations.remove(CORRUPT)),
        },
        "info": info(answer.info),
    }))
}

/// The daemon's own details; its texts are JSON where they can be.
fn info(info: BTreeMap<String, String>) -> Value {
    let parse = |text: String| serde_json::from_str(&text).unwrap_or(Value::String(text));
    Value::Object(info.into_iter().map(|(name, text)| (name, parse(text))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_that_are_json_are_told_as_json() {
        let all = BTreeMap::from([
            ("config".to_owned(), "{\"a\": 1}".to_owned()),
            ("note".to_owned(), "plain".to_owned()),
        ]);
        assert_eq!(info(all), json!({"config": {"a": 1}, "note": "plain"}));
    }

    #[test]
    fn an_exit_code_is_told_only_of_what_has_ended() {
        let mut status = cri::ContainerStatus::default();
        status.set_state(cri::ContainerState::ContainerRunning);
        assert_eq!(container_status(&status)["exitCode"], Value::Null);
        status.set_state(cri::ContainerState::ContainerExited);
        assert_eq!(container_status(&status)["exitCode"], 0);
    }

    #[test]
    fn resources_that_were_not_asked_for_are_left_out() {
        let linux = cri::LinuxContainerResources { cpu_shares: 2, ..Default::default() };
        assert_eq!(resources(&linux), json!({"cpuShares": 2}));
    }
}
