//! Verbs at work: a repeat joins, and a client that goes away loses its answer and not the work.

use crate::harness::cri::Begun;
use crate::harness::machine::Machine;
use crate::harness::pod::{PATIENT, container, pod};
use crate::harness::scene::{Scene, as_is};
use crate::harness::{Node, Options, Test, eventually, kernel, own, shared};
use anyhow::{Context as _, Result, ensure};
use berth::cri::proto::{self, ContainerState, PodSandboxState};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tonic::Code;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        own("a_repeated_create_in_flight_joins", &[], options, joins),
        own("a_create_goes_on_without_its_client", &[], options, create),
        own("a_start_goes_on_without_its_client", &[], options, start),
        shared("a_container_is_removed_without_its_client", &[], remove),
        shared("a_pod_is_stopped_without_its_client", &[], stop_pod),
        shared("a_pod_is_removed_without_its_client", &[], remove_pod),
    ]
}

fn options(_: &Machine) -> Options {
    Options::default()
}

/// Holds a verb up at its failpoint until this is dropped.
struct Held<'a>(&'a Node);

impl<'a> Held<'a> {
    fn at(node: &'a Node, site: &str) -> Result<Self> {
        std::fs::write(node.path("fail-plan.hold"), site)?;
        Ok(Self(node))
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        std::fs::remove_file(self.0.path("fail-plan.hold")).ok();
    }
}

/// What a client does that goes away; returns when the daemon has noticed.
fn leave<T: Send + 'static>(node: &Node, begun: Begun<T>) -> Result<()> {
    ensure!(!begun.is_finished(), "it was not held up");
    begun.abort();
    ensure!(node.cri.finish(begun).is_err(), "the client did not leave");
    // By the same connection, so that it arrives later.
    node.cri.version(Default::default())?;
    Ok(())
}

fn begin_create(scene: &Scene<'_>, name: &str) -> Begun<proto::CreateContainerResponse> {
    let request = proto::CreateContainerRequest {
        pod_sandbox_id: scene.pod.clone(),
        config: Some(container(name, PATIENT)),
        sandbox_config: Some(scene.config.clone()),
    };
    let mut client = scene.node.cri.runtime();
    scene.node.cri.begin(async move { client.create_container(request).await })
}

/// The container that is recorded and not yet listed.
fn being_made(node: &Node) -> Result<String> {
    let folder = node.run_dir().join("containers");
    let id = eventually("the create is at work", || {
        let names = kernel::names_in(&folder);
        Ok(names.into_iter().find(|id| folder.join(id).join("record.json").exists()))
    })?;
    let listed = node.cri.list_containers(Default::default())?.containers;
    ensure!(listed.is_empty(), "what is being made is listed: {listed:?}");
    Ok(id)
}

fn joins(node: &mut Node) -> Result<()> {
    let scene = Scene::new(node, "joins")?;
    let held = Held::at(node, "create")?;
    let first = begin_create(&scene, "main");
    let id = being_made(node)?;
    let second = begin_create(&scene, "main");
    // Another request of the name does not join.
    let other = scene.create("main", &["true"], as_is).err().context("the name is taken")?;
    ensure!(other.code() == Code::AlreadyExists, "{other}");
    ensure!(!first.is_finished() && !second.is_finished(), "it was not held up");
    drop(held);
    for call in [first, second] {
        ensure!(node.cri.finish(call)?.container_id == id, "another container");
    }
    let listed = node.cri.list_containers(Default::default())?.containers;
    ensure!(listed.len() == 1 && listed[0].id == id, "{listed:?}");
    let layers = kernel::names_in(&node.state_dir().join("snapshots"));
    ensure!(layers == [id], "writable layers: {layers:?}");
    Ok(())
}

fn create(node: &mut Node) -> Result<()> {
    let scene = Scene::new(node, "create")?;
    let held = Held::at(node, "create")?;
    let begun = begin_create(&scene, "main");
    let id = being_made(node)?;
    leave(node, begun)?;
    drop(held);
    eventually("the container of nobody is there", || {
        let state = node.container(&id)?.state();
        Ok((state == ContainerState::ContainerCreated).then_some(()))
    })?;
    // Whoever comes back with the request is told the same one, and it is whole.
    ensure!(scene.create("main", PATIENT, as_is)? == id, "another container");
    node.start_container(&id)?;
    ensure!(node.exec_ok(&id, &["echo", "here"])? == "here");
    Ok(())
}

fn start(node: &mut Node) -> Result<()> {
    let scene = Scene::new(node, "start")?;
    let id = scene.create("main", PATIENT, as_is)?;
    let held = Held::at(node, "start")?;
    let request = proto::StartContainerRequest { container_id: id.clone() };
    let mut client = node.cri.runtime();
    let begun = node.cri.begin(async move { client.start_container(request).await });
    let record = node.run_dir().join("containers").join(&id).join("record.json");
    eventually("the start is at work", || {
        Ok(kernel::read(&record)?.contains("\"starting\"").then_some(()))
    })?;
    leave(node, begun)?;
    let state = node.container(&id)?.state();
    ensure!(state == ContainerState::ContainerCreated, "it was not held up: {state:?}");
    drop(held);
    eventually("the container of nobody runs", || {
        let state = node.container(&id)?.state();
        Ok((state == ContainerState::ContainerRunning).then_some(()))
    })?;
    ensure!(kernel::alive(node.init_pid(&scene.pod, &id)?), "RUNNING without a process");
    Ok(())
}

/// A pod whose shim tells no end until this is dropped: whatever ends its container waits for that.
struct Silent {
    pod: String,
    container: String,
    init: i32,
    shim: Pid,
}

impl Silent {
    fn pod(node: &Node, name: &str) -> Result<Self> {
        let (pod, container) = node.patient_pod(name)?;
        let (init, shim) = (node.init_pid(&pod, &container)?, node.shim_pid(&pod)?);
        let silent = Self { pod, container, init, shim: Pid::from_raw(shim) };
        kill(silent.shim, Signal::SIGSTOP)?;
        Ok(silent)
    }

    /// Leaves a verb that has killed the container and waits for its end to be told.
    fn leave<T: Send + 'static>(&self, node: &Node, begun: Begun<T>) -> Result<()> {
        eventually("the container is killed", || Ok((!kernel::alive(self.init)).then_some(())))?;
        leave(node, begun)
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        kill(self.shim, Signal::SIGCONT).ok();
    }
}

fn remove(node: &Node) -> Result<()> {
    let silent = Silent::pod(node, "remove")?;
    let request = proto::RemoveContainerRequest { container_id: silent.container.clone() };
    let mut client = node.cri.runtime();
    let begun = node.cri.begin(async move { client.remove_container(request).await });
    silent.leave(node, begun)?;
    let layers = || kernel::names_in(&node.state_dir().join("snapshots"));
    ensure!(layers() == [silent.container.clone()], "removed before its end: {:?}", layers());
    drop(silent);
    eventually("the container is removed for nobody", || {
        let listed = node.cri.list_containers(Default::default())?.containers;
        Ok(listed.is_empty().then_some(()))
    })?;
    ensure!(layers().is_empty(), "its layer is left: {:?}", layers());
    Ok(())
}

fn stop_pod(node: &Node) -> Result<()> {
    let silent = Silent::pod(node, "stop")?;
    let pod = silent.pod.clone();
    let request = proto::StopPodSandboxRequest { pod_sandbox_id: pod.clone() };
    let mut client = node.cri.runtime();
    let begun = node.cri.begin(async move { client.stop_pod_sandbox(request).await });
    silent.leave(node, begun)?;
    ensure!(node.pod_cgroup(&pod).exists(), "stopped before its container's end");
    drop(silent);
    eventually("the pod is stopped for nobody", || {
        Ok((!node.pod_cgroup(&pod).exists()).then_some(()))
    })?;
    ensure!(node.pod(&pod)?.state() == PodSandboxState::SandboxNotready, "it is READY");
    Ok(())
}

fn remove_pod(node: &Node) -> Result<()> {
    let silent = Silent::pod(node, "remove-pod")?;
    let request = proto::RemovePodSandboxRequest { pod_sandbox_id: silent.pod.clone() };
    let mut client = node.cri.runtime();
    let begun = node.cri.begin(async move { client.remove_pod_sandbox(request).await });
    silent.leave(node, begun)?;
    drop(silent);
    eventually("the pod is removed for nobody", || {
        let listed = node.cri.list_pod_sandbox(Default::default())?.items;
        Ok(listed.is_empty().then_some(()))
    })?;
    // Its name is free.
    node.run_pod(&pod(node, "remove-pod"))?;
    Ok(())
}
