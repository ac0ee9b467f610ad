//! On the real kernel, in a cgroup of the test's own. Needs root and a cgroup v2 mount; runs without
//! controllers, too.

use super::*;
use crate::cgroups::{DeviceRule, Limit, Verdict};
use crate::config::{CgroupDriver, Enforce};
use crate::sys::process::Ended;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(60);

/// A pod cgroup below a parent of its own; both must be gone after the test.
struct Bench {
    cgroups: Cgroups,
    parent: CgroupPath,
    pod: PodCgroup,
}

impl Bench {
    /// `None`, with a line that says so, where the test cannot run.
    fn new(test: &str) -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        if !nix::unistd::geteuid().is_root() {
            return skip(test, "not root");
        }
        let open = |root: &str| {
            let (driver, enforce) = (CgroupDriver::Cgroupfs, Enforce::BestEffort);
            Cgroups::open(&config::Cgroups { driver, enforce, root: root.into() }).ok()
        };
        let Some(cgroups) = open("/sys/fs/cgroup").or_else(|| open("/sys/fs/cgroup/unified"))
        else {
            return skip(test, "no cgroup v2 mount");
        };
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("/berth-test-{}-{number}/inner", std::process::id());
        let parent = cgroups.parent_path(Some(&name)).unwrap();
        let id = SandboxId::parse(&crate::ids::random_hex().unwrap()).unwrap();
        let pod = cgroups.create_pod(&parent, &id, &Resources::default()).unwrap();
        Some(Self { cgroups, parent, pod })
    }

    fn leaf(&self, name: &str) -> Leaf {
        let leaf = self.pod.leaf(name);
        leaf.create().unwrap();
        leaf
    }

    fn end(self) {
        self.pod.kill().unwrap();
        assert!(self.pod.wait_empty(SOON).unwrap());
        self.pod.remove().unwrap();
        let top = self.parent.parent().unwrap().below(self.cgroups.root());
        assert!(!top.exists(), "{} is left behind", top.display());
    }
}

#[expect(clippy::print_stderr, reason = "a test that did not run says so")]
fn skip(test: &str, why: &str) -> Option<Bench> {
    eprintln!("skipped: {test}: {why}");
    None
}

/// Runs `script` in the cgroup. It has said `in` when this returns.
fn spawn_in(group: &Group, script: &str) -> Child {
    let script = format!(
        "echo $$ > {}/cgroup.procs && echo in && {{ {script}; }}",
        group.folder().display()
    );
    let mut child = Command::new("sh")
        .args(["-c", &script])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    out.read_line(&mut line).unwrap();
    assert_eq!(line, "in\n");
    child
}

fn run_in(group: &Group, script: &str) -> ExitStatus {
    spawn_in(group, script).wait().unwrap()
}

#[test]
fn a_pod_is_made_twice_and_removed_twice_with_the_folders_above_it() {
    let Some(bench) = Bench::new("a_pod_is_made_twice") else { return };
    let id = SandboxId::parse(bench.pod.path().name()).unwrap();
    bench.cgroups.create_pod(&bench.parent, &id, &Resources::default()).unwrap();
    bench.leaf("pause").create().unwrap();
    let pod = bench.pod.clone();
    bench.end();
    pod.remove().unwrap();
    pod.kill().unwrap();
    assert!(!pod.populated().unwrap());
    assert!(pod.wait_empty(SOON).unwrap());
    assert_eq!(pod.pids().unwrap(), Vec::<i32>::new());
    assert_eq!(pod.stats().unwrap_err().kind(), crate::error::ErrorKind::NotFound);
}

#[test]
fn pods_made_and_removed_at_once_below_one_parent_never_fail() {
    let Some(bench) = Bench::new("pods_made_and_removed_at_once") else { return };
    let parent = bench.parent.child("shared").child("deep");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..50 {
                    let id = SandboxId::parse(&crate::ids::random_hex().unwrap()).unwrap();
                    let pod = bench.cgroups.create_pod(&parent, &id, &Resources::default());
                    let pod = pod.unwrap();
                    pod.leaf("c").create().unwrap();
                    pod.remove().unwrap();
                }
            });
        }
    });
    assert!(!parent.below(bench.cgroups.root()).exists());
    bench.end();
}

#[test]
fn a_leaf_of_a_pod_that_is_gone_is_not_made() {
    let Some(bench) = Bench::new("a_leaf_of_a_pod_that_is_gone") else { return };
    let pod = bench.pod.clone();
    bench.end();
    let error = pod.leaf("c").create().unwrap_err();
    assert_eq!(error.kind(), crate::error::ErrorKind::NotFound);
    assert!(!pod.exists());
}

#[test]
fn a_folder_that_somebody_else_made_stays_when_its_last_pod_goes() {
    let Some(bench) = Bench::new("a_folder_that_somebody_else_made") else { return };
    let foreign = bench.parent.child("foreign");
    let folder = foreign.below(bench.cgroups.root());
    std::fs::create_dir(&folder).unwrap();
    let id = SandboxId::parse(&"a".repeat(64)).unwrap();
    let pod = bench.cgroups.create_pod(&foreign, &id, &Resources::default()).unwrap();
    pod.remove().unwrap();
    let stayed = folder.exists();
    std::fs::remove_dir(&folder).unwrap();
    bench.end();
    assert!(stayed);
}

#[test]
fn a_kill_reaches_children_of_children_and_the_wait_sees_it() {
    let Some(bench) = Bench::new("a_kill_reaches_children") else { return };
    let leaf = bench.leaf("c");
    assert!(!leaf.populated().unwrap());
    let mut child = spawn_in(&leaf, "(sleep 600 & sleep 600 & wait) & wait");
    let begun = Instant::now();
    while leaf.pids().unwrap().len() < 4 {
        assert!(begun.elapsed() < SOON, "two shells and two children: {:?}", leaf.pids());
        std::thread::yield_now();
    }
    assert!(leaf.populated().unwrap() && bench.pod.populated().unwrap());
    assert!(leaf.pids().unwrap().contains(&i32::try_from(child.id()).unwrap()));
    let began = Instant::now();
    assert!(!leaf.wait_empty(Duration::from_millis(50)).unwrap(), "the control: it runs on");
    assert!(began.elapsed() >= Duration::from_millis(50));
    leaf.kill().unwrap();
    assert!(leaf.wait_empty(SOON).unwrap());
    assert!(!child.wait().unwrap().success());
    bench.end();
}

#[test]
fn a_cgroup_in_use_is_not_removed_and_the_error_names_who_is_in_it() {
    let Some(bench) = Bench::new("a_cgroup_in_use") else { return };
    let leaf = bench.leaf("c");
    let mut child = spawn_in(&leaf, "exec sleep 600");
    let error = bench.pod.remove().unwrap_err();
    let pid = i32::try_from(child.id()).unwrap();
    assert!(matches!(&error, CgroupError::Busy { pids, .. } if *pids == [pid]), "{error}");
    leaf.kill().unwrap();
    child.wait().unwrap();
    bench.end();
}

#[test]
fn exec_slots_are_distinct_while_held_or_in_use_and_reused_when_empty() {
    let Some(bench) = Bench::new("exec_slots") else { return };
    let leaf = bench.leaf("c");
    let mut init = spawn_in(&leaf, "exec sleep 600");
    let (first, second) = (leaf.exec_slot().unwrap(), leaf.exec_slot().unwrap());
    assert_eq!((first.path().name(), second.path().name()), ("x0", "x1"));
    let mut exec = spawn_in(&first, "exec sleep 600");
    drop((first, second));
    let third = leaf.exec_slot().unwrap();
    assert_eq!(third.path().name(), "x1", "x0 is in use, x1 is free again");
    let fourth = leaf.exec_slot().unwrap();
    assert_eq!(fourth.path().name(), "x2");
    leaf.kill().unwrap();
    exec.wait().unwrap();
    init.wait().unwrap();
    assert!(leaf.wait_empty(SOON).unwrap());
    drop((third, fourth));
    assert_eq!(leaf.exec_slot().unwrap().path().name(), "x0");
    bench.end();
}

/// Linux 6.18 kills at birth whatever is cloned into a cgroup that was ever killed.
#[test]
fn a_slot_that_was_killed_serves_the_next_exec() {
    let Some(bench) = Bench::new("a_slot_that_was_killed") else { return };
    let leaf = bench.leaf("c");
    for round in 0..3 {
        let slot = leaf.exec_slot().unwrap();
        assert_eq!(slot.path().name(), "x0", "round {round}");
        let dir = slot.open_fd().unwrap();
        let born = |program: &str| {
            use std::os::fd::AsFd as _;
            crate::sys::spawn::Spawn::new(program).cgroup(dir.as_fd()).spawn()
        };
        let ended = born("/bin/true").map(|child| child.wait().unwrap());
        assert!(matches!(ended, Ok(Ended::Code(0))), "round {round}: {ended:?}");
        slot.kill().unwrap();
        assert!(slot.wait_empty(SOON).unwrap());
    }
    bench.end();
}

#[test]
fn a_denied_device_cannot_be_opened_and_rules_are_replaced() {
    let Some(bench) = Bench::new("a_denied_device") else { return };
    let leaf = bench.leaf("c");
    let zero = "head -c1 /dev/zero > /dev/null";
    assert!(run_in(&leaf, zero).success(), "the control: without rules it opens");

    let deny = DeviceRule { verdict: Verdict::Deny, ..DeviceRule::char(1, Some(5)) };
    leaf.set_devices(&[DeviceRule::ALLOW_ALL, deny]).unwrap();
    assert!(!run_in(&leaf, zero).success());
    assert!(run_in(&leaf, "head -c1 /dev/urandom > /dev/null").success());
    let slot = leaf.exec_slot().unwrap();
    assert!(!run_in(&slot, zero).success(), "the rules hold below, too");

    for rules in [DeviceRule::defaults(), DeviceRule::defaults(), vec![DeviceRule::ALLOW_ALL]] {
        leaf.set_devices(&rules).unwrap();
        assert!(run_in(&leaf, zero).success());
        let fd = leaf.open_fd().unwrap();
        let programs = crate::sys::bpf::query_device_programs(std::os::fd::AsFd::as_fd(&fd));
        assert_eq!(programs.unwrap().len(), 1);
    }
    bench.end();
}

#[test]
fn the_default_rules_deny_a_block_device_and_permit_its_node() {
    let Some(bench) = Bench::new("the_default_rules") else { return };
    let leaf = bench.leaf("c");
    let temp = tempfile::tempdir().unwrap();
    // Block 259:1048575 has no driver: a permitted open fails with ENXIO, a denied one with EPERM.
    let node = temp.path().join("node");
    let open = format!(
        "python3 -c 'import os,sys
try: os.open(\"{}\", os.O_RDONLY)
except OSError as e: sys.exit(e.errno)'",
        node.display()
    );
    let mknod = format!("mknod {} b 259 1048575", node.display());
    leaf.set_devices(&DeviceRule::defaults()).unwrap();
    assert!(run_in(&leaf, &mknod).success());
    assert_eq!(run_in(&leaf, &open).code(), Some(libc::EPERM));
    leaf.set_devices(&[DeviceRule::ALLOW_ALL]).unwrap();
    assert_eq!(run_in(&leaf, &open).code(), Some(libc::ENXIO), "the control");
    bench.end();
}

#[test]
fn cpu_time_of_what_ran_is_told() {
    let Some(bench) = Bench::new("cpu_time_of_what_ran") else { return };
    let leaf = bench.leaf("c");
    let before = leaf.stats().unwrap().cpu.unwrap_or_default().usage_usec;
    run_in(&leaf, "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done");
    let stats = leaf.stats().unwrap();
    assert!(stats.cpu.unwrap().usage_usec > before);
    assert!(stats.timestamp_nanos > 0);
    bench.end();
}

#[test]
fn missing_controllers_are_an_error_when_required_and_told_when_not() {
    let Some(bench) = Bench::new("missing_controllers") else { return };
    let leaf = bench.leaf("c");
    let resources = Resources { pids_limit: Some(Limit::Value(64)), ..Resources::default() };
    leaf.apply(&resources).unwrap();
    let written = leaf.read_back("pids.max").unwrap();
    let degraded = bench.cgroups.degraded();
    let config =
        config::Cgroups { root: bench.cgroups.root().to_owned(), ..config::Cgroups::default() };
    match degraded.iter().any(|line| line.contains("pids")) {
        false => assert_eq!(written.as_deref(), Some("64")),
        true => {
            assert_eq!(written, None);
            let error = Cgroups::open(&config).unwrap_err().to_string();
            assert!(error.contains("pids"), "{error}");
        }
    }
    bench.end();
}

#[test]
fn shims_and_helpers_live_outside_every_pod() {
    let Some(bench) = Bench::new("shims_and_helpers") else { return };
    let id = SandboxId::parse(&crate::ids::random_hex().unwrap()).unwrap();
    let (shim, helpers) = (bench.cgroups.shim(&id), bench.cgroups.helpers(&id));
    assert_eq!(shim.path().as_str(), format!("/berth-shims/{id}"));
    shim.create().unwrap();
    helpers.create().unwrap();
    assert!(bench.cgroups.owned_sandboxes().contains(&id));
    shim.remove().unwrap();
    helpers.remove().unwrap();
    assert!(!bench.cgroups.owned_sandboxes().contains(&id));
    bench.end();
}

#[test]
fn the_systemd_driver_needs_a_runtime_and_says_where_a_pod_will_be() {
    let id = SandboxId::parse(&"a".repeat(64)).unwrap();
    let open = |driver| {
        let root = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(std::path::PathBuf::from);
        let open =
            |root| Cgroups::open(&config::Cgroups { driver, enforce: Enforce::BestEffort, root });
        root.map(open).into_iter().find(|opened| {
            !matches!(opened, Err(CgroupError::NotCgroup2 { .. } | CgroupError::Access { .. }))
        })
    };
    let Some(outside) = open(CgroupDriver::Systemd) else {
        skip("the_systemd_driver", "no cgroup v2 mount");
        return;
    };
    assert_eq!(outside.unwrap_err().kind(), crate::error::ErrorKind::Unavailable);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let _inside = runtime.enter();
    for (driver, parent, pod) in [
        (CgroupDriver::Systemd, None, format!("/berth.slice/berth-{id}.scope")),
        (CgroupDriver::Systemd, Some("k-p.slice"), format!("/k.slice/k-p.slice/berth-{id}.scope")),
        (CgroupDriver::Cgroupfs, None, format!("/berth/{id}")),
        (CgroupDriver::Cgroupfs, Some("/k/p"), format!("/k/p/{id}")),
    ] {
        let cgroups = open(driver).unwrap().unwrap();
        let parent = cgroups.parent_path(parent).unwrap();
        assert_eq!(cgroups.pod_path(&parent, &id).as_str(), pod);
    }
}

#[path = "kernel_limits_tests.rs"]
mod limits;
