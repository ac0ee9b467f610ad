//! How a container ended, and the file that says so when nobody was there to hear it.
//!
//! The shim writes the file into its exits folder (by descriptor: it knows no path) before it
//! tells the event, complete or not at all. The content is the message of the protocol.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::BorrowedFd;
use std::path::Path;

use nix::unistd::UnlinkatFlags;
use prost::Message as _;

use super::wire;
use crate::sys::path::{Resolve, open_in};

/// How a container's first process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "daemon", derive(serde::Serialize, serde::Deserialize))]
pub struct ExitRecord {
    /// 0 to 255; 128 + signal for a death by signal.
    pub exit_code: i32,
    /// The signal it died of.
    pub signal: Option<i32>,
    /// When it was reaped, Unix nanoseconds.
    pub finished_at_nanos: i64,
    /// The kernel killed a process of its cgroup for memory while it ran.
    pub oom_killed: bool,
    /// The kernel killed the whole cgroup for memory while it ran.
    pub oom_group_kill: bool,
}

impl ExitRecord {
    /// Whether it counts as OOMKilled: the whole cgroup was killed, or one process was and the
    /// first one died of SIGKILL.
    pub fn is_oom(&self) -> bool {
        self.oom_group_kill || (self.oom_killed && self.exit_code == 137)
    }

    /// The record in the file at `path`; `None` when there is none.
    ///
    /// # Errors
    /// What opening and reading answer; InvalidData when it is no record.
    pub fn load(path: &Path) -> io::Result<Option<Self>> {
        let mut bytes = Vec::new();
        match File::open(path) {
            Ok(mut file) => file.read_to_end(&mut bytes)?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        let record = wire::ExitRecord::decode(bytes.as_slice())
            .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
        // Absent fields decode as zero; no container ended in 1970.
        if record.finished_at_nanos == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "no exit record"));
        }
        Ok(Some(record.into()))
    }

    /// Writes the record as `name` into `dir`: beside it first, then renamed.
    pub(super) fn store(&self, dir: BorrowedFd<'_>, name: &str) -> io::Result<()> {
        let beside = format!("{name}.new");
        let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC;
        let file = open_in(dir, Path::new(&beside), flags, 0o600, Resolve::Beneath)?;
        File::from(file).write_all(&wire::ExitRecord::from(self.clone()).encode_to_vec())?;
        nix::fcntl::renameat(dir, beside.as_str(), dir, name)?;
        Ok(())
    }
}

/// Removes the record `name` from `dir`; success when there is none.
pub(super) fn remove(dir: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    match nix::unistd::unlinkat(dir, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(nix::Error::ENOENT) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

impl From<wire::ExitRecord> for ExitRecord {
    fn from(r: wire::ExitRecord) -> Self {
        Self {
            exit_code: r.exit_code,
            signal: r.signal,
            finished_at_nanos: r.finished_at_nanos,
            oom_killed: r.oom_killed.unwrap_or(false),
            oom_group_kill: r.oom_group_kill.unwrap_or(false),
        }
    }
}

impl From<ExitRecord> for wire::ExitRecord {
    fn from(r: ExitRecord) -> Self {
        Self {
            exit_code: r.exit_code,
            signal: r.signal,
            finished_at_nanos: r.finished_at_nanos,
            oom_killed: Some(r.oom_killed),
            oom_group_kill: Some(r.oom_group_kill),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd as _;

    fn record() -> ExitRecord {
        ExitRecord {
            exit_code: 137,
            signal: Some(9),
            finished_at_nanos: 1_700_000_000_000_000_001,
            oom_killed: true,
            oom_group_kill: false,
        }
    }

    #[test]
    fn a_record_is_read_as_it_was_written_and_can_be_removed_twice() {
        let folder = tempfile::tempdir().unwrap();
        let dir = File::open(folder.path()).unwrap();
        let path = folder.path().join("abc");
        assert_eq!(ExitRecord::load(&path).unwrap(), None);
        record().store(dir.as_fd(), "abc").unwrap();
        assert_eq!(ExitRecord::load(&path).unwrap(), Some(record()));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        remove(dir.as_fd(), "abc").unwrap();
        remove(dir.as_fd(), "abc").unwrap();
        assert_eq!(ExitRecord::load(&path).unwrap(), None);
    }

    #[test]
    fn a_broken_file_is_an_error_and_no_record() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(ExitRecord::load(file.path()).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn out_of_memory_is_told_only_of_who_died_of_it() {
        assert!(record().is_oom());
        assert!(!ExitRecord { exit_code: 0, ..record() }.is_oom());
        assert!(!ExitRecord { oom_killed: false, ..record() }.is_oom());
        assert!(ExitRecord { exit_code: 1, oom_group_kill: true, ..record() }.is_oom());
    }
}
