//! Requests and limits, as a container's own cgroup files have them.

use super::target::{Peer, Running, Target, cases};
use crate::harness::kernel;
use crate::harness::machine::Need::{self, Controllers, PodNetwork};
use crate::harness::pod::resources;
use anyhow::{Context as _, Result, ensure};
use berth::cri::proto;
use std::collections::BTreeMap;
use std::path::Path;

const NEEDS: &[Need] = &[Controllers, PodNetwork];

cases! {
    // Its limits of huge pages are off unless its configuration says otherwise, and never a pod's.
    "huge_pages_are_limited", NEEDS, Peer::Differs("disable_hugetlb_controller is its default"),
        huge_pages;
    // What a sandbox asks for its pod it puts into annotations, and its update does nothing
    // (sandbox_update_resource.go): it leaves a pod's limits to the kubelet.
    "a_pods_limits_are_in_its_cgroup", NEEDS, Peer::Differs("a pod has no limits"), pods;
    "limits_are_in_the_containers_cgroup", NEEDS, Peer::Agrees, created;
    // Its runc maps shares by the linear formula of old: 512 are a weight of 20. The newer formula
    // (runc since 1.3.2, crun, kubelets since 1.35) makes them 59, as the default of 1024 makes 100.
    "shares_are_a_weight", NEEDS, Peer::Differs("an older formula"), shares;
    "limits_change_in_the_containers_cgroup", NEEDS, Peer::Agrees, updated;
}

fn file(main: &Running<'_>, name: &str, expected: &str) -> Result<()> {
    main.says(&format!("cat /sys/fs/cgroup/{name}"), expected)
}

fn created(target: &Target<'_>) -> Result<()> {
    let pod = target.pod("limits", |_| {})?;
    let main = pod.start("main", |c| {
        let r = resources(c);
        (r.cpu_quota, r.cpu_period) = (20_000, 50_000);
        r.memory_limit_in_bytes = 64 << 20;
        r.memory_swap_limit_in_bytes = 96 << 20;
        (r.cpuset_cpus, r.cpuset_mems) = ("0".into(), "0".into());
        r.unified.insert("memory.high".into(), (48 << 20).to_string());
    })?;
    file(&main, "cpu.max", "20000 50000")?;
    file(&main, "memory.max", "67108864")?;
    swap(&main, "33554432")?;
    file(&main, "memory.high", "50331648")?;
    file(&main, "cpuset.cpus", "0")?;
    file(&main, "cpuset.mems", "0")?;
    let usual = pod.start("usual", |_| {})?;
    file(&usual, "memory.max", "max")?;
    file(&usual, "cpu.max", "max 100000")
}

/// Part of both, where the kernel counts swap.
const SWAP: &str = "memory.swap.max";

fn swap(main: &Running<'_>, expected: &str) -> Result<()> {
    let told = main.ask(&format!("cat /sys/fs/cgroup/{SWAP} 2>/dev/null || echo none"))?;
    ensure!(told == expected || told == "none", "{SWAP}: {told} instead of {expected}");
    Ok(())
}

fn huge(bytes: u64) -> Vec<proto::HugepageLimit> {
    vec![proto::HugepageLimit { page_size: "2MB".into(), limit: bytes }]
}

fn huge_pages(target: &Target<'_>) -> Result<()> {
    let pod = target.pod("huge", |_| {})?;
    let main = pod.start("main", |c| resources(c).hugepage_limits = huge(4 << 20))?;
    file(&main, "hugetlb.2MB.max", "4194304")?;
    target.cri.update_container_resources(proto::UpdateContainerResourcesRequest {
        container_id: main.id.clone(),
        linux: Some(proto::LinuxContainerResources {
            hugepage_limits: huge(6 << 20),
            ..Default::default()
        }),
        ..Default::default()
    })?;
    file(&main, "hugetlb.2MB.max", "6291456")
}

/// Nothing of it is such that its effect is the kernel's default.
fn of_a_pod(mib: i64, quota: i64, period: i64) -> proto::LinuxContainerResources {
    proto::LinuxContainerResources {
        cpu_period: period,
        cpu_quota: quota,
        cpu_shares: mib * 4,
        memory_limit_in_bytes: mib << 20,
        hugepage_limits: huge(2 << 20),
        ..Default::default()
    }
}

fn unified(file: &str, value: u32) -> BTreeMap<String, String> {
    [(file.to_owned(), value.to_string())].into()
}

fn pods(target: &Target<'_>) -> Result<()> {
    let pod = target.pod("limited", |c| {
        let linux = c.linux.get_or_insert_default();
        // The pod's own part has also what an overhead cannot add to.
        linux.resources = Some(proto::LinuxContainerResources {
            memory_swap_limit_in_bytes: (64 + 32) << 20,
            cpuset_cpus: "0".into(),
            cpuset_mems: "0".into(),
            unified: unified("pids.max", 500),
            ..of_a_pod(64, 20_000, 50_000)
        });
        linux.overhead = Some(proto::LinuxContainerResources {
            unified: unified("memory.high", 40 << 20),
            ..of_a_pod(16, 10_000, 50_000)
        });
    })?;
    // Its own process is in a cgroup below the pod's.
    let groups = kernel::read(format!("/proc/{}/cgroup", pod.pid()?))?;
    let path = groups.lines().find_map(|line| line.strip_prefix("0::")).context("no cgroup")?;
    let group = Path::new("/sys/fs/cgroup").join(path.trim_start_matches('/'));
    let group = group.parent().context("the root")?;
    let check = |files: &[(&str, &str)]| -> Result<()> {
        for (name, expected) in files {
            let found = kernel::read(group.join(name))?;
            ensure!(found == *expected, "{name}: {found} instead of {expected}");
        }
        Ok(())
    };
    check(&[
        ("cpu.max", "30000 50000"),
        ("cpu.weight", "41"),
        ("cpuset.cpus", "0"),
        ("cpuset.mems", "0"),
        ("memory.max", "83886080"),
        ("memory.high", "41943040"),
        ("pids.max", "500"),
        ("hugetlb.2MB.max", "4194304"),
    ])?;
    if group.join(SWAP).exists() {
        check(&[(SWAP, "33554432")])?;
    }
    target.cri.update_pod_sandbox_resources(proto::UpdatePodSandboxResourcesRequest {
        pod_sandbox_id: pod.id.clone(),
        resources: Some(proto::LinuxContainerResources {
            memory_swap_limit_in_bytes: (128 + 48) << 20,
            cpuset_cpus: "1".into(),
            // There is no other.
            cpuset_mems: "0".into(),
            hugepage_limits: huge(4 << 20),
            unified: unified("pids.max", 600),
            ..of_a_pod(128, 30_000, 80_000)
        }),
        overhead: Some(proto::LinuxContainerResources {
            unified: unified("memory.high", 48 << 20),
            ..of_a_pod(32, 15_000, 80_000)
        }),
    })?;
    check(&[
        ("cpu.max", "45000 80000"),
        ("cpu.weight", "70"),
        ("cpuset.cpus", "1"),
        ("cpuset.mems", "0"),
        ("memory.max", "167772160"),
        ("memory.high", "50331648"),
        ("pids.max", "600"),
        ("hugetlb.2MB.max", "6291456"),
    ])?;
    if group.join(SWAP).exists() {
        check(&[(SWAP, "50331648")])?;
    }
    Ok(())
}

fn shares(target: &Target<'_>) -> Result<()> {
    let pod = target.pod("shares", |_| {})?;
    let main = pod.start("main", |c| resources(c).cpu_shares = 512)?;
    file(&main, "cpu.weight", "59")?;
    target.cri.update_container_resources(proto::UpdateContainerResourcesRequest {
        container_id: main.id.clone(),
        linux: Some(proto::LinuxContainerResources { cpu_shares: 1024, ..Default::default() }),
        ..Default::default()
    })?;
    file(&main, "cpu.weight", "100")
}

fn updated(target: &Target<'_>) -> Result<()> {
    let pod = target.pod("updated", |_| {})?;
    let main = pod.start("main", |c| resources(c).memory_limit_in_bytes = 64 << 20)?;
    target.cri.update_container_resources(proto::UpdateContainerResourcesRequest {
        container_id: main.id.clone(),
        linux: Some(proto::LinuxContainerResources {
            cpu_quota: 30_000,
            cpu_period: 60_000,
            memory_limit_in_bytes: 128 << 20,
            memory_swap_limit_in_bytes: 144 << 20,
            cpuset_cpus: "1".into(),
            cpuset_mems: "0".into(),
            unified: [("memory.high".to_owned(), (100 << 20).to_string())].into(),
            ..Default::default()
        }),
        ..Default::default()
    })?;
    file(&main, "cpu.max", "30000 60000")?;
    file(&main, "memory.max", "134217728")?;
    swap(&main, "16777216")?;
    file(&main, "memory.high", "104857600")?;
    file(&main, "cpuset.cpus", "1")?;
    file(&main, "cpuset.mems", "0")
}
