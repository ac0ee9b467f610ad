//! kill -9 of the daemon at every record write and every shim message of each verb.
//!
//! Each verb is run once to count the kill points it passes, N; then once a point, killed there.
//! After each kill the daemon is started again, the verb is repeated as a client would, what the
//! kernel has is compared with what the verb is for, and the pod is removed: nothing may be left.

use crate::harness::leaks::Baseline;
use crate::harness::machine::Need;
use crate::harness::pod::{PATIENT, container, pod};
use crate::harness::{Node, Options, Test, eventually, kernel, own, poll};
use anyhow::{Context as _, Result, bail, ensure};
use berth::cri::proto::{self, ContainerState, PodSandboxState};
use std::path::PathBuf;
use std::time::Duration;

/// How long a verb whose kill point was not reached may take until it is killed by hand.
const NOT_REACHED: Duration = Duration::from_secs(15);

pub(crate) fn tests() -> Vec<Test> {
    vec![
        own("run_pod_sandbox_survives_every_kill", NEEDS, options, |node| every_point(node, &RUN)),
        own("create_container_survives_every_kill", NEEDS, options, |node| {
            every_point(node, &CREATE)
        }),
        own("start_container_survives_every_kill", NEEDS, options, |node| {
            every_point(node, &START)
        }),
        own("exec_sync_survives_every_kill", NEEDS, options, |node| every_point(node, &EXEC)),
        own("update_resources_survives_every_kill", NEEDS, options, |node| {
            every_point(node, &UPDATE)
        }),
        own("reopen_log_survives_every_kill", NEEDS, options, |node| every_point(node, &REOPEN)),
        own("stop_container_survives_every_kill", NEEDS, options, |node| every_point(node, &STOP)),
        own("remove_container_survives_every_kill", NEEDS, options, |node| {
            every_point(node, &REMOVE)
        }),
        own("stop_pod_sandbox_survives_every_kill", NEEDS, options, |node| {
            every_point(node, &STOP_POD)
        }),
        own("remove_pod_sandbox_survives_every_kill", NEEDS, options, |node| {
            every_point(node, &REMOVE_POD)
        }),
    ]
}

const NEEDS: &[Need] = &[];

fn options(_: &crate::harness::machine::Machine) -> Options {
    Options::default()
}

/// What a verb works on.
#[derive(Default)]
struct Scene {
    pod: String,
    container: String,
    init: i32,
}

/// How far a scene is prepared before the verb.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Nothing,
    Pod,
    Created,
    Running,
    Exited,
    Stopped,
}

struct Verb {
    name: &'static str,
    from: Stage,
    call: fn(&Node, &mut Scene) -> Result<()>,
    /// What must hold after the restart, before anything is repeated.
    found: fn(&Node, &Scene) -> Result<()>,
    /// What must hold after the verb was repeated.
    done: fn(&Node, &Scene) -> Result<()>,
}

const RUN: Verb = Verb {
    name: "RunPodSandbox",
    from: Stage::Nothing,
    call: |node, scene| {
        scene.pod = node.run_pod(&pod(node, "recover"))?;
        Ok(())
    },
    found: |node, _| {
        for item in node.cri.list_pod_sandbox(proto::ListPodSandboxRequest::default())?.items {
            ensure!(item.state() == PodSandboxState::SandboxReady, "a half-made sandbox is listed");
        }
        Ok(())
    },
    done: |node, scene| {
        let all = node.cri.list_pod_sandbox(proto::ListPodSandboxRequest::default())?.items;
        ensure!(all.len() == 1 && all[0].id == scene.pod, "one pod expected: {all:?}");
        node.pause_pid(&scene.pod)?;
        node.shim_pid(&scene.pod)?;
        let shims = kernel::names_in(&node.run_dir().join("sandboxes"));
        ensure!(shims == [scene.pod.clone()], "one sandbox folder expected: {shims:?}");
        Ok(())
    },
};

const CREATE: Verb = Verb {
    name: "CreateContainer",
    from: Stage::Pod,
    call: |node, scene| {
        scene.container =
            node.create(&scene.pod, &pod(node, "recover"), &container("main", PATIENT))?;
        Ok(())
    },
    found: |node, scene| {
        ready(node, scene)?;
        for c in containers(node)? {
            ensure!(c.state() == ContainerState::ContainerCreated, "half-made container: {c:?}");
        }
        Ok(())
    },
    done: |node, scene| {
        let all = containers(node)?;
        ensure!(all.len() == 1 && all[0].id == scene.container, "one container expected: {all:?}");
        let layers = kernel::names_in(&node.state_dir().join("snapshots"));
        ensure!(layers == [scene.container.clone()], "one writable layer expected: {layers:?}");
        node.start_container(&scene.container).context("start what was made")?;
        running(node, scene)
    },
};

const START: Verb = Verb {
    name: "StartContainer",
    from: Stage::Created,
    call: |node, scene| match node.start_container(&scene.container) {
        // A repeat of a start that took effect says that it runs.
        Err(status) if status.code() == tonic::Code::FailedPrecondition => running(node, scene),
        other => Ok(other?),
    },
    found: |node, scene| {
        ready(node, scene)?;
        let state = node.container(&scene.container)?.state();
        let leaf = node.container_cgroup(&scene.pod, &scene.container);
        let processes = kernel::pids_in(&leaf).unwrap_or_default().len();
        match state {
            ContainerState::ContainerCreated => {
                ensure!(processes == 0, "CREATED with {processes} processes");
            }
            ContainerState::ContainerRunning => ensure!(processes > 0, "RUNNING with no process"),
            other => bail!("a start that was cut off left {other:?}"),
        }
        Ok(())
    },
    done: running,
};

const EXEC: Verb = Verb {
    name: "ExecSync",
    from: Stage::Running,
    call: |node, scene| {
        ensure!(node.exec_ok(&scene.container, &["echo", "out"])? == "out");
        Ok(())
    },
    found: same_process,
    done: same_process,
};

const UPDATE: Verb = Verb {
    name: "UpdateContainerResources",
    from: Stage::Running,
    call: |node, scene| {
        node.cri.update_container_resources(proto::UpdateContainerResourcesRequest {
            container_id: scene.container.clone(),
            linux: Some(proto::LinuxContainerResources { cpu_shares: 512, ..Default::default() }),
            ..Default::default()
        })?;
        Ok(())
    },
    found: same_process,
    done: |node, scene| {
        same_process(node, scene)?;
        let resources = node.container(&scene.container)?.resources.unwrap_or_default();
        ensure!(resources.linux.unwrap_or_default().cpu_shares == 512, "the update is not told");
        Ok(())
    },
};

const REOPEN: Verb = Verb {
    name: "ReopenContainerLog",
    from: Stage::Running,
    call: |node, scene| {
        let id = scene.container.clone();
        node.cri
            .reopen_container_log(proto::ReopenContainerLogRequest { container_id: id })
            .context("reopen")?;
        Ok(())
    },
    found: same_process,
    done: same_process,
};

const STOP: Verb = Verb {
    name: "StopContainer",
    from: Stage::Running,
    call: |node, scene| Ok(node.stop_container(&scene.container, Duration::from_secs(50))?),
    found: ready,
    done: |node, scene| {
        ready(node, scene)?;
        exited_with_zero(node, scene)
    },
};

const REMOVE: Verb = Verb {
    name: "RemoveContainer",
    from: Stage::Exited,
    call: |node, scene| {
        let id = scene.container.clone();
        node.cri.remove_container(proto::RemoveContainerRequest { container_id: id })?;
        Ok(())
    },
    found: ready,
    done: |node, scene| {
        ready(node, scene)?;
        ensure!(containers(node)?.is_empty(), "a removed container is listed");
        let layers = kernel::names_in(&node.state_dir().join("snapshots"));
        ensure!(layers.is_empty(), "writable layers left: {layers:?}");
        Ok(())
    },
};

const STOP_POD: Verb = Verb {
    name: "StopPodSandbox",
    from: Stage::Running,
    call: |node, scene| Ok(node.stop_pod(&scene.pod)?),
    found: |_, _| Ok(()),
    done: |node, scene| {
        ensure!(node.pod(&scene.pod)?.state() == PodSandboxState::SandboxNotready, "still READY");
        let status = node.container(&scene.container)?;
        ensure!(status.state() == ContainerState::ContainerExited, "{status:?}");
        ensure!(status.exit_code == 137, "killed at once: {}", status.exit_code);
        ensure!(!node.pod_cgroup(&scene.pod).exists(), "the pod's cgroup is left");
        ensure!(!kernel::alive(scene.init), "the container's process is left");
        Ok(())
    },
};

const REMOVE_POD: Verb = Verb {
    name: "RemovePodSandbox",
    from: Stage::Stopped,
    call: |node, scene| {
        let id = scene.pod.clone();
        node.cri.remove_pod_sandbox(proto::RemovePodSandboxRequest { pod_sandbox_id: id })?;
        Ok(())
    },
    found: |_, _| Ok(()),
    done: |node, _| {
        let all = node.cri.list_pod_sandbox(proto::ListPodSandboxRequest::default())?.items;
        ensure!(all.is_empty() && containers(node)?.is_empty(), "something is listed: {all:?}");
        Ok(())
    },
};

/// Counts the verb's points, then kills the daemon at each of them.
#[expect(clippy::print_stdout, reason = "how many points there are belongs into the test's output")]
fn every_point(node: &mut Node, verb: &Verb) -> Result<()> {
    let mut scene = prepare(node, verb.from)?;
    plan(node, Some(0))?;
    (verb.call)(node, &mut scene).context("the verb without a kill")?;
    plan(node, None)?;
    let points = log_lines(node)?;
    (verb.done)(node, &scene).context("after the verb without a kill")?;
    node.remove_all()?;
    ensure!(!points.is_empty(), "the verb passes no kill point: is the feature on?");
    println!("{}: N = {} kill points", verb.name, points.len());
    for number in 1..=points.len() {
        let name = points.get(number - 1).map_or("", String::as_str);
        one_point(node, verb, number).with_context(|| format!("{} killed at {name}", verb.name))?;
    }
    Ok(())
}

fn one_point(node: &mut Node, verb: &Verb, number: usize) -> Result<()> {
    let before = Baseline::take(node)?;
    let mut scene = prepare(node, verb.from)?;
    plan(node, Some(number))?;
    // It answers with an error when the daemon dies below it.
    let answer = (verb.call)(node, &mut scene);
    let killed = if answer.is_ok() {
        // The point may lie behind the answer.
        poll::within(NOT_REACHED.min(Duration::from_secs(2)), "killed", || node.exited()).is_ok()
    } else {
        poll::within(NOT_REACHED, "killed", || node.exited()).is_ok()
    };
    plan(node, None)?;
    if !killed {
        // Points are passed by tasks side by side, so that their number may differ by a few.
        node.kill()?;
    }
    node.launch().context("start after the kill")?;
    (verb.found)(node, &scene).context("as found after the restart")?;
    (verb.call)(node, &mut scene).context("the verb repeated after the restart")?;
    (verb.done)(node, &scene).context("after the repeated verb")?;
    node.remove_all().context("remove the pod")?;
    before.compare(node)
}

fn prepare(node: &Node, stage: Stage) -> Result<Scene> {
    let mut scene = Scene::default();
    let config = pod(node, "recover");
    if stage >= Stage::Pod {
        scene.pod = node.run_pod(&config)?;
    }
    if stage >= Stage::Created {
        scene.container = node.create(&scene.pod, &config, &container("main", PATIENT))?;
    }
    if stage >= Stage::Running {
        node.start_container(&scene.container)?;
        node.wait_patient(&scene.pod, &scene.container)?;
        scene.init = node.init_pid(&scene.pod, &scene.container)?;
    }
    if stage >= Stage::Exited {
        node.stop_container(&scene.container, Duration::from_secs(50))?;
    }
    if stage >= Stage::Stopped {
        node.stop_pod(&scene.pod)?;
    }
    Ok(scene)
}

fn plan_file(node: &Node) -> PathBuf {
    node.path("fail-plan")
}

/// Has points count, and one of them kill; or not.
fn plan(node: &Node, number: Option<usize>) -> Result<()> {
    let file = plan_file(node);
    match number {
        Some(number) => {
            std::fs::remove_file(node.path("fail-plan.log")).ok();
            std::fs::write(file, number.to_string())?;
        }
        None => std::fs::remove_file(file)?,
    }
    Ok(())
}

fn log_lines(node: &Node) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(node.path("fail-plan.log")).unwrap_or_default();
    Ok(text.lines().map(str::to_owned).collect())
}

fn containers(node: &Node) -> Result<Vec<proto::Container>> {
    Ok(node.cri.list_containers(proto::ListContainersRequest::default())?.containers)
}

fn ready(node: &Node, scene: &Scene) -> Result<()> {
    ensure!(node.pod(&scene.pod)?.state() == PodSandboxState::SandboxReady, "the pod is not READY");
    Ok(())
}

/// RUNNING, and the kernel has a process for it that answers.
fn running(node: &Node, scene: &Scene) -> Result<()> {
    ready(node, scene)?;
    let status = node.container(&scene.container)?;
    ensure!(status.state() == ContainerState::ContainerRunning, "not RUNNING: {status:?}");
    node.init_pid(&scene.pod, &scene.container)?;
    ensure!(node.exec_ok(&scene.container, &["echo", "alive"])? == "alive");
    Ok(())
}

/// The container was not touched by the death of the daemon.
fn same_process(node: &Node, scene: &Scene) -> Result<()> {
    running(node, scene)?;
    let init = node.init_pid(&scene.pod, &scene.container)?;
    ensure!(init == scene.init, "process {init} instead of {}", scene.init);
    Ok(())
}

fn exited_with_zero(node: &Node, scene: &Scene) -> Result<()> {
    eventually("the exit is told", || {
        let status = node.container(&scene.container)?;
        ensure!(status.state() == ContainerState::ContainerExited, "{status:?}");
        ensure!(status.exit_code == 0, "it heeds SIGTERM and ends with 0: {status:?}");
        Ok(Some(()))
    })
}
