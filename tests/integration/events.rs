//! GetContainerEvents: what is told, in which order, and with what.

use crate::harness::cri::{Cri, Events};
use crate::harness::pod::{PATIENT, container, pod};
use crate::harness::scene::{Scene, as_is};
use crate::harness::{Node, Options, Test, kernel, own, shared};
use anyhow::{Context as _, Result, ensure};
use berth::cri::proto::{self, ContainerEventResponse, ContainerState, PodSandboxState};
use std::time::Duration;
use tonic::Code;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        shared("a_life_is_told_in_its_order_with_the_states_of_each_moment", &[], life),
        shared("events_of_many_pods_have_one_order_and_times_that_never_go_back", &[], many),
        shared("a_failed_start_and_a_removed_running_container_are_told", &[], failures),
        own("a_reader_that_lags_too_far_is_told_so", &[], |_| Options::default(), lags),
        own("the_stream_ends_with_the_daemon", &[], |_| Options::default(), ends),
    ]
}

/// The event's kind in one word, and whose it is.
fn word(event: &ContainerEventResponse) -> String {
    event.container_event_type().as_str_name().replace("CONTAINER_", "").replace("_EVENT", "")
}

fn expect(events: &mut Events<'_>, word_wanted: &str, id: &str) -> Result<ContainerEventResponse> {
    let event = events.next()?.context("the stream has ended")?;
    let (found, whose) = (word(&event), event.container_id.as_str());
    ensure!(found == word_wanted && whose == id, "{found} of {whose}, not {word_wanted} of {id}");
    let pod = event.pod_sandbox_status.as_ref().context("no status of the pod")?;
    ensure!(pod.metadata.is_some() && pod.created_at > 0, "{pod:?}");
    Ok(event)
}

fn pod_state(event: &ContainerEventResponse) -> PodSandboxState {
    event.pod_sandbox_status.as_ref().map_or(PodSandboxState::SandboxNotready, |s| s.state())
}

/// The state of the only container that the event tells of.
fn state(event: &ContainerEventResponse) -> Result<ContainerState> {
    let statuses = &event.containers_statuses;
    ensure!(statuses.len() == 1, "{} containers: {statuses:?}", statuses.len());
    Ok(statuses[0].state())
}

fn life(node: &Node) -> Result<()> {
    let mut events = node.cri.events()?;
    let scene = Scene::new(node, "told")?;
    for kind in ["CREATED", "STARTED"] {
        let event = expect(&mut events, kind, &scene.pod)?;
        ensure!(pod_state(&event) == PodSandboxState::SandboxReady, "{event:?}");
        ensure!(event.containers_statuses.is_empty(), "{event:?}");
    }
    let made = scene.start("main", &["sh", "-c", "exit 3"], as_is)?;
    let status = made.end()?;
    // The container has ended by now, and each event tells of its own moment.
    let created = expect(&mut events, "CREATED", &made.id)?;
    ensure!(state(&created)? == ContainerState::ContainerCreated, "{created:?}");
    let started = expect(&mut events, "STARTED", &made.id)?;
    ensure!(state(&started)? == ContainerState::ContainerRunning, "{started:?}");
    let stopped = expect(&mut events, "STOPPED", &made.id)?;
    ensure!(state(&stopped)? == ContainerState::ContainerExited, "{stopped:?}");
    ensure!(stopped.containers_statuses[0] == status, "another end than the status tells");
    ensure!(status.exit_code == 3 && !made.cgroup().exists(), "STOPPED with a cgroup");
    let request = proto::RemoveContainerRequest { container_id: made.id.clone() };
    node.cri.remove_container(request)?;
    let deleted = expect(&mut events, "DELETED", &made.id)?;
    ensure!(deleted.containers_statuses.is_empty(), "{deleted:?}");
    ensure!(pod_state(&deleted) == PodSandboxState::SandboxReady, "{deleted:?}");
    let pause = node.pause_pid(&scene.pod)?;
    node.stop_pod(&scene.pod)?;
    let stopped = expect(&mut events, "STOPPED", &scene.pod)?;
    ensure!(pod_state(&stopped) == PodSandboxState::SandboxNotready, "{stopped:?}");
    ensure!(!kernel::alive(pause), "STOPPED with a pause");
    node.remove_pod(&scene.pod)?;
    let deleted = expect(&mut events, "DELETED", &scene.pod)?;
    let uid = deleted.pod_sandbox_status.and_then(|s| s.metadata).map(|m| m.uid);
    ensure!(uid.as_deref() == Some("uid-told"), "{uid:?}");
    Ok(())
}

fn many(node: &Node) -> Result<()> {
    const PODS: usize = 8;
    let mut events = node.cri.events()?;
    let mut pods = Vec::new();
    for number in 0..PODS {
        let config = pod(node, &format!("many-{number}"));
        let mut client = node.cri.runtime();
        let request = proto::RunPodSandboxRequest {
            config: Some(config.clone()),
            runtime_handler: String::new(),
        };
        pods.push((config, node.cri.begin(async move { client.run_pod_sandbox(request).await })));
    }
    let mut ids = Vec::new();
    for (config, begun) in pods {
        let id = node.cri.finish(begun)?.pod_sandbox_id;
        node.launch_container(&id, &config, &container("main", PATIENT))?;
        ids.push(id);
    }
    let stops: Vec<_> = ids
        .iter()
        .map(|id| {
            let mut client = node.cri.runtime();
            let request = proto::RemovePodSandboxRequest { pod_sandbox_id: id.clone() };
            node.cri.begin(async move { client.remove_pod_sandbox(request).await })
        })
        .collect();
    for stop in stops {
        node.cri.finish(stop)?;
    }
    let mut told = Vec::new();
    for _ in 0..PODS * 8 {
        told.push(events.next()?.context("the stream has ended")?);
    }
    let times: Vec<i64> = told.iter().map(|e| e.created_at).collect();
    ensure!(times.is_sorted(), "times go back: {times:?}");
    for id in &ids {
        let of_pod = told
            .iter()
            .filter(|e| e.pod_sandbox_status.as_ref().is_some_and(|status| status.id == *id));
        let words: Vec<String> = of_pod
            .map(|e| format!("{}{}", word(e), if e.container_id == *id { " pod" } else { "" }))
            .collect();
        let expected = [
            "CREATED pod",
            "STARTED pod",
            "CREATED",
            "STARTED",
            "STOPPED",
            "STOPPED pod",
            "DELETED",
            "DELETED pod",
        ];
        ensure!(words == expected, "{words:?}");
    }
    Ok(())
}

fn failures(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "failures")?;
    let mut events = node.cri.events()?;
    let id = scene.create("broken", &["/no/such/program"], as_is)?;
    ensure!(node.start_container(&id).is_err(), "it started");
    expect(&mut events, "CREATED", &id)?;
    let stopped = expect(&mut events, "STOPPED", &id)?;
    ensure!(stopped.containers_statuses[0].reason == "StartError", "{stopped:?}");
    let made = scene.start("running", PATIENT, as_is)?;
    let request = proto::RemoveContainerRequest { container_id: made.id.clone() };
    node.cri.remove_container(request)?;
    for kind in ["CREATED", "STARTED", "STOPPED", "DELETED"] {
        let event = expect(&mut events, kind, &made.id)?;
        // The other container of the pod is told, too.
        let others = event.containers_statuses.iter().filter(|s| s.id == id).count();
        ensure!(others == 1, "{event:?}");
    }
    Ok(())
}

/// Two readers of as many events as one may lag by: the one that reads gets all of them, and the
/// other is told that it missed some. Each event is larger than what is under way to a reader.
fn lags(node: &mut Node) -> Result<()> {
    const ROUNDS: usize = 6;
    node.stop()?;
    std::fs::write(node.path("fail-plan.backlog"), "8")?;
    node.launch()?;
    let slow = Cri::new(&node.socket())?;
    let mut stalled = slow.events()?;
    let mut reads = node.cri.events()?;
    let scene = Scene::with(node, "large", |config| {
        config.annotations = [("large".to_owned(), "x".repeat(1 << 20))].into();
    })?;
    for kind in ["CREATED", "STARTED"] {
        expect(&mut reads, kind, &scene.pod)?;
    }
    for round in 0..ROUNDS {
        let id = scene.create(&format!("number-{round}"), PATIENT, as_is)?;
        node.cri.remove_container(proto::RemoveContainerRequest { container_id: id.clone() })?;
        for kind in ["CREATED", "DELETED"] {
            expect(&mut reads, kind, &id).with_context(|| format!("round {round}"))?;
        }
    }
    // What was under way comes first, and nothing after the news.
    let mut told = 0;
    let lost = loop {
        match stalled.next() {
            Ok(Some(_)) => told += 1,
            Ok(None) => anyhow::bail!("the end without a word after {told} events"),
            Err(status) => break status,
        }
        ensure!(told < 2 + 2 * ROUNDS, "it got all of them");
    };
    ensure!(lost.code() == Code::DataLoss, "{lost}");
    let missed = format!("{} events were missed", 2 + 2 * ROUNDS - told - 8);
    ensure!(lost.message().starts_with(&missed), "{missed}, after {told}: {lost}");
    // Whoever asks again is told what comes.
    let mut again = slow.events()?;
    node.stop_pod(&scene.pod)?;
    expect(&mut again, "STOPPED", &scene.pod)?;
    Ok(())
}

fn ends(node: &mut Node) -> Result<()> {
    let pid = node.pid()?;
    {
        let mut events = node.cri.events()?;
        let stop = nix::sys::signal::Signal::SIGTERM;
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), stop)?;
        ensure!(events.next()?.is_none(), "an event of nobody");
    }
    crate::harness::eventually("the daemon ends", || node.exited())?;
    node.launch()?;
    let mut events = node.cri.events()?;
    let id = node.run_pod(&pod(node, "after"))?;
    expect(&mut events, "CREATED", &id)?;
    // A reader that comes later is told what comes later.
    let mut late = node.cri.events()?;
    node.stop_pod(&id)?;
    expect(&mut late, "STOPPED", &id)?;
    crate::harness::poll::pause(Duration::from_millis(10));
    expect(&mut events, "STARTED", &id)?;
    expect(&mut events, "STOPPED", &id)?;
    Ok(())
}
