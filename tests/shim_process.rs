//! The real shim and the real pause, driven by the daemon's client. Needs root, and pause built:
//! `cargo build -p berth-pause --profile pause`.

#![cfg(feature = "daemon")]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use berth::ids::{SandboxId, random_hex};
use berth::shim::client::{Events, PausePlan, Shim, ShimBinaries, ShimError, ShimEvent, SpawnShim};
use berth::store::Layout;
use berth::sys::process::InitPid;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;

/// Generous: the machine may be slow, a test that hangs is worse.
const SOON: Duration = Duration::from_secs(30);

/// A sandbox's folder, cgroups and shim.
struct Pod {
    id: SandboxId,
    layout: Layout,
    cgroup: PathBuf,
    shim: Shim,
    process: InitPid,
    events: UnboundedReceiver<(SandboxId, ShimEvent)>,
    _folder: tempfile::TempDir,
}

fn binaries() -> ShimBinaries {
    let shim = std::env::var_os("BERTH_TEST_SHIM")
        .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_berth-shim")), PathBuf::from);
    let target = Path::new(env!("CARGO_BIN_EXE_berth-shim")).ancestors().nth(2).unwrap();
    ShimBinaries::load(&shim, &target.join("pause/berth-pause")).unwrap()
}

fn cgroup_root() -> &'static Path {
    let hybrid = Path::new("/sys/fs/cgroup/unified");
    if hybrid.is_dir() { hybrid } else { Path::new("/sys/fs/cgroup") }
}

impl Pod {
    async fn start() -> Self {
        Self::start_from(&binaries()).await
    }

    async fn start_from(programs: &ShimBinaries) -> Self {
        let id = SandboxId::parse(&random_hex().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path().join("run"), folder.path().join("state"));
        layout.create().unwrap();
        std::fs::create_dir(layout.sandbox(&id)).unwrap();
        let cgroup = cgroup_root().join(format!("berth-test-{}", id.short()));
        for name in ["shim", "pause", "container"] {
            std::fs::create_dir_all(cgroup.join(name)).unwrap();
        }
        let (events, inbox) = unbounded_channel();
        let (shim, process) = spawn(&id, &layout, &cgroup, programs, events).await.unwrap();
        Self { id, layout, cgroup, shim, process, events: inbox, _folder: folder }
    }

    fn cgroup(&self, name: &str) -> OwnedFd {
        File::open(self.cgroup.join(name)).unwrap().into()
    }

    async fn start_pause(&self) -> InitPid {
        let plan = PausePlan {
            new_net: true,
            new_ipc: true,
            new_uts: true,
            hostname: Some("a-pod".to_owned()),
            sysctls: vec![("net.ipv4.ip_unprivileged_port_start".to_owned(), "7".to_owned())],
            shm_bytes: Some(1 << 20),
            ..PausePlan::default()
        };
        self.shim.start_pause(plan, self.cgroup("pause")).await.unwrap()
    }

    async fn event(&mut self) -> ShimEvent {
        let (id, event) = timeout(SOON, self.events.recv()).await.unwrap().unwrap();
        assert_eq!(id, self.id);
        event
    }

    /// Drops the connection and connects anew.
    async fn adopt(&mut self) -> berth::shim::client::Adopted {
        let (events, inbox) = unbounded_channel();
        let (shim, adopted) = Shim::adopt(&self.id, &self.layout, events).await.unwrap();
        self.shim = shim;
        self.events = inbox;
        adopted
    }

    /// Ends the pod and asserts that nothing is left.
    async fn end(mut self) {
        self.shim.shutdown().await.unwrap();
        assert_eq!(self.last_event().await, ShimEvent::Disconnected);
        let process = self.process.clone();
        timeout(SOON, gone(&process)).await.unwrap();
        let left = std::fs::read_to_string(self.cgroup.join("cgroup.events")).unwrap();
        assert!(left.contains("populated 0"), "{left}");
    }

    async fn last_event(&mut self) -> ShimEvent {
        loop {
            let event = self.event().await;
            if event == ShimEvent::Disconnected {
                return event;
            }
        }
    }
}

/// Also after a failed assertion.
impl Drop for Pod {
    fn drop(&mut self) {
        std::fs::write(self.cgroup.join("cgroup.kill"), "1").ok();
        for name in ["shim", "pause", "container", ""] {
            let path = self.cgroup.join(name);
            let end = std::time::Instant::now() + SOON;
            while path.exists() && std::fs::remove_dir(&path).is_err() {
                assert!(std::time::Instant::now() < end, "{} is not empty", path.display());
                std::thread::yield_now();
            }
        }
    }
}

async fn spawn(
    id: &SandboxId,
    layout: &Layout,
    cgroup: &Path,
    programs: &ShimBinaries,
    events: Events,
) -> Result<(Shim, InitPid), ShimError> {
    let cgroup = File::open(cgroup.join("shim")).unwrap();
    let request = SpawnShim {
        sandbox: id,
        binaries: programs,
        layout,
        cgroup: cgroup.as_fd(),
        oom_score_adj: 0,
        best_effort_privileges: true,
    };
    Shim::spawn(request, events).await
}

async fn gone(process: &InitPid) {
    while process.alive() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn namespace(pid: i32, kind: &str) -> PathBuf {
    std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap()
}

fn read(pid: i32, file: &str) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap()
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

/// Private memory in KiB as the budget counts it.
fn private_kib(pid: i32) -> u64 {
    read(pid, "smaps_rollup")
        .lines()
        .filter(|l| l.starts_with("Private_") || l.starts_with("Swap:"))
        .map(|l| l.split_ascii_whitespace().nth(1).unwrap().parse::<u64>().unwrap())
        .sum()
}

#[tokio::test]
async fn ten_pods_stay_in_the_memory_budget() {
    if std::env::var_os("BERTH_TEST_SHIM").is_none() {
        eprintln!("skipped: set BERTH_TEST_SHIM to the shim as it is shipped");
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
