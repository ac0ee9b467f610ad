//! Figures of containers and pods, each between two looks at what the kernel counts.

use crate::harness::machine::Need;
use crate::harness::poll::pause;
use crate::harness::scene::{Made, Scene, as_is};
use crate::harness::{Node, Test, kernel, pod, shared};
use anyhow::{Context as _, Result, ensure};
use berth::cri::proto;
use std::ops::RangeInclusive;
use std::time::Duration;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        shared("statistics_are_the_kernels", &[Need::Controllers], statistics),
        shared("a_rate_is_what_was_used_between_two_looks", &[], rate),
        shared("traffic_is_that_of_the_pods_interface", &[Need::PodNetwork], traffic),
        shared("a_writable_layer_is_counted_by_bytes_and_inodes", &[], layer),
    ]
}

fn stats(node: &Node, id: &str) -> Result<proto::ContainerStats> {
    let request = proto::ContainerStatsRequest { container_id: id.into() };
    node.cri.container_stats(request)?.stats.context("no statistics")
}

fn pod_stats(node: &Node, id: &str) -> Result<proto::LinuxPodSandboxStats> {
    let request = proto::PodSandboxStatsRequest { pod_sandbox_id: id.into() };
    let told = node.cri.pod_sandbox_stats(request)?.stats.context("no statistics of the pod")?;
    told.linux.context("nothing of Linux")
}

fn value(value: Option<proto::UInt64Value>) -> u64 {
    value.map_or(0, |v| v.value)
}

/// A counter of the container's cgroup.
fn counter(made: &Made<'_>, file: &str, key: &str) -> Result<u64> {
    kernel::counter(&made.cgroup().join(file), key)
}

/// How long tasks of the container stood still for want of something, microseconds.
fn stalled(made: &Made<'_>, file: &str) -> Result<u64> {
    let text = kernel::read(made.cgroup().join(file))?;
    let total = text.lines().next().and_then(|line| line.rsplit_once("total="));
    Ok(total.with_context(|| format!("{file}: {text}"))?.1.parse()?)
}

fn statistics(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "statistics")?;
    let script = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo ready; exec sleep 100000";
    let made = scene.script("main", script, |c| {
        pod::resources(c).memory_limit_in_bytes = 256 << 20;
    })?;
    made.said("ready")?;
    let look = || -> Result<[u64; 6]> {
        Ok([
            counter(&made, "cpu.stat", "usage_usec")?,
            counter(&made, "memory.stat", "pgfault")?,
            counter(&made, "memory.stat", "pgmajfault")?,
            stalled(&made, "cpu.pressure")?,
            stalled(&made, "memory.pressure")?,
            stalled(&made, "io.pressure")?,
        ])
    };
    let before = look()?;
    let told = stats(node, &made.id)?;
    let after = look()?;
    let cpu = told.cpu.context("no CPU")?;
    let memory = told.memory.context("no memory")?;
    let psi =
        |psi: Option<proto::PsiStats>| psi.and_then(|psi| psi.some).map_or(0, |some| some.total);
    let io = told.io.context("no input and output")?;
    let seen = [
        value(cpu.usage_core_nano_seconds) / 1000,
        value(memory.page_faults),
        value(memory.major_page_faults),
        psi(cpu.psi),
        psi(memory.psi),
        psi(io.psi),
    ];
    let between = |n: usize| -> RangeInclusive<u64> { before[n]..=after[n] };
    for (n, seen) in seen.iter().enumerate() {
        ensure!(between(n).contains(seen), "figure {n}: {seen} not in {:?}", between(n));
    }
    ensure!(seen[0] > 0 && seen[1] > 0, "{seen:?}");
    let current: u64 = kernel::read(made.cgroup().join("memory.current"))?.parse()?;
    let (usage, working) = (value(memory.usage_bytes), value(memory.working_set_bytes));
    ensure!(usage.abs_diff(current) < 4 << 20, "{usage} is told, {current} is used");
    ensure!(working > 0 && working <= usage, "working set {working} of {usage}");
    ensure!(value(memory.available_bytes) == (256 << 20) - working, "{memory:?}");
    let anon = counter(&made, "memory.stat", "anon")?;
    ensure!(value(memory.rss_bytes).abs_diff(anon) < 1 << 20, "{anon} is used: {memory:?}");
    match kernel::read(made.cgroup().join("memory.swap.current")) {
        Ok(used) => {
            ensure!(value(told.swap.context("no swap")?.swap_usage_bytes) == used.parse::<u64>()?)
        }
        Err(_) => ensure!(told.swap.is_none(), "{:?} where the kernel counts none", told.swap),
    }

    let linux = pod_stats(node, &scene.pod)?;
    ensure!(linux.containers.len() == 1, "{} containers", linux.containers.len());
    // The container's process and pause.
    let processes = value(linux.process.context("no processes")?.process_count);
    ensure!(processes == 2, "{processes} processes");
    let pod_cpu = value(linux.cpu.context("no CPU of the pod")?.usage_core_nano_seconds);
    let own = value(cpu.usage_core_nano_seconds);
    ensure!(pod_cpu >= own, "the pod's CPU time {pod_cpu} is less than its container's {own}");
    // One that does not run has no figures, and is listed.
    node.stop_container(&made.id, Duration::ZERO)?;
    let all = node.cri.list_container_stats(proto::ListContainerStatsRequest::default())?.stats;
    ensure!(all.iter().all(|s| s.cpu.is_none()), "{all:?}");
    Ok(())
}

fn rate(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "rate")?;
    let busy = scene.script("busy", "echo ready; while :; do :; done", as_is)?;
    let idle = scene.start("idle", &["sleep", "100000"], as_is)?;
    busy.said("ready")?;
    let look = |made: &Made<'_>| stats(node, &made.id)?.cpu.context("no CPU");
    let first = look(&busy)?;
    ensure!(first.usage_nano_cores.is_none(), "a rate of one look: {first:?}");
    look(&idle)?;
    pause(Duration::from_millis(1000));
    let second = look(&busy)?;
    let used = value(second.usage_core_nano_seconds) - value(first.usage_core_nano_seconds);
    let passed = u64::try_from(second.timestamp - first.timestamp)?;
    let expected = u128::from(used) * 1_000_000_000 / u128::from(passed);
    let told = u128::from(value(second.usage_nano_cores));
    ensure!(told.abs_diff(expected) < expected / 5, "{told} is told, {expected} was used");
    let calm = value(look(&idle)?.usage_nano_cores);
    ensure!(u128::from(calm) < told / 2, "{calm} of an idle one, {told} of a busy one");
    Ok(())
}

fn traffic(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "traffic")?;
    let made = scene.start("main", pod::PATIENT, as_is)?;
    let look = || -> Result<[u64; 2]> {
        let read = |file: &str| -> Result<u64> {
            let path = format!("/sys/class/net/eth0/statistics/{file}");
            Ok(node.exec_ok(&made.id, &["cat", &path])?.trim().parse()?)
        };
        Ok([read("rx_bytes")?, read("tx_bytes")?])
    };
    let told = || -> Result<[u64; 2]> {
        let network = pod_stats(node, &scene.pod)?.network.context("no network")?;
        let eth0 = network.default_interface.context("no interface")?;
        ensure!(eth0.name == "eth0" && network.interfaces.is_empty(), "{eth0:?}");
        Ok([value(eth0.rx_bytes), value(eth0.tx_bytes)])
    };
    let first = told()?;
    let route = node.exec_ok(&made.id, &["ip", "route"])?;
    let gateway = route.split_whitespace().nth(2).context("no gateway")?;
    node.exec_ok(&made.id, &["ping", "-c", "3", "-i", "0.2", "-s", "1000", gateway])?;
    let before = look()?;
    let seen = told()?;
    let after = look()?;
    for n in 0..2 {
        ensure!((before[n]..=after[n]).contains(&seen[n]), "{seen:?} not in {before:?}..{after:?}");
        ensure!(seen[n] >= first[n] + 3000, "{seen:?} after {first:?}");
    }
    // The host's network is nobody's in particular.
    let on_host = |config: &mut proto::PodSandboxConfig| {
        pod::pod_namespaces(config).network = proto::NamespaceMode::Node.into();
        config.hostname.clear();
    };
    let host = Scene::with(node, "traffic-host", on_host)?;
    let told = pod_stats(node, &host.pod)?.network;
    ensure!(told.is_none(), "{told:?}");
    Ok(())
}

fn layer(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "layer")?;
    let script = "head -c 8000000 /dev/zero >/tmp/big; i=0; while [ $i -lt 50 ]; do \
        i=$((i+1)); : >/tmp/file-$i; done; echo ready; exec sleep 100000";
    let made = scene.script("main", script, as_is)?;
    made.said("ready")?;
    let control = scene.start("control", &["sleep", "100000"], as_is)?;
    let look = |made: &Made<'_>| stats(node, &made.id)?.writable_layer.context("no layer");
    let (full, empty) = (look(&made)?, look(&control)?);
    ensure!(value(full.used_bytes) >= 8_000_000, "{full:?}");
    ensure!(value(empty.used_bytes) < 1_000_000, "{empty:?}");
    let inodes = value(full.inodes_used) - value(empty.inodes_used);
    ensure!((51..=53).contains(&inodes), "{inodes} inodes: {full:?}, {empty:?}");
    let at = full.fs_id.context("no file system")?.mountpoint;
    let folder = node.state_dir().join("snapshots");
    ensure!(folder.starts_with(&at), "{} is not on {at}", folder.display());
    Ok(())
}
