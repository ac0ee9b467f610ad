//! Which events of an inotify(7) instance are changes in one folder, that need not exist.
//!
//! The folder is watched, and the nearest one above it that exists: that is where a removed or
//! replaced folder comes back. Only what can change the folder's contents wakes anybody: looking
//! into files does not, in a folder above (it may be `/etc`) as little as in the folder itself.

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, Inotify, InotifyEvent, WatchDescriptor};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

/// Names come and go.
const NAMES: AddWatchFlags = AddWatchFlags::IN_CREATE
    .union(AddWatchFlags::IN_DELETE)
    .union(AddWatchFlags::IN_MOVE)
    .union(AddWatchFlags::IN_DELETE_SELF)
    .union(AddWatchFlags::IN_MOVE_SELF)
    .union(AddWatchFlags::IN_ONLYDIR);
/// A file is whole when it is closed.
const CONTENTS: AddWatchFlags =
    NAMES.union(AddWatchFlags::IN_CLOSE_WRITE).union(AddWatchFlags::IN_MODIFY);
/// Another folder may want other events of the same inode.
const AS_WELL: AddWatchFlags = AddWatchFlags::from_bits_retain(libc::IN_MASK_ADD);

/// A change in a watched folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Somebody writes into a file of this name, and may go on.
    Writing(OsString),
    /// A file of this name was written and closed, or was moved here.
    Written(OsString),
    /// A name came or went, or the folder itself; or events were lost.
    Other,
}

/// An inotify instance, and how many folders share each of its watches: one inode has one watch.
pub(super) struct Watches {
    pub(super) inotify: Inotify,
    users: BTreeMap<WatchDescriptor, usize>,
}

impl Watches {
    pub(super) fn new(inotify: Inotify) -> Self {
        Self { inotify, users: BTreeMap::new() }
    }

    /// None where there is no such folder.
    fn add(&mut self, path: &Path, mask: AddWatchFlags) -> io::Result<Option<WatchDescriptor>> {
        match self.inotify.add_watch(path, mask.union(AS_WELL)) {
            Ok(watch) => {
                *self.users.entry(watch).or_default() += 1;
                Ok(Some(watch))
            }
            Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    fn release(&mut self, watch: WatchDescriptor) {
        let left = self.users.get(&watch).map_or(0, |users| users.saturating_sub(1));
        if left > 0 {
            self.users.insert(watch, left);
            return;
        }
        self.users.remove(&watch);
        // A watch whose folder is gone is gone with it.
        self.inotify.rm_watch(watch).ok();
    }
}

/// A watched folder.
pub(super) struct Folder {
    dir: PathBuf,
    own: Option<WatchDescriptor>,
    /// The folder above, and the name in it that leads to this one.
    above: Option<(WatchDescriptor, OsString)>,
}

impl Folder {
    /// Watches from now on.
    ///
    /// # Errors
    /// Those of inotify_add_watch(2): no watch left. Then nothing is watched.
    pub(super) fn open(dir: PathBuf, watches: &mut Watches) -> io::Result<Self> {
        let mut made = Self { dir, own: None, above: None };
        match made.arm(watches) {
            Ok(()) => Ok(made),
            Err(error) => {
                made.close(watches);
                Err(error)
            }
        }
    }

    /// What an event means for this folder, if anything.
    pub(super) fn change(&self, event: &InotifyEvent) -> Option<Change> {
        let name = event.name.as_ref();
        if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
            return Some(Change::Other);
        }
        if Some(event.wd) == self.own {
            let written = AddWatchFlags::IN_CLOSE_WRITE.union(AddWatchFlags::IN_MOVED_TO);
            return Some(match name {
                Some(name) if event.mask.intersects(written) => Change::Written(name.clone()),
                Some(name) if event.mask.contains(AddWatchFlags::IN_MODIFY) => {
                    Change::Writing(name.clone())
                }
                _ => Change::Other,
            });
        }
        let (above, below) = self.above.as_ref()?;
        // Without a name it is about the folder above itself.
        (*above == event.wd && name.is_none_or(|name| name == below)).then_some(Change::Other)
    }

    /// Sets the watches where they belong now. What is read of the folder afterwards is no older than the
    /// next change that is told.
    ///
    /// # Errors
    /// Those of inotify_add_watch(2).
    pub(super) fn arm(&mut self, watches: &mut Watches) -> io::Result<()> {
        // The old watches go last: where they are the new ones, too, no event of them is lost.
        let old = self.take();
        let armed = self.set(watches);
        old.into_iter().for_each(|watch| watches.release(watch));
        armed
    }

    fn set(&mut self, watches: &mut Watches) -> io::Result<()> {
        // From the top down: what appears below a watch after it was set is an event.
        let mut path = PathBuf::new();
        for part in self.dir.components() {
            let name = part.as_os_str();
            if !path.as_os_str().is_empty() {
                let Some(watch) = watches.add(&path, NAMES)? else { return Ok(()) };
                if let Some((before, _)) = self.above.replace((watch, name.to_owned())) {
                    watches.release(before);
                }
            }
            path.push(name);
        }
        self.own = watches.add(&self.dir, CONTENTS)?;
        Ok(())
    }

    /// Watches no more.
    pub(super) fn close(&mut self, watches: &mut Watches) {
        self.take().into_iter().for_each(|watch| watches.release(watch));
    }

    fn take(&mut self) -> Vec<WatchDescriptor> {
        let above = self.above.take().map(|(watch, _)| watch);
        self.own.take().into_iter().chain(above).collect()
    }
}
