//! Which object a method is about, and what else its request says.

use super::target::{Peer, Target, cases};
use crate::harness::image::{BUSYBOX, spec};
use crate::harness::machine::Need::PodNetwork;
use anyhow::{Context as _, Result, ensure};
use berth::cri::proto;
use proto::ContainerState;
use proto::PodSandboxState::SandboxNotready;
use tonic::Code;

cases! {
    "a_verb_is_about_its_container", &[PodNetwork], Peer::Agrees, of_a_container;
    // Figures of a pod are those of its cgroup parent there, and one without a parent has none:
    // "cgroupPath is empty".
    "a_verb_is_about_its_sandbox", &[PodNetwork], Peer::Differs("no figures without a parent"),
        of_a_sandbox;
    "a_command_runs_no_longer_than_it_may", &[PodNetwork], Peer::Agrees, timeout;
    "an_image_is_found_by_its_name", &[], Peer::Agrees, image;
    // Its lists of images know no filter (image_list.go: "Add image list filters").
    "a_list_of_images_is_filtered", &[], Peer::Differs("no filter in any version"), images;
    "the_node_tells_details_when_asked", &[], Peer::Agrees, details;
}

/// Of two containers one is acted upon.
fn of_a_container(target: &Target<'_>) -> Result<()> {
    let pod = target.pod("verbs", |_| {})?;
    let other = pod.start("other", |_| {})?;
    let container_id = pod.create("main", |_| {}).context("CreateContainer")?;
    let id = || container_id.clone();
    let state = || -> Result<ContainerState> {
        let request = proto::ContainerStatusRequest { container_id: id(), verbose: false };
        let status = target.cri.container_status(request)?.status.context("no status")?;
        Ok(status.state())
    };
    ensure!(state()? == ContainerState::ContainerCreated);
    target.cri.start_container(proto::StartContainerRequest { container_id: id() })?;
    ensure!(state()? == ContainerState::ContainerRunning);
    let main = super::target::Running {
        target,
        id: id(),
        log: std::path::Path::new(&pod.config.log_directory).join("main.log"),
    };
    main.says("hostname", "verbs")?;
    let stats = target.cri.container_stats(proto::ContainerStatsRequest { container_id: id() })?;
    let attributes = stats.stats.unwrap_or_default().attributes.unwrap_or_default();
    ensure!(attributes.id == id(), "{attributes:?}");
    // The log is written where it is after it was moved away.
    let moved = main.log.with_extension("moved");
    std::fs::rename(&main.log, &moved)?;
    target.cri.reopen_container_log(proto::ReopenContainerLogRequest { container_id: id() })?;
    ensure!(main.log.exists(), "the log was not opened again");
    target.cri.stop_container(proto::StopContainerRequest { container_id: id(), timeout: 60 })?;
    ensure!(state()? == ContainerState::ContainerExited);
    target.cri.remove_container(proto::RemoveContainerRequest { container_id: id() })?;
    let request = proto::ContainerStatusRequest { container_id: id(), verbose: false };
    let gone = target.cri.container_status(request);
    ensure!(gone.is_err_and(|status| status.code() == Code::NotFound), "it is still there");
    ensure!(other.status()?.state() == ContainerState::ContainerRunning, "the other one");
    Ok(())
}

fn of_a_sandbox(target: &Target<'_>) -> Result<()> {
    let (pod, other) = (target.pod("main", |_| {})?, target.pod("other", |_| {})?);
    let id = || pod.id.clone();
    pod.start("main", |_| {})?;
    let request = proto::PodSandboxStatsRequest { pod_sandbox_id: id() };
    let stats = target.cri.pod_sandbox_stats(request)?.stats.context("no statistics")?;
    ensure!(stats.attributes.unwrap_or_default().id == id());
    target.cri.stop_pod_sandbox(proto::StopPodSandboxRequest { pod_sandbox_id: id() })?;
    ensure!(pod.status()?.state() == SandboxNotready);
    ensure!(other.status()?.state() != SandboxNotready, "the other one");
    target.cri.remove_pod_sandbox(proto::RemovePodSandboxRequest { pod_sandbox_id: id() })?;
    let listed = target.cri.list_pod_sandbox(proto::ListPodSandboxRequest::default())?.items;
    ensure!(listed.len() == 1 && listed[0].id == other.id, "{listed:?}");
    Ok(())
}

fn timeout(target: &Target<'_>) -> Result<()> {
    let pod = target.pod("timeout", |_| {})?;
    let main = pod.start("main", |_| {})?;
    let run = |seconds: &str, timeout| {
        target.cri.exec_sync(proto::ExecSyncRequest {
            container_id: main.id.clone(),
            cmd: vec!["sleep".into(), seconds.into()],
            timeout,
        })
    };
    let late = run("1000", 1).err().context("a command that may run for one second")?;
    ensure!(late.code() == Code::DeadlineExceeded, "{late:?}");
    ensure!(run("0", 60)?.exit_code == 0);
    Ok(())
}

fn image(target: &Target<'_>) -> Result<()> {
    let ask = |name: &str, verbose| {
        target.cri.image_status(proto::ImageStatusRequest { image: spec(name), verbose })
    };
    let found = ask(BUSYBOX, false)?;
    let image = found.image.context("no image")?;
    ensure!(image.repo_tags == [BUSYBOX], "{image:?}");
    ensure!(found.info.is_empty() && !ask(BUSYBOX, true)?.info.is_empty());
    ensure!(ask(&image.id, false)?.image.is_some_and(|i| i.id == image.id), "by its id");
    ensure!(ask("berth.test/none:v1", false)?.image.is_none());
    // Nothing is removed by another's name.
    target.cri.remove_image(proto::RemoveImageRequest { image: spec("berth.test/none:v1") })?;
    ensure!(ask(BUSYBOX, false)?.image.is_some());
    Ok(())
}

fn images(target: &Target<'_>) -> Result<()> {
    for (name, count) in [(BUSYBOX, 1), ("berth.test/none:v1", 0)] {
        let filter = || Some(proto::ImageFilter { image: spec(name) });
        let listed = target.cri.list_images(proto::ListImagesRequest { filter: filter() })?.images;
        ensure!(listed.len() == count, "{name}: {listed:?}");
        let messages = target.cri.stream_images(proto::StreamImagesRequest { filter: filter() })?;
        let streamed: usize = messages.iter().map(|message| message.images.len()).sum();
        ensure!(streamed == count, "{name}: {messages:?}");
    }
    Ok(())
}

fn details(target: &Target<'_>) -> Result<()> {
    let ask = |verbose| target.cri.status(proto::StatusRequest { verbose });
    ensure!(ask(false)?.info.is_empty() && !ask(true)?.info.is_empty());
    Ok(())
}
