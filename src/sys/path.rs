//! Opening paths below a directory that may be hostile: openat2(2), Linux 5.6.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::undefended::{Defence, removed};

/// How a path below a directory is resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolve {
    /// The directory is the root: absolute symlinks and `..` stay inside (RESOLVE_IN_ROOT).
    InRoot,
    /// As `InRoot`, and no symlink is followed at all (RESOLVE_NO_SYMLINKS).
    NoSymlinks,
    /// Any escape is an error, EXDEV (RESOLVE_BENEATH).
    Beneath,
}

impl Resolve {
    fn bits(self) -> u64 {
        if removed(Defence::Resolve) {
            return 0;
        }
        match self {
            // Magic links (/proc/self/exe and their like) never help below an image's root.
            Self::InRoot => libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS,
            Self::NoSymlinks => libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_SYMLINKS,
            Self::Beneath => libc::RESOLVE_BENEATH | libc::RESOLVE_NO_MAGICLINKS,
        }
    }
}

/// The path as a C string.
///
/// # Errors
/// EINVAL when it holds a NUL byte.
pub fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}

/// openat2(2): opens `path` below `dir` with `flags` (O_CLOEXEC is added) and, when O_CREAT is
/// among them, `mode`.
///
/// # Errors
/// The errno of openat2(2): ENOENT, ELOOP, EXDEV (an escape under `Beneath`), EAGAIN (a rename ran
/// beside it; retried here a few times).
pub fn open_in(
    dir: BorrowedFd<'_>,
    path: &Path,
    flags: i32,
    mode: u32,
    resolve: Resolve,
) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    // SAFETY: open_how is plain data for which all-zero is a valid value.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = u64::from((flags | libc::O_CLOEXEC).cast_unsigned());
    // The kernel refuses a mode without O_CREAT or O_TMPFILE.
    how.mode = if flags & (libc::O_CREAT | libc::O_TMPFILE) != 0 { u64::from(mode) } else { 0 };
    how.resolve = resolve.bits();
    let mut tries = 0;
    loop {
        // SAFETY: `path` is NUL-terminated, `how` is a live open_how and its size is passed; both
        // outlive the call.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_openat2,
                dir.as_raw_fd(),
                path.as_ptr(),
                &raw const how,
                size_of::<libc::open_how>(),
            )
        };
        match super::new_fd(fd) {
            Ok(fd) => return Ok(fd),
            Err(e) if e.raw_os_error() == Some(libc::EAGAIN) && tries < 16 => tries += 1,
            Err(e) => return Err(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn a_symlink_to_the_root_stays_inside() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        std::fs::write(dir.path().join("etc/passwd"), "inside").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("link")).unwrap();
        let root = std::fs::File::open(dir.path()).unwrap();
        let fd =
            open_in(root.as_fd(), Path::new("link"), libc::O_RDONLY, 0, Resolve::InRoot).unwrap();
        assert_eq!(std::io::read_to_string(std::fs::File::from(fd)).unwrap(), "inside");
        let up = Path::new("../../../etc/passwd");
        let fd = open_in(root.as_fd(), up, libc::O_RDONLY, 0, Resolve::InRoot).unwrap();
        assert_eq!(std::io::read_to_string(std::fs::File::from(fd)).unwrap(), "inside");
        let refused =
            open_in(root.as_fd(), Path::new("link"), libc::O_RDONLY, 0, Resolve::NoSymlinks);
        assert_eq!(refused.unwrap_err().raw_os_error(), Some(libc::ELOOP));
    }
}
