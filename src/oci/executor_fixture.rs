//! What the executor's tests share: a process alone, a root with busybox, containers.
//!
//! A clone needs a process with one thread, and the tests make mount namespaces: each test runs
//! this test binary again with only itself in it, forks, and works in the fork, in a mount
//! namespace of its own.

use std::fs;
use std::io::Read as _;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::fcntl::{AT_FDCWD, OFlag};
use oci_spec::runtime::{Process, Spec};
use serde_json::{Value, json};

use super::maps::NewUserns;
use super::prepare::{PodContext, Volumes, prepare, prepare_exec};
use super::{PodHandles, Report, Spawned, Stdio, StepError, parse_report, spawn_exec, spawn_init};
use crate::config::Enforce;
use crate::sys::mount::{self, Propagation, Reach};
use crate::sys::path::c_path;
use crate::sys::process::{self, SingleThreaded};

const ALONE: &str = "BERTH_TEST_ALONE";

/// Runs `body` in a process of its own; cleans up whatever it left.
pub(super) fn alone(name: &str, body: impl FnOnce(&World)) {
    let cgroup = |id: u32| cgroup_root().join(format!("berth-oci-{name}-{id}"));
    if std::env::var(ALONE).as_deref() == Ok(name) {
        in_a_fork(|| {
            let proof = SingleThreaded::prove().unwrap();
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
            mount::set_propagation(c"/", Propagation::Private, Reach::Tree).unwrap();
            let dir = PathBuf::from(std::env::var("BERTH_TEST_DIR").unwrap());
            let id = std::env::var("BERTH_TEST_ID").unwrap().parse().unwrap();
            body(&World { proof, dir, cgroup: cgroup(id) });
        });
        return;
    }
    assert!(nix::unistd::geteuid().is_root(), "the executor's tests need root");
    let dir = tempfile::tempdir().unwrap();
    let cgroup = cgroup(std::process::id());
    fs::create_dir(&cgroup).unwrap();
    fs::create_dir(cgroup.join("x0")).unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args([&format!("oci::executor_tests::{name}"), "--exact", "--test-threads=1"])
        .arg("--nocapture")
        .env(ALONE, name)
        .env("BERTH_TEST_DIR", dir.path())
        .env("BERTH_TEST_ID", std::process::id().to_string())
        .output()
        .unwrap();
    fs::write(cgroup.join("cgroup.kill"), "1").unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    for cgroup in [cgroup.join("x0"), cgroup] {
        while fs::remove_dir(&cgroup).is_err() {
            assert!(Instant::now() < deadline, "{} stays busy", cgroup.display());
            std::thread::yield_now();
        }
    }
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// libtest runs even a lone test beside its main thread: a fork has one thread for certain.
#[expect(unsafe_code, clippy::disallowed_methods, reason = "the only other thread just waits")]
fn in_a_fork(body: impl FnOnce()) {
    // SAFETY: the other thread of this process waits for this one and holds no lock; the C
    // library's fork keeps its own usable.
    match unsafe { nix::unistd::fork() }.unwrap() {
        nix::unistd::ForkResult::Child => {
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
            crate::sys::clone::exit(i32::from(done.is_err()))
        }
        nix::unistd::ForkResult::Parent { child } => {
            let status = nix::sys::wait::waitpid(child, None).unwrap();
            assert_eq!(status, nix::sys::wait::WaitStatus::Exited(child, 0));
        }
    }
}

pub(super) fn cgroup_root() -> PathBuf {
    let unified = Path::new("/sys/fs/cgroup/unified");
    if unified.is_dir() { unified.to_owned() } else { PathBuf::from("/sys/fs/cgroup") }
}

pub(super) struct World {
    pub(super) proof: SingleThreaded,
    pub(super) dir: PathBuf,
    pub(super) cgroup: PathBuf,
}

pub(super) struct Ended {
    pub(super) report: Report,
    pub(super) out: String,
    pub(super) code: Option<i32>,
}

impl Ended {
    pub(super) fn failure(self) -> StepError {
        let Report::Failed(error) = self.report else { panic!("not failed: {}", self.out) };
        error
    }

    pub(super) fn line(&self, start: &str) -> &str {
        let found = self.out.lines().find_map(|l| l.strip_prefix(start));
        found.unwrap_or_else(|| panic!("no line {start}: {}", self.out)).trim()
    }
}

pub(super) struct Running {
    pub(super) spawned: Spawned,
    pub(super) out: OwnedFd,
}

impl Running {
    pub(super) fn finish(self) -> Ended {
        let mut out = String::new();
        fs::File::from(self.out).read_to_string(&mut out).unwrap();
        let report = read_report(&self.spawned);
        let code = process::wait_pidfd(self.spawned.pidfd.as_fd()).unwrap().exit_code();
        Ended { report, out, code: Some(code) }
    }
}

pub(super) fn read_report(spawned: &Spawned) -> Report {
    nix::fcntl::fcntl(&spawned.report, nix::fcntl::FcntlArg::F_SETFL(OFlag::empty())).unwrap();
    let mut bytes = Vec::new();
    fs::File::from(spawned.report.try_clone().unwrap()).read_to_end(&mut bytes).unwrap();
    parse_report(&bytes)
}

pub(super) fn open(path: &Path) -> OwnedFd {
    fs::File::open(path).unwrap().into()
}

pub(super) fn stdio() -> (Stdio, OwnedFd) {
    let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC).unwrap();
    let stderr = writer.try_clone().unwrap();
    (Stdio::Streams { stdin: None, stdout: writer, stderr }, reader)
}

impl World {
    /// A root with busybox, fresh.
    pub(super) fn rootfs(&self) -> PathBuf {
        let root = self.dir.join("rootfs");
        fs::create_dir_all(root.join("bin")).unwrap();
        fs::create_dir_all(root.join("etc")).unwrap();
        fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
        for name in ["sh", "cat", "ls", "sleep", "id", "true"] {
            symlink("busybox", root.join("bin").join(name)).unwrap();
        }
        root
    }

    pub(super) fn detached(&self, path: &Path) -> OwnedFd {
        mount::clone_tree(AT_FDCWD, &c_path(path).unwrap(), Reach::One).unwrap()
    }

    /// A cgroup without limits beside the test's own.
    pub(super) fn beside(&self) -> OwnedFd {
        open(&cgroup_root())
    }

    pub(super) fn start(
        &self,
        spec: &Value,
        root: &Path,
        pod: &PodContext,
    ) -> Result<Running, StepError> {
        let spec: Spec = serde_json::from_value(spec.clone()).unwrap();
        let prepared = prepare(&spec, self.detached(root), pod)
            .unwrap_or_else(|e| panic!("{}", crate::error::chain(&e)));
        let (cgroup, beside) = (open(&self.cgroup), self.beside());
        let pause = pod.pause.as_ref().map(|p| p.pidfd().unwrap().unwrap());
        let handles = PodHandles {
            pause_pidfd: pause.as_ref().map(AsFd::as_fd),
            shm: Some(c"/dev/shm"),
            cgroup: cgroup.as_fd(),
            fallback_cgroup: beside.as_fd(),
        };
        let (stdio, out) = stdio();
        let spawned = spawn_init(&self.proof, &prepared.plan, prepared.fds, stdio, &handles)?;
        Ok(Running { spawned, out })
    }

    pub(super) fn run(&self, spec: &Value) -> Ended {
        let root = self.rootfs();
        self.start(spec, &root, &lonely()).unwrap().finish()
    }

    pub(super) fn exec(
        &self,
        spec: &Value,
        process: &Value,
        init: &Running,
    ) -> Result<Running, StepError> {
        let spec: Spec = serde_json::from_value(spec.clone()).unwrap();
        let process: Process = serde_json::from_value(process.clone()).unwrap();
        let plan = prepare_exec(&spec, &process, &lonely()).unwrap();
        let (slot, fallback) = (open(&self.cgroup.join("x0")), self.beside());
        let handles = PodHandles {
            pause_pidfd: None,
            shm: None,
            cgroup: slot.as_fd(),
            fallback_cgroup: fallback.as_fd(),
        };
        let (stdio, out) = stdio();
        let init = init.spawned.pidfd.as_fd();
        let spawned = spawn_exec(&self.proof, &plan, init, stdio, &handles)?;
        Ok(Running { spawned, out })
    }
}

pub(super) fn lonely() -> PodContext {
    PodContext {
        pause: None,
        privileges: Enforce::BestEffort,
        target: None,
        new_userns: NewUserns::Fork,
        volumes: Volumes::default(),
        hooks: None,
    }
}

pub(super) fn shell(script: &str) -> Value {
    let caps = json!(["CAP_KILL", "CAP_CHOWN"]);
    json!({
        "args": ["/bin/sh", "-c", script],
        "env": ["PATH=/bin", "A=b c"],
        "cwd": "/made/here",
        "user": { "uid": 0, "gid": 0, "additionalGids": [7, 8] },
        "capabilities": { "bounding": caps, "effective": caps, "permitted": caps },
        "noNewPrivileges": true,
        "oomScoreAdj": 321,
        "rlimits": [{ "type": "RLIMIT_NOFILE", "soft": 100, "hard": 200 }],
    })
}

pub(super) fn container(script: &str) -> Value {
    json!({
        "ociVersion": "1.2.0",
        "process": shell(script),
        "root": { "path": "rootfs", "readonly": true },
        "hostname": "inside",
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc",
              "options": ["nosuid", "noexec", "nodev"] },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
              "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] },
            { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
              "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"] },
            { "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
              "options": ["nosuid", "noexec", "nodev"] },
            { "destination": "/sys", "type": "sysfs", "source": "sysfs",
              "options": ["nosuid", "noexec", "nodev", "ro"] },
            { "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
              "options": ["nosuid", "noexec", "nodev", "relatime", "ro"] },
        ],
        "linux": {
            "namespaces": [
                { "type": "pid" }, { "type": "mount" }, { "type": "uts" }, { "type": "ipc" },
                { "type": "cgroup" }, { "type": "network" },
            ],
            "sysctl": { "kernel.shm_rmid_forced": "1", "net.core.somaxconn": "77" },
            "maskedPaths": ["/proc/version", "/sys/firmware", "/proc/acpi", "/not/there"],
            "readonlyPaths": ["/proc/sys", "/not/there"],
        },
    })
}
