//! Taking a pod's folder apart: first what is mounted in it, then what is in it.
//!
//! By what is on disk and in the mount table alone, so that it also does after a crash. What is below may be a
//! container's work: names are looked up by descriptor, no symlink is followed, and a folder that is another mount
//! than the root's is not entered, so that what could not be unmounted is not emptied.

use super::error::VolumeError;
use super::mount_point::open_folder;
use crate::sys::fds;
use crate::sys::mount::{self, Change, Propagation, Reach};
use crate::sys::path::{Resolve, c_path, open_in};
use nix::errno::Errno;
use nix::fcntl::{OFlag, RenameFlags, openat, renameat2};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

/// Mounts may be stacked on one another, and each pass takes the upper one.
const PASSES: usize = 64;
/// Deeper folders are moved up before they are emptied: each level holds a descriptor.
const MAX_DEPTH: usize = 128;

fn by_fd(fd: BorrowedFd<'_>) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

/// Unmounts all that is mounted below `folder`, newest first. A folder that is not there has nothing.
pub(super) fn unmount_below(folder: &Path) -> Vec<VolumeError> {
    let root = match open_folder(folder) {
        Ok(root) => root,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(e) => return vec![VolumeError::io("open", folder)(e)],
    };
    let mut errors = Vec::new();
    for _ in 0..PASSES {
        let mounts = match mounts_below(root.as_fd()) {
            Ok(mounts) => mounts,
            Err(e) => return vec![VolumeError::io("list the mounts below", folder)(e)],
        };
        errors.clear();
        let all = mounts.len();
        // All before the first is unmounted: what counts is how the mount stands that one is on.
        let part = mounts.iter().map(|path| set_apart(root.as_fd(), path).map(drop));
        let parted: Vec<io::Result<()>> = part.collect();
        for (path, parted) in mounts.iter().zip(parted) {
            if let Err(e) = parted.and_then(|()| unmount(root.as_fd(), path)) {
                errors.push(VolumeError::io("unmount", &folder.join(path))(e));
            }
        }
        if errors.len() == all {
            break;
        }
    }
    errors
}

/// The mount points below a folder, relative to it; the newest first.
fn mounts_below(root: BorrowedFd<'_>) -> io::Result<Vec<PathBuf>> {
    let own = fs::read_link(by_fd(root))?;
    let table = fs::read("/proc/self/mountinfo")?;
    let points = table.split(|b| *b == b'\n').filter_map(|line| {
        let point = unescape(line.split(|b| *b == b' ').nth(4)?);
        let below = Path::new(&point).strip_prefix(&own).ok()?;
        (!below.as_os_str().is_empty()).then(|| below.to_owned())
    });
    let mut points: Vec<PathBuf> = points.collect();
    points.reverse();
    Ok(points)
}

/// The kernel writes blanks, backslashes and line ends as three octal digits (proc_pid_mountinfo(5)).
fn unescape(text: &[u8]) -> OsString {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        let code = digits.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code.filter(|_| *first == b'\\') {
            Some(code) => {
                out.push(code);
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                out.push(*first);
                rest = after;
            }
        }
    }
    OsString::from_vec(out)
}

/// A bind of a shared mount is its peer: what is unmounted below the one goes below the other, too, so that without
/// this the host would lose what is mounted in a hostPath (mount_namespaces(7)).
fn set_apart(root: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    let flags = libc::O_PATH | libc::O_NOFOLLOW;
    let point = open_in(root, path, flags, 0, Resolve::NoSymlinks)?;
    let alone = Change { propagation: Some(Propagation::Private), ..Change::default() };
    mount::set_attributes(point.as_fd(), alone, Reach::Tree)?;
    Ok(point)
}

fn unmount(root: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    // Where mounts are stacked, this is the next one.
    let point = set_apart(root, path)?;
    mount::detach(&c_path(&by_fd(point.as_fd()))?)
}

/// Unmounts what is mounted at `path`, a place of berth's own.
pub(super) fn unmount_at(folder: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    unmount(folder, Path::new(name))
}

/// Removes the folder `path` with all in it. One that is not there is removed; a symlink is removed
/// itself. Goes on past errors.
pub(super) fn remove_tree(path: &Path) -> Vec<VolumeError> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Vec::new() };
    match open_folder(parent) {
        Ok(parent_fd) => {
            let mut removal = Removal { path: parent, errors: Vec::new(), moved: 0 };
            removal.name(&parent_fd, name);
            removal.errors
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(e) => vec![VolumeError::io("open", parent)(e)],
    }
}

struct Removal<'a> {
    path: &'a Path,
    errors: Vec<VolumeError>,
    /// Folders that were moved up.
    moved: u64,
}

/// A folder that is being emptied.
struct Level {
    fd: OwnedFd,
    name: OsString,
    /// What is still in it.
    names: Vec<OsString>,
}

impl Removal<'_> {
    fn name(&mut self, parent: &OwnedFd, name: &OsStr) {
        let mount = match fds::mount_id(parent.as_fd()) {
            Ok(mount) => mount,
            Err(e) => return self.failed("look at", parent.as_fd(), name, e),
        };
        let mut stack: Vec<Level> = self.one(parent.as_fd(), name, mount).into_iter().collect();
        while let Some(top) = stack.last_mut() {
            let Some(name) = top.names.pop() else {
                let Some(done) = stack.pop() else { return };
                let above = stack.last().map_or(parent, |level| &level.fd);
                match unlinkat(above, done.name.as_os_str(), UnlinkatFlags::RemoveDir) {
                    Ok(()) | Err(Errno::ENOENT) => {}
                    Err(e) => self.failed("remove", above.as_fd(), &done.name, e),
                }
                continue;
            };
            let Some(level) = self.one(top.fd.as_fd(), &name, mount) else { continue };
            if stack.len() < MAX_DEPTH {
                stack.push(level);
            } else if let Some(moved) = self.move_up(&stack, &name)
                && let Some(first) = stack.first_mut()
            {
                first.names.push(moved);
            }
        }
    }

    /// Removes a file, or opens a folder.
    fn one(&mut self, dir: BorrowedFd<'_>, name: &OsStr, mount: u64) -> Option<Level> {
        match unlinkat(dir, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => return None,
            Err(Errno::EISDIR) => {}
            Err(e) => {
                self.failed("remove", dir, name, e);
                return None;
            }
        }
        let level = open_level(dir, name, mount);
        level.map_err(|e| self.failed("enter", dir, name, e)).ok()
    }

    /// Moves a folder to the first level, to be emptied from there, and answers its new name.
    fn move_up(&mut self, stack: &[Level], name: &OsStr) -> Option<OsString> {
        let (top, first) = (stack.last()?, stack.first()?);
        loop {
            let moved = OsString::from(format!("berth.deep.{}", self.moved));
            self.moved += 1;
            let flags = RenameFlags::RENAME_NOREPLACE;
            match renameat2(&top.fd, name, &first.fd, moved.as_os_str(), flags) {
                Ok(()) => return Some(moved),
                // Left over by an attempt that was cut off.
                Err(Errno::EEXIST) => {}
                Err(e) => {
                    self.failed("move up", top.fd.as_fd(), name, e);
                    return None;
                }
            }
        }
    }

    fn failed(
        &mut self,
        operation: &'static str,
        dir: BorrowedFd<'_>,
        name: &OsStr,
        e: impl Into<io::Error>,
    ) {
        let dir = fs::read_link(by_fd(dir)).unwrap_or_else(|_| self.path.to_owned());
        self.errors.push(VolumeError::io(operation, &dir.join(name))(e));
    }
}

fn open_level(dir: BorrowedFd<'_>, name: &OsStr, mount: u64) -> io::Result<Level> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let fd = openat(dir, name, flags, Mode::empty())?;
    if fds::mount_id(fd.as_fd())? != mount {
        return Err(io::Error::from(io::ErrorKind::ResourceBusy));
    }
    let mut names = Vec::new();
    for entry in nix::dir::Dir::openat(&fd, ".", flags, Mode::empty())?.iter() {
        let name = OsStr::from_bytes(entry?.file_name().to_bytes()).to_owned();
        if name != "." && name != ".." {
            names.push(name);
        }
    }
    Ok(Level { fd, name: name.to_owned(), names })
}

#[cfg(test)]
#[path = "remove_tests.rs"]
mod tests;
