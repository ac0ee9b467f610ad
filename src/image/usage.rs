//! What a tree uses on disk.

use super::info::FsUsage;
use super::tree::Tree;
use crate::sys::fds::{Entry, entry};
use crate::sys::path::{Resolve, open_in};
use nix::dir::Dir;
use std::collections::HashSet;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// How many bytes the paths of folders that are yet to be looked at may take.
const MOST_PATHS: usize = 64 << 20;

/// Bytes and inodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) bytes: u64,
    pub(super) inodes: u64,
}

impl Usage {
    /// As the rest of berth sees it.
    pub(super) fn on(self, mountpoint: &Path) -> FsUsage {
        FsUsage {
            mountpoint: mountpoint.to_owned(),
            used_bytes: self.bytes,
            inodes_used: self.inodes,
            timestamp_nanos: now_nanos(),
        }
    }
}

/// What a tree takes, as far as it was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TreeUse {
    /// Bytes on disk.
    pub(crate) bytes: u64,
    /// Inodes.
    pub(crate) inodes: u64,
    /// Whether all of it was counted.
    pub(crate) whole: bool,
}

/// Bytes on disk and inodes of a tree that others may be changing, as [`walk`] counts them, as long as somebody
/// `wants` to know. Blocking.
///
/// # Errors
/// The root cannot be opened.
pub(crate) fn disk_use(root: &Path, limit: u64, wants: impl Fn() -> bool) -> io::Result<TreeUse> {
    let (Usage { bytes, inodes }, whole) = walk_while(root, limit, wants)?;
    Ok(TreeUse { bytes, inodes, whole })
}

/// Now, nanoseconds since 1970.
pub(super) fn now_nanos() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_nanos()).unwrap_or(i64::MAX)
}

/// Walks a tree of berth's own, of which others may be changing the inside: no symlink is followed,
/// what is mounted below is not the tree's, and what vanishes is not counted. Files with several links
/// count once. Ends after `limit` inodes, and the answer is a lower bound then.
pub(super) fn walk(root: &Path, limit: u64) -> io::Result<Usage> {
    walk_while(root, limit, || true).map(|(usage, _)| usage)
}

/// As [`walk`], until nobody `wants` it any more; whether all was counted: not what is below a path longer than the
/// kernel takes, what cannot be read, and folders whose paths are more than [`MOST_PATHS`].
fn walk_while(root: &Path, limit: u64, wants: impl Fn() -> bool) -> io::Result<(Usage, bool)> {
    let tree = Tree::open(root)?;
    let mut usage = Usage::default();
    let mut linked: HashSet<u64> = HashSet::new();
    let mut count = |of: &Entry| {
        if of.links > 1 && !of.is_directory && !linked.insert(of.inode) {
            return;
        }
        usage.bytes += of.blocks * 512;
        usage.inodes += 1;
    };
    let top = open_dir(&tree, Path::new(""))?;
    count(&entry(top.as_fd(), c".")?);
    let (mut todo, mut todo_bytes) = (vec![PathBuf::new()], 0);
    let (mut seen, mut whole) = (1u64, true);
    while let Some(path) = todo.pop() {
        todo_bytes -= path.as_os_str().len();
        if !wants() {
            return Ok((usage, false));
        }
        let fd = match open_dir(&tree, &path) {
            Ok(fd) => fd,
            Err(error) => {
                whole &= has_vanished(&error);
                continue;
            }
        };
        // Names are not gathered: a folder may have more of them than there is memory for.
        let mut dir = Dir::from_fd(fd.try_clone()?)?;
        for listed in dir.iter() {
            let Ok(listed) = listed else {
                whole = false;
                break;
            };
            let name = listed.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            if seen >= limit {
                return Ok((usage, false));
            }
            let of = match entry(fd.as_fd(), name) {
                Ok(of) => of,
                Err(error) => {
                    whole &= has_vanished(&error);
                    continue;
                }
            };
            if of.is_mount {
                continue;
            }
            count(&of);
            seen += 1;
            if !of.is_directory {
                continue;
            }
            let below = path.join(OsStr::from_bytes(name.to_bytes()));
            let bytes = below.as_os_str().len();
            if todo_bytes + bytes > MOST_PATHS {
                whole = false;
                continue;
            }
            todo_bytes += bytes;
            todo.push(below);
        }
    }
    Ok((usage, whole))
}

/// Whether what was to be counted is not there any more, or is no folder any more.
fn has_vanished(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn open_dir(tree: &Tree, path: &Path) -> io::Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW;
    open_in(tree.root(), path, flags, 0, Resolve::NoSymlinks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::fcntl::{OFlag, openat};
    use nix::sys::stat::{Mode, mkdirat};
    use std::fs;

    #[test]
    fn links_count_once_and_symlinks_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("d")).unwrap();
        fs::write(dir.path().join("d/a"), vec![1; 100_000]).unwrap();
        fs::hard_link(dir.path().join("d/a"), dir.path().join("b")).unwrap();
        std::os::unix::fs::symlink("/usr", dir.path().join("l")).unwrap();
        let usage = walk(dir.path(), 1000).unwrap();
        // The root, d, a (= b) and l.
        assert_eq!(usage.inodes, 4);
        assert!((100_000..200_000).contains(&usage.bytes), "{usage:?}");
        assert_eq!(walk(dir.path(), 2).unwrap().inodes, 2);
    }

    #[test]
    fn what_was_not_counted_to_its_end_is_told() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("d")).unwrap();
        fs::write(dir.path().join("d/a"), "a").unwrap();
        let counted = |limit| {
            let told = disk_use(dir.path(), limit, || true).unwrap();
            (told.inodes, told.whole)
        };
        assert_eq!([counted(3), counted(2), counted(4)], [(3, true), (2, false), (3, true)]);
        // Deeper than a path that the kernel takes: each folder is made where the last one was.
        let mut at = fs::File::open(dir.path()).unwrap();
        let name = "n".repeat(250);
        for _ in 0..20 {
            mkdirat(&at, name.as_str(), Mode::S_IRWXU).unwrap();
            at = openat(&at, name.as_str(), OFlag::O_DIRECTORY, Mode::empty()).unwrap().into();
        }
        let told = disk_use(dir.path(), 99, || true).unwrap();
        assert!(!told.whole && (10..23).contains(&told.inodes), "{told:?}");
        let unwanted = disk_use(dir.path(), 9, || false).unwrap();
        assert_eq!((unwanted.inodes, unwanted.whole), (1, false));
    }
}
