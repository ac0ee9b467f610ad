//! User namespaces as descriptors (user_namespaces(7)): made by a process that does nothing else,
//! and joined or used for id-mapped mounts by others.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use super::clone::{self, Forked, Kinship};
use super::process::{self, InitPid, SingleThreaded};
use super::spawn::{NewNamespaces, Privileges, Spawn, Wanted};
use crate::idmap::{IdMaps, file_text};

/// The user namespace of a process.
///
/// # Errors
/// ENOENT when the process is gone, also when its pid belongs to another one by now.
pub fn of(process: &InitPid) -> io::Result<OwnedFd> {
    let namespace = open(process.pid)?;
    if process.alive() {
        return Ok(namespace);
    }
    Err(io::Error::from_raw_os_error(libc::ENOENT))
}

fn open(pid: i32) -> io::Result<OwnedFd> {
    Ok(std::fs::File::open(format!("/proc/{pid}/ns/user"))?.into())
}

/// A new user namespace with these maps; for a process with threads. `program`, which must not end
/// by itself, runs in it until the maps are written, and no longer than the caller.
///
/// # Errors
/// ENOSPC when user.max_user_namespaces does not allow it; EINVAL, EPERM for maps that the kernel
/// refuses.
pub fn make_by(program: BorrowedFd<'_>, maps: &IdMaps) -> io::Result<OwnedFd> {
    let namespaces = NewNamespaces::default().with(libc::CLONE_NEWUSER, Wanted::Yes);
    let child = Spawn::file(program, "berth-userns")
        .namespaces(namespaces)
        // It does nothing: that it keeps the niceness of a daemon that has one is no loss.
        .privileges(Privileges::BestEffort)
        .ends_with_parent()
        .spawn()
        .map_err(|error| error.source)?;
    let made = finish(child.pid, maps);
    child.kill()?;
    child.wait()?;
    made
}

/// A new user namespace with these maps; for a process with one thread.
///
/// # Errors
/// As [`make_by`].
pub fn make(proof: &SingleThreaded, maps: &IdMaps) -> io::Result<OwnedFd> {
    let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    match clone::fork(proof, Kinship::Child, clone::bits(libc::CLONE_NEWUSER), None)? {
        Forked::Child => {
            drop(write);
            // Ends with the other end of the pipe, whatever becomes of the parent.
            nix::unistd::read(&read, &mut [0u8; 1]).ok();
            clone::exit(0)
        }
        Forked::Parent { pid, pidfd } => {
            let made = finish(pid, maps);
            drop(write);
            process::wait_pidfd(pidfd.as_fd())?;
            made
        }
    }
}

fn finish(pid: i32, maps: &IdMaps) -> io::Result<OwnedFd> {
    // At once and whole: the kernel takes one write.
    std::fs::write(format!("/proc/{pid}/uid_map"), file_text(&maps.uids))?;
    std::fs::write(format!("/proc/{pid}/gid_map"), file_text(&maps.gids))?;
    open(pid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::idmap::IdRange;
    use std::os::unix::fs::MetadataExt as _;
    use std::path::Path;

    // Needs root, as every test of the executor.
    #[test]
    fn a_namespace_is_made_with_its_maps_and_nobody_stays_in_it() {
        let range = |host| vec![IdRange { container: 0, host, length: 10 }];
        let maps = IdMaps { uids: range(70_000), gids: range(80_000) };
        let program = crate::sys::memfd::sealed_copy(c"sleep", Path::new("/bin/sleep")).unwrap();
        let program = Spawn::file(program.as_fd(), "sleep").arg("100000");
        let namespaces = NewNamespaces::default().with(libc::CLONE_NEWUSER, Wanted::Yes);
        let program = program.privileges(Privileges::BestEffort);
        let child = program.namespaces(namespaces).ends_with_parent().spawn().unwrap();
        let made = finish(child.pid, &maps).unwrap();
        let text = |file| std::fs::read_to_string(format!("/proc/{}/{file}", child.pid)).unwrap();
        let words = |text: String| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(words(text("uid_map")), ["0", "70000", "10"]);
        assert_eq!(words(text("gid_map")), ["0", "80000", "10"]);
        child.kill().unwrap();
        child.wait().unwrap();
        let inode = |path: &str| std::fs::metadata(path).unwrap().ino();
        let own = inode("/proc/self/ns/user");
        let fd = std::os::fd::AsRawFd::as_raw_fd(&made);
        assert_ne!(inode(&format!("/proc/self/fd/{fd}")), own);
        // It is the process's that was asked for.
        let me = InitPid::of(std::process::id().cast_signed()).unwrap();
        let fd = of(&me).unwrap();
        assert_eq!(inode(&format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fd))), own);
    }

    #[test]
    fn a_child_ends_with_the_thread_that_started_it() {
        let child = std::thread::spawn(|| {
            Spawn::new("/bin/sleep").arg("100000").ends_with_parent().spawn().unwrap()
        });
        let child = child.join().unwrap();
        assert_eq!(child.wait().unwrap(), process::Ended::Signal(libc::SIGKILL));
    }
}
