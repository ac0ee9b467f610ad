//! Replacing a file so that a reader, and a start after `kill -9`, sees the old or the new one.

use crate::error::ErrorKind;
use crate::failpoint;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// A record that could not be written, read or removed.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {path}")]
pub struct StoreError {
    operation: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl StoreError {
    pub(crate) fn new(operation: &'static str, path: &Path, source: io::Error) -> Self {
        Self { operation, path: path.to_owned(), source }
    }

    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self.source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                ErrorKind::ResourceExhausted
            }
            _ => ErrorKind::Internal,
        }
    }
}

/// Replaces `path` by `bytes`: written beside it, then renamed over it. No fsync: live records
/// sit on tmpfs, and the durable ones carry a checksum (design, Records).
///
/// # Errors
/// [`StoreError`] with the step that failed; the old file stands then.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let site = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    failpoint::refused(&site).map_err(|e| StoreError::new("write", path, e))?;
    failpoint::point(&site, "before");
    replace_unseen(path, bytes)?;
    failpoint::point(&site, "after");
    Ok(())
}

/// [`replace`] without kill points, for the thread that writes behind: its writes belong to no
/// moment of a verb.
///
/// # Errors
/// As [`replace`].
pub(super) fn replace_unseen(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let beside = path.with_extension("new");
    let write = || -> io::Result<()> {
        let mut file = fs::OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o600)
            .open(&beside)?;
        file.write_all(bytes)
    };
    write().map_err(|e| StoreError::new("write", &beside, e))?;
    fs::rename(&beside, path).map_err(|e| StoreError::new("replace", path, e))
}
