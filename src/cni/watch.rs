//! The CNI network of this node as it is now: the folder is watched by inotify, never polled.
//!
//! One thread owns the watch. For networks of version 1.1.0 it asks STATUS, too, after each load and
//! when `ready` finds its answer old.

use super::chain;
use super::conf::{self, ConfList};
use super::folder::Folder;
use super::invoke::Invoker;
use super::request::NotReady;
use crate::cgroups::Leaf;
use crate::error::chain as explain;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// An answer to STATUS older than this is asked for again.
const STATUS_AGE: Duration = Duration::from_secs(10);

/// The configuration and what STATUS said of it.
struct Current {
    conf: Result<Arc<ConfList>, NotReady>,
    status: Result<(), NotReady>,
    asked: Instant,
}

/// The watched folder. Dropping it ends the watch.
pub(super) struct ConfWatch {
    current: Arc<Mutex<Current>>,
    /// A byte asks for STATUS; the end of the pipe is the end of the watch.
    ask: OwnedFd,
}

impl ConfWatch {
    /// Loads the folder and watches it from now on. Blocks for STATUS of a 1.1.0 network.
    ///
    /// # Errors
    /// Those of inotify: no instance left, no watch left; and of making a pipe or a thread.
    pub(super) fn open(dir: PathBuf, invoker: Invoker, group: Leaf) -> io::Result<Self> {
        let folder = Folder::open(dir)?;
        // So many questions that the pipe is full are one question.
        let (asked, ask) = nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        let current = Arc::new(Mutex::new(Current {
            conf: Err(NotReady::new("not loaded yet")),
            status: Ok(()),
            asked: Instant::now(),
        }));
        let worker = Worker { folder, invoker, group, current: Arc::clone(&current) };
        worker.load();
        std::thread::Builder::new()
            .name("cni-conf".to_owned())
            .spawn(move || worker.serve(asked.into()))?;
        Ok(Self { current, ask })
    }

    /// The network to attach to.
    pub(super) fn conf(&self) -> Result<Arc<ConfList>, NotReady> {
        lock(&self.current).conf.clone()
    }

    /// Whether pods can be attached. Never waits for a plugin.
    pub(super) fn ready(&self) -> Result<(), NotReady> {
        let current = lock(&self.current);
        let conf = current.conf.as_ref().map_err(Clone::clone)?;
        if conf.version.has_gc_and_status() && current.asked.elapsed() > STATUS_AGE {
            nix::unistd::write(&self.ask, &[0]).ok();
        }
        current.status.clone()
    }
}

/// The thread's own.
struct Worker {
    folder: Folder,
    invoker: Invoker,
    group: Leaf,
    current: Arc<Mutex<Current>>,
}

impl Worker {
    fn serve(mut self, mut asked: File) {
        loop {
            let events = PollFlags::POLLIN;
            let mut fds =
                [PollFd::new(self.folder.as_fd(), events), PollFd::new(asked.as_fd(), events)];
            // Fails when it is interrupted; what there is to do is asked for below.
            poll(&mut fds, PollTimeout::NONE).ok();
            let changed = self.folder.changed().unwrap_or_else(|error| {
                tracing::error!(error = explain(&error), "CNI configuration folder is not watched");
                true
            });
            if changed {
                self.load();
            }
            match asked.read(&mut [0; 512]) {
                Ok(0) => return,
                Ok(_) if !changed => self.ask_status(),
                _ => {}
            }
        }
    }

    fn load(&self) {
        let loaded = conf::load_dir(self.folder.path()).map(Arc::new);
        let mut current = lock(&self.current);
        if current.conf != loaded {
            match &loaded {
                Ok(conf) => tracing::info!(network = conf.name, "CNI network is in use"),
                Err(why) => tracing::warn!(reason = why.message, "CNI network is not ready"),
            }
            current.conf = loaded;
            current.status = Ok(());
        }
        drop(current);
        self.ask_status();
    }

    fn ask_status(&self) {
        let conf = lock(&self.current).conf.clone();
        let Ok(conf) = conf else { return };
        let answer = chain::status(&self.invoker, &self.group, &conf);
        let mut current = lock(&self.current);
        current.asked = Instant::now();
        current.status =
            answer.map_err(|e| NotReady::new(format!("network {}: {}", conf.name, explain(&e))));
    }
}

fn lock(current: &Mutex<Current>) -> MutexGuard<'_, Current> {
    // Every writer leaves it whole.
    current.lock().unwrap_or_else(PoisonError::into_inner)
}
