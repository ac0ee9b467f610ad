//! Keeping the host's program out of a container's reach.
//!
//! A process of the container-to-be runs this program until its execve, and what it executes may
//! be `/proc/self/exe`: then the container could open the host's file for writing (CVE-2019-5736).
//! So a verb that makes processes executes itself again from a read-only mount of its own program
//! that is in no mount namespace, and that nobody can make writable.

use crate::sys::clone::{self, Strings};
use crate::sys::memfd;
use crate::sys::mount::{self, Change, Reach, attr};
use crate::sys::path::c_path;
use crate::undefended::{Defence, removed};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt};
use std::path::Path;

/// Set for the second run.
const MARK: &str = "_BERTH_OCI_SEALED";

/// This process's program.
const SELF: &str = "/proc/self/exe";

/// Returns in a process that is sealed.
///
/// # Errors
/// That of the step that failed.
pub(super) fn seal() -> io::Result<()> {
    if removed(Defence::Program) {
        return Ok(());
    }
    if std::env::var_os(MARK).is_some() {
        return if sealed()? {
            Ok(())
        } else {
            Err(io::Error::other(format!("{MARK} is set, but the program is within reach")))
        };
    }
    let program = out_of_reach()?;
    let args: Vec<Vec<u8>> = std::env::args_os().map(OsStringExt::into_vec).collect();
    let mut env: Vec<Vec<u8>> = std::env::vars_os()
        .map(|(name, value)| [name.as_bytes(), value.as_bytes()].join(&b'='))
        .collect();
    env.push(format!("{MARK}=1").into_bytes());
    let args = Strings::of_bytes(args.iter().map(Vec::as_slice))?;
    let env = Strings::of_bytes(env.iter().map(Vec::as_slice))?;
    Err(clone::exec_file(program.as_fd(), &args, &env))
}

/// A read-only mount, or a sealed memory file, which cannot be written by anybody.
fn sealed() -> io::Result<bool> {
    use nix::sys::statvfs::{FsFlags, statvfs};
    if statvfs(SELF)?.flags().contains(FsFlags::ST_RDONLY) {
        return Ok(true);
    }
    let file = std::fs::File::open(SELF)?;
    let seals = nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_GET_SEALS);
    Ok(seals.is_ok_and(|bits| bits & libc::F_SEAL_WRITE != 0))
}

fn out_of_reach() -> io::Result<OwnedFd> {
    let path = c_path(Path::new(SELF))?;
    match mount::clone_tree(nix::fcntl::AT_FDCWD, &path, Reach::One) {
        Ok(clone) => {
            let readonly = Change { set: attr::RDONLY, ..Change::default() };
            mount::set_attributes(clone.as_fd(), readonly, Reach::One)?;
            Ok(clone)
        }
        // Not on a mount of this namespace: a memory file, or a program that was unmounted.
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => {
            memfd::sealed_copy(c"berth-oci", Path::new(SELF))
        }
        Err(e) => Err(e),
    }
}
