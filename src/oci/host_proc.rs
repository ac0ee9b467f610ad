//! The shim's own /proc, which no mount of a container can cover: what a container has at /proc may
//! be read-only, missing or false.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, fstat};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};

use super::init::open_directory;
use super::step::{At, Step, StepError};
use crate::sys::path::{self, Resolve};
use crate::undefended::{Defence, removed};

/// The inode of the root of every proc file system.
const PROC_ROOT: u64 = 1;

/// A verified /proc.
pub(super) struct HostProc(OwnedFd);

impl HostProc {
    /// That of the present mount namespace, verified to be the root of one: a bind mount of a folder
    /// in a proc file system has its type, too.
    pub(super) fn open() -> Result<Self, StepError> {
        let dir = open_directory("/proc").on(Step::Isolate, || "/proc")?;
        let kind = fstatfs(&dir).on(Step::Isolate, || "/proc")?;
        let root = fstat(&dir).on(Step::Isolate, || "/proc")?.st_ino == PROC_ROOT;
        if kind.filesystem_type() != PROC_SUPER_MAGIC || !root {
            let detail = "/proc of the shim is no proc file system".to_owned();
            return Err(StepError { step: Step::Isolate, errno: 0, detail });
        }
        Ok(Self(dir))
    }

    /// What a container with this root has there instead, where a test takes the defence away.
    pub(super) fn or_that_of(self, root: BorrowedFd<'_>) -> Result<Self, StepError> {
        if !removed(Defence::Proc) {
            return Ok(self);
        }
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let dir = nix::fcntl::openat(root, "proc", flags, Mode::empty()).at(Step::Isolate)?;
        Ok(Self(dir))
    }

    /// Writes a file below it, in one write; links that lead out of it are not followed.
    pub(super) fn write(&self, file: &str, value: &str) -> io::Result<()> {
        let file = match removed(Defence::Proc) {
            true => nix::fcntl::openat(&self.0, file, OFlag::O_WRONLY, Mode::empty())?,
            false => {
                path::open_in(self.as_fd(), Path::new(file), libc::O_WRONLY, 0, Resolve::Beneath)?
            }
        };
        nix::unistd::write(&file, value.as_bytes())?;
        Ok(())
    }
}

impl AsFd for HostProc {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
