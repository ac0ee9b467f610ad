//! Work that outlives the deadline of its verb, as below a hung mount: it has no late effect.

use crate::harness::scene::{Scene, as_is};
use crate::harness::{Node, Options, Test, eventually, kernel, own, pod};
use anyhow::{Context as _, Result, ensure};
use berth::cri::proto::{self, ContainerState};
use tonic::Code;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        own("a_create_past_its_deadline_has_no_late_effect", &[], options, create),
        own("a_start_past_its_deadline_has_no_late_effect", &[], options, start),
        own("a_pod_whose_work_hangs_is_given_no_more_of_it", &[], options, bounded),
    ]
}

fn options(_: &crate::harness::machine::Machine) -> Options {
    Options::default()
}

/// Holds up the work of a verb until this is dropped, with a short deadline.
struct Held<'a>(&'a Node);

impl<'a> Held<'a> {
    fn at(node: &'a Node, site: &str) -> Result<Self> {
        std::fs::write(node.path("fail-plan.within"), "300")?;
        std::fs::write(node.path("fail-plan.hold"), site)?;
        Ok(Self(node))
    }

    /// Lets the work go on, and waits until its thread has ended.
    fn release(self) -> Result<()> {
        let node = self.0;
        drop(self);
        eventually("the late work ends", || {
            let log = std::fs::read_to_string(node.log_file())?;
            Ok(log.contains("work that nobody waited for any more has ended").then_some(()))
        })
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        for file in ["fail-plan.within", "fail-plan.hold"] {
            std::fs::remove_file(self.0.path(file)).ok();
        }
    }
}

fn create(node: &mut Node) -> Result<()> {
    let scene = Scene::new(node, "late-create")?;
    let held = Held::at(node, "create")?;
    let status = scene.create("main", pod::PATIENT, as_is).err().context("it was not held up")?;
    ensure!(status.code() == Code::DeadlineExceeded, "{status}");
    let left = || {
        let (state, run) = (node.state_dir().join("snapshots"), node.run_dir().join("containers"));
        [kernel::names_in(&state), kernel::names_in(&run)].concat()
    };
    ensure!(left().is_empty(), "not undone: {:?}", left());
    held.release()?;
    ensure!(left().is_empty(), "a late effect: {:?}", left());
    let all = node.cri.list_containers(proto::ListContainersRequest::default())?.containers;
    ensure!(all.is_empty(), "listed: {all:?}");
    // Control: the name is free, and the same request has the effects.
    let made = scene.start("main", pod::PATIENT, as_is)?;
    ensure!(left() == [made.id.clone(), made.id.clone()], "{:?}", left());
    Ok(())
}

fn start(node: &mut Node) -> Result<()> {
    let scene = Scene::new(node, "late-start")?;
    let id = scene.create("main", pod::PATIENT, as_is)?;
    let held = Held::at(node, "start")?;
    let status = node.start_container(&id).err().context("it was not held up")?;
    ensure!(status.code() == Code::DeadlineExceeded, "{status}");
    let cgroup = node.container_cgroup(&scene.pod, &id);
    ensure!(!cgroup.exists(), "not undone");
    held.release()?;
    ensure!(!cgroup.exists(), "a late effect: {}", cgroup.display());
    let status = node.container(&id)?;
    ensure!(status.state() == ContainerState::ContainerExited, "{status:?}");
    ensure!(status.reason == "StartError", "{status:?}");
    // Control: a start in time makes it.
    let made = scene.start("again", pod::PATIENT, as_is)?;
    ensure!(made.cgroup().exists());
    Ok(())
}

/// A client tries again and again: the threads of the daemon are not for one pod.
fn bounded(node: &mut Node) -> Result<()> {
    let scene = Scene::new(node, "hangs")?;
    let beside = scene.start("beside", pod::PATIENT, as_is)?;
    let other = Scene::new(node, "other")?;
    let threads =
        || Ok::<_, anyhow::Error>(kernel::status_field(node.pid()?, "Threads")?.parse::<usize>()?);
    let held = Held::at(node, "create")?;
    let attempt = |scene: &Scene<'_>| {
        scene.create("main", pod::PATIENT, as_is).err().context("it was not held up")
    };
    for _ in 0..4 {
        ensure!(attempt(&scene)?.code() == Code::DeadlineExceeded);
    }
    let before = threads()?;
    for _ in 0..20 {
        let status = attempt(&scene)?;
        let told = status.message().contains("hang still");
        ensure!(status.code() == Code::Unavailable && told, "{status}");
    }
    ensure!(threads()? <= before, "{} threads after {before}", threads()?);
    // What asks nothing of a host path goes on, and other pods have threads of their own.
    ensure!(node.exec_ok(&beside.id, &["echo", "alive"])? == "alive");
    ensure!(attempt(&other)?.code() == Code::DeadlineExceeded);
    held.release()?;
    eventually("the pod is served again", || {
        Ok(scene.start("main", pod::PATIENT, as_is).is_ok().then_some(()))
    })?;
    Ok(())
}
