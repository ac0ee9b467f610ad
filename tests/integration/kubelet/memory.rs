//! Memory of pods: what of it is kept, slowed down and swapped out, at every level from the node to a container.

use super::place::{WITH_CONTROLLERS, asking, held, three, total_memory};
use crate::harness::kubelet::{Shown, pod, sh, with};
use crate::harness::machine::Machine;
use crate::harness::{Node, Options, Test, kernel, own};
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What asks for files of the memory controller.
pub(super) fn of_place() -> Vec<Test> {
    vec![
        own("memory_is_kept_and_slowed_down", WITH_CONTROLLERS, held, kept),
        own("a_pod_swaps_as_far_as_its_containers_may", WITH_CONTROLLERS, swapping, swap),
        own("without_limited_swap_nothing_of_a_pod_is_swapped", WITH_CONTROLLERS, held, no_swap),
        own(
            "a_node_with_swap_is_refused_where_there_must_be_none",
            WITH_CONTROLLERS,
            held,
            failing,
        ),
    ]
}

const MIB: u64 = 1 << 20;

fn swapping(_: &Machine) -> Options {
    Options { kubelet: Some("swap_behavior = \"LimitedSwap\"".to_owned()), ..Options::default() }
}

/// The cgroups of a container, of its sandbox, and of its pod.
struct Levels {
    container: PathBuf,
    sandbox: PathBuf,
    pod: PathBuf,
}

impl Levels {
    fn of(node: &Node, shown: &Shown) -> Result<Self> {
        let (pod, id) = (node.kubelet_pod_cgroup(shown), shown.id("main"));
        let all = kernel::cgroups_below(&pod);
        let container = all.into_iter().find(|group| group.ends_with(&id)).context("no cgroup")?;
        let sandbox = container.parent().context("no parent")?.to_owned();
        ensure!(sandbox.parent() == Some(&*pod), "{} is not below its pod", sandbox.display());
        Ok(Self { container, sandbox, pod })
    }
}

/// A file of a cgroup says so.
fn says(group: &Path, file: &str, wanted: &str) -> Result<()> {
    let found = kernel::read(group.join(file))?;
    ensure!(found == wanted, "{file} of {} is {found}, not {wanted}", group.display());
    Ok(())
}

fn kept(node: &mut Node) -> Result<()> {
    three(node)?;
    let (request, limit) = (32 * MIB, 64 * MIB);
    let high = (request + (limit - request) * 9 / 10) / 4096 * 4096;
    for (name, kept, high) in [
        ("some", request, high.to_string()),
        ("all", limit, "max".to_owned()),
        ("none", 0, "max".to_owned()),
    ] {
        let levels = Levels::of(node, &node.wait_ready(name)?)?;
        // A level without it would keep nothing of what is below.
        for group in [&levels.container, &levels.sandbox, &levels.pod] {
            says(group, "memory.min", &kept.to_string())?;
        }
        says(&levels.container, "memory.high", &high)?;
    }
    let all = node.kubelet_cgroup();
    says(&all.join("burstable"), "memory.min", &request.to_string())?;
    let together = (request + limit).to_string();
    let above = all.parent().context("nothing above")?;
    ensure!(above.parent() == Some(&*node.machine.cgroup_root), "there are more levels");
    says(&all, "memory.min", &together)?;
    says(above, "memory.min", &together)?;
    node.remove_manifest("some.yaml")?;
    node.wait_gone("some")?;
    says(above, "memory.min", &limit.to_string())
}

/// Swap of a file; there is none any more when the value has gone.
struct Swap {
    device: String,
    file: PathBuf,
}

impl Swap {
    /// The node has this much and a page more.
    fn on(node: &Node, bytes: u64) -> Result<Self> {
        let file = node.path("swap");
        // A file of a tmpfs cannot be swap itself.
        std::fs::File::create(&file)?.set_len(bytes + 4096)?;
        let path = file.to_string_lossy();
        let device = run("losetup", &["--find", "--show", &path])?;
        let swap = Self { device, file };
        run("mkswap", &[&swap.device])?;
        run("swapon", &[&swap.device])?;
        Ok(swap)
    }
}

impl Drop for Swap {
    fn drop(&mut self) {
        run("swapoff", &[&self.device]).ok();
        run("losetup", &["--detach", &self.device]).ok();
        std::fs::remove_file(&self.file).ok();
    }
}

fn run(program: &str, words: &[&str]) -> Result<String> {
    let output = Command::new(program).args(words).output().with_context(|| program.to_owned())?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {words:?}: {errors}");
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// A pod whose container has 16 MiB that are its own, and tells when it has them.
fn large(name: &str, resources: Value) -> Value {
    let script = "a=$(head -c 16777216 /dev/zero | tr '\\0' a); touch /tmp/large; \
                  trap 'exit 0' TERM; sleep 100000 & wait";
    let probe = json!({"exec": {"command": ["test", "-e", "/tmp/large"]}, "periodSeconds": 1});
    let main = with(sh("main", script), json!({"resources": resources, "readinessProbe": probe}));
    pod(name, json!({"containers": [main]}))
}

/// What is swapped out of a cgroup that is to give back memory; the kernel may not find as much.
fn swapped_out(group: &Path) -> Result<u64> {
    std::fs::write(group.join("memory.reclaim"), "8M").ok();
    Ok(kernel::read(group.join("memory.swap.current"))?.parse()?)
}

fn swap(node: &mut Node) -> Result<()> {
    // After the start of the daemon: it is asked for when a container is made.
    let swap = Swap::on(node, 256 * MIB)?;
    let burstable = json!({"requests": {"memory": "32Mi"}, "limits": {"memory": "64Mi"}});
    node.manifest("some.yaml", &large("some", burstable))?;
    let guaranteed = json!({"limits": {"cpu": "200m", "memory": "64Mi"}});
    node.manifest("all.yaml", &large("all", guaranteed))?;
    let nothing = asking(json!({}), json!({}));
    node.manifest("none.yaml", &pod("none", json!({"containers": [nothing]})))?;

    let some = Levels::of(node, &node.wait_ready("some")?)?;
    let share = 32 * MIB * (256 * MIB) / total_memory()? / 4096 * 4096;
    says(&some.container, "memory.swap.max", &share.to_string())?;
    says(&some.sandbox, "memory.swap.max", "max")?;
    says(&some.pod, "memory.swap.max", "max")?;
    let out = swapped_out(&some.container)?;
    ensure!(out > 0 && out <= share, "{out} of {share} are swapped out");

    let all = Levels::of(node, &node.wait_ready("all")?)?;
    for group in [&all.container, &all.sandbox, &all.pod] {
        says(group, "memory.swap.max", "0")?;
    }
    let out = swapped_out(&all.container)?;
    ensure!(out == 0, "{out} of a guaranteed pod are swapped out");
    let none = Levels::of(node, &node.wait_ready("none")?)?;
    says(&none.container, "memory.swap.max", "0")?;
    drop(swap);
    Ok(())
}

fn no_swap(node: &mut Node) -> Result<()> {
    let swap = Swap::on(node, 256 * MIB)?;
    three(node)?;
    for (name, above) in [("some", "0"), ("all", "0"), ("none", "max")] {
        let levels = Levels::of(node, &node.wait_ready(name)?)?;
        says(&levels.container, "memory.swap.max", "0")?;
        says(&levels.sandbox, "memory.swap.max", above)?;
        says(&levels.pod, "memory.swap.max", above)?;
    }
    drop(swap);
    Ok(())
}

fn failing(node: &mut Node) -> Result<()> {
    let swap = Swap::on(node, 16 * MIB)?;
    let bytes = format!("the node has {} bytes of swap", 16 * MIB);
    node.refuses("fail_swap_on = true", &bytes)?;
    // The control: the same node without it.
    drop(swap);
    node.launch()?;
    node.manifest("a.yaml", &pod("a", json!({"containers": [sh("main", "sleep 100000")]})))?;
    node.wait_ready("a").map(drop)
}
