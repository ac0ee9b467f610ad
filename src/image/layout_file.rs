//! Writing an OCI layout: a folder, or a tar when the name ends with `.tar`.
//!
//! OCI image spec image-layout.md. It is written beside its place and moved there when it is whole;
//! dropped before, nothing of it is left.

use super::digest::Digest;
use super::error::ImageError;
use crate::ids::random_hex;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

/// A layout that is being written.
pub(super) struct LayoutFile {
    to: PathBuf,
    part: PathBuf,
    into: Into,
}

enum Into {
    Folder,
    Tar(Box<tar::Builder<BufWriter<File>>>),
}

impl LayoutFile {
    /// Begins a layout at `to`, where nothing is but maybe an empty folder.
    ///
    /// # Errors
    /// Something is there; the place cannot be written.
    pub(super) fn begin(to: &Path) -> Result<Self, ImageError> {
        let is_empty = |path: &Path| fs::read_dir(path).is_ok_and(|mut list| list.next().is_none());
        let is_tar = to.extension().is_some_and(|extension| extension == "tar");
        if fs::symlink_metadata(to).is_ok() && (is_tar || !is_empty(to)) {
            return Err(ImageError::manifest(to.display().to_string(), "it is there already"));
        }
        let hex = random_hex().map_err(|e| ImageError::io("name a file beside", to, e))?;
        let mut part = to.as_os_str().to_owned();
        part.push(format!(".{}.part", hex.get(..8).unwrap_or(&hex)));
        let part = PathBuf::from(part);
        let failed = |e| ImageError::io("create", &part, e);
        let into = if is_tar {
            let file = File::create_new(&part).map_err(failed)?;
            Into::Tar(Box::new(tar::Builder::new(BufWriter::new(file))))
        } else {
            fs::create_dir(&part).map_err(failed)?;
            fs::create_dir_all(part.join("blobs/sha256")).map_err(failed)?;
            Into::Folder
        };
        let mut layout = Self { to: to.to_owned(), part, into };
        layout.file("oci-layout", &mut &br#"{"imageLayoutVersion":"1.0.0"}"#[..], 30)?;
        Ok(layout)
    }

    /// A blob from the beginning of `file`.
    pub(super) fn blob(
        &mut self,
        digest: &Digest,
        mut file: &File,
        size: u64,
    ) -> Result<(), ImageError> {
        file.seek(SeekFrom::Start(0)).map_err(|e| ImageError::io("read", &self.part, e))?;
        self.file(&name_of(digest), &mut file, size)
    }

    /// A document as a blob.
    pub(super) fn document(&mut self, bytes: &[u8]) -> Result<Digest, ImageError> {
        let digest = Digest::of(bytes);
        let mut reader = bytes;
        self.file(&name_of(&digest), &mut reader, bytes.len() as u64)?;
        Ok(digest)
    }

    /// Writes the index, and moves the layout to its place.
    pub(super) fn finish(mut self, index: &[u8]) -> Result<(), ImageError> {
        let mut reader = index;
        self.file("index.json", &mut reader, index.len() as u64)?;
        let failed = |operation, path: &Path, e| ImageError::io(operation, path, e);
        let synced = match &mut self.into {
            Into::Tar(builder) => builder.finish().and_then(|()| {
                builder.get_mut().flush()?;
                builder.get_ref().get_ref().sync_all()
            }),
            Into::Folder => File::open(&self.part).and_then(|f| Ok(nix::unistd::syncfs(&f)?)),
        };
        synced.map_err(|e| failed("write", &self.part, e))?;
        fs::rename(&self.part, &self.to).map_err(|e| failed("create", &self.to, e))
    }

    fn file(&mut self, name: &str, from: &mut impl Read, size: u64) -> Result<(), ImageError> {
        let path = self.part.join(name);
        let written = match &mut self.into {
            Into::Folder => copy_to(&path, from, size),
            Into::Tar(builder) => {
                let mut header = tar::Header::new_gnu();
                header.set_mode(0o644);
                header.set_size(size);
                header.set_mtime(0);
                builder.append_data(&mut header, name, from.take(size))
            }
        };
        written.map_err(|e| ImageError::io("write", &path, e))
    }
}

impl Drop for LayoutFile {
    fn drop(&mut self) {
        // After the rename there is nothing of that name.
        let removed = match self.into {
            Into::Folder => fs::remove_dir_all(&self.part),
            Into::Tar(_) => fs::remove_file(&self.part),
        };
        match removed {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %self.part.display(), error = %e, "unfinished export stays");
            }
            _ => {}
        }
    }
}

fn copy_to(path: &Path, from: &mut impl Read, size: u64) -> io::Result<()> {
    let copied = io::copy(&mut from.take(size), &mut File::create_new(path)?)?;
    if copied == size { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// Where a layout keeps a blob.
fn name_of(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}
