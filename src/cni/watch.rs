//! The CNI network of this node as it is now: the folder is watched by inotify, never polled.
//!
//! One thread loads it. For networks of version 1.1.0 it asks STATUS, too, after each load and
//! when `ready` finds its answer old.

use super::chain;
use super::conf::{self, ConfList};
use super::invoke::Invoker;
use super::request::NotReady;
use crate::cgroups::Leaf;
use crate::error::chain as explain;
use crate::watch::{Change, Watch, Watcher};
use nix::fcntl::{FcntlArg, OFlag};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
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
    /// A byte asks for STATUS, or says that the folder changed; the end of the pipe is the end of the thread.
    ask: Arc<OwnedFd>,
    _watch: Watch,
}

impl ConfWatch {
    /// Loads the folder and watches it from now on. Blocks for STATUS of a 1.1.0 network.
    ///
    /// # Errors
    /// Those of inotify: no instance left, no watch left; and of making a pipe or a thread.
    pub(super) fn open(
        dir: PathBuf,
        watcher: &Watcher,
        invoker: Invoker,
        group: Leaf,
    ) -> io::Result<Self> {
        let (asked, ask) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
        // So many questions that the pipe is full are one question.
        nix::fcntl::fcntl(&ask, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        let (ask, changed) = (Arc::new(ask), Arc::new(AtomicBool::new(false)));
        let (tell, told) = (Arc::downgrade(&ask), Arc::clone(&changed));
        let watch = watcher.folder(dir.clone(), move |change| {
            // A file that is being written is looked at when it is closed.
            if !matches!(change, Change::Writing(_))
                && let Some(tell) = tell.upgrade()
            {
                told.store(true, Ordering::SeqCst);
                nix::unistd::write(&*tell, &[0]).ok();
            }
        })?;
        let current = Arc::new(Mutex::new(Current {
            conf: Err(NotReady::new("not loaded yet")),
            status: Ok(()),
            asked: Instant::now(),
        }));
        let worker = Worker { dir, changed, invoker, group, current: Arc::clone(&current) };
        worker.load();
        std::thread::Builder::new()
            .name("cni-conf".to_owned())
            .spawn(move || worker.serve(asked.into()))?;
        Ok(Self { current, ask, _watch: watch })
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
            nix::unistd::write(&*self.ask, &[0]).ok();
        }
        current.status.clone()
    }
}

/// The thread's own.
struct Worker {
    dir: PathBuf,
    changed: Arc<AtomicBool>,
    invoker: Invoker,
    group: Leaf,
    current: Arc<Mutex<Current>>,
}

impl Worker {
    fn serve(self, mut asked: File) {
        loop {
            let read = asked.read(&mut [0; 512]);
            match read {
                Ok(0) => return,
                // What is read afterwards is no older than the change.
                Ok(_) if self.changed.swap(false, Ordering::SeqCst) => self.load(),
                Ok(_) => self.ask_status(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let error = explain(&error);
                    return tracing::error!(error, "CNI configuration folder is not watched");
                }
            }
        }
    }

    fn load(&self) {
        let loaded = conf::load_dir(&self.dir).map(Arc::new);
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
