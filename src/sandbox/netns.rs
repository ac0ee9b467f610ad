//! A pod's network namespace as the host reaches it.

use crate::sys;
use crate::sys::path::c_path;
use crate::sys::process::InitPid;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// The path of a process's network namespace.
pub fn path_of(pid: i32) -> PathBuf {
    format!("/proc/{pid}/ns/net").into()
}

/// The namespace of a process, held open.
///
/// # Errors
/// ENOENT when the process is gone, also when its pid belongs to another one by now.
pub fn open(process: &InitPid) -> io::Result<OwnedFd> {
    let namespace = std::fs::File::open(path_of(process.pid))?;
    if process.alive() {
        return Ok(namespace.into());
    }
    Err(io::Error::from_raw_os_error(libc::ENOENT))
}

/// Bind mounts an open namespace onto `path`.
///
/// # Errors
/// The errno of open(2) or mount(2).
pub fn pin(namespace: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let source = format!("/proc/self/fd/{}", namespace.as_raw_fd());
    std::fs::OpenOptions::new().create(true).write(true).truncate(false).mode(0o444).open(path)?;
    sys::mount::mount(&c_path(Path::new(&source))?, &c_path(path)?, c"", libc::MS_BIND, "")
}

/// Undoes [`pin`]; a path that is not pinned, or not there, is unpinned already.
///
/// # Errors
/// The errno of umount2(2) or unlink(2).
pub fn unpin(path: &Path) -> io::Result<()> {
    match sys::mount::detach(&c_path(path)?) {
        Err(e) if !matches!(e.raw_os_error(), Some(libc::EINVAL | libc::ENOENT)) => return Err(e),
        _ => {}
    }
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}
