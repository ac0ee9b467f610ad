//! Writing a file that containers have mounted.

use crate::error::{ErrorKind, Kinded, kinded};
use std::fs;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// A file of a pod that could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {}", path.display())]
pub struct FileError {
    operation: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl FileError {
    /// For `map_err`.
    pub(super) fn at(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self { operation, path, source }
    }

    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        Kinded::kind(&self.source)
    }
}

kinded!(FileError);

/// Brings a file to `text`, readable by all, under the inode that it has: running containers have that one mounted, and
/// would never see another. A file that has the text already is not touched. Blocks.
///
/// # Errors
/// The step that failed; a symlink is refused.
pub fn replace_in_place(path: &Path, text: &str) -> Result<(), FileError> {
    let write = || -> io::Result<()> {
        let mut file = fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o644)
            // Opening a pipe would wait for a reader.
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(path)?;
        let mut has = Vec::new();
        // What a container made of it may be large: it differs then.
        let most = u64::try_from(text.len()).unwrap_or(u64::MAX).saturating_add(1);
        (&file).take(most).read_to_end(&mut has)?;
        if has == text.as_bytes() {
            return Ok(());
        }
        // The umask has no say.
        file.set_permissions(fs::Permissions::from_mode(0o644))?;
        file.rewind()?;
        file.write_all(text.as_bytes())?;
        file.set_len(most - 1)
    };
    write().map_err(FileError::at("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    #[test]
    fn the_text_changes_under_the_same_inode() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("hosts");
        replace_in_place(&path, "a long text\n").unwrap();
        let inode = fs::metadata(&path).unwrap().ino();
        for text in ["short\n", "", "a longer text than before\n"] {
            replace_in_place(&path, text).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!((metadata.ino(), metadata.mode() & 0o7777), (inode, 0o644));
    }

    #[test]
    fn an_equal_text_is_not_written() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("hosts");
        replace_in_place(&path, "text\n").unwrap();
        let before = fs::metadata(&path).unwrap();
        replace_in_place(&path, "text\n").unwrap();
        let after = fs::metadata(&path).unwrap();
        assert_eq!((before.ctime(), before.ctime_nsec()), (after.ctime(), after.ctime_nsec()));
    }

    #[test]
    fn a_link_is_not_followed() {
        let temp = tempfile::tempdir().unwrap();
        let (path, other) = (temp.path().join("hosts"), temp.path().join("other"));
        fs::write(&other, "untouched").unwrap();
        std::os::unix::fs::symlink(&other, &path).unwrap();
        assert!(replace_in_place(&path, "text").is_err());
        assert_eq!(fs::read_to_string(&other).unwrap(), "untouched");
    }
}
