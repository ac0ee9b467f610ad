//! Programs in memory: a sealed memfd (memfd_create(2), fcntl(2) F_ADD_SEALS) that is executed
//! with execveat(2). `/proc/<pid>/exe` of what runs from it is no file of the host, and nothing
//! that the process' container could open for writing.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

/// MFD_EXEC, Linux 6.3: needed where vm.memfd_noexec is 1, unknown before.
const MFD_EXEC: libc::c_uint = 0x10;

/// A copy of the file at `path`, executable, that nobody can change any more.
///
/// # Errors
/// What opening, reading or copying answers; EACCES where vm.memfd_noexec is 2.
pub fn sealed_copy(name: &CStr, path: &Path) -> io::Result<OwnedFd> {
    let mut source = std::fs::File::open(path)?;
    let memfd = create(name)?;
    let mut file = std::fs::File::from(memfd);
    io::copy(&mut source, &mut file)?;
    // Executed by any user. Who may not read it runs a process that cannot be dumped (ptrace(2)): the
    // user of a pod, and the root of a user namespace, to whom the owner is a stranger.
    nix::sys::stat::fchmod(file.as_fd(), nix::sys::stat::Mode::from_bits_truncate(0o111))?;
    let seals = libc::F_SEAL_SEAL | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE;
    // SAFETY: F_ADD_SEALS takes an integer.
    super::check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) }.into())?;
    Ok(file.into())
}

fn create(name: &CStr) -> io::Result<OwnedFd> {
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    let open = |flags| {
        // SAFETY: `name` is NUL-terminated and outlives the call.
        super::new_fd(unsafe { libc::memfd_create(name.as_ptr(), flags) }.into())
    };
    match open(flags | MFD_EXEC) {
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => open(flags),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn a_sealed_copy_cannot_be_written() {
        let mut source = tempfile::NamedTempFile::new().unwrap();
        source.write_all(b"text").unwrap();
        let fd = sealed_copy(c"copy", source.path()).unwrap();
        let mut file = std::fs::File::from(fd);
        assert_eq!(file.write(b"x").unwrap_err().raw_os_error(), Some(libc::EPERM));
        assert_eq!(file.set_len(0).unwrap_err().raw_os_error(), Some(libc::EPERM));
    }
}
