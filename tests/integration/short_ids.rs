//! An id may be cut short wherever it is asked for, as long as it fits one object.

use crate::harness::pod::{PATIENT, pod};
use crate::harness::scene::{Scene, as_is};
use crate::harness::{Node, Test, kernel, shared};
use anyhow::{Context as _, Result, ensure};
use berth::cri::proto::{self, ContainerState, PodSandboxState};
use std::collections::BTreeMap;
use std::time::Duration;
use tonic::Code;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        shared("a_pod_answers_to_a_prefix_of_its_id", &[], pods),
        shared("a_container_answers_to_a_prefix_of_its_id", &[], containers),
        shared("a_prefix_of_two_ids_is_refused_and_does_nothing", &[], ambiguous),
    ]
}

fn remove_pod(node: &Node, id: &str) -> Result<(), tonic::Status> {
    let request = proto::RemovePodSandboxRequest { pod_sandbox_id: id.into() };
    node.cri.remove_pod_sandbox(request).map(drop)
}

fn remove(node: &Node, id: &str) -> Result<(), tonic::Status> {
    let request = proto::RemoveContainerRequest { container_id: id.into() };
    node.cri.remove_container(request).map(drop)
}

fn pods(node: &Node) -> Result<()> {
    let id = node.run_pod(&pod(node, "short"))?;
    let prefix = id.get(..12).context("a short id")?;
    ensure!(node.pod(prefix)?.id == id, "status by {prefix}");
    node.stop_pod(prefix)?;
    ensure!(node.pod(&id)?.state() == PodSandboxState::SandboxNotready, "stop by {prefix}");
    remove_pod(node, prefix)?;
    let left = node.cri.list_pod_sandbox(Default::default())?.items;
    ensure!(left.is_empty(), "removal by {prefix}: {left:?}");
    Ok(())
}

fn containers(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "short")?;
    let request = proto::CreateContainerRequest {
        pod_sandbox_id: scene.pod[..12].into(),
        config: Some(crate::harness::pod::container("main", PATIENT)),
        sandbox_config: Some(scene.config.clone()),
    };
    let id = node.cri.create_container(request).context("create in a prefix")?.container_id;
    let short = id[..12].to_owned();
    node.start_container(&short).context("start")?;
    node.wait_patient(&scene.pod, &id)?;
    let init = node.init_pid(&scene.pod, &id)?;
    let status = node.container(&short).context("status")?;
    ensure!(status.id == id && status.state() == ContainerState::ContainerRunning, "{status:?}");
    ensure!(node.exec_ok(&short, &["echo", "here"])? == "here", "exec");
    let stats = proto::ContainerStatsRequest { container_id: short.clone() };
    let stats = node.cri.container_stats(stats).context("stats")?.stats.unwrap_or_default();
    ensure!(stats.attributes.is_some_and(|a| a.id == id), "the statistics of another one");
    let log = node.log_of("short", "main");
    std::fs::rename(&log, log.with_extension("1")).context("rotate the log")?;
    let reopen = proto::ReopenContainerLogRequest { container_id: short.clone() };
    node.cri.reopen_container_log(reopen).context("reopen")?;
    ensure!(log.exists(), "the log was not reopened");
    let update = proto::UpdateContainerResourcesRequest {
        container_id: short.clone(),
        linux: Some(proto::LinuxContainerResources { cpu_shares: 512, ..Default::default() }),
        ..Default::default()
    };
    node.cri.update_container_resources(update).context("update")?;
    let resources = node.container(&id)?.resources.and_then(|r| r.linux).unwrap_or_default();
    ensure!(resources.cpu_shares == 512, "{resources:?}");
    node.stop_container(&short, Duration::from_secs(50)).context("stop")?;
    ensure!(!kernel::alive(init) && node.container(&id)?.exit_code == 0, "stop by {short}");
    remove(node, &short).context("remove")?;
    let left = kernel::names_in(&node.state_dir().join("snapshots"));
    ensure!(left.is_empty(), "removal by {short}: {left:?}");
    Ok(())
}

fn ambiguous(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "ambiguous")?;
    let running = scene.start("running", PATIENT, as_is)?;
    let init = running.init()?;
    // Of seventeen ids two begin alike.
    let mut first_of: BTreeMap<String, String> = BTreeMap::new();
    first_of.insert(running.id[..1].to_owned(), running.id.clone());
    let mut number = 0;
    let (prefix, both) = loop {
        number += 1;
        let id = scene.create(&format!("number-{number}"), PATIENT, as_is)?;
        if let Some(other) = first_of.insert(id[..1].to_owned(), id.clone()) {
            break (id[..1].to_owned(), [id, other]);
        }
    };
    let status =
        proto::ContainerStatusRequest { container_id: prefix.clone(), ..Default::default() };
    let answers = [
        ("status", node.cri.container_status(status).map(drop)),
        ("start", node.start_container(&prefix)),
        ("exec", node.exec(&prefix, &["true"], 0).map(drop)),
        ("stop", node.stop_container(&prefix, Duration::ZERO)),
        ("remove", remove(node, &prefix)),
    ];
    for (verb, answer) in answers {
        let status = answer.err().with_context(|| format!("{verb} of two succeeds"))?;
        ensure!(status.code() == Code::InvalidArgument, "{verb}: {status}");
        ensure!(status.message().contains(&prefix), "{verb}: {status}");
    }
    ensure!(kernel::alive(init), "it was stopped");
    // The control: whole, each is one.
    for id in &both {
        ensure!(node.container(id)?.id == *id, "{id}");
        remove(node, id)?;
    }
    Ok(())
}
