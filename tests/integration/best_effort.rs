//! What the best-effort switches leave out is told of each pod and container, and nothing else is.
//!
//! The same test on every machine: each wish is either in force, as the kernel says, or told.

use crate::harness::machine::Need;
use crate::harness::scene::{Made, Scene, as_is};
use crate::harness::{Node, Test, kernel, pod, shared};
use anyhow::{Context as _, Result, ensure};
use berth::cri::proto;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        shared("each_wish_of_a_container_is_in_force_or_told", &[], container),
        shared("each_wish_for_a_pods_own_processes_is_in_force_or_told", &[], own_processes),
    ]
}

/// The list in verbose details.
fn left_out(info: &std::collections::BTreeMap<String, String>) -> Result<Vec<String>> {
    let info: serde_json::Value = serde_json::from_str(info.get("info").context("no info")?)?;
    Ok(serde_json::from_value(info["leftOut"].clone())?)
}

fn of_container(made: &Made<'_>) -> Result<Vec<String>> {
    let request = proto::ContainerStatusRequest { container_id: made.id.clone(), verbose: true };
    left_out(&made.node.cri.container_status(request)?.info)
}

fn of_pod(node: &Node, pod: &str) -> Result<Vec<String>> {
    let request = proto::PodSandboxStatusRequest { pod_sandbox_id: pod.into(), verbose: true };
    left_out(&node.cri.pod_sandbox_status(request)?.info)
}

fn score(pid: i32) -> Result<String> {
    Ok(kernel::read(format!("/proc/{pid}/oom_score_adj"))?.trim().to_owned())
}

/// Exactly one of the two must hold.
fn either(what: &str, in_force: bool, told: &[String], start: &str) -> Result<()> {
    let told_of = told.iter().any(|line| line.starts_with(start));
    ensure!(in_force != told_of, "{what}: in force: {in_force}, told: {told:?}");
    Ok(())
}

fn container(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "best-effort")?;
    let made = scene.start("main", pod::PATIENT, |config| {
        let asked = pod::resources(config);
        asked.oom_score_adj = -999;
        asked.memory_limit_in_bytes = 64 << 20;
        asked.cpu_shares = 512;
    })?;
    let told = of_container(&made)?;
    let init = made.init()?;
    either("oom_score_adj", score(init)? == "-999", &told, "oom_score_adj -999")?;
    for (file, value) in [("memory.max", "67108864"), ("cpu.weight", "59")] {
        let set = std::fs::read_to_string(made.cgroup().join(file)).unwrap_or_default();
        either(file, set.trim() == value, &told, &format!("{file} {value}"))?;
    }
    let limits = kernel::read(format!("/proc/{init}/limits"))?;
    let files = limits.lines().find(|l| l.starts_with("Max open files")).context("no limit")?;
    let hard = files.split_whitespace().nth(4).context("no hard limit")?;
    either("open files", hard == "524288", &told, "RLIMIT_NOFILE: a hard limit of 524288")?;
    for (need, start) in [(Need::Resources, "oom_score_adj"), (Need::Controllers, "memory.max")] {
        let told_of = told.iter().any(|line| line.starts_with(start));
        ensure!(told_of != node.machine.has(need), "{start} on this machine: {told:?}");
    }
    // Control: what was not asked for is not told.
    let plain = scene.start("plain", pod::PATIENT, as_is)?;
    let told = of_container(&plain)?;
    for start in ["oom_score_adj", "memory.max", "cpu.weight"] {
        ensure!(!told.iter().any(|line| line.starts_with(start)), "{start}: {told:?}");
    }
    Ok(())
}

fn own_processes(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "best-effort-pod")?;
    let told = of_pod(node, &scene.pod)?;
    let wishes = [
        ("shim", node.shim_pid(&scene.pod)?, "-999"),
        ("pause", node.pause_pid(&scene.pod)?, "-998"),
    ];
    for (name, pid, wish) in wishes {
        let told_of =
            told.iter().any(|l| l.starts_with(&format!("{name}: ")) && l.contains("oom_score_adj"));
        let in_force = score(pid)? == wish;
        ensure!(in_force != told_of, "{name}: in force: {in_force}, told: {told:?}");
    }
    Ok(())
}
