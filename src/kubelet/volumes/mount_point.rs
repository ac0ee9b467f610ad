//! Mounting a file system on a folder of berth's own, and telling whether one is there.

use crate::sys::fds;
use crate::sys::mount::{self, FsContext};
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

/// The folder at `path`, which is no symlink.
pub(super) fn open_folder(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    Ok(nix::fcntl::open(path, flags, Mode::empty())?)
}

/// Whether a file system is mounted on the folder.
pub(super) fn is_mount_point(path: &Path) -> io::Result<bool> {
    let folder = open_folder(path)?;
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let parent = openat(&folder, "..", flags, Mode::empty())?;
    Ok(fds::mount_id(folder.as_fd())? != fds::mount_id(parent.as_fd())?)
}

/// The permission bits of a folder, which is no symlink.
pub(super) fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    let folder = open_folder(path)?;
    let mode = Mode::from_bits_truncate(mode);
    let flags = nix::sys::stat::FchmodatFlags::FollowSymlink;
    Ok(nix::sys::stat::fchmodat(&folder, ".", mode, flags)?)
}

/// A file system in memory.
#[derive(Clone, Debug, Default)]
pub(super) struct Tmpfs<'a> {
    /// No more than that; half of the memory when not given.
    pub(super) size_bytes: Option<u64>,
    /// The mode of its root, in octal digits.
    pub(super) mode: &'a str,
    /// Attributes of the mount ([`mount::attr`]).
    pub(super) attributes: u64,
}

/// Mounts a tmpfs, one that is never swapped out where the kernel has it (Linux 6.4).
pub(super) fn mount_tmpfs(at: &Path, tmpfs: &Tmpfs<'_>) -> io::Result<()> {
    let context = FsContext::open(c"tmpfs")?;
    let set = |key: &CStr, value: &str| {
        let value = std::ffi::CString::new(value)
            .map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
        context.set(key, &value)
    };
    set(c"source", "tmpfs")?;
    set(c"mode", tmpfs.mode)?;
    if let Some(bytes) = tmpfs.size_bytes {
        set(c"size", &bytes.to_string())?;
    }
    match context.set_flag(c"noswap") {
        Err(e) if e.raw_os_error() != Some(libc::EINVAL) => return Err(e),
        _ => {}
    }
    attach(&context, at, tmpfs.attributes)
}

/// Mounts a hugetlbfs of pages of that size.
pub(super) fn mount_hugetlbfs(at: &Path, page_bytes: u64) -> io::Result<()> {
    let context = FsContext::open(c"hugetlbfs")?;
    context.set(c"source", c"hugetlbfs")?;
    let size = std::ffi::CString::new(page_bytes.to_string())
        .map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    context.set(c"pagesize", &size)?;
    attach(&context, at, 0)
}

fn attach(context: &FsContext, at: &Path, attributes: u64) -> io::Result<()> {
    let made = context.mount(attributes)?;
    mount::attach(made.as_fd(), open_folder(at)?.as_fd())
}
