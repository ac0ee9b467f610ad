//! Reads a container's log in CRI format: the end of it, what is added, and over a rotation.
//!
//! A line of the file is `<time> <stream> <tag> <text>`; a tag of `P` says that the line of the
//! container goes on in the next one. A rotation renames the file, and the writer turns to a new one
//! of the old name a moment later: the reader stays with the old file until nothing has come for a
//! while and a new one is there. Were there several rotations since, it goes through all files between.

use super::error::CtlError;
use super::log_chain::{Opened, place_of, rotated};
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How much is read at once, bytes.
const BLOCK: usize = 64 << 10;
/// How long the old file of a rotation stays quiet before it is left.
const QUIET: Duration = Duration::from_secs(1);

/// Which stream a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Out,
    Err,
}

/// One line of the file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Entry<'a> {
    pub(crate) time: &'a [u8],
    pub(crate) stream: Stream,
    /// Whether the container's line ends here.
    pub(crate) full: bool,
    pub(crate) text: &'a [u8],
}

/// Reads a line without its line break. What is not in CRI format is a whole line of output.
pub(crate) fn parse_line(line: &[u8]) -> Entry<'_> {
    let mut parts = line.splitn(4, |byte| *byte == b' ');
    let parsed = (|| {
        let time = parts.next()?;
        let stream = match parts.next()? {
            b"stdout" => Stream::Out,
            b"stderr" => Stream::Err,
            _ => return None,
        };
        // The first of several tags says whether the line is whole.
        let full = match parts.next()?.split(|byte| *byte == b':').next()? {
            b"F" => true,
            b"P" => false,
            _ => return None,
        };
        Some(Entry { time, stream, full, text: parts.next().unwrap_or_default() })
    })();
    parsed.unwrap_or(Entry { time: b"", stream: Stream::Out, full: true, text: line })
}

/// A log file and how far it was read.
#[derive(Debug)]
pub(crate) struct LogReader {
    path: PathBuf,
    file: Opened,
    inode: (u64, u64),
    /// The name of the file since it is not the newest, as far as that was seen.
    name: Option<String>,
    position: u64,
    /// The beginning of a line whose end is not written yet.
    pending: Vec<u8>,
    /// Whether that end will never come: the file is left.
    cut: bool,
    last_data: Instant,
}

impl LogReader {
    /// Opens the log at its beginning, or `tail` lines before its end.
    pub(crate) fn open(path: &Path, tail: Option<usize>) -> io::Result<Self> {
        let file = File::open(path)?;
        let about = file.metadata()?;
        let position = match tail {
            Some(lines) => tail_position(&file, about.len(), lines)?,
            None => 0,
        };
        let inode = (about.dev(), about.ino());
        let mut reader = Self::of(path, (Opened::Plain(file), inode));
        reader.position = position;
        Ok(reader)
    }

    /// Opens the log at the beginning of its oldest file.
    pub(super) fn open_oldest(path: &Path) -> io::Result<Self> {
        let newest = Self::open(path, None)?;
        let oldest = rotated(path)?.into_iter().next();
        // One that goes away meanwhile is not there.
        let Some((oldest, file)) = oldest.and_then(|of| of.open().ok().map(|file| (of, file)))
        else {
            return Ok(newest);
        };
        let inode = inode_of(&file)?;
        Ok(Self { name: Some(oldest.name), ..Self::of(path, (file, inode)) })
    }

    fn of(path: &Path, (file, inode): (Opened, (u64, u64))) -> Self {
        Self {
            path: path.to_owned(),
            file,
            inode,
            name: None,
            position: 0,
            pending: Vec::new(),
            cut: false,
            last_data: Instant::now(),
        }
    }

    /// Passes on every whole line that has been written since.
    pub(crate) fn read_lines(
        &mut self,
        mut each: impl FnMut(&[u8]) -> Result<(), CtlError>,
    ) -> Result<(), CtlError> {
        while self.read_some(&mut each)? {}
        Ok(())
    }

    /// Passes on the whole lines of the next piece of what has been written since, no more than a block and the rest
    /// of a line before it. Answers whether there was any.
    pub(crate) fn read_some(
        &mut self,
        mut each: impl FnMut(&[u8]) -> Result<(), CtlError>,
    ) -> Result<bool, CtlError> {
        if std::mem::take(&mut self.cut) {
            self.read_rest(&mut each)?;
        }
        let mut block = vec![0; BLOCK];
        let count = self.read_block(&mut block).map_err(CtlError::file("read", &self.path))?;
        let Some(bytes) = block.get(..count).filter(|bytes| !bytes.is_empty()) else {
            return Ok(false);
        };
        self.position += count as u64;
        self.last_data = Instant::now();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.pending.extend_from_slice(piece);
            if let Some(line) = self.pending.strip_suffix(b"\n") {
                each(line)?;
                self.pending.clear();
            }
        }
        Ok(true)
    }

    fn read_block(&mut self, block: &mut [u8]) -> io::Result<usize> {
        let file = match &mut self.file {
            Opened::Plain(file) => file,
            Opened::Packed(content) => return content.read(block),
        };
        if file.metadata()?.len() < self.position {
            // Emptied in place: it begins anew.
            self.position = 0;
            self.pending.clear();
        }
        file.read_at(block, self.position)
    }

    /// Passes on a line that was never ended.
    pub(crate) fn read_rest(
        &mut self,
        mut each: impl FnMut(&[u8]) -> Result<(), CtlError>,
    ) -> Result<(), CtlError> {
        let rest = std::mem::take(&mut self.pending);
        if rest.is_empty() { Ok(()) } else { each(&rest) }
    }

    /// Turns to the next file of the log, if there is one and nothing more comes to this one: at once to one
    /// that is left by its writer, too; to the newest when this one has been quiet, or `at_once`. Answers whether
    /// it did.
    pub(crate) fn turn(&mut self, at_once: bool) -> Result<bool, CtlError> {
        self.try_turn(at_once).map_err(CtlError::file("open", &self.path))
    }

    fn try_turn(&mut self, at_once: bool) -> io::Result<bool> {
        let newest = match File::open(&self.path) {
            Ok(file) => file,
            // Renamed, and the new one is not there yet.
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(e),
        };
        let newest = Opened::Plain(newest);
        if inode_of(&newest)? == self.inode {
            return Ok(false);
        }
        // Listed after the newest was opened: what comes between them is in the list.
        let older = rotated(&self.path)?;
        let place = place_of(&older, self.inode, self.name.as_deref());
        self.name =
            place.and_then(|at| older.get(at)).map(|of| of.name.clone()).or(self.name.take());
        let next = match (place, &self.name) {
            (Some(at), _) => older.get(at + 1),
            // It is gone, and all that are there are newer; else nobody knows its place.
            (None, Some(_)) => older.first(),
            (None, None) => None,
        };
        if next.is_none() && !at_once && self.last_data.elapsed() < QUIET {
            return Ok(false);
        }
        if self.has_more()? {
            return Ok(false);
        }
        let (file, name) = match next {
            Some(next) => match next.open() {
                Ok(file) => (file, Some(next.name.clone())),
                // Compressed or removed since: the next look finds what there is then.
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
                Err(e) => return Err(e),
            },
            None => (newest, None),
        };
        self.inode = inode_of(&file)?;
        self.file = file;
        self.name = name;
        self.position = 0;
        self.cut = !self.pending.is_empty();
        self.last_data = Instant::now();
        Ok(true)
    }

    /// Whether something came since the last read.
    fn has_more(&self) -> io::Result<bool> {
        match &self.file {
            Opened::Plain(file) => Ok(file.metadata()?.len() > self.position),
            Opened::Packed(_) => Ok(false),
        }
    }
}

/// Which file it is; one that is compressed is none of those that are written.
fn inode_of(file: &Opened) -> io::Result<(u64, u64)> {
    match file {
        Opened::Plain(file) => file.metadata().map(|about| (about.dev(), about.ino())),
        Opened::Packed(_) => Ok((0, 0)),
    }
}

/// Where the last `lines` whole lines begin.
fn tail_position(file: &File, end: u64, lines: usize) -> io::Result<u64> {
    if lines == 0 {
        return Ok(end);
    }
    let mut size = BLOCK as u64;
    loop {
        let start = end.saturating_sub(size);
        let length = usize::try_from(end - start).unwrap_or(usize::MAX);
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, start)?;
        if let Some(offset) = tail_offset(&bytes, lines, start == 0) {
            return Ok(start + offset as u64);
        }
        size = size.saturating_mul(4);
    }
}

/// Where in `bytes` the last `lines` whole lines begin; `None` when they begin before it.
fn tail_offset(bytes: &[u8], lines: usize, is_all: bool) -> Option<usize> {
    let mut found = 0;
    let mut end = bytes.len();
    let mut start = end;
    while end > 0 {
        let text = bytes.get(..end)?;
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        let line = match text.iter().rposition(|byte| *byte == b'\n') {
            Some(at) => at + 1,
            None if is_all => 0,
            // The line may begin before the block.
            None => return None,
        };
        if parse_line(text.get(line..)?).full {
            found += 1;
            if found > lines {
                return Some(start);
            }
        }
        start = line;
        end = line;
    }
    is_all.then_some(0)
}

#[cfg(test)]
#[path = "log_reader_tests.rs"]
mod tests;
