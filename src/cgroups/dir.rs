//! A cgroup's folder, held open: its files are read and written relative to the descriptor, so that
//! a reader pays one path walk for all of them.

use super::CgroupError;
use crate::sys::path::{Resolve, open_in};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// An open folder of the cgroup file system, or of a test's fixture.
#[derive(Debug)]
pub(super) struct Dir {
    fd: OwnedFd,
    path: PathBuf,
}

impl Dir {
    /// Opens the folder.
    pub(super) fn open(path: &Path) -> Result<Self, CgroupError> {
        let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW;
        let fd = open_at_path(path, flags)
            .map_err(|source| CgroupError::access("open cgroup", path, source))?;
        Ok(Self { fd, path: path.to_owned() })
    }

    /// The folder's path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The folder's descriptor.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Gives the descriptor away: for clone3's CLONE_INTO_CGROUP, and for bpf(2).
    pub(super) fn into_fd(self) -> OwnedFd {
        self.fd
    }

    /// Opens a file of the folder.
    pub(super) fn file(&self, name: &str, flags: i32) -> io::Result<File> {
        open_in(self.fd(), Path::new(name), flags, 0, Resolve::Beneath).map(File::from)
    }

    /// Reads a file. `None`: the kernel has no such file here, or keeps no such account
    /// (EOPNOTSUPP: pressure accounting is off).
    pub(super) fn read(&self, name: &str) -> Result<Option<String>, CgroupError> {
        let mut text = String::new();
        let read = self
            .file(name, libc::O_RDONLY)
            .and_then(|mut file| file.read_to_string(&mut text).map(drop));
        match read {
            Ok(()) => Ok(Some(text)),
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::EOPNOTSUPP)) => Ok(None),
            Err(source) => Err(CgroupError::access("read", self.path.join(name), source)),
        }
    }

    /// Writes a value by one write(2): the kernel takes a value whole or not at all.
    pub(super) fn write(&self, name: &str, value: &str) -> Result<(), CgroupError> {
        let written = self
            .file(name, libc::O_WRONLY)
            .and_then(|mut file| file.write(value.as_bytes()).map(drop));
        written.map_err(|source| CgroupError::Write {
            path: self.path.join(name),
            value: value.to_owned(),
            source,
        })
    }
}

fn open_at_path(path: &Path, flags: i32) -> io::Result<OwnedFd> {
    nix::fcntl::open(
        path,
        nix::fcntl::OFlag::from_bits_retain(flags | libc::O_CLOEXEC),
        nix::sys::stat::Mode::empty(),
    )
    .map_err(io::Error::from)
}
