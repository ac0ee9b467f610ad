//! Changes in a folder that need not exist, told by inotify(7).
//!
//! The folder is watched, and the nearest one above it that exists: that is where a removed or
//! replaced folder comes back. Only what can change the folder's contents wakes anybody: looking
//! into files does not, in a folder above (it may be `/etc`) as little as in the folder itself.

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

/// Names come and go.
const NAMES: AddWatchFlags = AddWatchFlags::IN_CREATE
    .union(AddWatchFlags::IN_DELETE)
    .union(AddWatchFlags::IN_MOVE)
    .union(AddWatchFlags::IN_DELETE_SELF)
    .union(AddWatchFlags::IN_MOVE_SELF)
    .union(AddWatchFlags::IN_ONLYDIR);
/// A file that is being written is looked at when it is closed.
const CONTENTS: AddWatchFlags = NAMES.union(AddWatchFlags::IN_CLOSE_WRITE);

/// The watched folder.
pub(super) struct Folder {
    dir: PathBuf,
    inotify: Inotify,
    own: Option<WatchDescriptor>,
    /// The folder above, and the name in it that leads to this one.
    above: Option<(WatchDescriptor, OsString)>,
}

impl Folder {
    /// Watches from now on.
    ///
    /// # Errors
    /// Those of inotify_init1(2) and inotify_add_watch(2): no instance left, no watch left.
    pub(super) fn open(dir: PathBuf) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let mut made = Self { dir, inotify, own: None, above: None };
        made.arm()?;
        Ok(made)
    }

    pub(super) fn path(&self) -> &Path {
        &self.dir
    }

    /// Whether anything changed since the last question; the watches are where they belong then.
    /// What is read of the folder afterwards is no older than the next change that is told.
    ///
    /// # Errors
    /// Those of inotify_add_watch(2).
    pub(super) fn changed(&mut self) -> io::Result<bool> {
        let mut changed = false;
        loop {
            match self.inotify.read_events() {
                Ok(events) => changed |= events.iter().any(|event| self.concerns(event)),
                Err(Errno::EAGAIN) => break,
                Err(Errno::EINTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        if changed {
            self.arm()?;
        }
        Ok(changed)
    }

    fn concerns(&self, event: &InotifyEvent) -> bool {
        // Events were lost: a reason to look.
        if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) || Some(event.wd) == self.own {
            return true;
        }
        let Some((above, name)) = &self.above else { return false };
        // Without a name it is about the folder above itself.
        *above == event.wd && event.name.as_ref().is_none_or(|n| n == name)
    }

    fn arm(&mut self) -> io::Result<()> {
        let old = self.own.take().into_iter().chain(self.above.take().map(|(watch, _)| watch));
        for watch in old {
            // A watch whose folder is gone is gone with it.
            self.inotify.rm_watch(watch).ok();
        }
        // From the top down: what appears below a watch after it was set is an event.
        let mut path = PathBuf::new();
        for part in self.dir.components() {
            let name = part.as_os_str();
            if !path.as_os_str().is_empty() {
                let Some(watch) = self.add(&path, NAMES)? else { return Ok(()) };
                if let Some((before, _)) = self.above.replace((watch, name.to_owned())) {
                    self.inotify.rm_watch(before).ok();
                }
            }
            path.push(name);
        }
        self.own = self.add(&self.dir, CONTENTS)?;
        Ok(())
    }

    /// None where there is no such folder.
    fn add(&self, path: &Path, mask: AddWatchFlags) -> io::Result<Option<WatchDescriptor>> {
        match self.inotify.add_watch(path, mask) {
            Ok(watch) => Ok(Some(watch)),
            Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }
}

impl AsFd for Folder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A folder `a/b` that does not exist, in one that does.
    fn watched() -> (tempfile::TempDir, Folder) {
        let top = tempfile::tempdir().unwrap();
        let folder = Folder::open(top.path().join("a/b")).unwrap();
        (top, folder)
    }

    #[test]
    fn what_only_reads_wakes_nobody() {
        let (top, mut folder) = watched();
        let beside = top.path().join("beside");
        fs::write(&beside, "x").unwrap();
        fs::read(&beside).unwrap();
        fs::read_dir(top.path()).unwrap().count();
        assert!(!folder.changed().unwrap(), "beside the way to the folder");
        fs::create_dir_all(folder.path()).unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "x").unwrap();
        assert!(folder.changed().unwrap(), "the control");
        assert!(!folder.changed().unwrap(), "told once");
        fs::read(&file).unwrap();
        fs::read_dir(folder.path()).unwrap().count();
        fs::read_dir(top.path()).unwrap().count();
        assert!(!folder.changed().unwrap(), "in the folder");
    }

    #[test]
    fn each_step_towards_the_folder_and_within_it_is_told() {
        let (top, mut folder) = watched();
        let (a, b, aside) = (top.path().join("a"), folder.path().to_owned(), top.path().join("c"));
        let steps: [(&str, &dyn Fn()); 9] = [
            ("a is made", &|| fs::create_dir(&a).unwrap()),
            ("b is made", &|| fs::create_dir(&b).unwrap()),
            ("a file is written", &|| fs::write(b.join("x"), "x").unwrap()),
            ("it is written again", &|| fs::write(b.join("x"), "y").unwrap()),
            ("it is renamed", &|| fs::rename(b.join("x"), b.join("y")).unwrap()),
            ("a goes", &|| fs::rename(&a, &aside).unwrap()),
            ("a comes back", &|| fs::rename(&aside, &a).unwrap()),
            ("b goes with its file", &|| fs::remove_dir_all(&b).unwrap()),
            ("b is made with a file", &|| {
                fs::create_dir(&b).unwrap();
                fs::write(b.join("z"), "z").unwrap();
            }),
        ];
        for (what, step) in steps {
            step();
            assert!(folder.changed().unwrap(), "{what}");
            while folder.changed().unwrap() {}
        }
        fs::write(b.join("z"), "after").unwrap();
        assert!(folder.changed().unwrap(), "the watch is on the folder that is there now");
    }
}
