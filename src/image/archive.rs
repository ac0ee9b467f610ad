//! Archives to import from: an OCI layout in a folder or a tar, a docker-save tar; the tar may be
//! compressed as a whole.
//!
//! OCI image spec image-layout.md; Docker's image tarball (`manifest.json`). A tar is indexed once
//! and then read in place: blobs come in any order.

use super::content::Content;
use super::error::ImageError;
use super::manifest::MAX_DOCUMENT;
use super::tree::{Tree, components};
use super::unpack::{Budget, MAX_HEADER_BYTES};
use std::cell::Cell;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _, SeekFrom};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

/// As many files as an archive may hold; images have some hundreds.
const MAX_FILES: usize = 100_000;
/// As many links as lead from one name to a file.
const MAX_LINKS: u32 = 8;

/// A file's content and its size.
pub(super) type SizedReader = (Box<dyn Read + Send>, u64);

/// Files by name.
#[derive(Debug)]
pub(super) struct Archive {
    path: PathBuf,
    files: Files,
}

#[derive(Debug)]
enum Files {
    Folder(Tree),
    Tar { file: Arc<File>, index: HashMap<Vec<u8>, Found> },
}

/// What a name in a tar is.
#[derive(Clone, Debug)]
enum Found {
    File {
        at: u64,
        size: u64,
    },
    /// Another name; docker-save links layers that images share.
    Link(Vec<u8>),
}

impl Archive {
    /// Opens a folder or a tar. A compressed tar is unpacked to an unnamed file of at most `limit`
    /// bytes first.
    ///
    /// # Errors
    /// No such file, or no archive.
    pub(super) fn open(path: &Path, content: &Content, limit: u64) -> Result<Self, ImageError> {
        let failed = |e: io::Error| match e.kind() {
            io::ErrorKind::NotFound => ImageError::NotFound { name: path.display().to_string() },
            _ => ImageError::io("open", path, e),
        };
        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        let files = if metadata.is_dir() {
            Files::Folder(Tree::from_fd(file.into()))
        } else if metadata.is_file() {
            let file = expand(file, content, limit)
                .map_err(|e| ImageError::manifest(path.display().to_string(), e.to_string()))?;
            let index = index(&file).map_err(|e| {
                ImageError::manifest(path.display().to_string(), format!("not a tar archive: {e}"))
            })?;
            Files::Tar { file: Arc::new(file), index }
        } else {
            return Err(ImageError::manifest(
                path.display().to_string(),
                "neither a file nor a folder",
            ));
        };
        Ok(Self { path: path.to_owned(), files })
    }

    /// The archive's path, for messages.
    pub(super) fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// The file name without folder and extensions: what an image without a name is called.
    pub(super) fn stem(&self) -> String {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        name.split('.').next().unwrap_or_default().to_lowercase()
    }

    /// A file and its size; `None` when there is none of that name.
    pub(super) fn file(&self, name: &str) -> Result<Option<SizedReader>, ImageError> {
        match &self.files {
            Files::Folder(tree) => {
                let open = || -> io::Result<(File, u64)> {
                    let path: PathBuf = components(name.as_bytes()).collect();
                    let file = tree.file(&path)?;
                    let metadata = file.metadata()?;
                    if !metadata.is_file() {
                        return Err(io::Error::from_raw_os_error(libc::EINVAL));
                    }
                    Ok((file, metadata.len()))
                };
                match open() {
                    Ok((file, size)) => Ok(Some((Box::new(file), size))),
                    Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
                    Err(e) => Err(ImageError::io("open", &self.path.join(name), e)),
                }
            }
            Files::Tar { file, index } => Ok(follow(index, name).map(|(at, size)| {
                let section = Section { file: Arc::clone(file), at, end: at.saturating_add(size) };
                (Box::new(section) as Box<dyn Read + Send>, size)
            })),
        }
    }

    /// A whole document; `None` when there is none of that name.
    pub(super) fn document(&self, name: &str) -> Result<Option<Vec<u8>>, ImageError> {
        let Some((reader, size)) = self.file(name)? else { return Ok(None) };
        if size > MAX_DOCUMENT {
            let reason = format!("{name} has {size} bytes; at most {MAX_DOCUMENT}");
            return Err(ImageError::manifest(self.name(), reason));
        }
        let mut bytes = Vec::new();
        reader
            .take(MAX_DOCUMENT)
            .read_to_end(&mut bytes)
            .map_err(|e| ImageError::io("read", &self.path.join(name), e))?;
        Ok(Some(bytes))
    }

    /// A document that must be there.
    pub(super) fn required(&self, name: &str) -> Result<Vec<u8>, ImageError> {
        self.document(name)?
            .ok_or_else(|| ImageError::manifest(self.name(), format!("{name} is missing")))
    }
}

/// The file itself, or what it expands to when it is compressed.
fn expand(
    mut file: File,
    content: &Content,
    limit: u64,
) -> Result<File, Box<dyn std::error::Error>> {
    let mut magic = Vec::new();
    (&file).take(4).read_to_end(&mut magic)?;
    file.seek(SeekFrom::Start(0))?;
    let stream: Box<dyn Read> = match magic.as_slice() {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(BufReader::new(file))),
        [0x28, 0xb5, 0x2f, 0xfd] => Box::new(zstd::stream::read::Decoder::new(file)?),
        _ => return Ok(file),
    };
    let mut expanded = content.begin()?;
    let bytes = io::copy(&mut stream.take(limit), &mut expanded)?;
    if bytes >= limit {
        return Err(format!("it expands to more than {limit} bytes").into());
    }
    Ok(expanded.into_unnamed()?)
}

/// Where each file lies.
fn index(file: &File) -> io::Result<HashMap<Vec<u8>, Found>> {
    let mut reader = file.try_clone()?;
    reader.seek(SeekFrom::Start(0))?;
    let left = Rc::new(Cell::new(None));
    let mut archive = tar::Archive::new(Budget { inner: reader, left: Rc::clone(&left) });
    let mut entries = archive.entries_with_seek()?;
    let mut index = HashMap::new();
    loop {
        left.set(Some(MAX_HEADER_BYTES));
        let Some(entry) = entries.next() else { break };
        let entry = entry?;
        let name = normal(&entry.path_bytes());
        let link = || entry.link_name_bytes().map(|b| b.into_owned()).unwrap_or_default();
        let found = match entry.header().entry_type() {
            tar::EntryType::Regular | tar::EntryType::Continuous => {
                Found::File { at: entry.raw_file_position(), size: entry.size() }
            }
            tar::EntryType::Link => Found::Link(normal(&link())),
            tar::EntryType::Symlink => {
                // Relative to the folder of the link.
                let mut path = name.clone();
                path.truncate(name.iter().rposition(|b| *b == b'/').map_or(0, |at| at + 1));
                path.extend_from_slice(&link());
                Found::Link(normal(&path))
            }
            _ => continue,
        };
        index.insert(name, found);
        if index.len() > MAX_FILES {
            return Err(io::Error::other(format!("more than {MAX_FILES} files")));
        }
    }
    Ok(index)
}

/// The name without `.`, with `..` resolved by the letter.
fn normal(name: &[u8]) -> Vec<u8> {
    let mut path = PathBuf::new();
    for component in components(name) {
        if component == OsStr::new("..") {
            path.pop();
        } else {
            path.push(component);
        }
    }
    path.as_os_str().as_bytes().to_vec()
}

fn follow(index: &HashMap<Vec<u8>, Found>, name: &str) -> Option<(u64, u64)> {
    let mut name = normal(name.as_bytes());
    for _ in 0..MAX_LINKS {
        match index.get(&name)? {
            Found::File { at, size } => return Some((*at, *size)),
            Found::Link(to) => name.clone_from(to),
        }
    }
    None
}

/// A part of a file, read without moving the file's own position.
struct Section {
    file: Arc<File>,
    at: u64,
    end: u64,
}

impl Read for Section {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let want = buffer.len().min(left);
        let Some(buffer) = buffer.get_mut(..want).filter(|b| !b.is_empty()) else { return Ok(0) };
        let n = self.file.read_at(buffer, self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}
