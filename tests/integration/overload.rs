//! What happens at a limit: throttling, the OOM verdict, no more processes.

use crate::harness::machine::Need;
use crate::harness::scene::{Made, Scene, as_is};
use crate::harness::{Node, Test, eventually, kernel, pod, shared};
use anyhow::{Context as _, Result, ensure};
use berth::cri::proto::{self, ContainerState};
use std::path::{Path, PathBuf};
use std::time::Duration;

const NEEDS: &[Need] = &[Need::Controllers];

pub(crate) fn tests() -> Vec<Test> {
    vec![
        shared("a_cpu_quota_throttles", NEEDS, throttles),
        shared("too_much_memory_is_oom_killed", NEEDS, oom),
        shared("an_oom_killed_child_is_not_the_containers_end", NEEDS, oom_of_a_child),
        shared("a_tmpfs_that_fills_the_pod_is_oom_killed_and_the_shim_lives", NEEDS, tmpfs),
        shared("at_the_containers_pids_max_exec_and_stop_work", NEEDS, fork_bomb),
        shared("at_the_pods_pids_max_exec_and_stop_work", NEEDS, pod_fork_bomb),
    ]
}

fn unified(r: &mut proto::LinuxContainerResources, name: &str, value: &str) {
    r.unified.insert(name.into(), value.into());
}

fn throttles(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "throttle")?;
    let spins = "while :; do :; done";
    let made = scene.script("main", spins, |c| pod::resources(c).cpu_quota = 10_000)?;
    let control = scene.script("control", spins, as_is)?;
    let throttled =
        |made: &Made<'_>| kernel::counter(&made.cgroup().join("cpu.stat"), "nr_throttled");
    eventually("it is throttled", || Ok((throttled(&made)? > 3).then_some(())))?;
    ensure!(throttled(&control)? == 0, "throttled without a quota");
    Ok(())
}

/// A process that writes to 100 MiB of memory of its own.
const EATS: &[&str] = &["dd", "if=/dev/zero", "of=/dev/null", "bs=100M", "count=1"];

fn oom(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "oom")?;
    let made = scene.start("main", EATS, |c| pod::resources(c).memory_limit_in_bytes = 32 << 20)?;
    let status = made.end()?;
    ensure!((status.exit_code, status.reason.as_str()) == (137, "OOMKilled"), "{status:?}");
    let status = scene.start("control", EATS, as_is)?.end()?;
    ensure!((status.exit_code, status.reason.as_str()) == (0, "Completed"), "{status:?}");
    Ok(())
}

fn oom_of_a_child(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "oom-child")?;
    let script = format!("{} 2>/dev/null; echo $?; exit 3", EATS.join(" "));
    let limited = |c: &mut proto::ContainerConfig| {
        pod::resources(c).memory_limit_in_bytes = 32 << 20;
    };
    let (status, text) = scene.output("carries-on", &script, limited)?;
    ensure!(text == "137\n", "the child was not killed: {text:?}");
    ensure!((status.exit_code, status.reason.as_str()) == (3, "Error"), "{status:?}");
    // A kubelet asks for this: all of the container at once.
    let (status, text) = scene.output("group", &script, |c| {
        limited(c);
        unified(pod::resources(c), "memory.oom.group", "1");
    })?;
    ensure!(text.is_empty(), "its first process went on: {text:?}");
    ensure!((status.exit_code, status.reason.as_str()) == (137, "OOMKilled"), "{status:?}");
    Ok(())
}

/// A cgroup above a pod's, as a kubelet makes it.
struct Parent(PathBuf);

impl Parent {
    fn new(node: &Node, name: &str, file: &str, value: &str) -> Result<Self> {
        let path = node.machine.cgroup_root.join(name);
        std::fs::create_dir_all(&path)?;
        std::fs::write(path.join(file), value).with_context(|| format!("write {file}"))?;
        Ok(Self(path))
    }

    fn scene<'a>(&self, node: &'a Node, name: &str) -> Result<Scene<'a>> {
        let parent = format!("/{}", self.0.file_name().unwrap_or_default().to_string_lossy());
        Scene::with(node, name, |c| c.linux.get_or_insert_default().cgroup_parent = parent)
    }

    fn leaf(&self, made: &Made<'_>) -> PathBuf {
        self.0.join(&made.pod).join(&made.id)
    }
}

impl Drop for Parent {
    fn drop(&mut self) {
        kernel::remove_cgroup(&self.0);
    }
}

fn tmpfs(node: &Node) -> Result<()> {
    let fills = &["dd", "if=/dev/zero", "of=/dev/shm/fill", "bs=1M", "count=60"];
    let parent = Parent::new(node, "berth-test-memory", "memory.max", "41943040")?;
    std::fs::write(parent.0.join("memory.swap.max"), "0").ok();
    let scene = parent.scene(node, "fill")?;
    let shim = node.shim_pid(&scene.pod)?;
    let made = scene.start("main", fills, as_is)?;
    let status = made.end()?;
    ensure!((status.exit_code, status.reason.as_str()) == (137, "OOMKilled"), "{status:?}");
    ensure!(
        kernel::counter(&parent.0.join("memory.events"), "oom_kill")? > 0,
        "the kernel killed nobody"
    );
    ensure!(kernel::alive(shim) && node.shim_pid(&scene.pod)? == shim, "the shim was hit");
    ensure!(node.pod(&scene.pod)?.state() == proto::PodSandboxState::SandboxReady, "pause was hit");
    node.remove_all()?;
    drop(parent);
    // The control: the same with room.
    let scene = Scene::new(node, "fill-control")?;
    let status = scene.start("main", fills, as_is)?.end()?;
    ensure!((status.exit_code, status.reason.as_str()) == (0, "Completed"), "{status:?}");
    Ok(())
}

/// Forks until it is refused; what it made stays. Its first process does not reap, so the place of
/// the one that was refused is not free again.
const BOMB: &str = "sh -c 'while :; do sleep 100000 & done' 2>/dev/null & exec sleep 100000";

/// Exec and stop of a container in whose cgroup `leaf` no fork succeeds: the limit is `group`'s.
fn at_pids_max(node: &Node, made: &Made<'_>, leaf: &Path, group: &Path) -> Result<()> {
    eventually("the limit is reached", || {
        let full =
            kernel::read(group.join("pids.current"))? == kernel::read(group.join("pids.max"))?;
        // Linux 6.11 counts where the limit is, those before where the process is that forks.
        let refused = |of: &Path| kernel::counter(&of.join("pids.events"), "max");
        Ok((full && refused(group)? + refused(leaf)? > 0).then_some(()))
    })?;
    let (_, errors, code) = node.exec(&made.id, &["sh", "-c", "true | true; :"], 20)?;
    ensure!(code != 0, "the control: a fork succeeds: {errors}");
    for _ in 0..3 {
        ensure!(node.exec_ok(&made.id, &["echo", "alive"])? == "alive");
    }
    let error = node.exec(&made.id, &["sleep", "100000"], 1).err().context("it ends")?;
    ensure!(error.code() == tonic::Code::DeadlineExceeded, "{error}");
    node.stop_container(&made.id, Duration::from_secs(1))?;
    let status = made.status()?;
    ensure!(status.state() == ContainerState::ContainerExited, "{status:?}");
    ensure!((status.exit_code, status.reason.as_str()) == (137, "Error"), "{status:?}");
    Ok(())
}

fn fork_bomb(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "bomb")?;
    let made = scene.script("main", BOMB, |c| unified(pod::resources(c), "pids.max", "30"))?;
    at_pids_max(node, &made, &made.cgroup(), &made.cgroup())?;
    ensure!(!made.cgroup().exists(), "the cgroup is left");
    Ok(())
}

fn pod_fork_bomb(node: &Node) -> Result<()> {
    let parent = Parent::new(node, "berth-test-pids", "pids.max", "30")?;
    let scene = parent.scene(node, "pod-bomb")?;
    let made = scene.script("main", BOMB, as_is)?;
    let leaf = parent.leaf(&made);
    ensure!(leaf.exists(), "the pod is not below its parent");
    at_pids_max(node, &made, &leaf, &parent.0)?;
    ensure!(!leaf.exists(), "the cgroup is left");
    node.remove_all()?;
    ensure!(kernel::cgroups_below(&parent.0).is_empty(), "cgroups are left below the parent");
    ensure!(parent.0.exists(), "the parent is not berth's to remove");
    Ok(())
}
