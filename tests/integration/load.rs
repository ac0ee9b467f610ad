//! Many calls at once, and calls that hang: whoever is not concerned does not wait.

use crate::harness::cri::Begun;
use crate::harness::hung::Hung;
use crate::harness::machine::{Machine, Need};
use crate::harness::pod::{PATIENT, container, pod};
use crate::harness::scene::{Scene, as_is, bind};
use crate::harness::{Node, Options, Test, cni, eventually, kernel, own, poll};
use anyhow::{Context as _, Result, ensure};
use berth::cri::proto;
use serde_json::json;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

pub(crate) fn tests() -> Vec<Test> {
    const NETWORK: &[Need] = &[Need::PodNetwork];
    const FUSE: &[Need] = &[Need::Fuse];
    vec![
        own("two_hundred_pods_are_run_and_removed_at_once", NETWORK, usual, two_hundred),
        own("questions_do_not_wait_for_a_slow_stop", &[], usual, slow_stop),
        own(
            "questions_and_other_pods_do_not_wait_for_a_slow_plugin",
            NETWORK,
            cni::options,
            slow_run,
        ),
        own("a_hung_host_path_at_a_create_blocks_its_own_pod_alone", FUSE, usual, hung_create),
        own("a_hung_host_path_at_a_start_blocks_its_own_container_alone", FUSE, usual, hung_start),
        own(
            "a_client_that_goes_away_loses_its_answer_and_not_the_work",
            NETWORK,
            cni::options,
            gone,
        ),
    ]
}

fn usual(_: &Machine) -> Options {
    Options::default()
}

/// How long a question may take while others wait: far less than what they wait for.
const PATIENCE: Duration = Duration::from_secs(10);

type Ask<'a> = &'a dyn Fn() -> Result<(), tonic::Status>;

/// Asks everything that must not wait, and answers how long the slowest took.
fn questions(node: &Node) -> Result<Duration> {
    let cri = &node.cri;
    let asked: [(&str, Ask<'_>); 10] = [
        ("Status", &|| cri.status(Default::default()).map(drop)),
        ("ListPodSandbox", &|| cri.list_pod_sandbox(Default::default()).map(drop)),
        ("ListContainers", &|| cri.list_containers(Default::default()).map(drop)),
        ("StreamPodSandboxes", &|| cri.stream_pod_sandboxes(Default::default()).map(drop)),
        ("StreamContainers", &|| cri.stream_containers(Default::default()).map(drop)),
        ("ListContainerStats", &|| cri.list_container_stats(Default::default()).map(drop)),
        ("ListPodSandboxStats", &|| cri.list_pod_sandbox_stats(Default::default()).map(drop)),
        ("ListPodSandboxMetrics", &|| cri.list_pod_sandbox_metrics(Default::default()).map(drop)),
        ("ListImages", &|| cri.list_images(Default::default()).map(drop)),
        ("ImageFsInfo", &|| cri.image_fs_info(Default::default()).map(drop)),
    ];
    let mut slowest = Duration::ZERO;
    for (name, ask) in asked {
        let begun = Instant::now();
        ask().with_context(|| format!("{name} failed"))?;
        let took = begun.elapsed();
        ensure!(took < PATIENCE, "{name} took {took:?}");
        slowest = slowest.max(took);
    }
    Ok(slowest)
}

fn run(node: &Node, config: proto::PodSandboxConfig) -> Begun<proto::RunPodSandboxResponse> {
    let request = proto::RunPodSandboxRequest { config: Some(config), ..Default::default() };
    let mut client = node.cri.runtime();
    node.cri.begin(async move { client.run_pod_sandbox(request).await })
}

fn stop(node: &Node, id: &str, timeout: i64) -> Begun<proto::StopContainerResponse> {
    let request = proto::StopContainerRequest { container_id: id.into(), timeout };
    let mut client = node.cri.runtime();
    node.cri.begin(async move { client.stop_container(request).await })
}

fn two_hundred(node: &mut Node) -> Result<()> {
    const PODS: usize = 200;
    let begun: Vec<_> = (0..PODS).map(|n| run(node, pod(node, &format!("load-{n}")))).collect();
    // The lists answer all the while, and tell only what is finished.
    let mut rounds = 0;
    while begun.iter().any(|call| !call.is_finished()) {
        questions(node)?;
        rounds += 1;
    }
    ensure!(rounds > 0, "they were done before anybody could ask");
    let mut ids = BTreeSet::new();
    for call in begun {
        ids.insert(node.cri.finish(call)?.pod_sandbox_id);
    }
    ensure!(ids.len() == PODS, "{} ids", ids.len());
    let listed = node.cri.list_pod_sandbox(Default::default())?.items;
    ensure!(listed.len() == PODS && listed.iter().all(|s| ids.contains(&s.id)), "the list");
    let mut addresses = BTreeSet::new();
    for id in &ids {
        ensure!(kernel::alive(node.pause_pid(id)?) && kernel::alive(node.shim_pid(id)?), "{id}");
        addresses.insert(node.pod(id)?.network.unwrap_or_default().ip);
    }
    ensure!(addresses.len() == PODS, "{} addresses", addresses.len());
    let removals: Vec<_> = ids
        .iter()
        .map(|id| {
            let request = proto::RemovePodSandboxRequest { pod_sandbox_id: id.clone() };
            let mut client = node.cri.runtime();
            node.cri.begin(async move { client.remove_pod_sandbox(request).await })
        })
        .collect();
    while removals.iter().any(|call| !call.is_finished()) {
        questions(node)?;
    }
    for call in removals {
        node.cri.finish(call)?;
    }
    for id in &ids {
        ensure!(!node.pod_cgroup(id).exists(), "the cgroup of {id} is left");
    }
    Ok(())
}

/// A process that does not heed SIGTERM.
const DEAF: &[&str] = &["sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 1000; done"];

fn slow_stop(node: &mut Node) -> Result<()> {
    let scene = Scene::new(node, "slow-stop")?;
    let made = scene.start("deaf", DEAF, as_is)?;
    made.said("deaf")?;
    let stopping = stop(node, &made.id, 50);
    poll::pause(Duration::from_millis(300));
    questions(node)?;
    let begun = Instant::now();
    ensure!(made.status()?.state() == proto::ContainerState::ContainerRunning, "it has ended");
    node.pod(&scene.pod)?;
    // Neither does the rest of its pod.
    let other = scene.start("other", PATIENT, as_is)?;
    ensure!(node.exec_ok(&made.id, &["echo", "alive"])? == "alive");
    node.stop_container(&other.id, Duration::from_secs(10))?;
    ensure!(begun.elapsed() < PATIENCE * 3, "it took {:?}", begun.elapsed());
    ensure!(!stopping.is_finished(), "the stop was not slow");
    // A later, shorter timeout wins, and both have their answer.
    node.stop_container(&made.id, Duration::ZERO)?;
    node.cri.finish(stopping)?;
    ensure!(made.status()?.exit_code == 137, "{:?}", made.status()?);
    Ok(())
}

/// A plugin that waits in ADD of the pod `slow` for a file `release`.
fn slow_plugin(node: &Node) -> Result<()> {
    let body = "case $CNI_COMMAND$CNI_ARGS in
        ADD*K8S_POD_NAME=slow*)
            touch \"$traces/waits\"
            while [ ! -e \"$traces/release\" ]; do sleep 0.1; done ;;
        esac";
    cni::script(node, "moody", body)?;
    cni::install(node, &json!([{ "type": "moody" }]))
}

fn slow_run(node: &mut Node) -> Result<()> {
    slow_plugin(node)?;
    let config = pod(node, "slow");
    let slow = run(node, config.clone());
    let repeat = run(node, config);
    cni::wait_for(node, "waits")?;
    questions(node)?;
    let listed = node.cri.list_pod_sandbox(Default::default())?.items;
    ensure!(listed.is_empty(), "a pod that is being made is listed: {listed:?}");
    let fast = node.patient_pod("fast").context("another pod")?;
    questions(node)?;
    node.remove_pod(&fast.0)?;
    ensure!(!slow.is_finished() && !repeat.is_finished(), "the plugin did not wait");
    std::fs::write(node.path("traces/release"), "")?;
    let id = node.cri.finish(slow)?.pod_sandbox_id;
    ensure!(node.cri.finish(repeat)?.pod_sandbox_id == id, "a repeat made another pod");
    Ok(())
}

/// What other pods, and other containers of the pod, can do meanwhile.
fn others(node: &Node, beside: &str, bystander: &Scene<'_>) -> Result<()> {
    questions(node)?;
    ensure!(node.exec_ok(beside, &["echo", "alive"])? == "alive");
    let made = bystander.start("meanwhile", PATIENT, as_is)?;
    ensure!(node.exec_ok(&made.id, &["echo", "alive"])? == "alive");
    node.stop_container(&made.id, Duration::from_secs(20))?;
    let (another, _) = node.patient_pod("another")?;
    node.remove_pod(&another)?;
    node.stop_container(beside, Duration::from_secs(20))?;
    Ok(())
}

fn hung_create(node: &mut Node) -> Result<()> {
    let mut hung = Hung::at(&node.volume("hung")?)?;
    let scene = Scene::new(node, "hung")?;
    let beside = scene.start("beside", PATIENT, as_is)?;
    let bystander = Scene::new(node, "bystander")?;
    let mut config = container("stuck", PATIENT);
    config.mounts = vec![bind(&hung.at.join("volume"), "/volume")];
    let request = proto::CreateContainerRequest {
        pod_sandbox_id: scene.pod.clone(),
        config: Some(config.clone()),
        sandbox_config: Some(scene.config.clone()),
    };
    let mut client = node.cri.runtime();
    let stuck = node.cri.begin(async move { client.create_container(request).await });
    poll::pause(Duration::from_millis(300));
    others(node, &beside.id, &bystander)?;
    ensure!(!stuck.is_finished(), "the path did not hang");
    hung.end();
    let error = node.cri.finish(stuck).err().context("a container with a volume of nobody")?;
    ensure!(error.message().contains("volume"), "{error}");
    // The name is free again, and the pod goes on.
    config.mounts.clear();
    node.launch_container(&scene.pod, &scene.config, &config)?;
    Ok(())
}

fn hung_start(node: &mut Node) -> Result<()> {
    let volume = node.volume("hung")?;
    let scene = Scene::new(node, "hung")?;
    let beside = scene.start("beside", PATIENT, as_is)?;
    let bystander = Scene::new(node, "bystander")?;
    let mounts = || vec![bind(&volume.join("inner"), "/volume")];
    let id = scene.create("stuck", PATIENT, |c| c.mounts = mounts())?;
    // The volume hangs from now on.
    let mut hung = Hung::at(&volume)?;
    let request = proto::StartContainerRequest { container_id: id.clone() };
    let mut client = node.cri.runtime();
    let stuck = node.cri.begin(async move { client.start_container(request).await });
    poll::pause(Duration::from_millis(300));
    others(node, &beside.id, &bystander)?;
    // Another container of its own pod starts, too.
    scene.start("second", PATIENT, as_is)?;
    let status = node.container(&id)?;
    let created = status.state() == proto::ContainerState::ContainerCreated;
    ensure!(created && status.started_at == 0, "it has not begun: {status:?}");
    ensure!(!stuck.is_finished(), "the path did not hang");
    hung.end();
    ensure!(node.cri.finish(stuck).is_err(), "a container with a volume of nobody");
    let status = node.container(&id)?;
    ensure!((status.exit_code, status.reason.as_str()) == (128, "StartError"), "{status:?}");
    // The control: it starts where the volume answers.
    drop(hung);
    scene.start("control", PATIENT, |c| c.mounts = mounts())?;
    Ok(())
}

fn gone(node: &mut Node) -> Result<()> {
    slow_plugin(node)?;
    let config = pod(node, "slow");
    let begun = run(node, config.clone());
    cni::wait_for(node, "waits")?;
    begun.abort();
    std::fs::write(node.path("traces/release"), "")?;
    let id = eventually("the pod of nobody is there", || {
        let items = node.cri.list_pod_sandbox(Default::default())?.items;
        Ok(items.first().map(|s| s.id.clone()))
    })?;
    ensure!(kernel::alive(node.pause_pid(&id)?), "it has no pause");
    ensure!(node.run_pod(&config)? == id, "a repeat made another");
    // A stop, too, goes on to its end.
    let deaf = node.launch_container(&id, &config, &container("deaf", DEAF))?;
    let init = node.init_pid(&id, &deaf)?;
    eventually("it is deaf", || {
        let ignored = u64::from_str_radix(&kernel::status_field(init, "SigIgn")?, 16)?;
        Ok((ignored & (1 << 14) != 0).then_some(()))
    })?;
    let begun = stop(node, &deaf, 1);
    poll::pause(Duration::from_millis(200));
    ensure!(kernel::alive(init), "it ended before the client left");
    begun.abort();
    let status = node.wait_exited(&deaf)?;
    ensure!(status.exit_code == 137 && !kernel::alive(init), "{status:?}");
    Ok(())
}
