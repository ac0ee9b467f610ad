//! Completing an unpacked layer with what the layers below know.
//!
//! A layer is unpacked alone. Sequential extraction over the layers below would have found there
//! the directories that its archive does not mention, and the targets of its hard links. So,
//! bottom-up and before the layer is committed:
//!
//! * an invented directory takes owner, mode, extended attributes and time of the one below; where
//!   the layers below have a symlink to a directory, its contents move to where that leads;
//! * a hard link to a file of a lower layer becomes a copy, and further links to the same file
//!   become links to that copy;
//! * last, the times of directories are set.

use super::metadata::{read_xattrs, set_time, set_xattrs};
use super::tar_record::Recorder;
use super::tree::{FileKind, Tree, kind_of, proc_path, stat_at};
use super::unpack::{OPAQUE, UnpackError, Unpacked};
use nix::fcntl::{AtFlags, OFlag, RenameFlags, openat, renameat2};
use nix::sys::stat::{FchmodatFlags, FileStat, Mode, SFlag, fchmodat, mkdirat, mknodat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchownat, linkat, symlinkat, unlinkat};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

impl Unpacked {
    /// Whether the layer depends on those below it. One that does not is the same above any.
    pub(super) fn needs_lower(&self) -> bool {
        !self.invented.is_empty() || !self.outward.is_empty()
    }
}

/// What was completed.
#[derive(Debug)]
pub(super) struct Settled {
    /// Directories with the time of the archive, or of the layers below.
    pub(super) times: BTreeSet<PathBuf>,
    /// Copies of files of the layers below: path → where the file is there.
    pub(super) copies: Vec<(PathBuf, PathBuf)>,
}

/// Completes the layer in `tree`. `lower` is the merged view of the layers below; `None`: it is the
/// lowest.
///
/// # Errors
/// [`UnpackError`] with the path in the layer.
pub(super) fn settle(
    mut layer: Unpacked,
    tree: &Tree,
    lower: Option<&Tree>,
) -> Result<Settled, UnpackError> {
    if let Some(lower) = lower {
        settle_directories(&mut layer, tree, lower)?;
    }
    let copies = copy_links(&layer.outward, tree, lower)?;
    for (path, time) in &layer.times {
        let set = || -> io::Result<()> {
            let dir = tree.dir(path)?;
            set_time(dir.as_fd(), OsStr::new("."), *time)
        };
        set().map_err(|e| failed("set the time of", path, e))?;
    }
    Ok(Settled { times: layer.times.into_keys().collect(), copies })
}

fn failed(operation: &'static str, path: &Path, source: io::Error) -> UnpackError {
    UnpackError::Entry { operation, entry: path.display().to_string(), source }
}

fn settle_directories(layer: &mut Unpacked, tree: &Tree, lower: &Tree) -> Result<(), UnpackError> {
    let mut todo = std::mem::take(&mut layer.invented);
    // Parents come before their children, so a parent is canonical when its child's turn comes.
    while let Some(path) = todo.pop_first() {
        if hidden(&layer.opaque, &path) {
            continue;
        }
        let Some(stat) = lower.lookup(&path).map_err(|e| failed("look up", &path, e))? else {
            continue;
        };
        match kind_of(&stat) {
            FileKind::Directory => copy_directory(layer, tree, lower, (&path, &stat))?,
            FileKind::Symlink => {
                // A symlink that leads to a file, or nowhere sensible, is hidden by the directory.
                let Ok(to) = lower.resolve(&path) else { continue };
                let to = to.found.join(to.missing);
                let notes = (&mut todo, &mut layer.opaque);
                relocate(tree, (&path, &to), notes, &layer.recorder)
                    .map_err(|e| failed("move to the target of the symlink", &path, e))?;
                rename_notes(layer, &mut todo, &path, &to);
            }
            _ => {}
        }
    }
    Ok(())
}

/// Whether the layer itself hides what is below at `path`.
fn hidden(opaque: &BTreeSet<PathBuf>, path: &Path) -> bool {
    // An opaque directory keeps its own metadata of the layer below; its children lose theirs.
    path.ancestors().skip(1).any(|above| opaque.contains(above))
}

fn copy_directory(
    layer: &mut Unpacked,
    tree: &Tree,
    lower: &Tree,
    (path, stat): (&Path, &FileStat),
) -> Result<(), UnpackError> {
    let here = tree.dir(path).map_err(|e| failed("open", path, e))?;
    let there = lower.dir(path).map_err(|e| failed("open", path, e))?;
    let dot = OsStr::new(".");
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    fchownat(&here, dot, Some(uid), Some(gid), AtFlags::empty())
        .map_err(|e| failed("set the owner of", path, e.into()))?;
    let mode = Mode::from_bits_truncate(stat.st_mode & 0o7777);
    fchmodat(&here, dot, mode, FchmodatFlags::FollowSymlink)
        .map_err(|e| failed("set the mode of", path, e.into()))?;
    let xattrs = read_xattrs(there.as_fd(), dot)
        .map_err(|e| failed("read the extended attributes of", path, e))?;
    set_xattrs(here.as_fd(), dot, &xattrs).map_err(|(op, e)| failed(op, path, e))?;
    layer.times.insert(path.to_owned(), TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec));
    Ok(())
}

/// Moves the contents of the directory `from` to `to`, both canonical in the layer; directories
/// that `to` needs are invented. One that the layer hides is made anew: what it hides is that of
/// the layers below, never what lies beside it in its own layer.
fn relocate(
    tree: &Tree,
    (from, to): (&Path, &Path),
    (invented, opaque): (&mut BTreeSet<PathBuf>, &mut BTreeSet<PathBuf>),
    recorder: &Recorder,
) -> io::Result<()> {
    if to.starts_with(from) {
        return Err(io::Error::from_raw_os_error(libc::ELOOP));
    }
    let mut path = PathBuf::new();
    for name in to.iter() {
        let parent = tree.dir(&path)?;
        path.push(name);
        match stat_at(parent.as_fd(), name)?.as_ref().map(kind_of) {
            Some(FileKind::Directory) => {}
            None => {
                invent(&parent, name)?;
                invented.insert(path.clone());
            }
            Some(FileKind::Whiteout) => {
                unlinkat(&parent, name, UnlinkatFlags::NoRemoveDir)?;
                invent(&parent, name)?;
                xattr::set(proc_path(parent.as_fd(), name), OPAQUE, b"y")?;
                opaque.insert(path.clone());
            }
            Some(_) => return Err(io::Error::from_raw_os_error(libc::ENOTDIR)),
        }
    }
    merge(&tree.dir(from)?, (&tree.dir(to)?, to), recorder)?;
    recorder.moved(from, to)?;
    let (parent, name) = parent_and_name(tree, from)?;
    unlinkat(&parent, name, UnlinkatFlags::RemoveDir)?;
    Ok(())
}

/// A directory that no archive describes.
fn invent(parent: &OwnedFd, name: &OsStr) -> io::Result<()> {
    mkdirat(parent, name, Mode::S_IRWXU)?;
    // It takes the group of a set-group-id parent.
    fchownat(parent, name, Some(Uid::from_raw(0)), Some(Gid::from_raw(0)), AtFlags::empty())?;
    Ok(fchmodat(parent, name, Mode::from_bits_truncate(0o755), FOLLOW)?)
}

const FOLLOW: FchmodatFlags = FchmodatFlags::FollowSymlink;

/// Moves every name of `from` into `to`. What is moved wins over a file; directories are merged.
fn merge(from: &OwnedFd, (to, path): (&OwnedFd, &Path), recorder: &Recorder) -> io::Result<()> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut list = nix::dir::Dir::openat(from, ".", flags, Mode::empty())?;
    let mut names: Vec<OsString> = Vec::new();
    for entry in list.iter() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(OsStr::from_bytes(name).to_owned());
        }
    }
    for name in &names {
        let name = name.as_os_str();
        let is_dir = |dir: &OwnedFd| -> io::Result<bool> {
            Ok(stat_at(dir.as_fd(), name)?.as_ref().map(kind_of) == Some(FileKind::Directory))
        };
        if is_dir(from)? && is_dir(to)? {
            let open = |dir: &OwnedFd| {
                openat(dir, name, flags | OFlag::O_NOFOLLOW, Mode::empty()).map_err(io::Error::from)
            };
            merge(&open(from)?, (&open(to)?, &path.join(name)), recorder)?;
            unlinkat(from, name, UnlinkatFlags::RemoveDir)?;
        } else {
            let loses = stat_at(to.as_fd(), name)?;
            if loses.is_some_and(|stat| kind_of(&stat) == FileKind::File && stat.st_size > 0) {
                recorder.set_aside(to.as_fd(), name, &path.join(name))?;
            }
            renameat2(from, name, to, name, RenameFlags::empty())?;
        }
    }
    Ok(())
}

/// Everything noted below `from` is below `to` now.
fn rename_notes(layer: &mut Unpacked, invented: &mut BTreeSet<PathBuf>, from: &Path, to: &Path) {
    let moved = |path: PathBuf| match path.strip_prefix(from) {
        Ok(rest) if rest.as_os_str().is_empty() => to.to_owned(),
        Ok(rest) => to.join(rest),
        Err(_) => path,
    };
    *invented = std::mem::take(invented).into_iter().map(moved).collect();
    layer.opaque = std::mem::take(&mut layer.opaque).into_iter().map(moved).collect();
    let outward = std::mem::take(&mut layer.outward);
    layer.outward = outward.into_iter().map(|(path, target)| (moved(path), target)).collect();
    let times = std::mem::take(&mut layer.times);
    layer.times = times.into_iter().map(|(path, time)| (moved(path), time)).collect();
}

fn parent_and_name<'p>(tree: &Tree, path: &'p Path) -> io::Result<(OwnedFd, &'p OsStr)> {
    let name = path.file_name().ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
    Ok((tree.dir(path.parent().unwrap_or(Path::new("")))?, name))
}

/// Makes copies of the files of lower layers that the layer links to. Answers which.
fn copy_links(
    outward: &BTreeMap<PathBuf, PathBuf>,
    tree: &Tree,
    lower: Option<&Tree>,
) -> Result<Vec<(PathBuf, PathBuf)>, UnpackError> {
    let mut copies: BTreeMap<PathBuf, &Path> = BTreeMap::new();
    for (path, target) in outward {
        let refuse = |reason| UnpackError::Refused { entry: path.display().to_string(), reason };
        let lower = lower.ok_or_else(|| refuse("a hard link to what no layer has"))?;
        let source = canonical_file(lower, target)
            .map_err(|e| failed("resolve the hard link", path, e))?
            .ok_or_else(|| refuse("a hard link to what no layer has"))?;
        let (dir, name) =
            parent_and_name(tree, path).map_err(|e| failed("open folder of", path, e))?;
        if let Some(first) = copies.get(&source) {
            let (from, from_name) =
                parent_and_name(tree, first).map_err(|e| failed("open folder of", first, e))?;
            linkat(from, from_name, &dir, name, AtFlags::empty())
                .map_err(|e| failed("link", path, e.into()))?;
            continue;
        }
        copy_file(lower, &source, dir.as_fd(), name)
            .map_err(|e| failed("copy the target of the hard link", path, e))?;
        copies.insert(source, path);
    }
    Ok(copies.into_iter().map(|(source, path)| (path.to_owned(), source)).collect())
}

/// Where the target of a hard link is in the layers below; its last component is not followed.
fn canonical_file(lower: &Tree, target: &Path) -> io::Result<Option<PathBuf>> {
    let Some(name) = target.file_name() else { return Ok(None) };
    let parent = lower.resolve(target.parent().unwrap_or(Path::new("")))?;
    if !parent.missing.as_os_str().is_empty() {
        return Ok(None);
    }
    let path = parent.found.join(name);
    let kind = lower.lookup(&path)?.as_ref().map(kind_of);
    Ok((!matches!(kind, None | Some(FileKind::Directory | FileKind::Whiteout))).then_some(path))
}

fn copy_file(lower: &Tree, source: &Path, dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    let (from, from_name) = parent_and_name(lower, source)?;
    let stat = stat_at(from.as_fd(), from_name)?
        .ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))?;
    let private = Mode::S_IRUSR | Mode::S_IWUSR;
    let kind = kind_of(&stat);
    match kind {
        FileKind::File => {
            let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
            let mut to: File = openat(dir, name, flags, private)?.into();
            // copy_file_range(2), which shares the blocks where the file system can.
            io::copy(&mut lower.file(source)?, &mut to)?;
        }
        FileKind::Symlink => symlinkat(lower.read_link(source)?.as_os_str(), dir, name)?,
        _ => {
            let kind = SFlag::from_bits_truncate(stat.st_mode & libc::S_IFMT);
            mknodat(dir, name, kind, private, stat.st_rdev)?;
        }
    }
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    fchownat(dir, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)?;
    if kind != FileKind::Symlink {
        let mode = Mode::from_bits_truncate(stat.st_mode & 0o7777);
        fchmodat(dir, name, mode, FOLLOW)?;
    }
    let xattrs = read_xattrs(from.as_fd(), from_name)?;
    set_xattrs(dir, name, &xattrs).map_err(|(_, e)| e)?;
    set_time(dir, name, TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec))
}
