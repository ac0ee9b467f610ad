//! Starting a shim: what it is given, and how the daemon knows that it is ready.
//!
//! | descriptor | what                                                               |
//! |------------|--------------------------------------------------------------------|
//! | 0, 1       | /dev/null; the shim hands 0 on                                     |
//! | 2          | a pipe: closed unread when the shim is ready, one line when it gives up |
//! | 3          | the listening socket                                               |
//! | 4          | the folder for exit records                                        |
//! | 5          | the pause program                                                  |
//! | 6          | the shim's own cgroup                                              |

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;

use super::api::{ShimBinaries, ShimError};
use super::inherited::{BEST_EFFORT, EXITS, LISTENER, OWN_CGROUP, PAUSE_PROGRAM};
use crate::blocking;
use crate::ids::SandboxId;
use crate::store::Layout;
use crate::sys::spawn::{Child, Privileges, Spawn};
use crate::sys::{async_fd, socket};

/// How long a shim may take until it listens.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// What a shim is started with.
pub struct SpawnShim<'a> {
    /// The pod.
    pub sandbox: &'a SandboxId,
    /// The programs.
    pub binaries: &'a ShimBinaries,
    /// Where its socket and its exit records are.
    pub layout: &'a Layout,
    /// Its cgroup, outside the pod's.
    pub cgroup: BorrowedFd<'a>,
    /// Its oom_score_adj.
    pub oom_score_adj: i32,
    /// Whether it is started nevertheless when oom_score_adj or its limits cannot be set.
    pub best_effort_privileges: bool,
}

/// A started shim that may still be undone.
pub(super) struct Started(Child);

impl Started {
    /// It stays; what best effort passed over. Somebody must reap it when it ends while this daemon
    /// is its parent.
    pub(super) fn keep(mut self) -> Vec<String> {
        let left_out = std::mem::take(&mut self.0.skipped);
        #[expect(clippy::disallowed_methods, reason = "ends with the shim or the daemon")]
        tokio::spawn(reap(self.0));
        left_out
    }

    /// It is ended.
    pub(super) async fn undo(self) {
        self.0.kill().ok();
        reap(self.0).await;
    }
}

async fn reap(child: Child) {
    let Child { pidfd, .. } = child;
    let Ok(watched) = async_fd::watch_readable(pidfd) else { return };
    watched.readable().await.ok();
    crate::sys::process::wait_pidfd(watched.get_ref().as_fd()).ok();
}

/// Starts a shim and waits until it listens.
pub(super) async fn start(request: &SpawnShim<'_>) -> Result<Started, ShimError> {
    let prepare = |what| move |source| ShimError::Prepare { what, source };
    let (told, tell) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)
        .map_err(|e| prepare("make a pipe")(e.into()))?;
    let listener = listener(request).map_err(prepare("make the socket"))?;
    let exits = exits(&request.layout.exits(request.sandbox))
        .map_err(prepare("make the folder for exit records"))?;
    let pause = request.binaries.pause_copy().map_err(prepare("copy a descriptor"))?;
    let cgroup = request.cgroup.try_clone_to_owned().map_err(prepare("copy a descriptor"))?;
    let own_cgroup = cgroup.try_clone().map_err(prepare("copy a descriptor"))?;
    let program = std::sync::Arc::clone(&request.binaries.shim);
    let (id, oom_score_adj) = (request.sandbox.to_string(), request.oom_score_adj);
    let privileges =
        if request.best_effort_privileges { Privileges::BestEffort } else { Privileges::Required };
    let spawned = blocking::run("start a shim", move || {
        let option = (privileges == Privileges::BestEffort).then_some(BEST_EFFORT);
        let spawn = Spawn::file(program.as_fd(), "berth-shim")
            .arg(&id)
            .args(option)
            .fd(2, tell)
            .fd(LISTENER, listener)
            .fd(EXITS, exits)
            .fd(PAUSE_PROGRAM, pause)
            .fd(OWN_CGROUP, own_cgroup)
            .cgroup(cgroup.as_fd())
            .oom_score_adj(oom_score_adj)
            .privileges(privileges);
        limits().into_iter().fold(spawn, Spawn::limit).spawn()
    });
    let child = spawned.await.map_err(ShimError::Blocking)?.map_err(ShimError::Spawn)?;
    let started = Started(child);
    match ready(told).await {
        Ok(()) => Ok(started),
        Err(error) => {
            started.undo().await;
            Err(error)
        }
    }
}

/// A shim holds a few descriptors a container, and passes hundreds on while one starts.
fn limits() -> [(u32, u64, u64); 4] {
    let none = libc::RLIM_INFINITY;
    [
        (libc::RLIMIT_NOFILE, 65536, 1_048_576),
        (libc::RLIMIT_FSIZE, none, none),
        (libc::RLIMIT_CORE, 0, none),
        (libc::RLIMIT_NPROC, none, none),
    ]
}

fn listener(request: &SpawnShim<'_>) -> io::Result<OwnedFd> {
    let path = request.layout.shim_socket(request.sandbox);
    let dir = std::fs::File::open(request.layout.sandbox(request.sandbox))?;
    socket::listen(dir.as_fd(), Path::new(path.file_name().unwrap_or_default()))
}

fn exits(path: &Path) -> io::Result<OwnedFd> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    Ok(std::fs::File::open(path)?.into())
}

/// Waits until the shim closes the pipe. What it wrote before is why it gave up.
async fn ready(told: OwnedFd) -> Result<(), ShimError> {
    let prepare = |source| ShimError::Prepare { what: "watch the start", source };
    let mut told = tokio::net::unix::pipe::Receiver::from_owned_fd(told).map_err(prepare)?;
    let mut text = String::new();
    let read = tokio::time::timeout(READY_WITHIN, told.read_to_string(&mut text)).await;
    read.map_err(|_| ShimError::Deadline { verb: "start", limit: READY_WITHIN })?
        .map_err(prepare)?;
    match text.trim() {
        "" => Ok(()),
        text => Err(ShimError::Startup(text.to_owned())),
    }
}
