//! Shim and pause: apart from the host, adopted, ended.

use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::time::Duration;

use berth::ids::{SandboxId, random_hex};
use berth::shim::client::{PausePlan, Shim, ShimError, ShimEvent};
use berth::store::Layout;
use tokio::sync::mpsc::unbounded_channel;
use tokio::time::timeout;

use super::world::{Pod, binaries, cgroup_root, private_kib, read, spawn, stage};

fn namespace(pid: i32, kind: &str) -> PathBuf {
    std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap()
}

#[tokio::test]
async fn a_shim_and_its_pause_run_apart_from_the_host_and_end_without_a_trace() {
    let pod = Pod::start().await;
    let (own, shim) = (std::process::id().cast_signed(), pod.process.pid);
    let pause = pod.start_pause().await;
    // The shim's tree holds nothing of the host's.
    let mounts: Vec<String> = read(shim, "mountinfo")
        .lines()
        .map(|line| line.split(' ').nth(4).unwrap().to_owned())
        .collect();
    assert_eq!(mounts, ["/", "/proc", "/sys", "/shm"]);
    for kind in ["net", "ipc", "uts"] {
        assert_ne!(namespace(pause.pid, kind), namespace(own, kind), "{kind}");
        assert_eq!(namespace(shim, kind), namespace(own, kind), "{kind}");
    }
    assert_eq!(namespace(pause.pid, "pid"), namespace(own, "pid"));
    // Both are in their cgroups, and neither is a file of the host.
    let in_cgroup = |pid, name: &str| {
        read(pid, "cgroup").lines().any(|line| {
            line.starts_with("0::") && line.ends_with(&format!("{}/{name}", pod.id.short()))
        })
    };
    assert!(in_cgroup(shim, "shim"));
    assert!(in_cgroup(pause.pid, "pause"));
    for pid in [shim, pause.pid] {
        let exe = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap();
        assert!(exe.to_str().unwrap().starts_with("/memfd:"), "{exe:?}");
        let status = read(pid, "status");
        assert!(status.contains("Umask:\t0022"), "{status}");
    }
    assert!(read(pause.pid, "status").contains("SigIgn:\t0000000000000000"));
    // The parameters are the pod's alone.
    let started = std::process::Command::new("nsenter")
        .args(["-t", &pause.pid.to_string(), "-n", "-u", "sh", "-c"])
        .arg("hostname; cat /proc/sys/net/ipv4/ip_unprivileged_port_start")
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(started.stdout).unwrap(), "a-pod\n7\n");
    pod.end().await;
    assert!(!pause.alive());
}

#[tokio::test]
async fn a_new_connection_finds_what_runs_and_hears_what_was_not_acknowledged() {
    let mut pod = Pod::start().await;
    let pause = pod.start_pause().await;
    let adopted = pod.adopt().await;
    assert_eq!(adopted.shim, pod.process);
    assert_eq!(adopted.pause, Some(pause.clone()));
    assert!(adopted.containers.is_empty());
    // Pause is killed behind the shim's back.
    let pidfd = pause.pidfd().unwrap().unwrap();
    berth::sys::process::kill(pidfd.as_fd()).unwrap();
    assert_eq!(pod.event().await, ShimEvent::PauseExited { seq: 1 });
    let adopted = pod.adopt().await;
    assert_eq!(adopted.pause, None);
    assert_eq!(pod.event().await, ShimEvent::PauseExited { seq: 1 });
    pod.shim.ack(1).await.unwrap();
    pod.adopt().await;
    let silent = timeout(Duration::from_millis(200), pod.events.recv()).await;
    assert!(silent.is_err(), "{silent:?}");
    pod.end().await;
}

#[tokio::test]
async fn what_pause_cannot_be_given_is_an_error_that_names_the_step() {
    let pod = Pod::start().await;
    let plan = PausePlan {
        new_net: true,
        sysctls: vec![("net.nonsense".to_owned(), "1".to_owned())],
        ..PausePlan::default()
    };
    let error = pod.shim.start_pause(plan, pod.cgroup("pause")).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "write a setting /proc/sys/net/nonsense: No such file or directory"
    );
    // Nothing was started, so it can be asked for again.
    pod.start_pause().await;
    pod.end().await;
}

#[tokio::test]
async fn a_shim_that_cannot_start_says_why_and_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::new(folder.path().join("run"), folder.path().join("state"));
    layout.create().unwrap();
    let id = SandboxId::parse(&random_hex().unwrap()).unwrap();
    std::fs::create_dir(layout.sandbox(&id)).unwrap();
    let cgroup = cgroup_root().join(format!("berth-test-{}", id.short()));
    std::fs::create_dir_all(cgroup.join("shim")).unwrap();
    // A file where the folder for exit records is to be.
    std::fs::write(layout.exits(&id), "").unwrap();
    let (events, _inbox) = unbounded_channel();
    let error = spawn(&id, &layout, &cgroup, &binaries(), events).await.unwrap_err();
    assert_eq!(error.to_string(), "make the folder for exit records of a shim");
    for name in ["shim", ""] {
        std::fs::remove_dir(cgroup.join(name)).unwrap();
    }
}

#[tokio::test]
async fn nobody_answers_for_a_shim_that_is_gone() {
    let mut pod = Pod::start().await;
    let pidfd = pod.process.pidfd().unwrap().unwrap();
    berth::sys::process::kill(pidfd.as_fd()).unwrap();
    assert_eq!(pod.event().await, ShimEvent::Disconnected);
    assert!(matches!(pod.shim.ack(1).await, Err(ShimError::Disconnected("ack"))));
    let (events, _inbox) = unbounded_channel();
    let error = Shim::adopt(&pod.id, &pod.layout, events).await.unwrap_err();
    // A child of another test, between clone and exec, may hold a copy of the listening socket.
    let gone = matches!(error, ShimError::Connect(_) | ShimError::Disconnected("hello"));
    assert!(gone, "{error}");
}

#[tokio::test]
async fn ten_pods_stay_in_the_memory_budget() {
    if stage().is_none() {
        eprintln!("skipped: BERTH_STAGE names no programs as they are shipped");
        return;
    }
    // One copy of the programs for all, as in the daemon.
    let programs = binaries();
    let (mut shims, mut pauses, mut pods) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..10 {
        let pod = Pod::start_from(&programs).await;
        pauses.push(pod.start_pause().await);
        pods.push(pod);
    }
    for (pod, pause) in pods.iter().zip(&pauses) {
        shims.push((private_kib(pod.process.pid), private_kib(pause.pid)));
    }
    shims.sort_unstable();
    let (shim, pause) = shims[5];
    eprintln!("private memory: shim {shim} KiB, pause {pause} KiB of {shims:?}");
    assert!(shim < 200, "shim: {shim} KiB");
    assert!(pause < 16, "pause: {pause} KiB");
    for pod in pods {
        pod.end().await;
    }
}
