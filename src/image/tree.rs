//! One directory tree that may be hostile: a layer, or layers mounted together.
//!
//! Every path goes through the tree's root descriptor; nothing outside is reachable, whatever
//! symlinks the tree holds. Paths are relative, without `.`; *canonical* ones have no symlink and no
//! `..` in them.

use crate::sys::path::{Resolve, open_in};
use nix::fcntl::{AtFlags, OFlag, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};
use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

/// As many symlinks as the kernel follows.
const MAX_SYMLINKS: u32 = 40;

/// A tree's root.
#[derive(Debug)]
pub(super) struct Tree(OwnedFd);

/// How far a path exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Resolved {
    /// The canonical directory that exists.
    pub(super) found: PathBuf,
    /// What is missing below it; empty when the path is a directory.
    pub(super) missing: PathBuf,
}

/// What a name is in its directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileKind {
    File,
    Directory,
    Symlink,
    /// A character device 0:0: overlayfs hides the name in lower layers.
    Whiteout,
    CharDevice,
    BlockDevice,
    Fifo,
    Socket,
}

impl Tree {
    /// Opens the tree at `path`, a path of berth's own.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        Ok(Self(nix::fcntl::open(path, flags, Mode::empty())?))
    }

    /// The tree below an open directory.
    pub(super) fn from_fd(root: OwnedFd) -> Self {
        Self(root)
    }

    /// The root.
    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Opens the directory at a canonical path. ELOOP or ENOTDIR when it is something else.
    pub(super) fn dir(&self, canonical: &Path) -> io::Result<OwnedFd> {
        let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW;
        open_in(self.root(), dot(canonical), flags, 0, Resolve::NoSymlinks)
    }

    /// Opens the regular file at a canonical path for reading.
    pub(super) fn file(&self, canonical: &Path) -> io::Result<std::fs::File> {
        // O_NONBLOCK: opening a FIFO must not wait for a writer.
        let flags = libc::O_RDONLY | libc::O_NOFOLLOW | libc::O_NONBLOCK;
        open_in(self.root(), canonical, flags, 0, Resolve::NoSymlinks).map(Into::into)
    }

    /// What is at a canonical path; `None` when nothing is, or when its parent is no directory.
    pub(super) fn lookup(&self, canonical: &Path) -> io::Result<Option<FileStat>> {
        let flags = libc::O_PATH | libc::O_NOFOLLOW;
        match open_in(self.root(), dot(canonical), flags, 0, Resolve::NoSymlinks) {
            Ok(fd) => Ok(Some(fstat(&fd)?)),
            Err(e) if is_absent(&e) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The target of the symlink at a canonical path.
    pub(super) fn read_link(&self, canonical: &Path) -> io::Result<OsString> {
        let flags = libc::O_PATH | libc::O_NOFOLLOW;
        let fd = open_in(self.root(), canonical, flags, 0, Resolve::NoSymlinks)?;
        Ok(readlinkat(&fd, "")?)
    }

    /// Follows `path` as a process would whose root is the tree: symlinks are resolved inside, `..`
    /// stops at the root. A whiteout counts as missing.
    ///
    /// # Errors
    /// ENOTDIR when a component is a file; ELOOP after 40 symlinks.
    pub(super) fn resolve(&self, path: &Path) -> io::Result<Resolved> {
        let mut todo: VecDeque<OsString> = components(path.as_os_str().as_bytes()).collect();
        // The usual case: the path is canonical and exists.
        if todo.iter().all(|c| c != "..") {
            let plain: PathBuf = todo.iter().collect();
            if self.dir(&plain).is_ok() {
                return Ok(Resolved { found: plain, missing: PathBuf::new() });
            }
        }
        let mut found = PathBuf::new();
        let mut missing = PathBuf::new();
        let mut symlinks = 0;
        while let Some(name) = todo.pop_front() {
            if name == ".." {
                if !missing.pop() {
                    found.pop();
                }
                continue;
            }
            if !missing.as_os_str().is_empty() {
                missing.push(name);
                continue;
            }
            let next = found.join(&name);
            match self.lookup(&next)?.as_ref().map(kind_of) {
                None | Some(FileKind::Whiteout) => missing.push(name),
                Some(FileKind::Directory) => found = next,
                Some(FileKind::Symlink) => {
                    symlinks += 1;
                    if symlinks > MAX_SYMLINKS {
                        return Err(io::Error::from_raw_os_error(libc::ELOOP));
                    }
                    let target = self.read_link(&next)?;
                    if target.as_bytes().starts_with(b"/") {
                        found = PathBuf::new();
                    }
                    for component in components(target.as_bytes()).rev() {
                        todo.push_front(component);
                    }
                }
                Some(_) => return Err(io::Error::from_raw_os_error(libc::ENOTDIR)),
            }
        }
        Ok(Resolved { found, missing })
    }
}

/// The components of a path that mean something; `..` is one of them.
pub(super) fn components(path: &[u8]) -> impl DoubleEndedIterator<Item = OsString> {
    path.split(|b| *b == b'/')
        .filter(|c| !c.is_empty() && *c != b".")
        .map(|c| OsString::from_vec(c.to_vec()))
}

/// What `name` is in `dir`; `None` when there is nothing. Never follows it.
pub(super) fn stat_at(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<Option<FileStat>> {
    match fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(nix::errno::Errno::ENOENT) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// The kind of a file.
pub(super) fn kind_of(stat: &FileStat) -> FileKind {
    match SFlag::from_bits_truncate(stat.st_mode & libc::S_IFMT) {
        SFlag::S_IFDIR => FileKind::Directory,
        SFlag::S_IFLNK => FileKind::Symlink,
        SFlag::S_IFCHR if stat.st_rdev == 0 => FileKind::Whiteout,
        SFlag::S_IFCHR => FileKind::CharDevice,
        SFlag::S_IFBLK => FileKind::BlockDevice,
        SFlag::S_IFIFO => FileKind::Fifo,
        SFlag::S_IFSOCK => FileKind::Socket,
        _ => FileKind::File,
    }
}

/// A path by which the extended attributes of `name` in `dir` are reached without following it:
/// there is no setxattrat(2) before Linux 6.13, and an O_PATH descriptor refuses fsetxattr(2).
pub(super) fn proc_path(dir: BorrowedFd<'_>, name: &OsStr) -> PathBuf {
    let mut path = PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd()));
    path.push(name);
    path
}

/// The root itself has no name.
fn dot(canonical: &Path) -> &Path {
    if canonical.as_os_str().is_empty() { Path::new(".") } else { canonical }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn resolve(tree: &Tree, path: &str) -> (String, String) {
        let r = tree.resolve(Path::new(path)).unwrap();
        (r.found.to_str().unwrap().to_owned(), r.missing.to_str().unwrap().to_owned())
    }

    #[test]
    fn symlinks_and_dots_stay_below_the_root() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("usr/lib")).unwrap();
        symlink("/usr/lib", dir.path().join("abs")).unwrap();
        symlink("usr/lib", dir.path().join("rel")).unwrap();
        symlink("../../../../usr", dir.path().join("usr/lib/up")).unwrap();
        symlink("/nowhere/else", dir.path().join("dangling")).unwrap();
        symlink("loop", dir.path().join("loop")).unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        let tree = Tree::open(dir.path()).unwrap();
        for (path, found, missing) in [
            ("", "", ""),
            ("usr/lib", "usr/lib", ""),
            ("abs", "usr/lib", ""),
            ("rel/x/y", "usr/lib", "x/y"),
            ("rel/up/lib", "usr/lib", ""),
            ("../../usr", "usr", ""),
            ("usr/lib/../..", "", ""),
            ("a/../b", "", "b"),
            ("dangling/x", "", "nowhere/else/x"),
            ("/usr//./lib", "usr/lib", ""),
        ] {
            assert_eq!(resolve(&tree, path), (found.into(), missing.into()), "{path}");
        }
        let errno = |path: &str| tree.resolve(Path::new(path)).unwrap_err().raw_os_error();
        assert_eq!(errno("loop"), Some(libc::ELOOP));
        assert_eq!(errno("file/x"), Some(libc::ENOTDIR));
    }

    #[test]
    fn a_canonical_directory_is_never_a_symlink() {
        let dir = tempfile::tempdir().unwrap();
        symlink("/", dir.path().join("link")).unwrap();
        let tree = Tree::open(dir.path()).unwrap();
        assert!(tree.dir(Path::new("link")).is_err());
        assert!(tree.dir(Path::new("link/etc")).is_err());
        assert!(tree.lookup(Path::new("link/etc")).unwrap().is_none());
    }
}
