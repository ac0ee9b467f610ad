//! The files of a directory: which count, and what is in them. Blocks on the disk, and on nothing else.

use super::MOST_BYTES;
use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::{Duration, SystemTime};

/// What two looks at a file that was not changed between them have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    inode: (u64, u64),
    size: u64,
    changed: [(i64, i64); 2],
}

/// A file as it is now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    pub(super) stamp: Stamp,
    /// Since its content changed.
    pub(super) age: Duration,
}

/// The names that may be manifests, in order: none that begins with a dot, and none that editors leave behind.
///
/// # Errors
/// Those of opendir(3) and readdir(3).
pub(super) fn list(dir: &Path) -> io::Result<Vec<OsString>> {
    let names: io::Result<Vec<OsString>> =
        fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name())).collect();
    let mut names = names?;
    names.retain(|name| counts(name));
    names.sort();
    Ok(names)
}

fn counts(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    let copy = [".swp", ".swo", ".swx", "~"].iter().any(|end| name.ends_with(end));
    let saved = name.starts_with('#') && name.ends_with('#');
    !(name.starts_with('.') || copy || saved)
}

/// Looks at a file, through symbolic links. None: it is gone.
///
/// # Errors
/// Why it cannot be a manifest.
pub(super) fn look(path: &Path, now: SystemTime) -> Result<Option<Look>, String> {
    let meta = match fs::metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return match fs::symlink_metadata(path) {
                Ok(_) => Err("a symbolic link to nothing".to_owned()),
                Err(_) => Ok(None),
            };
        }
        Err(error) => return Err(error.to_string()),
    };
    check(&meta)?;
    let changed = [(meta.mtime(), meta.mtime_nsec()), (meta.ctime(), meta.ctime_nsec())];
    let stamp = Stamp { inode: (meta.dev(), meta.ino()), size: meta.size(), changed };
    let modified = meta.modified().map_err(|error| error.to_string())?;
    // A time to come says nothing.
    let age = now.duration_since(modified).unwrap_or(Duration::MAX);
    Ok(Some(Look { stamp, age }))
}

/// Opening anything but a file could wait for a writer, or do something to a device.
fn check(meta: &Metadata) -> Result<(), String> {
    let kind = meta.file_type();
    let what = match () {
        () if kind.is_file() && meta.size() > MOST_BYTES => {
            return Err(format!("{} bytes long; no more than {MOST_BYTES} are read", meta.size()));
        }
        () if kind.is_file() => return Ok(()),
        () if kind.is_dir() => "a directory",
        () if kind.is_fifo() => "a FIFO",
        () if kind.is_socket() => "a socket",
        () => "a device",
    };
    Err(format!("{what}, not a regular file"))
}

/// The content of a file.
///
/// # Errors
/// Why it cannot be had, or not as a manifest.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, String> {
    // Between the look and this it may have been replaced.
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let opened = fs::OpenOptions::new().read(true).custom_flags(flags).open(path);
    let file = opened.map_err(|error| error.to_string())?;
    check(&file.metadata().map_err(|error| error.to_string())?)?;
    let mut bytes = Vec::new();
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    match u64::try_from(bytes.len()) {
        Ok(length) if length <= MOST_BYTES => Ok(bytes),
        _ => Err(format!("more than {MOST_BYTES} bytes long")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::stat::Mode;
    use std::os::unix::fs::symlink;

    #[test]
    fn what_editors_leave_behind_is_no_manifest() {
        let dir = tempfile::tempdir().unwrap();
        let kept = ["a", "b.yaml", "c.json", "d.yaml.bak", "e#"];
        for name in kept.iter().chain(&[".a", "..data", "a~", ".b.swp", "b.swp", "b.swo", "#c#"]) {
            fs::write(dir.path().join(name), "").unwrap();
        }
        assert_eq!(list(dir.path()).unwrap(), kept);
    }

    #[test]
    fn only_regular_files_are_opened() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("dir")).unwrap();
        nix::unistd::mkfifo(&at("fifo"), Mode::S_IRWXU).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        symlink("/dev/null", at("device")).unwrap();
        symlink("nowhere", at("dangling")).unwrap();
        fs::File::create(at("large")).unwrap().set_len(MOST_BYTES + 1).unwrap();
        fs::write(at("file"), "x").unwrap();
        symlink("file", at("link")).unwrap();
        let rows = [
            ("dir", "a directory, not a regular file"),
            ("fifo", "a FIFO, not a regular file"),
            ("socket", "a socket, not a regular file"),
            ("device", "a device, not a regular file"),
            ("dangling", "a symbolic link to nothing"),
            ("large", "10485761 bytes long; no more than 10485760 are read"),
        ];
        let now = SystemTime::now();
        for (name, problem) in rows {
            assert_eq!(look(&at(name), now).unwrap_err(), problem, "{name}");
            assert!(read(&at(name)).is_err(), "{name}");
        }
        for name in ["file", "link"] {
            assert!(look(&at(name), now).unwrap().is_some(), "{name}");
            assert_eq!(read(&at(name)).unwrap(), b"x", "{name}");
        }
        assert!(look(&at("gone"), now).unwrap().is_none());
    }
}
