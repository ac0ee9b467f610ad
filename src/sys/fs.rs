//! Whole file systems.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

/// syncfs(2): writes back the file system that holds the open file `file`.
///
/// # Errors
/// EIO, ENOSPC, EDQUOT of the write-back (Linux 5.8).
pub fn syncfs(file: impl AsFd) -> io::Result<()> {
    // SAFETY: the descriptor is open for the time of the call, because `file` is borrowed.
    super::check(libc::c_long::from(unsafe { libc::syncfs(file.as_fd().as_raw_fd()) })).map(drop)
}

/// fsetxattr(2): sets the SELinux label of an open file, of whatever kind.
///
/// # Errors
/// EBADF for a descriptor of O_PATH; EINVAL for a label that the policy does not know; EOPNOTSUPP where
/// the file system has no labels; EPERM, EACCES.
pub fn set_label(file: impl AsFd, label: &str) -> io::Result<()> {
    // SAFETY: the name is NUL-terminated, pointer and length are those of a live string, and the
    // descriptor is open for the time of the call, because `file` is borrowed.
    super::check(libc::c_long::from(unsafe {
        libc::fsetxattr(
            file.as_fd().as_raw_fd(),
            c"security.selinux".as_ptr(),
            label.as_ptr().cast(),
            label.len(),
            0,
        )
    }))
    .map(drop)
}

/// How large a file system is, and which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// The major number of its device; 0: it has none of its own.
    pub major: u32,
    /// The minor number.
    pub minor: u32,
    /// Its size, bytes.
    pub bytes: u64,
    /// Its inodes.
    pub inodes: u64,
    /// Those of them that are free.
    pub inodes_free: u64,
}

/// statvfs(3) and stat(2) of the file system that holds `path`.
///
/// # Errors
/// ENOENT, EIO.
pub fn space(path: &Path) -> io::Result<Space> {
    let device = nix::sys::stat::stat(path)?.st_dev;
    let fs = nix::sys::statvfs::statvfs(path)?;
    Ok(Space {
        major: libc::major(device),
        minor: libc::minor(device),
        bytes: fs.blocks().saturating_mul(fs.fragment_size()),
        inodes: fs.files(),
        inodes_free: fs.files_free(),
    })
}

/// The name of a block device, `/dev/sda`; its numbers, `8:0`, where there is no such device.
pub fn device_name(major: u32, minor: u32) -> String {
    let numbers = format!("{major}:{minor}");
    let link = std::fs::read_link(Path::new("/sys/dev/block").join(&numbers)).unwrap_or_default();
    match link.file_name().and_then(|name| name.to_str()) {
        Some(name) => format!("/dev/{name}"),
        None => numbers,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_space_of_a_folder_is_that_of_its_file_system() {
        let temp = tempfile::tempdir().unwrap();
        let found = space(temp.path()).unwrap();
        assert!(found.bytes > 0 && found.inodes_free <= found.inodes);
        assert!(space(&temp.path().join("none")).is_err());
    }

    #[test]
    fn a_device_of_nobody_is_told_by_its_numbers() {
        assert_eq!(device_name(0, 37), "0:37");
    }
}
