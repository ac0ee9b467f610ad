//! Two trees, file by file: what one was, and what it is.
//!
//! Names, types, owners, modes, sizes, times to the nanosecond, extended attributes, targets of
//! symlinks, device numbers, and which names are one file. Not content. Nothing is followed.

use super::metadata::{OVERLAY_XATTRS, read_xattrs};
use super::tree::{FileKind, Tree, kind_of, stat_at};
use crate::sys::path::{Resolve, open_in};
use nix::dir::Dir;
use nix::sys::stat::{FileStat, fstat, major, minor};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// Extended attributes that a host gives files, whatever an image says.
const OF_THE_HOST: &[&[u8]] = &[
    b"security.selinux",
    b"security.ima",
    b"security.evm",
    b"security.apparmor",
    b"security.SMACK64",
    b"btrfs.",
];

/// One attribute of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Difference {
    /// Its path in the tree.
    pub(super) path: PathBuf,
    pub(super) attribute: Attribute,
    /// What it is, and what it was.
    pub(super) problem: String,
}

/// What of a file is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attribute {
    /// Whether it is there.
    Name,
    Type,
    Owner,
    Mode,
    Size,
    Time,
    Xattr,
    Target,
    Device,
    /// Which other names it has.
    Links,
}

impl Attribute {
    /// Whether it changes with a file's content.
    pub(super) fn is_of_content(self) -> bool {
        matches!(self, Self::Name | Self::Type | Self::Size | Self::Time)
    }
}

/// Compares `is` with `was`. The times of directories are compared where `timed` says that they are known.
///
/// # Errors
/// A file that cannot be looked at.
pub(super) fn compare(
    was: &Tree,
    is: &Tree,
    timed: &dyn Fn(&Path) -> bool,
) -> io::Result<Vec<Difference>> {
    let mut compared = Comparison { timed, found: Vec::new(), links: Links::default() };
    let roots = (fstat(was.root())?, fstat(is.root())?);
    let dot = OsStr::new(".");
    compared.attributes(Path::new(""), dot, (was.root(), &roots.0), (is.root(), &roots.1))?;
    let mut todo = vec![PathBuf::new()];
    while let Some(path) = todo.pop() {
        compared.folder(&path, open(was, &path)?, open(is, &path)?, &mut todo)?;
    }
    compared.found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(compared.found)
}

struct Comparison<'a> {
    timed: &'a dyn Fn(&Path) -> bool,
    found: Vec<Difference>,
    links: Links,
}

/// A file in one of the trees: its directory and what it is.
type Side<'a> = (BorrowedFd<'a>, &'a FileStat);

impl Comparison<'_> {
    fn differs(&mut self, path: &Path, attribute: Attribute, problem: impl Into<String>) {
        let (path, problem) = (path.to_owned(), problem.into());
        self.found.push(Difference { path, attribute, problem });
    }

    fn folder(
        &mut self,
        path: &Path,
        was: OwnedFd,
        is: OwnedFd,
        todo: &mut Vec<PathBuf>,
    ) -> io::Result<()> {
        let (was_names, is_names) = (names(&was)?, names(&is)?);
        for name in was_names.union(&is_names) {
            let here = path.join(name);
            let stats = (stat_at(was.as_fd(), name)?, stat_at(is.as_fd(), name)?);
            match stats {
                (None, None) => {}
                (Some(_), None) => self.differs(&here, Attribute::Name, "it is gone"),
                (None, Some(_)) => self.differs(&here, Attribute::Name, "it is none of its files"),
                (Some(a), Some(b)) => {
                    let same = self.attributes(&here, name, (was.as_fd(), &a), (is.as_fd(), &b))?;
                    if same && kind_of(&a) == FileKind::Directory {
                        todo.push(here);
                    }
                }
            }
        }
        Ok(())
    }

    /// Compares two files of one name. Answers whether they are of one type.
    fn attributes(
        &mut self,
        path: &Path,
        name: &OsStr,
        was: Side<'_>,
        is: Side<'_>,
    ) -> io::Result<bool> {
        let ((was_dir, a), (is_dir, b)) = (was, is);
        let (kind, found) = (kind_of(a), kind_of(b));
        if kind != found {
            let problem = format!("it is {}; it was {}", word(found), word(kind));
            self.differs(path, Attribute::Type, problem);
            return Ok(false);
        }
        if kind == FileKind::Whiteout {
            // overlayfs looks at nothing else of it, and no archive says anything else.
            return Ok(true);
        }
        if (a.st_uid, a.st_gid) != (b.st_uid, b.st_gid) {
            let text = |s: &FileStat| format!("{}:{}", s.st_uid, s.st_gid);
            let problem = format!("its owner is {}; it was {}", text(b), text(a));
            self.differs(path, Attribute::Owner, problem);
        }
        if a.st_mode != b.st_mode {
            let text = |s: &FileStat| format!("{:04o}", s.st_mode & 0o7777);
            let problem = format!("its mode is {}; it was {}", text(b), text(a));
            self.differs(path, Attribute::Mode, problem);
        }
        if kind == FileKind::File && a.st_size != b.st_size {
            let problem = format!("it has {} bytes; it had {}", b.st_size, a.st_size);
            self.differs(path, Attribute::Size, problem);
        }
        if matches!(kind, FileKind::CharDevice | FileKind::BlockDevice) && a.st_rdev != b.st_rdev {
            let text = |s: &FileStat| format!("{}:{}", major(s.st_rdev), minor(s.st_rdev));
            let problem = format!("its device number is {}; it was {}", text(b), text(a));
            self.differs(path, Attribute::Device, problem);
        }
        let times = ((a.st_mtime, a.st_mtime_nsec), (b.st_mtime, b.st_mtime_nsec));
        if times.0 != times.1 && (kind != FileKind::Directory || (self.timed)(path)) {
            let text = |(seconds, nanos): (i64, i64)| format!("{seconds}.{nanos:09}");
            let problem = format!("its time is {}; it was {}", text(times.1), text(times.0));
            self.differs(path, Attribute::Time, problem);
        }
        if kind == FileKind::Symlink {
            let target = |dir| nix::fcntl::readlinkat(dir, name).map_err(io::Error::from);
            let (target, found) = (target(was_dir)?, target(is_dir)?);
            if target != found {
                let (target, found) = (target.display(), found.display());
                let problem = format!("it leads to {found}; it led to {target}");
                self.differs(path, Attribute::Target, problem);
            }
        }
        self.xattrs(path, &xattrs(was_dir, name)?, &xattrs(is_dir, name)?);
        if kind != FileKind::Directory
            && let Some(problem) = self.links.see(path, a, b)
        {
            self.differs(path, Attribute::Links, problem);
        }
        Ok(true)
    }

    fn xattrs(&mut self, path: &Path, was: &Xattrs, is: &Xattrs) {
        let keys: BTreeSet<&OsString> = was.keys().chain(is.keys()).collect();
        for key in keys {
            let what = match (was.get(key), is.get(key)) {
                (Some(_), None) => "is gone",
                (None, Some(_)) => "is new",
                (a, b) if a != b => "has changed",
                _ => continue,
            };
            let problem = format!("its extended attribute {} {what}", key.display());
            self.differs(path, Attribute::Xattr, problem);
        }
    }
}

/// Which files of one tree are which of the other: names of one file stay names of one file.
#[derive(Default)]
struct Links {
    /// By the inode that it was: the one that it is, and its first name.
    of_was: HashMap<u64, (u64, PathBuf)>,
    /// By the inode that it is.
    of_is: HashMap<u64, (u64, PathBuf)>,
}

impl Links {
    fn see(&mut self, path: &Path, was: &FileStat, is: &FileStat) -> Option<String> {
        if was.st_nlink < 2 && is.st_nlink < 2 {
            return None;
        }
        let (a, b) = (was.st_ino, is.st_ino);
        let first = self.of_was.entry(a).or_insert_with(|| (b, path.to_owned()));
        if first.0 != b {
            return Some(format!("it is no hard link to /{} any more", first.1.display()));
        }
        let first = self.of_is.entry(b).or_insert_with(|| (a, path.to_owned()));
        let joined = first.0 != a;
        joined.then(|| format!("it is a hard link to /{}; it was none", first.1.display()))
    }
}

type Xattrs = BTreeMap<OsString, Vec<u8>>;

fn xattrs(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<Xattrs> {
    let mut all: Xattrs = read_xattrs(dir, name)?.into_iter().collect();
    all.retain(|key, _| {
        let key = key.as_bytes();
        let of_overlay = key.starts_with(OVERLAY_XATTRS) && key != super::unpack::OPAQUE.as_bytes();
        !of_overlay && !OF_THE_HOST.iter().any(|host| key.starts_with(host))
    });
    Ok(all)
}

fn open(tree: &Tree, path: &Path) -> io::Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW;
    open_in(tree.root(), path, flags, 0, Resolve::NoSymlinks)
}

fn names(dir: &OwnedFd) -> io::Result<BTreeSet<OsString>> {
    let mut list = Dir::from_fd(dir.try_clone()?)?;
    let mut names = BTreeSet::new();
    for entry in list.iter() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.insert(OsStr::from_bytes(name).to_owned());
        }
    }
    Ok(names)
}

fn word(kind: FileKind) -> &'static str {
    match kind {
        FileKind::File => "a file",
        FileKind::Directory => "a directory",
        FileKind::Symlink => "a symlink",
        FileKind::Whiteout => "a whiteout",
        FileKind::CharDevice => "a character device",
        FileKind::BlockDevice => "a block device",
        FileKind::Fifo => "a FIFO",
        FileKind::Socket => "a socket",
    }
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "/{}: {}", self.path.display(), self.problem)
    }
}
