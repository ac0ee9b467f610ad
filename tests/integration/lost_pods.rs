//! The death of what keeps a pod: its pause, its shim. The pod is lost with it and says so, nothing of
//! it runs on, it can be stopped and removed, and no other pod is touched.

use crate::harness::machine::Machine;
use crate::harness::pod::{PATIENT, container};
use crate::harness::scene::{Made, Scene, as_is, in_shared_pids, shared_pids};
use crate::harness::{Node, Options, Test, eventually, kernel, own, shared};
use anyhow::{Context as _, Result, ensure};
use berth::cri::proto::{self, ContainerEventType, ContainerState, PodSandboxState};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tonic::Code;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        shared("a_pod_whose_pause_is_killed_is_lost", &[], pause),
        shared("a_pod_whose_shim_is_killed_is_lost", &[], shim),
        shared("a_stop_ends_when_the_shim_is_killed_below_it", &[], stop),
        shared("a_pods_stop_ends_when_the_shim_is_killed_below_it", &[], pod_stop),
        own("a_shim_that_is_killed_without_a_daemon_is_missed", &[], options, nobody),
        own("a_pause_that_is_killed_without_a_daemon_is_missed", &[], options, nobodys_pause),
    ]
}

fn options(_: &Machine) -> Options {
    Options::default()
}

/// What is told of a pod without its shim, and without its pause.
const NO_SHIM: &str = "its shim ended without being asked to";
const NO_PAUSE: &str = "pause ended without being asked to";
/// Does not end by SIGTERM.
const DEAF: &str = "trap 'echo told' TERM; echo ready; while :; do sleep 0.05; done";
/// How a container ended, as it is told.
type Ended = (i32, &'static str);
const UNSEEN: Ended = (255, "Unknown");
const KILLED: Ended = (137, "Error");

fn sigkill(pid: i32) -> Result<()> {
    kill(Pid::from_raw(pid), Signal::SIGKILL).with_context(|| format!("kill {pid}"))
}

/// A pod, by the pids that the kernel has for it.
struct Kept {
    pod: String,
    container: String,
    config: proto::PodSandboxConfig,
    pause: i32,
    shim: i32,
    init: i32,
}

impl Kept {
    fn of(scene: &Scene<'_>, made: &Made<'_>) -> Result<Self> {
        let (node, pod) = (scene.node, scene.pod.clone());
        let (pause, shim) = (node.pause_pid(&pod)?, node.shim_pid(&pod)?);
        let (container, config) = (made.id.clone(), scene.config.clone());
        Ok(Self { pod, container, config, pause, shim, init: made.init()? })
    }

    fn patient(node: &Node, name: &str) -> Result<Self> {
        let scene = Scene::new(node, name)?;
        Self::of(&scene, &scene.start("main", PATIENT, as_is)?)
    }

    /// Nothing has happened to it.
    fn untouched(&self, node: &Node) -> Result<()> {
        ensure!(node.pod(&self.pod)?.state() == PodSandboxState::SandboxReady, "it is NOTREADY");
        let status = node.container(&self.container)?;
        ensure!(status.state() == ContainerState::ContainerRunning, "{status:?}");
        for pid in [self.pause, self.shim, self.init] {
            ensure!(kernel::alive(pid), "{pid} is dead");
        }
        ensure!(node.exec_ok(&self.container, &["echo", "here"])? == "here");
        Ok(())
    }

    /// NOTREADY for this reason, and its container ended so.
    fn lost(&self, node: &Node, why: &str, ended: Ended) -> Result<()> {
        eventually("the pod is told to be lost", || {
            let state = node.pod(&self.pod)?.state();
            Ok((state == PodSandboxState::SandboxNotready).then_some(()))
        })?;
        let request =
            proto::PodSandboxStatusRequest { pod_sandbox_id: self.pod.clone(), verbose: true };
        let info = node.cri.pod_sandbox_status(request)?.info;
        ensure!(info["info"].contains(why), "{why:?} is not in {info:?}");
        // By then its containers' ends are told, and true.
        let status = node.container(&self.container)?;
        ensure!(status.state() == ContainerState::ContainerExited, "{status:?}");
        ensure!((status.exit_code, status.reason.as_str()) == ended, "{status:?}");
        ensure!(status.finished_at >= status.started_at && status.started_at > 0, "{status:?}");
        ensure!((ended != UNSEEN) || status.message.contains(why), "{status:?}");
        self.dead()
    }

    /// Nothing of it runs. A process has left its cgroup a moment before it is dead.
    fn dead(&self) -> Result<()> {
        for (what, pid) in [("pause", self.pause), ("container", self.init), ("shim", self.shim)] {
            eventually(&format!("the {what} ends"), || Ok((!kernel::alive(pid)).then_some(())))?;
        }
        Ok(())
    }

    /// What needs a READY pod is refused.
    fn refuses(&self, node: &Node) -> Result<()> {
        let refusals = [
            ("exec", node.exec(&self.container, &["true"], 0).err()),
            ("create", node.create(&self.pod, &self.config, &container("late", PATIENT)).err()),
        ];
        for (what, status) in refusals {
            let status = status.with_context(|| format!("{what} in a lost pod"))?;
            ensure!(status.code() == Code::FailedPrecondition, "{what}: {status}");
        }
        let again = node.run_pod(&self.config).err().context("a lost pod is run again")?;
        ensure!(again.code() == Code::AlreadyExists, "{again}");
        Ok(())
    }

    /// It stops, twice; it is removed, and its name is free.
    fn goes(&self, node: &Node) -> Result<()> {
        for round in ["first", "second"] {
            node.stop_pod(&self.pod).with_context(|| format!("the {round} stop"))?;
            ensure!(!node.pod_cgroup(&self.pod).exists(), "after the {round} stop: its cgroup");
            ensure!(node.shim_pid(&self.pod).is_err(), "after the {round} stop: its shim's cgroup");
        }
        node.remove_pod(&self.pod)?;
        let gone = node.pod(&self.pod).is_err() && node.container(&self.container).is_err();
        ensure!(gone, "it is removed, and told");
        let next = node.run_pod(&self.config).context("its name is not free")?;
        ensure!(next != self.pod, "the removed one");
        Ok(())
    }
}

fn pause(node: &Node) -> Result<()> {
    let control = Kept::patient(node, "control")?;
    let own = Kept::patient(node, "pause")?;
    sigkill(own.pause)?;
    own.lost(node, NO_PAUSE, KILLED)?;
    own.refuses(node)?;
    // Where pause is the first of the pod's pid namespace, the kernel ends the rest before anybody else.
    let scene = Scene::with(node, "pause-of-pids", shared_pids)?;
    let common = Kept::of(&scene, &scene.start("main", PATIENT, in_shared_pids)?)?;
    sigkill(common.pause)?;
    common.lost(node, NO_PAUSE, KILLED)?;
    control.untouched(node)?;
    for lost in [own, common] {
        lost.goes(node).with_context(|| lost.pod.clone())?;
    }
    control.untouched(node)
}

fn shim(node: &Node) -> Result<()> {
    let control = Kept::patient(node, "control")?;
    let lost = Kept::patient(node, "shim")?;
    let started = node.create(&lost.pod, &lost.config, &container("never", PATIENT))?;
    let mut client = node.cri.runtime();
    let request = proto::ExecSyncRequest {
        container_id: lost.container.clone(),
        cmd: ["sh", "-c", "touch /begun; sleep 100000"].map(String::from).to_vec(),
        timeout: 0,
    };
    let exec = node.cri.begin(async move { client.exec_sync(request).await });
    eventually("the command runs", || {
        Ok((node.exec(&lost.container, &["test", "-e", "/begun"], 0)?.2 == 0).then_some(()))
    })?;
    let mut events = node.cri.events()?;
    sigkill(lost.shim)?;
    lost.lost(node, NO_SHIM, UNSEEN)?;
    // Nobody waits for what nobody can tell.
    let status = node.cri.finish(exec).err().context("a command of the dead has a result")?;
    ensure!(status.code() != Code::DeadlineExceeded, "the command was waited for: {status}");
    for id in [&lost.container, &lost.pod] {
        let event = events.next()?.context("the stream has ended")?;
        let stopped = event.container_event_type() == ContainerEventType::ContainerStoppedEvent;
        ensure!(stopped && event.container_id == *id, "{event:?} instead of the end of {id}");
    }
    let status = node.start_container(&started).err().context("one of a lost pod starts")?;
    ensure!(status.code() == Code::FailedPrecondition, "{status}");
    lost.refuses(node)?;
    control.untouched(node)?;
    lost.goes(node)?;
    control.untouched(node)
}

/// Begins a stop without an end of a container that does not heed it.
fn stop(node: &Node) -> Result<()> {
    let control = Kept::patient(node, "control")?;
    let scene = Scene::new(node, "stop")?;
    let made = scene.script("main", DEAF, as_is)?;
    made.said("ready")?;
    let lost = Kept::of(&scene, &made)?;
    let request = proto::StopContainerRequest { container_id: made.id.clone(), timeout: 100_000 };
    let mut client = node.cri.runtime();
    let stopping = node.cri.begin(async move { client.stop_container(request).await });
    made.said("told")?;
    ensure!(kernel::alive(lost.init) && !stopping.is_finished(), "it ended of itself");
    sigkill(lost.shim)?;
    node.cri.finish(stopping).context("the stop")?;
    // Its answer comes after the end, whoever tells that.
    let status = made.status()?;
    ensure!(status.state() == ContainerState::ContainerExited, "{status:?}");
    ensure!((status.exit_code, status.reason.as_str()) == UNSEEN, "{status:?}");
    ensure!(!status.message.is_empty(), "{status:?}");
    eventually("the pod is told to be lost", || {
        let state = node.pod(&lost.pod)?.state();
        Ok((state == PodSandboxState::SandboxNotready).then_some(()))
    })?;
    lost.dead()?;
    control.untouched(node)?;
    lost.goes(node)
}

/// A shim that hangs, and is then killed, below StopPodSandbox.
fn pod_stop(node: &Node) -> Result<()> {
    let control = Kept::patient(node, "control")?;
    let lost = Kept::patient(node, "pod-stop")?;
    kill(Pid::from_raw(lost.shim), Signal::SIGSTOP)?;
    let request = proto::StopPodSandboxRequest { pod_sandbox_id: lost.pod.clone() };
    let mut client = node.cri.runtime();
    let stopping = node.cri.begin(async move { client.stop_pod_sandbox(request).await });
    eventually("the container is killed", || Ok((!kernel::alive(lost.init)).then_some(())))?;
    ensure!(!stopping.is_finished(), "it did not wait for the shim");
    sigkill(lost.shim)?;
    node.cri.finish(stopping).context("the stop")?;
    let status = node.container(&lost.container)?;
    ensure!(status.state() == ContainerState::ContainerExited, "{status:?}");
    ensure!((status.exit_code, status.reason.as_str()) == UNSEEN, "{status:?}");
    lost.dead()?;
    control.untouched(node)?;
    lost.goes(node)
}

fn nobody(node: &mut Node) -> Result<()> {
    let control = Kept::patient(node, "control")?;
    let scene = Scene::new(node, "nobody")?;
    let lost = Kept::of(&scene, &scene.start("main", PATIENT, as_is)?)?;
    // One that ends before its shim: that end was seen, and is the shim's last word.
    let seven = ["sh", "-c", "trap 'exit 7' TERM; echo ready; sleep 100000 & wait"];
    let ended = scene.start("ended", &seven, as_is)?;
    ended.said("ready")?;
    let (init, id) = (ended.init()?, ended.id.clone());
    node.kill()?;
    kill(Pid::from_raw(init), Signal::SIGTERM)?;
    let record = node.run_dir().join("sandboxes").join(&lost.pod).join("exits").join(&id);
    eventually("its end is written", || Ok(record.exists().then_some(())))?;
    sigkill(lost.shim)?;
    node.launch()?;
    // Known before anything is answered.
    ensure!(node.pod(&lost.pod)?.state() == PodSandboxState::SandboxNotready, "it is READY");
    lost.lost(node, NO_SHIM, UNSEEN)?;
    let status = node.container(&id)?;
    ensure!((status.exit_code, status.reason.as_str()) == (7, "Error"), "{status:?}");
    control.untouched(node)?;
    lost.refuses(node)?;
    lost.goes(node)?;
    control.untouched(node)
}

fn nobodys_pause(node: &mut Node) -> Result<()> {
    let control = Kept::patient(node, "control")?;
    let lost = Kept::patient(node, "pause")?;
    node.kill()?;
    sigkill(lost.pause)?;
    node.launch()?;
    ensure!(node.pod(&lost.pod)?.state() == PodSandboxState::SandboxNotready, "it is READY");
    lost.lost(node, NO_PAUSE, KILLED)?;
    control.untouched(node)?;
    lost.goes(node)?;
    control.untouched(node)
}
