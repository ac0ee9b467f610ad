//! Metrics: the descriptors, the labels, and the values as the kernel has them.

use crate::harness::machine::Need;
use crate::harness::scene::{Made, Scene, as_is};
use crate::harness::{Node, Test, kernel, pod, shared};
use anyhow::{Context as _, Result, ensure};
use berth::cri::proto::{self, Metric};
use std::collections::BTreeMap;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        shared("every_sample_has_the_labels_that_its_descriptor_names", &[], labels),
        shared("metrics_of_processes_and_layers_are_the_kernels", &[], processes),
        shared("metrics_of_traffic_are_the_kernels", &[Need::PodNetwork], traffic),
        shared("metrics_of_limits_and_memory_are_the_kernels", &[Need::Controllers], limits),
        shared("streamed_metrics_are_those_of_the_list", &[], streamed),
    ]
}

fn descriptors(node: &Node) -> Result<BTreeMap<String, Vec<String>>> {
    let told = node.cri.list_metric_descriptors(Default::default())?.descriptors;
    ensure!(told.iter().all(|d| !d.help.is_empty()), "a metric without an explanation");
    Ok(told.into_iter().map(|d| (d.name, d.label_keys)).collect())
}

fn metrics_of(node: &Node, pod: &str) -> Result<proto::PodSandboxMetrics> {
    let all = node.cri.list_pod_sandbox_metrics(Default::default())?.pod_metrics;
    all.into_iter().find(|p| p.pod_sandbox_id == pod).context("no metrics of the pod")
}

fn metrics_of_container(made: &Made<'_>) -> Result<Vec<Metric>> {
    let all = metrics_of(made.node, &made.pod)?.container_metrics;
    let of = all.into_iter().find(|c| c.container_id == made.id);
    Ok(of.context("no metrics of the container")?.metrics)
}

/// The sample of a name, with this among its labels.
fn value(metrics: &[Metric], name: &str, label: &str) -> Result<u64> {
    let fits = |m: &&Metric| {
        m.name == name && (label.is_empty() || m.label_values.iter().any(|l| l == label))
    };
    let found = metrics.iter().find(fits).with_context(|| format!("no {name} {label}"))?;
    Ok(found.value.with_context(|| format!("{name} without a value"))?.value)
}

fn labels(node: &Node) -> Result<()> {
    let known = descriptors(node)?;
    ensure!(known.len() == 56, "{} metrics are described", known.len());
    let scene = Scene::new(node, "labels")?;
    let made = scene.start("main", pod::PATIENT, as_is)?;
    scene.create("not-started", &["true"], as_is)?;
    let told = metrics_of(node, &scene.pod)?;
    ensure!(told.container_metrics.len() == 1, "of one that does not run");
    let containers = told.container_metrics.iter().flat_map(|c| &c.metrics);
    for sample in told.metrics.iter().chain(containers) {
        let keys = known.get(&sample.name).with_context(|| format!("{} is new", sample.name))?;
        ensure!(keys.len() == sample.label_values.len(), "{sample:?} has other labels: {keys:?}");
    }
    let sample = metrics_of_container(&made)?;
    let sample = sample.iter().find(|m| m.name == "container_last_seen").context("not seen")?;
    let keys = known.get("container_last_seen").context("no descriptor")?;
    let of: BTreeMap<&str, &str> = keys
        .iter()
        .map(String::as_str)
        .zip(sample.label_values.iter().map(String::as_str))
        .collect();
    ensure!(of["container"] == "main" && of["pod"] == "labels", "{of:?}");
    ensure!(of["namespace"] == "tests" && of["name"] == made.id, "{of:?}");
    ensure!(of["id"] == kernel::cgroup_of(made.init()?)?, "{of:?}");
    // The pod's own have no container.
    let of_pod = told.metrics.iter().find(|m| m.name == "container_last_seen");
    let of_pod = &of_pod.context("the pod is not seen")?.label_values;
    ensure!(of_pod.contains(&scene.pod) && !of_pod.contains(&"main".to_owned()), "{of_pod:?}");
    // Only ready pods have any.
    node.stop_pod(&scene.pod)?;
    ensure!(metrics_of(node, &scene.pod).is_err(), "of a stopped pod");
    Ok(())
}

fn processes(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "processes")?;
    let script = "head -c 8000000 /dev/zero >/tmp/layer; nc -l -p 45678 & sleep 100000 & \
        i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; echo ready; exec sleep 100000";
    let made = scene.script("main", script, as_is)?;
    made.said("ready")?;
    let pids = kernel::pids_in(&made.cgroup())?;
    let descriptors: Vec<String> =
        pids.iter().map(|pid| kernel::descriptors(*pid)).collect::<Result<Vec<_>>>()?.concat();
    let sockets = descriptors.iter().filter(|d| d.starts_with("socket:")).count();
    ensure!(pids.len() == 3 && sockets > 0, "{} processes, {sockets} sockets", pids.len());
    let stat = made.cgroup().join("cpu.stat");
    let before = kernel::counter(&stat, "usage_usec")? / 1_000_000;
    let told = metrics_of_container(&made)?;
    let after = kernel::counter(&stat, "usage_usec")? / 1_000_000;
    let cpu = value(&told, "container_cpu_usage_seconds_total", "total")?;
    ensure!((before..=after).contains(&cpu), "{cpu} s of CPU, not {before}..{after}");
    let count = |n: usize| u64::try_from(n);
    for (name, expected) in [
        ("container_processes", count(pids.len())?),
        ("container_threads", count(pids.len())?),
        ("container_file_descriptors", count(descriptors.len())?),
        ("container_sockets", count(sockets)?),
    ] {
        let told = value(&told, name, "")?;
        ensure!(told == expected, "{name} is {told}, not {expected}");
    }
    let limits = kernel::read(format!("/proc/{}/limits", made.init()?))?;
    let open = value(&told, "container_ulimits_soft", "max_open_files")?;
    let line = limits.lines().find(|l| l.starts_with("Max open files")).context("no such limit")?;
    ensure!(line.split_whitespace().nth(3) == Some(&open.to_string()), "{open}: {line}");
    ensure!(value(&told, "container_fs_usage_bytes", "")? >= 8_000_000, "the layer is larger");
    let space = nix::sys::statvfs::statvfs(&node.state_dir())?;
    let told_bytes = value(&told, "container_fs_limit_bytes", "")?;
    ensure!(told_bytes == space.blocks() * space.fragment_size(), "{told_bytes}");
    ensure!(value(&told, "container_fs_inodes_total", "")? == space.files(), "inodes");
    let started = value(&told, "container_start_time_seconds", "")?;
    let seen = value(&told, "container_last_seen", "")?;
    ensure!(started > 0 && started <= seen && seen - started < 3600, "{started}, {seen}");
    Ok(())
}

fn traffic(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "traffic")?;
    let pause = node.pause_pid(&scene.pod)?;
    let counters = || -> Result<Vec<u64>> {
        let text = kernel::read(format!("/proc/{pause}/net/dev"))?;
        let line = text.lines().find_map(|l| l.trim().strip_prefix("eth0:")).context("no eth0")?;
        Ok(line.split_whitespace().map(str::parse).collect::<Result<_, _>>()?)
    };
    let before = counters()?;
    let told = metrics_of(node, &scene.pod)?.metrics;
    let after = counters()?;
    for (name, column) in [
        ("container_network_receive_bytes_total", 0),
        ("container_network_receive_packets_total", 1),
        ("container_network_receive_errors_total", 2),
        ("container_network_receive_packets_dropped_total", 3),
        ("container_network_transmit_bytes_total", 8),
        ("container_network_transmit_packets_total", 9),
        ("container_network_transmit_errors_total", 10),
        ("container_network_transmit_packets_dropped_total", 11),
    ] {
        let told = value(&told, name, "eth0")?;
        let range = before[column]..=after[column];
        ensure!(range.contains(&told), "{name} is {told}, not {range:?}");
    }
    ensure!(value(&told, "container_network_receive_bytes_total", "lo").is_err(), "lo is told");
    Ok(())
}

fn limits(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "metric-limits")?;
    let script = "dd if=/dev/zero of=/dev/null bs=20M count=1 2>/dev/null; echo ready; \
        exec sleep 100000";
    let made = scene.script("main", script, |c| {
        let r = pod::resources(c);
        (r.cpu_quota, r.cpu_period, r.cpu_shares) = (50_000, 100_000, 512);
        r.memory_limit_in_bytes = 64 << 20;
        r.unified.insert("memory.min".into(), (1 << 20).to_string());
        r.unified.insert("pids.max".into(), "77".into());
    })?;
    made.said("ready")?;
    let told = metrics_of_container(&made)?;
    for (name, expected) in [
        ("container_spec_cpu_quota", 50_000),
        ("container_spec_cpu_period", 100_000),
        ("container_spec_cpu_shares", 512),
        ("container_spec_memory_limit_bytes", 64 << 20),
        ("container_spec_memory_reservation_limit_bytes", 1 << 20),
        ("container_threads_max", 77),
        ("container_oom_events_total", 0),
    ] {
        let told = value(&told, name, "")?;
        ensure!(told == expected, "{name} is {told}, not {expected}");
    }
    let file = |name: &str| -> Result<u64> { Ok(kernel::read(made.cgroup().join(name))?.parse()?) };
    let near = |name: &str, expected: u64| -> Result<()> {
        let told = value(&told, name, "")?;
        ensure!(told.abs_diff(expected) < 2 << 20, "{name} is {told}, not near {expected}");
        Ok(())
    };
    near("container_memory_usage_bytes", file("memory.current")?)?;
    near("container_memory_max_usage_bytes", file("memory.peak").unwrap_or(20 << 20))?;
    let stat = made.cgroup().join("memory.stat");
    for (name, key) in [
        ("container_memory_rss", "anon"),
        ("container_memory_cache", "file"),
        ("container_memory_mapped_file", "file_mapped"),
    ] {
        near(name, kernel::counter(&stat, key)?)?;
    }
    let faults = value(&told, "container_memory_failures_total", "pgfault")?;
    ensure!(faults > 0 && faults <= kernel::counter(&stat, "pgfault")?, "{faults} page faults");
    ensure!(
        value(&told, "container_memory_max_usage_bytes", "").is_err()
            || value(&told, "container_memory_max_usage_bytes", "")? >= 20 << 20
    );
    // One without limits: 0 is "none", and there is no quota to tell.
    let control = scene.start("control", pod::PATIENT, as_is)?;
    let told = metrics_of_container(&control)?;
    ensure!(value(&told, "container_spec_memory_limit_bytes", "")? == 0, "limited");
    ensure!(value(&told, "container_spec_cpu_quota", "").is_err(), "a quota of nobody");
    Ok(())
}

fn streamed(node: &Node) -> Result<()> {
    ensure!(node.cri.stream_pod_sandbox_metrics(Default::default())?.is_empty(), "of nobody");
    for name in ["one", "two"] {
        let scene = Scene::new(node, name)?;
        scene.start("main", pod::PATIENT, as_is)?;
    }
    let names = |pods: &[proto::PodSandboxMetrics]| -> Vec<String> {
        let of = |p: &proto::PodSandboxMetrics| {
            let containers = p.container_metrics.iter().flat_map(|c| c.metrics.clone());
            let all = p.metrics.iter().cloned().chain(containers);
            all.map(|m| format!("{} {:?}", m.name, m.label_values)).collect::<Vec<_>>()
        };
        pods.iter().flat_map(of).collect()
    };
    let listed = node.cri.list_pod_sandbox_metrics(Default::default())?.pod_metrics;
    let messages = node.cri.stream_pod_sandbox_metrics(Default::default())?;
    ensure!(messages.iter().all(|m| !m.pod_sandbox_metrics.is_empty()), "an empty message");
    let told: Vec<_> = messages.into_iter().flat_map(|m| m.pod_sandbox_metrics).collect();
    ensure!(told.len() == 2 && names(&told) == names(&listed), "they differ");
    Ok(())
}
