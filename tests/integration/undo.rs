//! A verb that fails, whose undo fails, and whose failure cannot even be recorded: what is left is
//! told, and goes at the next opportunity.

use crate::harness::leaks::Baseline;
use crate::harness::scene::{Scene, as_is};
use crate::harness::{Node, Options, Test, kernel, own, pod};
use anyhow::{Context as _, Result, ensure};
use berth::cri::proto::{self, ContainerState, PodSandboxState};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        own("a_sandbox_that_cannot_be_undone_or_recorded_is_listed", &[], options, sandbox),
        own("a_sandbox_that_cannot_be_undone_or_recorded_goes_at_a_restart", &[], options, restart),
        own("a_container_that_cannot_be_undone_or_recorded_is_listed", &[], options, container),
    ]
}

fn options(_: &crate::harness::machine::Machine) -> Options {
    Options::default()
}

/// From its second writing on no record is taken, and neither is an undo carried out.
fn refuse(node: &Node, undo: &str) -> Result<()> {
    Ok(std::fs::write(node.path("fail-plan.refuse"), format!("record.json 2\n{undo} 1\n"))?)
}

fn allow(node: &Node) -> Result<()> {
    Ok(std::fs::remove_file(node.path("fail-plan.refuse"))?)
}

/// Fails to run a pod, and to undo that.
fn failed(node: &Node) -> Result<()> {
    refuse(node, "teardown")?;
    let status = node.run_pod(&pod::pod(node, "failed")).err().context("it ran")?;
    ensure!(status.message().contains("record"), "{status}");
    Ok(())
}

fn listed(node: &Node) -> Result<Vec<proto::PodSandbox>> {
    Ok(node.cri.list_pod_sandbox(proto::ListPodSandboxRequest::default())?.items)
}

fn sandbox(node: &mut Node) -> Result<()> {
    let before = Baseline::take(node)?;
    failed(node)?;
    let all = listed(node)?;
    ensure!(all.len() == 1, "what is left is not listed: {all:?}");
    ensure!(all[0].state() == PodSandboxState::SandboxNotready, "{all:?}");
    let request =
        proto::PodSandboxStatusRequest { pod_sandbox_id: all[0].id.clone(), verbose: true };
    let info = node.cri.pod_sandbox_status(request)?.info;
    ensure!(info["info"].contains("not undone"), "{info:?}");
    // While nothing can be undone, nothing is said to be.
    ensure!(node.remove_pod(&all[0].id).is_err(), "removed");
    allow(node)?;
    node.remove_pod(&all[0].id)?;
    ensure!(listed(node)?.is_empty(), "{:?}", listed(node)?);
    before.compare(node)?;
    // Control: the name is free.
    node.run_pod(&pod::pod(node, "failed"))?;
    Ok(())
}

fn restart(node: &mut Node) -> Result<()> {
    let before = Baseline::take(node)?;
    failed(node)?;
    node.kill()?;
    allow(node)?;
    node.launch()?;
    ensure!(listed(node)?.is_empty(), "{:?}", listed(node)?);
    before.compare(node)
}

fn container(node: &mut Node) -> Result<()> {
    let scene = Scene::new(node, "failed")?;
    refuse(node, "forget")?;
    let status = scene.create("main", pod::PATIENT, as_is).err().context("it was made")?;
    ensure!(status.message().contains("record"), "{status}");
    let all = node.cri.list_containers(proto::ListContainersRequest::default())?.containers;
    ensure!(all.len() == 1, "what is left is not listed: {all:?}");
    ensure!(all[0].state() == ContainerState::ContainerExited, "{all:?}");
    // Never 0, which no process returned.
    let told = node.container(&all[0].id)?;
    ensure!((told.exit_code, told.reason.as_str()) == (128, "StartError"), "{told:?}");
    ensure!(told.message.contains("record") && told.finished_at > 0, "{told:?}");
    ensure!(told.started_at == 0, "{told:?}");
    allow(node)?;
    let id = all[0].id.clone();
    node.cri.remove_container(proto::RemoveContainerRequest { container_id: id })?;
    for folder in [node.state_dir().join("snapshots"), node.run_dir().join("containers")] {
        let left = kernel::names_in(&folder);
        ensure!(left.is_empty(), "left in {}: {left:?}", folder.display());
    }
    // Control: the name is free.
    scene.start("main", pod::PATIENT, as_is)?;
    Ok(())
}
