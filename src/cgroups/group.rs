//! What can be done with any cgroup, a pod's or a leaf: limits, figures, killing, removing. "Already
//! gone" is success wherever the goal is that it be gone.

use super::apply::apply_settings;
use super::details::{CgroupDetails, read_details};
use super::dir::Dir;
use super::events::{self, MemoryEvents, gone, pause_for};
use super::limits::plan_limits;
use super::stats::{CgroupStats, read_memory_events, read_stats};
use super::tree::Tree;
use super::{CgroupError, CgroupPath, Resources};
use crate::sys::process;
use crate::undefended::{Defence, gap, removed};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The attribute of a cgroup that was killed.
const KILLED: &str = "trusted.berth.killed";

/// How long a removal waits for processes that are on their way out.
const REMOVAL: Duration = Duration::from_secs(2);

/// A handle on a cgroup that may or may not exist. Cheap to clone; keeps nothing open.
#[derive(Clone, Debug)]
pub struct Group {
    pub(super) tree: Arc<Tree>,
    pub(super) path: CgroupPath,
}

impl Group {
    pub(super) fn new(tree: &Arc<Tree>, path: CgroupPath) -> Self {
        Self { tree: Arc::clone(tree), path }
    }

    /// Where it is in the hierarchy.
    pub fn path(&self) -> &CgroupPath {
        &self.path
    }

    /// Its folder in the file system.
    pub fn folder(&self) -> PathBuf {
        self.path.below(self.tree.root())
    }

    pub(super) fn dir(&self) -> Result<Dir, CgroupError> {
        Dir::open(&self.folder())
    }

    /// The open folder: for clone3's CLONE_INTO_CGROUP.
    ///
    /// # Errors
    /// [`CgroupError::Access`] when it does not exist.
    pub fn open_fd(&self) -> Result<OwnedFd, CgroupError> {
        self.dir().map(Dir::into_fd)
    }

    /// Whether it exists.
    pub fn exists(&self) -> bool {
        self.folder().is_dir()
    }

    /// Applies limits: all of them, or, on an error, none. `None` and empty fields leave what is
    /// there. Not among them: `oom_score_adj`, which is a process's and not a cgroup's.
    ///
    /// # Errors
    /// Which field is refused and why; [`CgroupError::Conflict`] for a memory limit below what is in
    /// use; [`CgroupError::Rollback`] when old values could not be restored.
    pub fn apply(&self, resources: &Resources) -> Result<(), CgroupError> {
        let plan = plan_limits(resources)?;
        if plan.is_empty() {
            return Ok(());
        }
        apply_settings(&self.dir()?, &plan, self.tree.missing())
    }

    /// Moves a process into it.
    pub(super) fn enter(&self, pid: i32) -> Result<(), CgroupError> {
        self.dir()?.write("cgroup.procs", &pid.to_string())
    }

    /// The text of one of its files, without the line end; `None` when the kernel has no such file.
    ///
    /// # Errors
    /// [`CgroupError::Access`].
    pub fn read_back(&self, file: &str) -> Result<Option<String>, CgroupError> {
        Ok(self.dir()?.read(file)?.map(|text| text.trim_end().to_owned()))
    }

    /// What it uses.
    ///
    /// # Errors
    /// [`CgroupError::Access`] of kind `NotFound` when it is gone; [`CgroupError::Parse`].
    pub fn stats(&self) -> Result<CgroupStats, CgroupError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        read_stats(&self.dir()?, i64::try_from(now.as_nanos()).unwrap_or(i64::MAX))
    }

    /// What metrics show beside what it uses.
    ///
    /// # Errors
    /// As [`Group::stats`].
    pub fn details(&self) -> Result<CgroupDetails, CgroupError> {
        read_details(&self.dir()?)
    }

    /// Its out-of-memory counters; zeros without the memory controller.
    ///
    /// # Errors
    /// As [`Group::stats`]. They go with the cgroup: read them before [`Group::remove`].
    pub fn memory_events(&self) -> Result<MemoryEvents, CgroupError> {
        Ok(read_memory_events(&self.dir()?)?.unwrap_or_default())
    }

    /// Kills every process in it and below it, at once and race-free (cgroup.kill, Linux 5.14).
    ///
    /// # Errors
    /// [`CgroupError::Write`]; none when it is gone.
    pub fn kill(&self) -> Result<(), CgroupError> {
        if removed(Defence::CgroupKill) {
            return self.kill_one_by_one();
        }
        // Best effort: a file system without attributes is on no kernel that needs the mark.
        xattr::set(self.folder(), KILLED, b"1").ok();
        match self.dir().and_then(|dir| dir.write("cgroup.kill", "1")) {
            Err(CgroupError::Access { source, .. } | CgroupError::Write { source, .. })
                if gone(&source) =>
            {
                Ok(())
            }
            result => result,
        }
    }

    /// As it was done before there was cgroup.kill, but once: who is born meanwhile is missed.
    fn kill_one_by_one(&self) -> Result<(), CgroupError> {
        let pids = self.pids()?;
        let held: Vec<_> =
            pids.iter().filter_map(|pid| Some((pid, process::open_pidfd(*pid).ok()?))).collect();
        // A pid that was given again since is no process of this cgroup.
        let still = self.pids()?;
        gap("cgroup-kill", "");
        for (_, pidfd) in held.iter().filter(|(pid, _)| still.contains(pid)) {
            // It may have ended by itself.
            process::kill(pidfd.as_fd()).ok();
        }
        Ok(())
    }

    /// Whether [`Group::kill`] was used on it. Such a cgroup is good for nothing but removal: the
    /// kernel compares kill counters at the end of clone3 with CLONE_INTO_CGROUP, takes the first
    /// from the caller's cgroup (seen in Linux 6.18), and so kills at birth whatever is cloned into
    /// a cgroup that was ever killed. The mark is an attribute of the folder: it outlives the daemon.
    pub(super) fn was_killed(&self) -> bool {
        matches!(xattr::get(self.folder(), KILLED), Ok(Some(_)))
    }

    /// Whether a process is in it or below it; zombies do not count.
    ///
    /// # Errors
    /// [`CgroupError::Access`]; a cgroup that is gone is empty.
    pub fn populated(&self) -> Result<bool, CgroupError> {
        match self.dir() {
            Ok(dir) => events::populated(&dir),
            Err(CgroupError::Access { source, .. }) if gone(&source) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Waits until it is empty, no longer than `limit`; `false` when it is not. Blocks the thread.
    ///
    /// # Errors
    /// As [`Group::populated`].
    pub fn wait_empty(&self, limit: Duration) -> Result<bool, CgroupError> {
        match self.dir() {
            Ok(dir) => events::wait_empty(&dir, limit),
            Err(CgroupError::Access { source, .. }) if gone(&source) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// The processes in it and below it, by pid; none when it is gone.
    ///
    /// # Errors
    /// [`CgroupError::Access`].
    pub fn pids(&self) -> Result<Vec<i32>, CgroupError> {
        let mut pids = Vec::new();
        for folder in folders_below(&self.folder())? {
            let procs = match Dir::open(&folder).and_then(|dir| dir.read("cgroup.procs")) {
                Err(CgroupError::Access { source, .. }) if gone(&source) => None,
                result => result?,
            };
            pids.extend(procs.unwrap_or_default().lines().filter_map(|l| l.parse::<i32>().ok()));
        }
        Ok(pids)
    }

    /// Removes it with everything below it, and the folders above it that berth made and that are
    /// empty now. Kills nothing; waits up to two seconds for processes that are on their way out.
    ///
    /// # Errors
    /// [`CgroupError::Busy`] with the pids that are still there.
    pub fn remove(&self) -> Result<(), CgroupError> {
        let deadline = Instant::now() + REMOVAL;
        let mut delay = Duration::from_millis(1);
        loop {
            match remove_folders(&self.folder()) {
                Ok(()) => {
                    self.tree.prune_above(&self.path);
                    return Ok(());
                }
                Err(CgroupError::Access { source, .. }) if busy(&source) => {}
                Err(error) => return Err(error),
            }
            if Instant::now() >= deadline {
                let pids = self.pids().unwrap_or_default();
                return Err(CgroupError::Busy { path: self.folder(), waited: REMOVAL, pids });
            }
            // A cgroup whose last process just ended stays busy for a moment longer than it says.
            if self.wait_empty(delay)? {
                pause_for(delay);
            }
            delay = (delay * 2).min(Duration::from_millis(50));
        }
    }
}

/// EBUSY: processes, or cgroups below it; ENOTEMPTY: somebody made one meanwhile.
fn busy(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EBUSY | libc::ENOTEMPTY))
}

/// Removes the folder and those below it, deepest first.
fn remove_folders(top: &Path) -> Result<(), CgroupError> {
    match std::fs::remove_dir(top) {
        Err(e) if busy(&e) => {}
        Err(e) if gone(&e) => return Ok(()),
        result => return result.map_err(|e| CgroupError::access("remove cgroup", top, e)),
    }
    for folder in folders_below(top)?.iter().rev() {
        match std::fs::remove_dir(folder) {
            Err(e) if !gone(&e) => return Err(CgroupError::access("remove cgroup", folder, e)),
            _ => {}
        }
    }
    Ok(())
}

/// The folder and those below it, each after the one that holds it. A list and not a recursion: a
/// container that may write its cgroups decides on the depth.
fn folders_below(top: &Path) -> Result<Vec<PathBuf>, CgroupError> {
    let mut all = vec![top.to_owned()];
    let mut next = 0;
    while let Some(folder) = all.get(next).cloned() {
        next += 1;
        let entries = match std::fs::read_dir(&folder) {
            Err(e) if gone(&e) => continue,
            result => result.map_err(|e| CgroupError::access("list cgroup", &folder, e))?,
        };
        for entry in entries.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                all.push(entry.path());
            }
        }
    }
    Ok(all)
}
