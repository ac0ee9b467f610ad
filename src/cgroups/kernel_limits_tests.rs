//! Limits on the real kernel: as many of them as it has controllers for.

use super::*;
use std::collections::BTreeMap;

/// Whether the kernel has the controller; a line that says so where it has not.
fn has(bench: &Bench, test: &str, controller: &str) -> bool {
    let offered = bench.pod.read_back("cgroup.controllers").unwrap().unwrap_or_default();
    let has = offered.split(' ').any(|c| c == controller);
    if !has {
        skip(test, &format!("no cgroup v2 controller {controller}"));
    }
    has
}

fn value(n: u64) -> Option<Limit> {
    Some(Limit::Value(n))
}

#[test]
fn limits_are_what_the_kernels_files_say() {
    let Some(bench) = Bench::new("limits_are_what_the_kernels_files_say") else { return };
    let leaf = bench.leaf("c");
    let resources = Resources {
        cpu_shares: Some(512),
        cpu_quota: value(20_000),
        cpu_period: Some(50_000),
        memory_limit: value(64 << 20),
        cpuset_cpus: Some("0".into()),
        cpuset_mems: Some("0".into()),
        pids_limit: value(50),
        unified: BTreeMap::from([("memory.oom.group".to_owned(), "1".to_owned())]),
        ..Resources::default()
    };
    leaf.apply(&resources).unwrap();
    leaf.apply(&resources).unwrap();
    for (file, expected) in [
        ("cpu.weight", "59"),
        ("cpu.max", "20000 50000"),
        ("memory.max", "67108864"),
        ("memory.swap.max", "0"),
        ("memory.oom.group", "1"),
        ("cpuset.cpus", "0"),
        ("cpuset.mems", "0"),
        ("pids.max", "50"),
    ] {
        let controller = file.split('.').next().unwrap_or_default();
        if has(&bench, file, controller) {
            assert_eq!(leaf.read_back(file).unwrap().as_deref(), Some(expected), "{file}");
        }
    }
    bench.end();
}

#[test]
fn a_refused_update_leaves_every_old_value() {
    let Some(bench) = Bench::new("a_refused_update") else { return };
    let leaf = bench.leaf("c");
    if has(&bench, "a_refused_update", "cpu") {
        let good = Resources { cpu_shares: Some(512), ..Resources::default() };
        leaf.apply(&good).unwrap();
        let unified = BTreeMap::from([("cpu.wieght".to_owned(), "1".to_owned())]);
        let bad = Resources { cpu_shares: Some(1024), unified, ..Resources::default() };
        let error = leaf.apply(&bad).unwrap_err();
        assert!(error.to_string().contains("cpu.wieght"), "{error}");
        assert_eq!(leaf.read_back("cpu.weight").unwrap().as_deref(), Some("59"));
    }
    if has(&bench, "a_refused_update", "hugetlb") {
        let pages = |bytes, unified| Resources {
            hugepage_limits: BTreeMap::from([("2MB".to_owned(), bytes)]),
            unified,
            ..Resources::default()
        };
        leaf.apply(&pages(4 << 20, BTreeMap::new())).unwrap();
        assert_eq!(leaf.read_back("hugetlb.2MB.max").unwrap().as_deref(), Some("4194304"));
        let unified = BTreeMap::from([("hugetlb.3MB.max".to_owned(), "1".to_owned())]);
        let error = leaf.apply(&pages(8 << 20, unified)).unwrap_err();
        assert!(matches!(error, CgroupError::UnknownSetting { .. }), "{error}");
        assert_eq!(leaf.read_back("hugetlb.2MB.max").unwrap().as_deref(), Some("4194304"));
        let odd = Resources {
            hugepage_limits: BTreeMap::from([("3MB".to_owned(), 3 << 20)]),
            ..Resources::default()
        };
        let error = leaf.apply(&odd).unwrap_err().to_string();
        assert!(error.contains("hugetlb.3MB.max"), "{error}");
    }
    bench.end();
}

#[test]
fn cpus_that_the_node_does_not_have_are_refused() {
    let Some(bench) = Bench::new("cpus_that_the_node") else { return };
    let leaf = bench.leaf("c");
    if has(&bench, "cpus_that_the_node", "cpuset") {
        let cpus =
            |list: &str| Resources { cpuset_cpus: Some(list.to_owned()), ..Resources::default() };
        leaf.apply(&cpus("0")).unwrap();
        let error = leaf.apply(&cpus("0,4000")).unwrap_err();
        assert!(error.to_string().contains("4000"), "{error}");
        assert_eq!(leaf.read_back("cpuset.cpus").unwrap().as_deref(), Some("0"));
    }
    bench.end();
}

#[test]
fn a_memory_limit_below_use_is_refused_and_an_oom_kill_is_counted() {
    let Some(bench) = Bench::new("a_memory_limit_below_use") else { return };
    let leaf = bench.leaf("c");
    if has(&bench, "a_memory_limit_below_use", "memory") {
        let limit = |n| Resources { memory_limit: value(n), ..Resources::default() };
        leaf.apply(&limit(256 << 20)).unwrap();
        // A variable of the shell is anonymous memory.
        let hog = "x=$(head -c 33554432 /dev/zero | tr '\\0' x); sleep 600";
        let mut child = spawn_in(&leaf, hog);
        let deadline = Instant::now() + SOON;
        while leaf.stats().unwrap().memory.unwrap().rss < 32 << 20 {
            assert!(Instant::now() < deadline, "the memory is not charged");
            std::thread::yield_now();
        }
        let error = leaf.apply(&limit(8 << 20)).unwrap_err();
        assert!(error.to_string().contains("in use"), "{error}");
        assert_eq!(leaf.memory_events().unwrap().oom_kill, 0, "the control");
        leaf.kill().unwrap();
        child.wait().unwrap();
        assert!(leaf.wait_empty(SOON).unwrap());

        let tight = bench.leaf("tight");
        tight.apply(&limit(16 << 20)).unwrap();
        assert!(!run_in(&tight, "x=$(head -c 67108864 /dev/zero | tr '\\0' x); true").success());
        assert!(tight.memory_events().unwrap().oom_kill > 0);
    }
    bench.end();
}

#[test]
fn a_parent_with_processes_of_its_own_is_refused_by_name() {
    let Some(bench) = Bench::new("a_parent_with_processes") else { return };
    let busy = bench.leaf("busy");
    let offered = bench.pod.read_back("cgroup.controllers").unwrap().unwrap_or_default();
    if offered.is_empty() {
        skip("a_parent_with_processes", "no cgroup v2 controller at all");
    } else {
        let mut child = spawn_in(&busy, "exec sleep 600");
        let id = SandboxId::parse(&"b".repeat(64)).unwrap();
        let error = bench.cgroups.create_pod(busy.path(), &id, &Resources::default()).unwrap_err();
        assert!(matches!(error, CgroupError::InternalProcesses { .. }), "{error}");
        assert!(error.to_string().contains("busy"), "{error}");
        busy.kill().unwrap();
        child.wait().unwrap();
    }
    bench.end();
}
