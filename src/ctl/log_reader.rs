//! Reads a container's log in CRI format: the end of it, what is added, and over a rotation.
//!
//! A line of the file is `<time> <stream> <tag> <text>`; a tag of `P` says that the line of the
//! container goes on in the next one. A rotation renames the file, and the writer turns to a new one
//! of the old name a moment later: the reader stays with the old file until nothing has come for a
//! while and a new one is there.

use super::error::CtlError;
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
pub(super) enum Stream {
    Out,
    Err,
}

/// One line of the file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    pub(super) time: &'a [u8],
    pub(super) stream: Stream,
    /// Whether the container's line ends here.
    pub(super) full: bool,
    pub(super) text: &'a [u8],
}

/// Reads a line without its line break. What is not in CRI format is a whole line of output.
pub(super) fn parse_line(line: &[u8]) -> Entry<'_> {
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
pub(super) struct LogReader {
    path: PathBuf,
    file: File,
    inode: (u64, u64),
    position: u64,
    /// The beginning of a line whose end is not written yet.
    pending: Vec<u8>,
    last_data: Instant,
}

impl LogReader {
    /// Opens the log at its beginning, or `tail` lines before its end.
    pub(super) fn open(path: &Path, tail: Option<usize>) -> io::Result<Self> {
        let file = File::open(path)?;
        let about = file.metadata()?;
        let position = match tail {
            Some(lines) => tail_position(&file, about.len(), lines)?,
            None => 0,
        };
        Ok(Self {
            path: path.to_owned(),
            file,
            inode: (about.dev(), about.ino()),
            position,
            pending: Vec::new(),
            last_data: Instant::now(),
        })
    }

    /// Passes on every whole line that has been written since.
    pub(super) fn read_lines(
        &mut self,
        mut each: impl FnMut(&[u8]) -> Result<(), CtlError>,
    ) -> Result<(), CtlError> {
        let mut block = vec![0; BLOCK];
        loop {
            let count = self.read_block(&mut block).map_err(CtlError::file("read", &self.path))?;
            let Some(bytes) = block.get(..count).filter(|bytes| !bytes.is_empty()) else {
                return Ok(());
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
        }
    }

    fn read_block(&mut self, block: &mut [u8]) -> io::Result<usize> {
        if self.file.metadata()?.len() < self.position {
            // Emptied in place: it begins anew.
            self.position = 0;
            self.pending.clear();
        }
        self.file.read_at(block, self.position)
    }

    /// Passes on a line that was never ended.
    pub(super) fn read_rest(
        &mut self,
        mut each: impl FnMut(&[u8]) -> Result<(), CtlError>,
    ) -> Result<(), CtlError> {
        let rest = std::mem::take(&mut self.pending);
        if rest.is_empty() { Ok(()) } else { each(&rest) }
    }

    /// Turns to the new file of a rotation, if there is one and the old one has been quiet. Answers
    /// whether it did.
    pub(super) fn turn(&mut self, at_once: bool) -> Result<bool, CtlError> {
        self.try_turn(at_once).map_err(CtlError::file("open", &self.path))
    }

    fn try_turn(&mut self, at_once: bool) -> io::Result<bool> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            // Renamed, and the new one is not there yet.
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(e),
        };
        let about = file.metadata()?;
        let inode = (about.dev(), about.ino());
        if inode == self.inode || !at_once && self.last_data.elapsed() < QUIET {
            return Ok(false);
        }
        self.file = file;
        self.inode = inode;
        self.position = 0;
        self.last_data = Instant::now();
        Ok(true)
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
