//! A pod's folder, cgroups and shim; nothing of it is left after a test, failed or not.

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
pub(crate) const SOON: Duration = Duration::from_secs(120);

/// A sandbox's folder, cgroups and shim.
pub(crate) struct Pod {
    pub(crate) id: SandboxId,
    pub(crate) layout: Layout,
    pub(crate) cgroup: PathBuf,
    pub(crate) shim: Shim,
    pub(crate) process: InitPid,
    pub(crate) events: UnboundedReceiver<(SandboxId, ShimEvent)>,
    _folder: tempfile::TempDir,
}

/// The staged programs as they are shipped, if there are any.
pub(crate) fn stage() -> Option<PathBuf> {
    std::env::var_os("BERTH_STAGE").map(PathBuf::from)
}

pub(crate) fn binaries() -> ShimBinaries {
    let (shim, pause) = match stage() {
        Some(stage) => (stage.join("berth-shim"), stage.join("berth-pause")),
        None => {
            let shim = Path::new(env!("CARGO_BIN_EXE_berth-shim"));
            (shim.to_owned(), shim.ancestors().nth(2).unwrap().join("pause/berth-pause"))
        }
    };
    ShimBinaries::load(&shim, &pause).unwrap()
}

pub(crate) fn cgroup_root() -> &'static Path {
    let hybrid = Path::new("/sys/fs/cgroup/unified");
    if hybrid.is_dir() { hybrid } else { Path::new("/sys/fs/cgroup") }
}

impl Pod {
    pub(crate) async fn start() -> Self {
        Self::start_from(&binaries()).await
    }

    pub(crate) async fn start_from(programs: &ShimBinaries) -> Self {
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

    pub(crate) fn cgroup(&self, name: &str) -> OwnedFd {
        File::open(self.cgroup.join(name)).unwrap().into()
    }

    pub(crate) async fn start_pause(&self) -> InitPid {
        let plan = PausePlan {
            new_net: true,
            new_ipc: true,
            new_uts: true,
            hostname: Some("a-pod".to_owned()),
            sysctls: vec![("net.ipv4.ip_unprivileged_port_start".to_owned(), "7".to_owned())],
            shm_bytes: Some(1 << 20),
            ..PausePlan::default()
        };
        self.shim.start_pause(plan, self.cgroup("pause")).await.unwrap().process
    }

    pub(crate) async fn event(&mut self) -> ShimEvent {
        let (id, event) = timeout(SOON, self.events.recv()).await.unwrap().unwrap();
        assert_eq!(id, self.id);
        event
    }

    /// Drops the connection and connects anew.
    pub(crate) async fn adopt(&mut self) -> berth::shim::client::Adopted {
        let (events, inbox) = unbounded_channel();
        let (shim, adopted) = Shim::adopt(&self.id, &self.layout, events).await.unwrap();
        self.shim = shim;
        self.events = inbox;
        adopted
    }

    /// Ends the pod and asserts that nothing is left.
    pub(crate) async fn end(mut self) {
        self.shim.shutdown().await.unwrap();
        assert_eq!(self.last_event().await, ShimEvent::Disconnected);
        let process = self.process.clone();
        timeout(SOON, gone(&process)).await.unwrap();
        let empty = async {
            let events = self.cgroup.join("cgroup.events");
            while !std::fs::read_to_string(&events).unwrap().contains("populated 0") {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(SOON, empty).await.unwrap();
    }

    pub(crate) async fn last_event(&mut self) -> ShimEvent {
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

pub(crate) async fn spawn(
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
    let (shim, begun) = Shim::spawn(request, events).await?;
    Ok((shim, begun.process))
}

pub(crate) async fn gone(process: &InitPid) {
    while process.alive() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) fn read(pid: i32, file: &str) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap()
}

/// Private memory in KiB as the budget counts it.
pub(crate) fn private_kib(pid: i32) -> u64 {
    read(pid, "smaps_rollup")
        .lines()
        .filter(|l| l.starts_with("Private_") || l.starts_with("Swap:"))
        .map(|l| l.split_ascii_whitespace().nth(1).unwrap().parse::<u64>().unwrap())
        .sum()
}
