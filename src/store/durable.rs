//! Records that outlive a boot: written behind, in order, by one thread.
//!
//! The live record on tmpfs is written first and is what a restart of the daemon reads. The copy on
//! disk is for the next boot: written without fsync, and one syncfs(2) at most five seconds later
//! covers all of them. What a power cut takes is `Unknown` after the boot, and said so.

use super::StoreError;
use super::atomic::replace_unseen;
use super::record::encode;
use crate::sys;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

/// The longest time between a write and the syncfs that covers it.
const SYNC_WITHIN: Duration = Duration::from_secs(5);

enum Job {
    Save(PathBuf, Vec<u8>),
    Remove(PathBuf),
    Flush(Sender<()>),
}

/// The writer. Cheap to clone.
#[derive(Clone)]
pub struct Durable(Sender<Job>);

impl Durable {
    /// Starts the writer for the file system that holds `state`.
    ///
    /// # Errors
    /// [`StoreError`] when the thread cannot be started.
    pub fn start(state: &Path) -> Result<Self, StoreError> {
        let (jobs, inbox) = mpsc::channel();
        let state = state.to_owned();
        let failed = |e| StoreError::new("start the record writer for", &state, e);
        std::thread::Builder::new()
            .name("durable".into())
            .spawn({
                let state = state.clone();
                move || write_behind(&inbox, &state)
            })
            .map_err(failed)?;
        Ok(Self(jobs))
    }

    /// Writes `value` to `path` soon.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be encoded.
    pub fn save<T: Serialize>(&self, path: PathBuf, value: &T) -> Result<(), StoreError> {
        let bytes = encode(&path, value)?;
        // The thread ends only when the last sender is gone, so there is a receiver.
        self.0.send(Job::Save(path, bytes)).ok();
        Ok(())
    }

    /// Removes `path` soon.
    pub fn remove(&self, path: PathBuf) {
        self.0.send(Job::Remove(path)).ok();
    }

    /// Waits until everything before is on disk. Blocks.
    pub fn flush(&self) {
        let (done, wait) = mpsc::channel();
        self.0.send(Job::Flush(done)).ok();
        wait.recv().ok();
    }
}

fn write_behind(inbox: &mpsc::Receiver<Job>, state: &Path) {
    let mut due: Option<Instant> = None;
    loop {
        let wait =
            due.map_or(Duration::from_secs(3600), |d| d.saturating_duration_since(Instant::now()));
        match inbox.recv_timeout(wait) {
            Ok(Job::Save(path, bytes)) => {
                if let Err(error) = replace_unseen(&path, &bytes) {
                    tracing::error!(
                        error = crate::error::chain(&error),
                        "durable record not written"
                    );
                }
                due.get_or_insert_with(|| Instant::now() + SYNC_WITHIN);
            }
            Ok(Job::Remove(path)) => {
                if let Err(error) = super::remove(&path) {
                    tracing::error!(
                        error = crate::error::chain(&error),
                        "durable record not removed"
                    );
                }
                due.get_or_insert_with(|| Instant::now() + SYNC_WITHIN);
            }
            Ok(Job::Flush(done)) => {
                sync(state);
                due = None;
                done.send(()).ok();
            }
            Err(RecvTimeoutError::Timeout) => {
                if due.take().is_some() {
                    sync(state);
                }
            }
            Err(RecvTimeoutError::Disconnected) => {
                if due.is_some() {
                    sync(state);
                }
                return;
            }
        }
    }
}

fn sync(state: &Path) {
    if let Err(error) = std::fs::File::open(state).and_then(|dir| sys::fs::syncfs(&dir)) {
        tracing::error!(%error, path = %state.display(), "syncfs failed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn saves_and_removes_take_effect_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let writer = Durable::start(dir.path()).unwrap();
        let (kept, gone) = (dir.path().join("kept.json"), dir.path().join("gone.json"));
        writer.save(kept.clone(), &1).unwrap();
        writer.save(gone.clone(), &1).unwrap();
        writer.save(kept.clone(), &2).unwrap();
        writer.remove(gone.clone());
        writer.flush();
        assert_eq!(super::super::load::<u8>(&kept).unwrap().unwrap().value, 2);
        assert!(!gone.exists());
    }
}
