//! The manifests of a directory, watched by inotify and listed anew now and then.
//!
//! A change is read a moment after the last event, and a file only when its writer has closed it. A directory that was
//! never there has no pods, as by kubelets. One that cannot be read, or was there and is gone, keeps those that it had,
//! also those of the last run: more often than not a mount went away, and nobody meant all pods to end.

use super::files::{self, Stamp};
use super::pending::Pending;
use super::read::{Reader, Text};
use super::update::{Source, SourcePod, Update};
use crate::blocking;
use crate::error::chain;
use crate::lock::lock;
use crate::watch::{Change, Watch, Watcher};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

/// How often the directory is listed though nothing was told: what links lead to is not watched.
const RELIST: Duration = Duration::from_secs(20);
/// How long nothing may happen before a change is read.
const SETTLE: Duration = Duration::from_millis(50);
/// How many times longer a change is left unread while the next ones come.
const MOST_SETTLES: u32 = 20;
/// How soon a directory that cannot be listed is tried again: at first, and at most.
const RETRY: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(20)];

/// A directory of manifests.
#[derive(Clone, Debug)]
pub struct FileSource {
    dir: PathBuf,
    node_name: String,
    relist: Duration,
    settle: Duration,
    last: Vec<SourcePod>,
}

impl FileSource {
    /// The manifests of a directory, for pods of this node. It is listed every 20 s, and 50 ms after a change.
    pub fn new(dir: impl Into<PathBuf>, node_name: &str) -> Self {
        let (dir, node_name) = (dir.into(), node_name.to_owned());
        Self { dir, node_name, relist: RELIST, settle: SETTLE, last: Vec::new() }
    }

    /// The same, which had these pods in the last run.
    #[must_use]
    pub fn with_last(self, last: Vec<SourcePod>) -> Self {
        Self { last, ..self }
    }

    /// The same, listed so often though nothing was told.
    #[must_use]
    pub fn relisting(self, relist: Duration) -> Self {
        Self { relist, ..self }
    }

    /// The same, read when nothing happened for so long.
    #[must_use]
    pub fn settling(self, settle: Duration) -> Self {
        Self { settle, ..self }
    }

    /// Tells what is in the directory, first always and then each time it changed, until `stop` or until nobody
    /// listens. `watcher` is that of the process.
    pub async fn run(
        self,
        watcher: Watcher,
        updates: mpsc::Sender<Update>,
        stop: CancellationToken,
    ) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.serve(&watcher, &updates) => {}
        }
    }

    async fn serve(self, watcher: &Watcher, updates: &mpsc::Sender<Update>) {
        let told = Arc::new(Told::default());
        let mut scanner = Scanner::new(self.clone());
        let (mut watch, mut last) = (None, None);
        let (mut early, mut retry) = (0, RETRY[0]);
        loop {
            if watch.is_none() {
                watch = self.watch(watcher, &told);
            }
            let pending = told.pending();
            let scan = blocking::run("read the manifests", move || {
                let seen = scanner.scan(&pending, SystemTime::now());
                (scanner, seen)
            });
            let Ok((back, seen)) = scan.await else { return };
            scanner = back;
            // What the first update does not have is cleaned up.
            if last.is_none() && seen.half && early < MOST_SETTLES {
                early += 1;
                tokio::time::sleep(self.settle).await;
                continue;
            }
            let wait = match (seen.listed, seen.half) {
                (Ok(()), false) => self.relist,
                (Ok(()), true) => self.settle.max(told.writers()),
                (Err(()), _) => retry.min(self.relist),
            };
            retry = if seen.listed.is_ok() { RETRY[0] } else { (retry * 2).min(RETRY[1]) };
            if last.as_ref() != Some(&seen.update) {
                last = Some(seen.update.clone());
                if updates.send(seen.update).await.is_err() {
                    return;
                }
            }
            tokio::select! {
                () = told.changed.notified() => self.until_quiet(&told).await,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// None where it cannot be watched: then it is only listed.
    fn watch(&self, watcher: &Watcher, told: &Arc<Told>) -> Option<Watch> {
        let tell = Arc::clone(told);
        let watch = watcher.folder(self.dir.clone(), move |change| tell.note(change));
        let dir = self.dir.display();
        watch
            .inspect_err(|error| {
                tracing::warn!(%dir, error = chain(error), "manifests are listed but not watched");
            })
            .ok()
    }

    /// Waits until nothing happened for a while.
    async fn until_quiet(&self, told: &Told) {
        let quiet = async {
            while tokio::time::timeout(self.settle, told.changed.notified()).await.is_ok() {}
        };
        tokio::time::timeout(self.settle * MOST_SETTLES, quiet).await.ok();
    }
}

/// What the watcher told.
#[derive(Debug, Default)]
struct Told {
    pending: Mutex<Pending>,
    changed: Notify,
}

impl Told {
    fn note(&self, change: Change) {
        let reason_to_look = !matches!(change, Change::Writing(_));
        lock(&self.pending).note(change, Instant::now());
        if reason_to_look {
            self.changed.notify_one();
        }
    }

    fn pending(&self) -> Pending {
        let mut pending = lock(&self.pending);
        pending.settle(Instant::now());
        pending.clone()
    }

    /// How long the writers may be silent still.
    fn writers(&self) -> Duration {
        let until = lock(&self.pending).until();
        until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()))
    }
}

/// What a look at the directory gave.
struct Seen {
    update: Update,
    /// Whether a file is being written.
    half: bool,
    /// Whether the directory could be listed.
    listed: Result<(), ()>,
}

/// What is known of the directory, on the thread that reads it.
struct Scanner {
    source: FileSource,
    reader: Reader,
    stamps: BTreeMap<String, Stamp>,
    /// The file system on which it had manifests.
    device: Option<u64>,
}

impl Scanner {
    fn new(source: FileSource) -> Self {
        let reader = Reader::new(Source::File, &source.node_name).with_last(source.last.clone());
        Self { source, reader, stamps: BTreeMap::new(), device: None }
    }

    fn scan(&mut self, pending: &Pending, now: SystemTime) -> Seen {
        let dir = self.source.dir.display().to_string();
        let (mut half, mut present) = (false, BTreeSet::new());
        let listed = files::list(&self.source.dir).and_then(|names| self.there(names));
        for name in listed.as_ref().map(Vec::as_slice).unwrap_or_default() {
            let path = self.source.dir.join(name);
            let origin = path.to_string_lossy().into_owned();
            half |= match files::look(&path, now) {
                Ok(None) => continue,
                Ok(Some(look)) if pending.is_half(name, look.age, self.source.settle) => true,
                Ok(Some(look)) => {
                    self.read(&origin, &path, look.stamp);
                    false
                }
                Err(problem) => {
                    self.unreadable(&origin, &problem);
                    false
                }
            };
            present.insert(origin);
        }
        match &listed {
            Ok(_) => self.reader.keep(&present),
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.reader.has_pods() => {
                let problem = "the folder of the manifests is gone: its pods stay as they are";
                self.unreadable(&dir, problem);
            }
            Err(error) => {
                self.unreadable(&dir, &format!("the manifests cannot be listed: {error}"));
            }
        }
        self.stamps.retain(|origin, _| present.contains(origin));
        let listed = listed.map(|_| ()).map_err(|_| ());
        Seen { update: self.reader.assemble(), half, listed }
    }

    /// What was listed, unless that is the empty folder below a mount that went away.
    fn there(&mut self, names: Vec<OsString>) -> io::Result<Vec<OsString>> {
        let device = std::fs::metadata(&self.source.dir)?.dev();
        if !names.is_empty() {
            self.device = Some(device);
        } else if self.device.is_some_and(|before| before != device) {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(names)
    }

    fn read(&mut self, origin: &str, path: &std::path::Path, stamp: Stamp) {
        if self.stamps.get(origin) == Some(&stamp) {
            return;
        }
        match files::read(path) {
            Ok(bytes) => {
                self.reader.read(origin, Text::Bytes(&bytes));
                self.stamps.insert(origin.to_owned(), stamp);
            }
            Err(problem) => self.unreadable(origin, &problem),
        }
    }

    fn unreadable(&mut self, origin: &str, problem: &str) {
        self.stamps.remove(origin);
        self.reader.read(origin, Text::Unreadable(problem));
    }
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
