//! A layer's tar becomes a directory tree in overlayfs's own form.
//!
//! OCI image spec layer.md. Whiteouts become character devices 0:0, opaque whiteouts the extended
//! attribute `trusted.overlay.opaque`. The layer is unpacked into a folder of its own, without the
//! layers below: directories that the tar does not mention and hard links to what it does not hold
//! are written down in [`Unpacked`], for `settle` to complete when the layers below are known.
//!
//! The archive is hostile. Every name is reached through the tree's root (see `tree`), the last
//! component is never followed, size and number of entries are bounded, and so is the memory that a
//! header may take. What a process outside would see of it, set-user-id files and device nodes, is
//! behind a folder that only root enters.

use super::digest::{Digest, HashingReader};
use super::entry::{Entry, Kind, decode};
use super::error::io_kind;
use super::metadata::set_meta;
use super::tar_record::Recorder;
use super::tree::{FileKind, Tree, kind_of, proc_path, stat_at};
use crate::error::ErrorKind;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmodat, makedev, mkdirat, mknodat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchownat, linkat, symlinkat, unlinkat};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE_WHITEOUT: &[u8] = b".wh..wh..opq";
/// overlayfs's mark of a directory that hides those below it.
pub(super) const OPAQUE: &str = "trusted.overlay.opaque";
/// What one entry's headers (long names, pax records) may take.
pub(super) const MAX_HEADER_BYTES: u64 = 1 << 20;

/// Why a layer could not be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// An operation on the file of an entry failed.
    #[error("{operation} {entry:?}")]
    Entry {
        /// What was attempted.
        operation: &'static str,
        /// The entry's name in the archive, or the path in the layer.
        entry: String,
        /// The errno.
        source: io::Error,
    },
    /// An entry that no image may hold, or that makes no sense.
    #[error("entry {entry:?} is refused: {reason}")]
    Refused {
        /// The entry's name in the archive.
        entry: String,
        /// Why.
        reason: &'static str,
    },
    /// The stream is no whole archive.
    #[error("read the archive")]
    Archive(#[source] io::Error),
    /// The layer is larger than the configuration permits.
    #[error("more than {limit} {what} in one layer (configuration: image.{key})")]
    Limit {
        /// Bytes or entries.
        what: &'static str,
        /// How many are permitted.
        limit: u64,
        /// The key of the configuration.
        key: &'static str,
    },
}

impl UnpackError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Entry { source, .. } => io_kind(source),
            // What is read is also written: a kept blob, the tar record.
            Self::Archive(source) if io_kind(source) == ErrorKind::ResourceExhausted => {
                ErrorKind::ResourceExhausted
            }
            Self::Refused { .. } | Self::Archive(_) => ErrorKind::InvalidArgument,
            Self::Limit { .. } => ErrorKind::ResourceExhausted,
        }
    }
}

/// How large a layer may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) bytes: u64,
    pub(super) entries: u64,
}

/// A layer in its own folder, and what is missing to complete it.
#[derive(Debug)]
pub(super) struct Unpacked {
    /// The digest of the uncompressed archive.
    pub(super) diff_id: Digest,
    /// Directories that the archive does not mention.
    pub(super) invented: BTreeSet<PathBuf>,
    /// Hard links to what the archive does not hold: canonical path → target as archived.
    pub(super) outward: BTreeMap<PathBuf, PathBuf>,
    /// Directories that hide what is below them.
    pub(super) opaque: BTreeSet<PathBuf>,
    /// The times of directories, set when nothing is made in them any more.
    pub(super) times: BTreeMap<PathBuf, TimeSpec>,
    /// Whether the archive describes the root itself.
    pub(super) root_entry: bool,
    /// The tar record, which is not ended yet.
    pub(super) recorder: Recorder,
}

/// Unpacks the archive into `tree`, which is empty, reads the stream to its end, and records what the
/// tree cannot tell of it.
///
/// # Errors
/// [`UnpackError`]; the tree holds a part of the layer then.
pub(super) fn unpack(
    archive: impl Read,
    tree: &Tree,
    limits: Limits,
    recorder: Recorder,
) -> Result<Unpacked, UnpackError> {
    let unpacker = Unpacker::new(tree, recorder.clone());
    unpack_with(unpacker, archive, limits, &recorder)
}

/// As [`unpack`], but files get their length alone: for an archive that was unpacked before.
///
/// # Errors
/// [`UnpackError`].
pub(super) fn unpack_hollow(archive: impl Read, tree: &Tree) -> Result<Unpacked, UnpackError> {
    let recorder = Recorder::default();
    let unpacker = Unpacker { hollow: true, ..Unpacker::new(tree, recorder.clone()) };
    unpack_with(unpacker, archive, Limits { bytes: u64::MAX, entries: u64::MAX }, &recorder)
}

fn unpack_with(
    mut unpacker: Unpacker<'_>,
    archive: impl Read,
    limits: Limits,
    recorder: &Recorder,
) -> Result<Unpacked, UnpackError> {
    let budget = Rc::new(Cell::new(None));
    // Headers are read in small pieces; the decoder and the hash work on large ones.
    let inner = BufReader::with_capacity(64 << 10, HashingReader::new(archive));
    let mut reader = recorder.tap(Budget { inner, left: Rc::clone(&budget) });
    let mut archive = tar::Archive::new(&mut reader);
    let mut entries = archive.entries().map_err(UnpackError::Archive)?;
    let (mut count, mut bytes) = (0u64, 0u64);
    loop {
        budget.set(Some(MAX_HEADER_BYTES));
        let Some(entry) = entries.next() else { break };
        let mut entry = entry.map_err(UnpackError::Archive)?;
        let decoded = decode(&mut entry)?;
        budget.set(None);
        count += 1;
        if count > limits.entries {
            let (what, key) = ("entries", "max_layer_entries");
            return Err(UnpackError::Limit { what, limit: limits.entries, key });
        }
        bytes = bytes.saturating_add(decoded.size);
        if bytes > limits.bytes {
            let (what, key) = ("bytes", "max_layer_bytes");
            return Err(UnpackError::Limit { what, limit: limits.bytes, key });
        }
        unpacker.apply(&decoded, &mut entry)?;
        // The rest of an entry that is no file; the budget is for headers only.
        io::copy(&mut entry, &mut io::sink()).map_err(UnpackError::Archive)?;
    }
    // After the end marker there may be padding.
    budget.set(Some(limits.bytes.max(MAX_HEADER_BYTES)));
    io::copy(&mut reader, &mut io::sink()).map_err(UnpackError::Archive)?;
    let (diff_id, ..) =
        reader.into_inner().inner.into_inner().finish().map_err(UnpackError::Archive)?;
    Ok(unpacker.finish(diff_id))
}

/// Bounds what is read while the tar crate collects headers, which it keeps in memory.
pub(super) struct Budget<R> {
    pub(super) inner: R,
    /// Bytes that may still be read; `None`: any number.
    pub(super) left: Rc<Cell<Option<u64>>>,
}

impl<R: Seek> Seek for Budget<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}

impl<R: Read> Read for Budget<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        if let Some(left) = self.left.get() {
            let rest = left.checked_sub(n as u64);
            let error = || io::Error::other("an entry's headers, or the padding, are too large");
            self.left.set(Some(rest.ok_or_else(error)?));
        }
        Ok(n)
    }
}

struct Unpacker<'a> {
    tree: &'a Tree,
    invented: BTreeSet<PathBuf>,
    outward: BTreeMap<PathBuf, PathBuf>,
    opaque: BTreeSet<PathBuf>,
    times: BTreeMap<PathBuf, TimeSpec>,
    root_entry: bool,
    /// The directory of the last entry: as archived, canonical, open.
    last: Option<(PathBuf, PathBuf, OwnedFd)>,
    recorder: Recorder,
    buffer: Vec<u8>,
    /// Whether files have their length, and no content.
    hollow: bool,
}

/// Where an entry goes.
struct Place<'a> {
    dir: BorrowedFd<'a>,
    name: &'a OsStr,
    path: PathBuf,
}

impl<'a> Unpacker<'a> {
    fn new(tree: &'a Tree, recorder: Recorder) -> Self {
        Self {
            tree,
            invented: BTreeSet::new(),
            outward: BTreeMap::new(),
            opaque: BTreeSet::new(),
            times: BTreeMap::new(),
            root_entry: false,
            last: None,
            recorder,
            buffer: vec![0; 128 << 10],
            hollow: false,
        }
    }

    fn finish(self, diff_id: Digest) -> Unpacked {
        Unpacked {
            diff_id,
            invented: self.invented,
            outward: self.outward,
            opaque: self.opaque,
            times: self.times,
            root_entry: self.root_entry,
            recorder: self.recorder,
        }
    }

    fn apply(&mut self, entry: &Entry, content: &mut impl Read) -> Result<(), UnpackError> {
        if entry.kind == Kind::Nothing {
            return Ok(());
        }
        let Some(name) = &entry.file_name else { return self.apply_root(entry) };
        let at =
            |operation, source| UnpackError::Entry { operation, entry: entry.name.clone(), source };
        let (parent, dir) = self.parent(&entry.parent).map_err(|e| at("open folder of", e))?;
        if let Some(hidden) = name.as_bytes().strip_prefix(WHITEOUT) {
            return self.whiteout(entry, &parent, dir.as_fd(), hidden);
        }
        let place = Place { dir: dir.as_fd(), name, path: parent.join(name) };
        let target = match &entry.kind {
            Kind::Link(target) => Some(self.link_target(entry, target, &place)?),
            _ => None,
        };
        let keep = self.clear(&place, entry).map_err(|e| at("replace", e))?;
        match &entry.kind {
            Kind::File { sparse } => self.write_file(entry, &place, content, *sparse)?,
            Kind::Directory if keep => {}
            Kind::Directory => {
                mkdirat(place.dir, name.as_os_str(), Mode::S_IRWXU)
                    .map_err(|e| at("create folder", e.into()))?;
            }
            Kind::Symlink(text) => symlinkat(text.as_os_str(), place.dir, name.as_os_str())
                .map_err(|e| at("create symlink", e.into()))?,
            Kind::Link(archived) => {
                // The link shares its target's metadata; there is nothing to apply.
                return self.link(&place, target.flatten(), archived).map_err(|e| at("link", e));
            }
            Kind::CharDevice { major, minor } => {
                make_node(&place, SFlag::S_IFCHR, (*major, *minor))
                    .map_err(|e| at("create device", e))?;
            }
            Kind::BlockDevice { major, minor } => {
                make_node(&place, SFlag::S_IFBLK, (*major, *minor))
                    .map_err(|e| at("create device", e))?;
            }
            Kind::Fifo => {
                make_node(&place, SFlag::S_IFIFO, (0, 0)).map_err(|e| at("create FIFO", e))?
            }
            Kind::Nothing => return Ok(()),
        }
        if entry.kind == Kind::Directory {
            self.invented.remove(&place.path);
            self.times.insert(place.path.clone(), entry.meta.mtime);
        }
        set_meta(place.dir, name, &entry.meta, &entry.kind).map_err(|(op, e)| at(op, e))
    }

    fn apply_root(&mut self, entry: &Entry) -> Result<(), UnpackError> {
        if entry.kind != Kind::Directory {
            let reason = "the root is a directory";
            return Err(UnpackError::Refused { entry: entry.name.clone(), reason });
        }
        self.root_entry = true;
        self.times.insert(PathBuf::new(), entry.meta.mtime);
        set_meta(self.tree.root(), OsStr::new("."), &entry.meta, &entry.kind).map_err(
            |(operation, source)| UnpackError::Entry {
                operation,
                entry: entry.name.clone(),
                source,
            },
        )
    }

    /// The canonical path and a descriptor of the directory in which an entry lies. Missing ones
    /// are made, and noted as invented.
    fn parent(&mut self, archived: &Path) -> io::Result<(PathBuf, OwnedFd)> {
        if let Some((last, canonical, dir)) = &self.last
            && last == archived
        {
            return Ok((canonical.clone(), dir.try_clone()?));
        }
        let resolved = self.tree.resolve(archived)?;
        let mut path = resolved.found;
        let mut dir = self.tree.dir(&path)?;
        for name in resolved.missing.iter() {
            let was_hidden = self.unlink_whiteout(dir.as_fd(), name)?;
            mkdirat(&dir, name, Mode::from_bits_truncate(0o755))?;
            // mkdir is subject to the umask, and takes the group of a set-group-id parent.
            fchownat(&dir, name, Some(Uid::from_raw(0)), Some(Gid::from_raw(0)), AtFlags::empty())?;
            fchmodat(&dir, name, Mode::from_bits_truncate(0o755), FchmodatFlags::FollowSymlink)?;
            path.push(name);
            if was_hidden {
                // Nothing of the layers below is left for it to inherit.
                self.mark_opaque(dir.as_fd(), name, &path)?;
            } else {
                self.invented.insert(path.clone());
            }
            self.outward.remove(&path);
            dir = self.tree.dir(&path)?;
        }
        self.last = Some((archived.to_owned(), path.clone(), dir.try_clone()?));
        Ok((path, dir))
    }

    /// Makes room for an entry. Answers whether a directory stays for a directory.
    fn clear(&mut self, place: &Place<'_>, entry: &Entry) -> io::Result<bool> {
        let directory = entry.kind == Kind::Directory;
        self.outward.remove(&place.path);
        let Some(stat) = stat_at(place.dir, place.name)? else { return Ok(false) };
        match kind_of(&stat) {
            FileKind::Directory if directory => Ok(true),
            FileKind::Directory => {
                self.forget_below(&place.path);
                if !self.recorder.set_aside(place.dir, place.name, &place.path)? {
                    remove_tree(place.dir, place.name)?;
                }
                Ok(false)
            }
            FileKind::Whiteout if directory => {
                unlinkat(place.dir, place.name, UnlinkatFlags::NoRemoveDir)?;
                mkdirat(place.dir, place.name, Mode::S_IRWXU)?;
                self.mark_opaque(place.dir, place.name, &place.path)?;
                Ok(true)
            }
            kind => {
                // A symlink that goes may have led to the directory of the last entry.
                self.last = None;
                let content = kind == FileKind::File && stat.st_size > 0;
                if !(content && self.recorder.set_aside(place.dir, place.name, &place.path)?) {
                    unlinkat(place.dir, place.name, UnlinkatFlags::NoRemoveDir)?;
                }
                Ok(false)
            }
        }
    }

    /// Drops everything noted about a directory that is removed.
    fn forget_below(&mut self, path: &Path) {
        self.last = None;
        self.invented.retain(|p| !p.starts_with(path));
        self.outward.retain(|p, _| !p.starts_with(path));
        self.opaque.retain(|p| !p.starts_with(path));
        self.times.retain(|p, _| !p.starts_with(path));
    }

    /// A whiteout hides a name of the layers below, never one of its own layer.
    fn whiteout(
        &mut self,
        entry: &Entry,
        parent: &Path,
        dir: BorrowedFd<'_>,
        hidden: &[u8],
    ) -> Result<(), UnpackError> {
        let at = |source| UnpackError::Entry {
            operation: "create whiteout",
            entry: entry.name.clone(),
            source,
        };
        if entry.file_name.as_ref().is_some_and(|n| n.as_bytes() == OPAQUE_WHITEOUT) {
            return self.mark_opaque(dir, OsStr::new("."), parent).map_err(at);
        }
        // Other names with a second prefix belong to aufs's own book-keeping.
        if hidden.starts_with(WHITEOUT) {
            return Ok(());
        }
        let name = OsStr::from_bytes(hidden);
        if hidden.is_empty() || hidden == b"." || hidden == b".." {
            let reason = "a whiteout of no name";
            return Err(UnpackError::Refused { entry: entry.name.clone(), reason });
        }
        let path = parent.join(name);
        match stat_at(dir, name).map_err(at)?.as_ref().map(kind_of) {
            None => make_node(&Place { dir, name, path }, SFlag::S_IFCHR, (0, 0)).map_err(at),
            Some(FileKind::Directory) => self.mark_opaque(dir, name, &path).map_err(at),
            Some(_) => Ok(()),
        }
    }

    fn unlink_whiteout(&mut self, dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<bool> {
        match stat_at(dir, name)?.as_ref().map(kind_of) {
            Some(FileKind::Whiteout) => {
                unlinkat(dir, name, UnlinkatFlags::NoRemoveDir)?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    fn mark_opaque(&mut self, dir: BorrowedFd<'_>, name: &OsStr, path: &Path) -> io::Result<()> {
        xattr::set(proc_path(dir, name), OPAQUE, b"y")?;
        self.opaque.insert(path.to_owned());
        Ok(())
    }

    /// Where a hard link's target is in this layer, if it is here.
    fn link_target(
        &mut self,
        entry: &Entry,
        target: &Path,
        place: &Place<'_>,
    ) -> Result<Option<(OwnedFd, OsString)>, UnpackError> {
        let refuse = |reason| UnpackError::Refused { entry: entry.name.clone(), reason };
        let mut parts: Vec<OsString> =
            super::tree::components(target.as_os_str().as_bytes()).collect();
        let name = parts.pop().ok_or_else(|| refuse("a hard link to the root"))?;
        if name == ".." {
            return Err(refuse("a hard link to a name that ends with '..'"));
        }
        let parent: PathBuf = parts.into_iter().collect();
        let at = |source| UnpackError::Entry {
            operation: "resolve the hard link",
            entry: entry.name.clone(),
            source,
        };
        let resolved = self.tree.resolve(&parent).map_err(at)?;
        if !resolved.missing.as_os_str().is_empty() {
            return Ok(None);
        }
        let path = resolved.found.join(&name);
        if path == place.path {
            return Err(refuse("a hard link to itself"));
        }
        let dir = self.tree.dir(&resolved.found).map_err(at)?;
        match stat_at(dir.as_fd(), &name).map_err(at)?.as_ref().map(kind_of) {
            None | Some(FileKind::Whiteout) => Ok(None),
            Some(FileKind::Directory) => Err(refuse("a hard link to a directory")),
            Some(_) => Ok(Some((dir, name))),
        }
    }

    fn link(
        &mut self,
        place: &Place<'_>,
        target: Option<(OwnedFd, OsString)>,
        archived: &Path,
    ) -> io::Result<()> {
        if let Some((dir, name)) = target {
            linkat(dir, name.as_os_str(), place.dir, place.name, AtFlags::empty())?;
            return Ok(());
        }
        // A link to a link that is itself outward has that one's target.
        let plain: PathBuf = super::tree::components(archived.as_os_str().as_bytes()).collect();
        let target = self.outward.get(&plain).cloned().unwrap_or(plain);
        self.outward.insert(place.path.clone(), target);
        Ok(())
    }

    fn write_file(
        &mut self,
        entry: &Entry,
        place: &Place<'_>,
        content: &mut impl Read,
        sparse: bool,
    ) -> Result<(), UnpackError> {
        let at =
            |operation, source| UnpackError::Entry { operation, entry: entry.name.clone(), source };
        let flags =
            OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        let mut file: File =
            openat(place.dir, place.name, flags, mode).map_err(|e| at("create", e.into()))?.into();
        let record = |e| at("record the content of", e);
        self.recorder.begin_content().map_err(record)?;
        let mut written = 0u64;
        loop {
            let before = self.recorder.passed().map_err(record)?;
            let n = content.read(&mut self.buffer).map_err(UnpackError::Archive)?;
            if sparse && self.recorder.passed().map_err(record)? == before {
                self.recorder.skip_content(n as u64).map_err(record)?;
            }
            let Some(chunk) = self.buffer.get(..n).filter(|c| !c.is_empty()) else { break };
            if self.hollow {
                // Its length is set below.
            } else if sparse && chunk.iter().all(|b| *b == 0) {
                let skip = i64::try_from(n).unwrap_or(i64::MAX);
                file.seek(SeekFrom::Current(skip)).map_err(|e| at("write", e))?;
            } else {
                file.write_all(chunk).map_err(|e| at("write", e))?;
            }
            written += n as u64;
        }
        if written != entry.size {
            return Err(UnpackError::Archive(io::ErrorKind::UnexpectedEof.into()));
        }
        self.recorder.end_content(&place.path).map_err(record)?;
        if sparse || self.hollow {
            file.set_len(written).map_err(|e| at("write", e))?;
        }
        Ok(())
    }
}

fn make_node(place: &Place<'_>, kind: SFlag, (major, minor): (u32, u32)) -> io::Result<()> {
    let device = makedev(u64::from(major), u64::from(minor));
    Ok(mknodat(place.dir, place.name, kind, Mode::S_IRUSR | Mode::S_IWUSR, device)?)
}

/// Removes a directory and all below it, never through a symlink.
fn remove_tree(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    std::fs::remove_dir_all(proc_path(dir, name))
}
