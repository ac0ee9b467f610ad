//! The CNI network of this node as it is now: the folder is watched by inotify, never polled.
//!
//! One thread owns the watch. It arms first and loads afterwards, so that nothing falls between.
//! While the folder does not exist, the nearest folder above it is watched. For networks of version
//! 1.1.0 the same thread asks STATUS after each load and when `ready` finds its answer old.

use super::chain;
use super::conf::{self, ConfList};
use super::invoke::Invoker;
use super::request::NotReady;
use crate::cgroups::Leaf;
use crate::error::chain as explain;
use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
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

enum Wake {
    Changed,
    AskStatus,
    Stop,
}

/// The watched folder. Dropping it ends the watch.
pub(super) struct ConfWatch {
    current: Arc<Mutex<Current>>,
    wake: Sender<Wake>,
}

impl ConfWatch {
    /// Loads the folder and watches it from now on. Blocks for STATUS of a 1.1.0 network.
    ///
    /// # Errors
    /// Those of inotify: no instance left, no watch left; and of making a thread.
    pub(super) fn open(dir: PathBuf, invoker: Invoker, group: Leaf) -> io::Result<Self> {
        let (wake, woken) = channel();
        let events = wake.clone();
        let about = dir.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            // An error (a lost event: the queue ran over) is a reason to look, too.
            if event.map_or(true, |event| is_change(&event, &about)) {
                // The thread that listens is gone only when nobody asks any more.
                events.send(Wake::Changed).ok();
            }
        })
        .map_err(into_io)?;
        let current = Arc::new(Mutex::new(Current {
            conf: Err(NotReady::new("not loaded yet")),
            status: Ok(()),
            asked: Instant::now(),
        }));
        let watched = Vec::new();
        let shared = Arc::clone(&current);
        let mut worker = Worker { dir, watcher, watched, invoker, group, current: shared };
        worker.arm().map_err(into_io)?;
        worker.load();
        std::thread::Builder::new()
            .name("cni-conf".to_owned())
            .spawn(move || worker.serve(&woken))?;
        Ok(Self { current, wake })
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
            self.wake.send(Wake::AskStatus).ok();
        }
        current.status.clone()
    }
}

impl Drop for ConfWatch {
    fn drop(&mut self) {
        self.wake.send(Wake::Stop).ok();
    }
}

/// The thread's own.
struct Worker {
    dir: PathBuf,
    watcher: RecommendedWatcher,
    watched: Vec<PathBuf>,
    invoker: Invoker,
    group: Leaf,
    current: Arc<Mutex<Current>>,
}

impl Worker {
    fn serve(mut self, woken: &Receiver<Wake>) {
        while let Ok(first) = woken.recv() {
            let (mut changed, mut ask) = (false, false);
            // What came meanwhile is answered by one look.
            for wake in std::iter::once(first).chain(woken.try_iter()) {
                match wake {
                    Wake::Changed => changed = true,
                    Wake::AskStatus => ask = true,
                    Wake::Stop => return,
                }
            }
            if changed {
                if let Err(e) = self.arm() {
                    tracing::error!(error = explain(&e), "CNI configuration folder is not watched");
                }
                self.load();
            } else if ask {
                self.ask_status();
            }
        }
    }

    /// Watches the folder, and the nearest one above it that exists: that is where a removed or
    /// replaced folder comes back.
    fn arm(&mut self) -> notify::Result<()> {
        for path in self.watched.drain(..) {
            // A watch whose folder is gone is gone with it.
            self.watcher.unwatch(&path).ok();
        }
        let above = self.dir.ancestors().skip(1).find(|path| path.is_dir());
        if let Some(above) = above {
            self.watcher.watch(above, RecursiveMode::NonRecursive)?;
            self.watched.push(above.to_owned());
        }
        if self.dir.is_dir() {
            self.watcher.watch(&self.dir, RecursiveMode::NonRecursive)?;
            self.watched.push(self.dir.clone());
        }
        Ok(())
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

/// Whether an event can change what is loaded. Our own reading raises events, too; and a file that
/// is being written is looked at when it is closed.
fn is_change(event: &Event, dir: &Path) -> bool {
    let kind = match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) | EventKind::Modify(ModifyKind::Data(_)) => false,
        _ => true,
    };
    let near = |path: &PathBuf| path.starts_with(dir) || dir.starts_with(path);
    kind && (event.paths.is_empty() || event.paths.iter().any(near))
}

fn into_io(error: notify::Error) -> io::Error {
    match error.kind {
        notify::ErrorKind::Io(error) => error,
        other => io::Error::other(format!("{other:?}")),
    }
}
