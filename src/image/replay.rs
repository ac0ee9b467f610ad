//! Replaying a tar record over its layer's folder: the archive that the layer came from.
//!
//! The record is read twice: first for what was moved since it was written, so that each content is
//! known by where it lies now, then for the archive.

use super::tar_record::{MAGIC, MAX_BYTES, RECORD, item};
use super::tree::Tree;
use nix::unistd::{Whence, lseek};
use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// As long as a path in a record may be: the kernel takes one page, below a name of its own.
const MAX_PATH: usize = 64 << 10;
const BUFFER: usize = 128 << 10;
const CHANGED: &str = "its content has changed";

/// Why a layer's archive cannot be made again.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReplayError {
    /// There is no record: the layer was unpacked by a version of berth that wrote none.
    #[error("the layer has no tar record")]
    NoRecord,
    /// The record is damaged.
    #[error("read the tar record")]
    Record(#[source] io::Error),
    /// The archive cannot be written.
    #[error("write the archive")]
    Write(#[source] io::Error),
}

/// A file of the layer that is not what it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Damage {
    /// Its path in the layer's folder.
    pub(super) path: PathBuf,
    /// What is the matter.
    pub(super) problem: String,
}

/// Writes the archive of the layer in `folder` to `out`. Of a damaged file it writes what there is,
/// filled up with zeros, and goes on. Answers the damaged files.
///
/// # Errors
/// [`ReplayError`].
pub(super) fn replay(folder: &Path, out: &mut impl Write) -> Result<Vec<Damage>, ReplayError> {
    let open = |path: &Path| Tree::open(path).map_err(ReplayError::Record);
    let moves = Moves::read(folder)?;
    let mut replay = Replay { tree: open(folder)?, moves, damaged: Vec::new(), written: 0 };
    let mut items = Items::open(folder)?;
    let mut sequence = 0;
    while let Some(item) = items.next()? {
        sequence += 1;
        match item {
            Item::Bytes(bytes) => {
                out.write_all(&bytes).map_err(ReplayError::Write)?;
                replay.written += bytes.len() as u64;
            }
            Item::Content(content) => replay.content(&content, sequence, out)?,
            Item::Moved { .. } => {}
            Item::End { total } if total == replay.written => return Ok(replay.damaged),
            Item::End { .. } => return Err(broken("its length is wrong")),
        }
    }
    Err(broken("it has no end"))
}

fn broken(what: &'static str) -> ReplayError {
    ReplayError::Record(io::Error::new(io::ErrorKind::InvalidData, what))
}

struct Replay {
    tree: Tree,
    moves: Moves,
    damaged: Vec<Damage>,
    written: u64,
}

impl Replay {
    fn content(
        &mut self,
        content: &Content,
        sequence: u64,
        out: &mut impl Write,
    ) -> Result<(), ReplayError> {
        let path = self.moves.resolve(content.path.clone(), sequence);
        let opened = self.tree.file(&path).and_then(|file| {
            let regular = file.metadata()?.is_file();
            if regular { Ok(file) } else { Err(io::Error::other("it is no regular file")) }
        });
        let mut problem = opened.as_ref().err().map(ToString::to_string);
        let file = opened.ok();
        let mut crc = flate2::Crc::new();
        let mut buffer = vec![0; BUFFER];
        let mut end = 0;
        for (at, length) in &content.pieces {
            if let (Some(file), None) = (&file, &problem) {
                problem = not_empty(file, end, *at);
            }
            let (mut at, mut left) = (*at, *length);
            end = at.saturating_add(left);
            while left > 0 {
                let want = usize::try_from(left).unwrap_or(BUFFER).min(BUFFER);
                let Some(chunk) = buffer.get_mut(..want) else { break };
                chunk.fill(0);
                if let Some(file) = &file
                    && problem.is_none()
                    && let Err(e) = file.read_exact_at(chunk, at)
                {
                    problem = Some(match e.kind() {
                        io::ErrorKind::UnexpectedEof => "it is shorter than it was".to_owned(),
                        _ => e.to_string(),
                    });
                }
                crc.update(chunk);
                out.write_all(chunk).map_err(ReplayError::Write)?;
                at = at.saturating_add(want as u64);
                left = left.saturating_sub(want as u64);
                self.written = self.written.saturating_add(want as u64);
            }
        }
        if problem.is_none() && crc.sum() != content.crc {
            problem = Some(CHANGED.to_owned());
        }
        if let (Some(file), None) = (&file, &problem) {
            problem = not_empty(file, end, u64::MAX);
        }
        if let Some(problem) = problem {
            self.damaged.push(Damage { path, problem });
        }
        Ok(())
    }
}

/// What is the matter with a hole of a file, from `at` to `end`, if something is.
fn not_empty(file: &File, mut at: u64, end: u64) -> Option<String> {
    let mut buffer = vec![0; 4096];
    while at < end {
        let from = i64::try_from(at).ok()?;
        // ENXIO: there is no data from there on.
        let data = lseek(file, from, Whence::SeekData).ok()?;
        at = u64::try_from(data).ok()?;
        let want = usize::try_from(end.saturating_sub(at)).unwrap_or(usize::MAX).min(buffer.len());
        let read = match file.read_at(buffer.get_mut(..want)?, at) {
            Ok(0) => return None,
            Ok(n) => n,
            Err(e) => return Some(e.to_string()),
        };
        if buffer.get(..read)?.iter().any(|byte| *byte != 0) {
            return Some(CHANGED.to_owned());
        }
        at = at.saturating_add(read as u64);
    }
    None
}

/// What was moved, and when.
#[derive(Debug, Default)]
struct Moves(HashMap<PathBuf, Vec<(u64, PathBuf)>>);

impl Moves {
    fn read(folder: &Path) -> Result<Self, ReplayError> {
        let mut items = Items::open(folder)?;
        let mut moves: HashMap<PathBuf, Vec<(u64, PathBuf)>> = HashMap::new();
        let mut sequence = 0;
        while let Some(item) = items.next()? {
            sequence += 1;
            if let Item::Moved { from, to } = item {
                moves.entry(from).or_default().push((sequence, to));
            }
        }
        Ok(Self(moves))
    }

    /// Where lies now what lay at `path` when `since` was written.
    fn resolve(&self, mut path: PathBuf, mut since: u64) -> PathBuf {
        if self.0.is_empty() {
            return path;
        }
        // Each step is a later move, so this ends.
        loop {
            let next = path.ancestors().filter_map(|above| {
                let moves = self.0.get(above)?;
                let first = moves.partition_point(|(when, _)| *when <= since);
                moves.get(first).map(|(when, to)| (*when, above.to_owned(), to))
            });
            let Some((when, from, to)) = next.min_by_key(|(when, ..)| *when) else { return path };
            path = match path.strip_prefix(&from) {
                Ok(rest) if rest.as_os_str().is_empty() => to.clone(),
                Ok(rest) => to.join(rest),
                Err(_) => return path,
            };
            since = when;
        }
    }
}

enum Item {
    Bytes(Vec<u8>),
    Content(Content),
    Moved { from: PathBuf, to: PathBuf },
    End { total: u64 },
}

struct Content {
    path: PathBuf,
    crc: u32,
    pieces: Vec<(u64, u64)>,
}

/// The items of a record.
struct Items {
    input: BufReader<zstd::stream::read::Decoder<'static, BufReader<File>>>,
    ended: bool,
}

impl Items {
    fn open(folder: &Path) -> Result<Self, ReplayError> {
        let file = File::open(folder.join(RECORD)).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => ReplayError::NoRecord,
            _ => ReplayError::Record(e),
        })?;
        let decoder = zstd::stream::read::Decoder::new(file).map_err(ReplayError::Record)?;
        let mut items = Self { input: BufReader::new(decoder), ended: false };
        let mut magic = vec![0; MAGIC.len()];
        items.input.read_exact(&mut magic).map_err(ReplayError::Record)?;
        if magic != MAGIC {
            return Err(broken("it is none of this version"));
        }
        Ok(items)
    }

    /// The next item; none after the end. The frame's checksum is verified with the end.
    fn next(&mut self) -> Result<Option<Item>, ReplayError> {
        if self.ended {
            return Ok(None);
        }
        self.read_next().map(Some).map_err(ReplayError::Record)
    }

    fn read_next(&mut self) -> io::Result<Item> {
        Ok(match self.byte()? {
            item::BYTES => Item::Bytes(self.text(MAX_BYTES)?),
            item::CONTENT => {
                let path = self.path()?;
                let crc = u32::try_from(self.number()?).map_err(io::Error::other)?;
                let mut pieces = Vec::new();
                let mut end = 0u64;
                for _ in 0..self.number()? {
                    let at = end.saturating_add(self.number()?);
                    let length = self.number()?;
                    end = at.saturating_add(length);
                    pieces.push((at, length));
                }
                Item::Content(Content { path, crc, pieces })
            }
            item::MOVED => Item::Moved { from: self.path()?, to: self.path()? },
            item::END => {
                let total = self.number()?;
                self.ended = true;
                if self.input.read(&mut [0])? != 0 {
                    return Err(io::Error::other("there is something after its end"));
                }
                Item::End { total }
            }
            other => return Err(io::Error::other(format!("an item of unknown kind {other}"))),
        })
    }

    fn byte(&mut self) -> io::Result<u8> {
        let mut byte = [0];
        self.input.read_exact(&mut byte)?;
        let [byte] = byte;
        Ok(byte)
    }

    fn number(&mut self) -> io::Result<u64> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(io::Error::other("a number without an end"))
    }

    fn path(&mut self) -> io::Result<PathBuf> {
        Ok(PathBuf::from(OsString::from_vec(self.text(MAX_PATH)?)))
    }

    fn text(&mut self, limit: usize) -> io::Result<Vec<u8>> {
        let length = usize::try_from(self.number()?).unwrap_or(usize::MAX);
        if length > limit {
            return Err(io::Error::other("an item that is too long"));
        }
        let mut bytes = vec![0; length];
        self.input.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let path = self.path.strip_prefix(super::tar_record::TREE).unwrap_or(&self.path);
        write!(f, "/{}: {}", path.display(), self.problem)
    }
}
