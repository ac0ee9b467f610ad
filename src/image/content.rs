//! Blobs by digest: manifests and configs always, compressed layers with `keep_blobs`.
//!
//! A blob is written below `ingest/` and renamed to `blobs/sha256/<hex>` when its digest is known
//! to be right; whatever a cut-off predecessor left in `ingest/` is removed at start. Blobs become
//! reachable only by an image record, which is written after a sync (see `store`).

use super::digest::{Digest, HashingReader};
use super::error::ImageError;
use crate::ids::random_hex;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read as _, Write};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// The blob store.
#[derive(Debug)]
pub(super) struct Content {
    blobs: PathBuf,
    ingest: PathBuf,
}

impl Content {
    /// Opens the store below the images folder and empties its ingest folder.
    pub(super) fn open(images: &Path) -> Result<Self, ImageError> {
        let content =
            Self { blobs: images.join("blobs").join("sha256"), ingest: images.join("ingest") };
        if let Err(e) = fs::remove_dir_all(&content.ingest)
            && e.kind() != io::ErrorKind::NotFound
        {
            return Err(ImageError::io("empty", &content.ingest, e));
        }
        create_private(&content.ingest)?;
        create_private(&content.blobs)?;
        Ok(content)
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.blobs.join(digest.hex())
    }

    /// Starts a blob.
    pub(super) fn begin(&self) -> Result<Ingest, ImageError> {
        let name = random_hex().map_err(|e| ImageError::io("name a file in", &self.ingest, e))?;
        let path = self.ingest.join(name);
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(|e| ImageError::io("create", &path, e))?;
        Ok(Ingest { file, path: Some(path) })
    }

    /// Makes a finished blob visible. The caller has checked that its content has this digest.
    pub(super) fn commit(&self, mut ingest: Ingest, digest: &Digest) -> Result<(), ImageError> {
        let to = self.path(digest);
        if let Some(from) = &ingest.path {
            fs::rename(from, &to).map_err(|e| ImageError::io("commit blob", &to, e))?;
        }
        ingest.path = None;
        Ok(())
    }

    /// Keeps a document.
    pub(super) fn put(&self, bytes: &[u8]) -> Result<Digest, ImageError> {
        let digest = Digest::of(bytes);
        let mut ingest = self.begin()?;
        ingest.write_all(bytes).map_err(|e| ImageError::io("write", &self.ingest, e))?;
        self.commit(ingest, &digest)?;
        Ok(digest)
    }

    /// Reads a document of at most `limit` bytes and verifies it.
    pub(super) fn read(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>, ImageError> {
        let path = self.path(digest);
        let mut bytes = Vec::new();
        File::open(&path)
            .and_then(|file| file.take(limit).read_to_end(&mut bytes))
            .map_err(|e| ImageError::io("read", &path, e))?;
        verify(&format!("blob {digest}"), &bytes, digest)?;
        Ok(bytes)
    }

    /// A blob's file and its size, if it is here. What it holds is not verified.
    pub(super) fn open_blob(&self, digest: &Digest) -> Option<(File, u64)> {
        let file = File::open(self.path(digest)).ok()?;
        let size = file.metadata().ok()?.len();
        Some((file, size))
    }

    /// Reads a blob of any size and compares it with its digest.
    pub(super) fn check(&self, digest: &Digest) -> Result<(), ImageError> {
        let path = self.path(digest);
        let hashed = File::open(&path).and_then(|file| HashingReader::new(file).finish());
        let (found, ..) = hashed.map_err(|e| ImageError::io("read", &path, e))?;
        if found == *digest {
            return Ok(());
        }
        Err(ImageError::Mismatch {
            subject: format!("blob {digest}"),
            expected: digest.to_string(),
            found: found.to_string(),
        })
    }

    /// Removes every blob but `wanted`; goes on past errors and answers them.
    pub(super) fn retain(&self, wanted: &BTreeSet<Digest>) -> Vec<ImageError> {
        let mut errors = Vec::new();
        let entries = match fs::read_dir(&self.blobs) {
            Ok(entries) => entries,
            Err(e) => return vec![ImageError::io("list", &self.blobs, e)],
        };
        for entry in entries.flatten() {
            let keep = entry
                .file_name()
                .to_str()
                .and_then(|hex| Digest::from_hex(hex).ok())
                .is_some_and(|digest| wanted.contains(&digest));
            if !keep && let Err(e) = fs::remove_file(entry.path()) {
                errors.push(ImageError::io("remove", &entry.path(), e));
            }
        }
        errors
    }

    /// Bytes on disk and files of all blobs.
    pub(super) fn usage(&self) -> (u64, u64) {
        let Ok(entries) = fs::read_dir(&self.blobs) else { return (0, 0) };
        entries
            .flatten()
            .filter_map(|entry| entry.metadata().ok())
            .fold((0, 0), |(bytes, files), m| (bytes + m.blocks() * 512, files + 1))
    }
}

/// A blob that is being written. Dropped without [`Content::commit`], it is removed.
#[derive(Debug)]
pub(super) struct Ingest {
    file: File,
    path: Option<PathBuf>,
}

impl Ingest {
    /// The file, to read what was written.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// The file alone, without a name any more.
    pub(super) fn into_unnamed(self) -> io::Result<File> {
        self.file.try_clone()
    }
}

impl Write for Ingest {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Ingest {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // What stays is removed at the next start.
            fs::remove_file(path).ok();
        }
    }
}

/// Compares content with its digest.
pub(super) fn verify(subject: &str, bytes: &[u8], wanted: &Digest) -> Result<(), ImageError> {
    let found = Digest::of(bytes);
    if &found == wanted {
        return Ok(());
    }
    Err(ImageError::Mismatch {
        subject: subject.to_owned(),
        expected: wanted.to_string(),
        found: found.to_string(),
    })
}

/// Makes a folder that only root may enter: images hold set-user-id files and device nodes.
pub(super) fn create_private(path: &Path) -> Result<(), ImageError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|e| ImageError::io("create folder", path, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_is_visible_only_after_its_commit() {
        let dir = tempfile::tempdir().unwrap();
        let content = Content::open(dir.path()).unwrap();
        let digest = Digest::of(b"abc");
        let mut ingest = content.begin().unwrap();
        ingest.write_all(b"abc").unwrap();
        assert!(content.read(&digest, 10).is_err());
        content.commit(ingest, &digest).unwrap();
        assert_eq!(content.read(&digest, 10).unwrap(), b"abc");
        assert_eq!(fs::read_dir(dir.path().join("ingest")).unwrap().count(), 0);
    }

    #[test]
    fn an_unfinished_blob_is_gone_when_dropped_and_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let content = Content::open(dir.path()).unwrap();
        let files = || fs::read_dir(dir.path().join("ingest")).unwrap().count();
        drop(content.begin().unwrap());
        assert_eq!(files(), 0);
        std::mem::forget(content.begin().unwrap());
        assert_eq!(files(), 1);
        Content::open(dir.path()).unwrap();
        assert_eq!(files(), 0);
    }

    #[test]
    fn a_blob_changed_on_disk_is_not_handed_out() {
        let dir = tempfile::tempdir().unwrap();
        let content = Content::open(dir.path()).unwrap();
        let digest = content.put(b"abc").unwrap();
        fs::write(content.path(&digest), b"abd").unwrap();
        let error = content.read(&digest, 10).unwrap_err();
        assert!(matches!(error, ImageError::Mismatch { .. }), "{error}");
    }

    #[test]
    fn retain_removes_what_no_image_wants() {
        let dir = tempfile::tempdir().unwrap();
        let content = Content::open(dir.path()).unwrap();
        let (a, b) = (content.put(b"a").unwrap(), content.put(b"b").unwrap());
        assert!(content.retain(&BTreeSet::from([a.clone()])).is_empty());
        assert!(content.read(&a, 9).is_ok());
        assert!(content.read(&b, 9).is_err());
    }
}
