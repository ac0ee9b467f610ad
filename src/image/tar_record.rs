//! The tar record of a layer: what its folder cannot tell of the archive it came from.
//!
//! Headers, padding and order are kept as bytes; the content of a file is not, but where it lies and
//! its checksum. Replayed over the folder (`replay`) it is the archive, byte by byte. It is written
//! while the archive passes, and beside the tree:
//!
//! ```text
//! layers/<name>/d        the tree
//! layers/<name>/tar.zst  the record
//! layers/<name>/x/<n>    files that a later entry of the archive replaced
//! ```
//!
//! The record is one zstd frame with a checksum, of [`MAGIC`] and items. Numbers are LEB128; a text
//! is its length and its bytes; paths are relative to the layer's folder.
//!
//! | item | then |
//! | --- | --- |
//! | `1` bytes of the archive | a text |
//! | `2` content of a file | its path, the CRC-32 of the content as archived, the number of pieces, for each: how far after the end of the one before it begins in the file, its length |
//! | `3` moved | two paths: what lay at or below the first until here now lies at the second |
//! | `0` the end | the length of the archive |

use super::aside::Aside;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// The first bytes of a record.
pub(super) const MAGIC: &[u8] = b"berth tar record 1\n";
/// The record's name in the layer's folder.
pub(super) const RECORD: &str = "tar.zst";
/// The folder of the tree.
pub(super) const TREE: &str = "d";
/// As many bytes of the archive as one item holds.
pub(super) const MAX_BYTES: usize = 64 << 10;
const LEVEL: i32 = 3;

/// The kinds of items.
pub(super) mod item {
    pub(in crate::image) const END: u8 = 0;
    pub(in crate::image) const BYTES: u8 = 1;
    pub(in crate::image) const CONTENT: u8 = 2;
    pub(in crate::image) const MOVED: u8 = 3;
}

/// Writes a record. A cheap clone of one writer; one that is off writes nothing.
#[derive(Clone, Default)]
pub(super) struct Recorder(Option<Arc<Mutex<Writer>>>);

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Recorder").field(&self.0.is_some()).finish()
    }
}

struct Writer {
    out: zstd::stream::write::Encoder<'static, BufWriter<File>>,
    /// Bytes of the archive that are not written yet.
    bytes: Vec<u8>,
    /// The content that is passing.
    content: Option<Content>,
    /// Bytes of the archive until now.
    total: u64,
    aside: Aside,
}

#[derive(Default)]
struct Content {
    crc: flate2::Crc,
    pieces: Vec<(u64, u64)>,
    /// Where in the file the next byte goes.
    at: u64,
}

impl Recorder {
    /// Begins the record of a layer that is unpacked below `folder`.
    ///
    /// # Errors
    /// The file cannot be made.
    pub(super) fn begin(folder: &Path) -> io::Result<Self> {
        let file = File::create_new(folder.join(RECORD))?;
        let mut out = zstd::stream::write::Encoder::new(BufWriter::new(file), LEVEL)?;
        out.include_checksum(true)?;
        out.write_all(MAGIC)?;
        let aside = Aside::new(File::open(folder)?.into());
        let bytes = Vec::with_capacity(MAX_BYTES);
        let writer = Writer { out, bytes, content: None, total: 0, aside };
        Ok(Self(Some(Arc::new(Mutex::new(writer)))))
    }

    fn with<T>(&self, off: T, work: impl FnOnce(&mut Writer) -> io::Result<T>) -> io::Result<T> {
        match &self.0 {
            None => Ok(off),
            Some(writer) => work(&mut writer.lock().unwrap_or_else(PoisonError::into_inner)),
        }
    }

    /// The archive, recorded as it is read.
    pub(super) fn tap<R: Read>(&self, inner: R) -> Tap<R> {
        Tap { inner, recorder: self.clone() }
    }

    /// What passes from now on is content.
    pub(super) fn begin_content(&self) -> io::Result<()> {
        self.with((), |writer| {
            writer.content = Some(Content::default());
            Ok(())
        })
    }

    /// A hole of the file, which the archive does not hold.
    pub(super) fn skip_content(&self, bytes: u64) -> io::Result<()> {
        self.with((), |writer| {
            if let Some(content) = &mut writer.content {
                content.at = content.at.saturating_add(bytes);
            }
            Ok(())
        })
    }

    /// How many bytes of the archive have passed.
    pub(super) fn passed(&self) -> io::Result<u64> {
        self.with(0, |writer| Ok(writer.total))
    }

    /// The content that passed is that of the file at `path` in the tree.
    pub(super) fn end_content(&self, path: &Path) -> io::Result<()> {
        self.with((), |writer| {
            let Some(content) = writer.content.take() else { return Ok(()) };
            if content.pieces.is_empty() {
                return Ok(());
            }
            writer.flush_bytes()?;
            writer.out.write_all(&[item::CONTENT])?;
            writer.path(&in_tree(path))?;
            writer.number(u64::from(content.crc.sum()))?;
            writer.number(content.pieces.len() as u64)?;
            let mut end = 0;
            for (at, length) in content.pieces {
                writer.number(at.saturating_sub(end))?;
                writer.number(length)?;
                end = at.saturating_add(length);
            }
            Ok(())
        })
    }

    /// Moves what is in the way, at `path` in the tree, out of the tree. Answers whether it did: one
    /// that is off does not.
    pub(super) fn set_aside(
        &self,
        dir: BorrowedFd<'_>,
        name: &OsStr,
        path: &Path,
    ) -> io::Result<bool> {
        self.with(false, |writer| {
            let to = writer.aside.take(dir, name)?;
            writer.moved(&in_tree(path), &to)?;
            Ok(true)
        })
    }

    /// What was below `from` in the tree is now below `to`.
    pub(super) fn moved(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.with((), |writer| writer.moved(&in_tree(from), &in_tree(to)))
    }

    /// Ends the record.
    pub(super) fn finish(&self) -> io::Result<()> {
        self.with((), |writer| {
            writer.flush_bytes()?;
            writer.out.write_all(&[item::END])?;
            writer.number(writer.total)?;
            writer.out.do_finish()?;
            writer.out.get_mut().flush()
        })
    }
}

/// A path of the tree as the record has it.
fn in_tree(path: &Path) -> PathBuf {
    Path::new(TREE).join(path)
}

impl Writer {
    fn saw(&mut self, bytes: &[u8]) -> io::Result<()> {
        let length = bytes.len() as u64;
        self.total = self.total.saturating_add(length);
        let Some(content) = &mut self.content else {
            self.bytes.extend_from_slice(bytes);
            return if self.bytes.len() >= MAX_BYTES / 2 { self.flush_bytes() } else { Ok(()) };
        };
        if bytes.is_empty() {
            return Ok(());
        }
        content.crc.update(bytes);
        match content.pieces.last_mut() {
            Some((at, known)) if at.saturating_add(*known) == content.at => *known += length,
            _ => content.pieces.push((content.at, length)),
        }
        content.at = content.at.saturating_add(length);
        Ok(())
    }

    fn flush_bytes(&mut self) -> io::Result<()> {
        let bytes = std::mem::take(&mut self.bytes);
        for chunk in bytes.chunks(MAX_BYTES) {
            self.out.write_all(&[item::BYTES])?;
            self.text(chunk)?;
        }
        self.bytes = bytes;
        self.bytes.clear();
        Ok(())
    }

    fn moved(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.flush_bytes()?;
        self.out.write_all(&[item::MOVED])?;
        self.path(from)?;
        self.path(to)
    }

    fn path(&mut self, path: &Path) -> io::Result<()> {
        self.text(path.as_os_str().as_bytes())
    }

    fn text(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.number(bytes.len() as u64)?;
        self.out.write_all(bytes)
    }

    fn number(&mut self, number: u64) -> io::Result<()> {
        let mut left = number;
        loop {
            let low = u8::try_from(left & 0x7f).unwrap_or_default();
            left >>= 7;
            if left == 0 {
                return self.out.write_all(&[low]);
            }
            self.out.write_all(&[low | 0x80])?;
        }
    }
}

/// See [`Recorder::tap`].
pub(super) struct Tap<R> {
    inner: R,
    recorder: Recorder,
}

impl<R> Tap<R> {
    pub(super) fn into_inner(self) -> R {
        self.inner
    }
}

impl<R: Read> Read for Tap<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        let read = buffer.get(..n).unwrap_or_default();
        self.recorder.with((), |writer| writer.saw(read))?;
        Ok(n)
    }
}
