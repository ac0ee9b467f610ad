//! Streamed lists: what the lists say, in several messages.

use crate::harness::scene::{Scene, as_is};
use crate::harness::{Node, Test, kernel, pod, shared};
use anyhow::{Context as _, Result, ensure};
use berth::cri::proto;
use std::collections::BTreeMap;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        shared("streams_tell_each_sandbox_and_container_once", &[], objects),
        shared("stream_filters_are_those_of_lists", &[], filters),
        shared("a_long_list_is_several_messages_that_any_client_takes", &[], long),
        shared("streamed_figures_are_the_kernels", &[], figures),
        shared("streamed_images_are_the_listed_ones", &[], images),
    ]
}

/// What a client without a limit of its own takes in one message.
const SMALLEST_LIMIT: usize = 4 << 20;

fn sleeper(scene: &Scene<'_>, name: &str) -> Result<String> {
    Ok(scene.start(name, pod::PATIENT, as_is)?.id)
}

fn streamed_sandboxes(
    node: &Node,
    filter: Option<proto::PodSandboxFilter>,
) -> Result<Vec<proto::PodSandbox>> {
    let messages = node.cri.stream_pod_sandboxes(proto::StreamPodSandboxesRequest { filter })?;
    ensure!(messages.iter().all(|m| !m.pod_sandboxes.is_empty()), "an empty message");
    Ok(messages.into_iter().flat_map(|m| m.pod_sandboxes).collect())
}

fn streamed_containers(
    node: &Node,
    filter: Option<proto::ContainerFilter>,
) -> Result<Vec<proto::Container>> {
    let messages = node.cri.stream_containers(proto::StreamContainersRequest { filter })?;
    ensure!(messages.iter().all(|m| !m.containers.is_empty()), "an empty message");
    Ok(messages.into_iter().flat_map(|m| m.containers).collect())
}

fn objects(node: &Node) -> Result<()> {
    ensure!(streamed_sandboxes(node, None)?.is_empty(), "sandboxes of nobody");
    ensure!(streamed_containers(node, None)?.is_empty(), "containers of nobody");
    let mut pods = Vec::new();
    let mut made = Vec::new();
    for name in ["one", "two", "three"] {
        let scene = Scene::new(node, &format!("streamed-{name}"))?;
        made.push(sleeper(&scene, "main")?);
        made.push(sleeper(&scene, "side")?);
        pods.push(scene.pod);
    }
    // By the kernel: the cgroups of pods, and the leaves in them.
    let mut groups = kernel::names_in(&node.machine.cgroup_root.join("berth"));
    groups.retain(|name| pods.contains(name));
    let mut told: Vec<String> = streamed_sandboxes(node, None)?.into_iter().map(|s| s.id).collect();
    told.sort();
    ensure!(told == groups && told.len() == 3, "{told:?} are told, {groups:?} are there");
    let mut told: Vec<String> =
        streamed_containers(node, None)?.into_iter().map(|c| c.id).collect();
    told.sort();
    made.sort();
    ensure!(told == made, "{told:?} are told, {made:?} were made");
    for container in streamed_containers(node, None)? {
        let group = node.container_cgroup(&container.pod_sandbox_id, &container.id);
        ensure!(!kernel::pids_in(&group)?.is_empty(), "{} has no process", container.id);
    }
    // Word by word what the lists say.
    let listed = node.cri.list_pod_sandbox(proto::ListPodSandboxRequest::default())?.items;
    ensure!(streamed_sandboxes(node, None)? == listed);
    let listed = node.cri.list_containers(proto::ListContainersRequest::default())?.containers;
    ensure!(streamed_containers(node, None)? == listed);
    Ok(())
}

fn filters(node: &Node) -> Result<()> {
    let labels = || BTreeMap::from([("app".to_owned(), "streamed".to_owned())]);
    let scene = Scene::with(node, "filtered", |c| c.labels = labels())?;
    let other = Scene::new(node, "unfiltered")?;
    let id = sleeper(&scene, "main")?;
    let gone = scene.start("ended", &["true"], as_is)?;
    gone.end()?;
    sleeper(&other, "main")?;
    let running =
        Some(proto::ContainerStateValue { state: proto::ContainerState::ContainerRunning.into() });
    let filter = proto::ContainerFilter {
        pod_sandbox_id: scene.pod.clone(),
        state: running,
        ..Default::default()
    };
    let told = streamed_containers(node, Some(filter.clone()))?;
    ensure!(told.len() == 1 && told[0].id == id, "{told:?}");
    let everyone = proto::ContainerFilter { pod_sandbox_id: String::new(), ..filter };
    ensure!(streamed_containers(node, Some(everyone))?.len() == 2, "the control");
    let filter = proto::PodSandboxFilter { label_selector: labels(), ..Default::default() };
    let told = streamed_sandboxes(node, Some(filter.clone()))?;
    ensure!(told.len() == 1 && told[0].id == scene.pod, "{told:?}");
    let not_ready = proto::PodSandboxState::SandboxNotready.into();
    let state = Some(proto::PodSandboxStateValue { state: not_ready });
    let none = proto::PodSandboxFilter { state, ..filter };
    ensure!(streamed_sandboxes(node, Some(none))?.is_empty(), "it is ready");
    // A value that does not exist is refused before the first message.
    let odd = proto::ContainerFilter {
        state: Some(proto::ContainerStateValue { state: 77 }),
        ..Default::default()
    };
    let request = proto::StreamContainersRequest { filter: Some(odd) };
    let error = node.cri.stream_containers(request).err().context("a state of 77")?;
    ensure!(error.code() == tonic::Code::InvalidArgument, "{error}");
    Ok(())
}

fn long(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "long")?;
    let text = "x".repeat(200 << 10);
    for number in 0..24 {
        scene.create(&format!("c{number}"), &["true"], |c| {
            c.annotations.insert("text".into(), text.clone());
        })?;
    }
    let messages = node.cri.stream_containers(proto::StreamContainersRequest { filter: None })?;
    ensure!(messages.len() > 1, "one message of all");
    for message in &messages {
        let bytes = prost::Message::encoded_len(message);
        ensure!(bytes < SMALLEST_LIMIT, "a message of {bytes} bytes");
    }
    let all: Vec<_> = messages.into_iter().flat_map(|m| m.containers).collect();
    let bytes: usize = all.iter().map(prost::Message::encoded_len).sum();
    ensure!(all.len() == 24 && bytes > SMALLEST_LIMIT, "{} containers, {bytes} bytes", all.len());
    Ok(())
}

fn figures(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "figures")?;
    let script = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo ready; exec sleep 100000";
    let made = scene.script("main", script, as_is)?;
    made.said("ready")?;
    let created = scene.create("created", &["true"], as_is)?;
    let stat = made.cgroup().join("cpu.stat");
    let pod_stat = node.pod_cgroup(&scene.pod).join("cpu.stat");
    let usage = |file| kernel::counter(file, "usage_usec").map(|usec| usec * 1000);
    let value = |cpu: Option<proto::CpuUsage>| {
        cpu.and_then(|c| c.usage_core_nano_seconds).map(|v| v.value).context("no CPU time")
    };

    let before = usage(&stat)?;
    let request = proto::StreamContainerStatsRequest::default();
    let messages = node.cri.stream_container_stats(request)?;
    let after = usage(&stat)?;
    let all: Vec<_> = messages.into_iter().flat_map(|m| m.container_stats).collect();
    let of = |id: &str| {
        let same = |s: &&proto::ContainerStats| s.attributes.as_ref().is_some_and(|a| a.id == id);
        all.iter().find(same).with_context(|| format!("nothing of {id}"))
    };
    let cpu = value(of(&made.id)?.cpu)?;
    ensure!((before..=after).contains(&cpu), "{cpu} not in {before}..{after}");
    ensure!(of(&created)?.cpu.is_none() && all.len() == 2, "{all:?}");

    let before = usage(&pod_stat)?;
    let request = proto::StreamPodSandboxStatsRequest::default();
    let messages = node.cri.stream_pod_sandbox_stats(request)?;
    let after = usage(&pod_stat)?;
    let all: Vec<_> = messages.into_iter().flat_map(|m| m.pod_sandbox_stats).collect();
    ensure!(all.len() == 1, "{all:?}");
    let linux = all[0].linux.as_ref().context("nothing of Linux")?;
    let cpu = value(linux.cpu)?;
    ensure!((before..=after).contains(&cpu), "{cpu} of the pod not in {before}..{after}");
    ensure!(linux.containers.len() == 1, "{:?}", linux.containers);
    let listed = node.cri.list_pod_sandbox_stats(Default::default())?.stats;
    ensure!(listed.len() == 1 && listed[0].attributes == all[0].attributes, "{listed:?}");
    // A sandbox that is not ready has none.
    node.stop_pod(&scene.pod)?;
    ensure!(node.cri.stream_pod_sandbox_stats(Default::default())?.is_empty(), "of a stopped pod");
    Ok(())
}

fn images(node: &Node) -> Result<()> {
    let listed = node.cri.list_images(Default::default())?.images;
    ensure!(!listed.is_empty(), "no image");
    let messages = node.cri.stream_images(Default::default())?;
    let told: Vec<_> = messages.into_iter().flat_map(|m| m.images).collect();
    ensure!(told == listed, "{told:?} are told, {listed:?} are listed");
    let named = |image: &str| proto::StreamImagesRequest {
        filter: Some(proto::ImageFilter {
            image: Some(proto::ImageSpec { image: image.into(), ..Default::default() }),
        }),
    };
    let messages = node.cri.stream_images(named(crate::harness::image::BUSYBOX))?;
    ensure!(messages.len() == 1 && messages[0].images.len() == 1, "{messages:?}");
    ensure!(node.cri.stream_images(named("nobody/has-it:1"))?.is_empty(), "an image of nobody");
    Ok(())
}
