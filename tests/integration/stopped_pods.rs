//! Pods and containers of which something is gone: what is refused, and that a stop and a removal are
//! not.

use crate::harness::cni;
use crate::harness::machine::Need;
use crate::harness::pod::{PATIENT, container, pod};
use crate::harness::scene::{Scene, as_is};
use crate::harness::{Node, Test, kernel, own, shared};
use anyhow::{Context as _, Result, ensure};
use berth::cri::proto::{self, ContainerState, PodSandboxState};
use nix::mount::{MntFlags, umount2};
use serde_json::json;
use std::time::Duration;
use tonic::Code;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        shared("a_container_is_made_and_started_in_a_ready_pod_alone", &[], needs_ready),
        shared("a_container_whose_layer_and_log_are_gone_is_stopped_and_removed", &[], no_files),
        shared("a_pod_whose_files_are_gone_is_stopped_and_removed", &[], no_pod_files),
        own(
            "a_pod_whose_network_namespace_is_gone_is_stopped_and_removed",
            &[Need::PodNetwork],
            cni::options,
            no_netns,
        ),
    ]
}

fn needs_ready(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "stopped")?;
    let created = scene.create("created", PATIENT, as_is)?;
    // The control: while it is READY both are done.
    scene.start("control", PATIENT, as_is)?;
    node.stop_pod(&scene.pod)?;
    let refused = |what: &str, answer: Result<(), tonic::Status>| -> Result<()> {
        let status = answer.err().with_context(|| format!("{what} in a stopped pod"))?;
        ensure!(status.code() == Code::FailedPrecondition, "{what}: {status}");
        Ok(())
    };
    let layers = kernel::names_in(&node.state_dir().join("snapshots"));
    refused("a create", scene.create("late", PATIENT, as_is).map(drop))?;
    refused("a start", node.start_container(&created))?;
    refused("an exec", node.exec(&created, &["true"], 0).map(drop))?;
    let now = kernel::names_in(&node.state_dir().join("snapshots"));
    ensure!(now == layers, "a layer was made: {now:?}");
    ensure!(!node.pod_cgroup(&scene.pod).exists(), "a cgroup was made");
    let state = node.container(&created)?.state();
    ensure!(state == ContainerState::ContainerCreated, "{state:?}");
    // In one that is gone: another code, which a kubelet tells apart.
    node.remove_pod(&scene.pod)?;
    let gone = scene.create("late", PATIENT, as_is).err().context("a create in a removed pod")?;
    ensure!(gone.code() == Code::NotFound, "{gone}");
    let gone = node.start_container(&created).err().context("it outlives its pod")?;
    ensure!(gone.code() == Code::NotFound, "{gone}");
    Ok(())
}

/// Removes the writable layer and the log of a container.
fn lose_files(node: &Node, pod: &str, id: &str) -> Result<()> {
    let layer = node.state_dir().join("snapshots").join(id);
    std::fs::remove_dir_all(&layer).with_context(|| format!("remove {}", layer.display()))?;
    let logs = node.path("logs").join(pod);
    if logs.exists() {
        std::fs::remove_dir_all(&logs)?;
    }
    Ok(())
}

fn no_files(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "no-files")?;
    let running = scene.start("running", PATIENT, as_is)?;
    let exited = scene.script("exited", "exit 5", as_is)?;
    exited.end()?;
    let created = scene.create("created", PATIENT, as_is)?;
    let init = running.init()?;
    for id in [&running.id, &exited.id, &created] {
        lose_files(node, "no-files", id)?;
    }
    // The control: what is not there cannot start, and says why.
    let status = node.start_container(&created).err().context("it starts without a root")?;
    ensure!(status.code() != Code::NotFound, "{status}");
    node.stop_container(&running.id, Duration::ZERO).context("stop")?;
    let status = running.status()?;
    ensure!(status.exit_code == 137 && !kernel::alive(init), "{status:?}");
    ensure!(exited.status()?.exit_code == 5, "{:?}", exited.status()?);
    for id in [running.id, exited.id, created] {
        let request = proto::RemoveContainerRequest { container_id: id.clone() };
        node.cri.remove_container(request).with_context(|| format!("remove {id}"))?;
        ensure!(node.container(&id).is_err(), "{id} is removed, and told");
    }
    ensure!(node.pod(&scene.pod)?.state() == PodSandboxState::SandboxReady, "its pod went, too");
    Ok(())
}

fn no_pod_files(node: &Node) -> Result<()> {
    let (pod, id) = node.patient_pod("no-pod-files")?;
    let init = node.init_pid(&pod, &id)?;
    lose_files(node, "no-pod-files", &id)?;
    let folder = node.run_dir().join("sandboxes").join(&pod);
    for file in ["hosts", "hostname", "resolv.conf", "shim.sock"] {
        std::fs::remove_file(folder.join(file)).with_context(|| file.to_owned())?;
    }
    std::fs::remove_dir_all(folder.join("exits"))?;
    node.stop_pod(&pod).context("stop")?;
    ensure!(!kernel::alive(init) && !node.pod_cgroup(&pod).exists(), "it runs");
    let status = node.container(&id)?;
    ensure!(status.state() == ContainerState::ContainerExited, "{status:?}");
    ensure!(status.exit_code == 137, "its end was told, if not written: {status:?}");
    node.stop_pod(&pod).context("stop again")?;
    node.remove_pod(&pod)
}

/// A pin that was unmounted, and one whose pause is gone, too: nothing but the books is left of the
/// network, and a plugin is asked to undo what it did all the same.
fn no_netns(node: &mut Node) -> Result<()> {
    let body = "[ $CNI_COMMAND = ADD ] || echo \"${CNI_NETNS:-none}\" >>\"$traces/netns\"";
    cni::script(node, "only", body)?;
    cni::install(node, &json!([{ "type": "only" }]))?;
    let pin = |id: &str| node.run_dir().join("netns").join(id);
    let unpinned = node.run_pod(&pod(node, "unpinned"))?;
    umount2(&pin(&unpinned), MntFlags::empty()).context("unmount the pin")?;
    let without = node.run_pod(&pod(node, "without"))?;
    umount2(&pin(&without), MntFlags::MNT_DETACH).context("unmount the pin")?;
    std::fs::remove_file(pin(&without))?;
    let control = pod(node, "control");
    let control_id = node.run_pod(&control)?;
    for (round, id) in [&unpinned, &without, &control_id].into_iter().enumerate() {
        let pause = node.pause_pid(id)?;
        node.stop_pod(id).with_context(|| format!("stop {round}"))?;
        ensure!(!kernel::alive(pause) && !pin(id).exists(), "{round}: something is left");
        node.stop_pod(id).with_context(|| format!("stop {round} again"))?;
        let dels = cni::calls(node).iter().filter(|call| *call == "DEL only").count();
        ensure!(dels == round + 1, "{round}: {:?}", cni::calls(node));
        node.remove_pod(id)?;
    }
    // No path is better than one where something else may be by now.
    let paths = kernel::read(node.path("traces/netns"))?;
    let known = pin(&control_id).display().to_string();
    ensure!(paths.lines().eq(["none", "none", &known]), "{paths}");
    // The name, the plugin and the node are as before.
    let id = node.run_pod(&control)?;
    node.launch_container(&id, &control, &container("main", PATIENT))?;
    Ok(())
}
