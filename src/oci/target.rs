//! Finding and making places inside a hostile root: by directory descriptor, never by a joined
//! path that the kernel would resolve in the host's root.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{Mode, SFlag, fstat};

use crate::sys::path::{Resolve, open_in};
use crate::undefended::{Defence, gap, removed};

/// Symlinks followed in one path, as the kernel's own limit.
const LINKS_MAX: u32 = 40;

/// What is made when nothing is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    File,
}

/// What a symlink on the way means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Links {
    /// Followed, inside the root.
    Follow,
    /// Refused, ELOOP: what later steps reach by this very path must be here.
    Refuse,
}

/// Opens (O_PATH) the place at `path` below `root`; what is missing is made, the last component as
/// `kind`, the others as directories.
///
/// # Errors
/// ELOOP, ENOTDIR, EROFS, EACCES.
pub(super) fn open_or_make(
    root: BorrowedFd<'_>,
    path: &Path,
    kind: Kind,
    links: Links,
) -> io::Result<OwnedFd> {
    let resolve = match links {
        Links::Follow => Resolve::InRoot,
        Links::Refuse => Resolve::NoSymlinks,
    };
    let found = match open_in(root, path, libc::O_PATH, 0, resolve) {
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => make(root, path, kind, links),
        other => other,
    };
    gap("target", &path.to_string_lossy());
    if removed(Defence::Target) {
        return by_path(root, path, kind);
    }
    found
}

/// As those do it who join the paths and leave the rest to the kernel.
fn by_path(root: BorrowedFd<'_>, path: &Path, kind: Kind) -> io::Result<OwnedFd> {
    let mut done = PathBuf::from(".");
    let names = components(path);
    for (n, name) in names.iter().enumerate() {
        done.push(name);
        let missing = nix::sys::stat::fstatat(root, &done, AtFlags::empty()).is_err();
        if missing && (kind == Kind::Directory || n + 1 < names.len()) {
            nix::sys::stat::mkdirat(root, &done, Mode::from_bits_truncate(0o755))?;
        }
    }
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    Ok(nix::fcntl::openat(root, &done, flags, Mode::empty())?)
}

/// Walks one component at a time: `done` holds no symlink, and is opened without following any.
fn make(root: BorrowedFd<'_>, path: &Path, kind: Kind, links: Links) -> io::Result<OwnedFd> {
    let mut pending = components(path);
    let mut done = PathBuf::from(".");
    let mut followed = 0;
    while let Some(component) = pending.pop_front() {
        if component == ".." {
            if done != Path::new(".") {
                done.pop();
            }
            continue;
        }
        let next = done.join(&component);
        let last = pending.is_empty();
        let look = libc::O_PATH | libc::O_NOFOLLOW;
        let found = match open_in(root, &next, look, 0, Resolve::NoSymlinks) {
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => {
                let kind = if last { kind } else { Kind::Directory };
                make_one(root, &done, &component, kind)?;
                open_in(root, &next, look, 0, Resolve::NoSymlinks)?
            }
            other => other?,
        };
        if !is(found.as_fd(), SFlag::S_IFLNK)? {
            done = next;
            continue;
        }
        followed += 1;
        if links == Links::Refuse || followed > LINKS_MAX {
            return Err(io::Error::from_raw_os_error(libc::ELOOP));
        }
        let link = PathBuf::from(nix::fcntl::readlinkat(&found, "")?);
        if link.is_absolute() {
            done = PathBuf::from(".");
        }
        for component in components(&link).into_iter().rev() {
            pending.push_front(component);
        }
    }
    open_in(root, &done, libc::O_PATH, 0, Resolve::NoSymlinks)
}

fn components(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|c| match c {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some(OsString::from("..")),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        })
        .collect()
}

fn make_one(root: BorrowedFd<'_>, parent: &Path, name: &OsString, kind: Kind) -> io::Result<()> {
    let parent = open_in(root, parent, libc::O_PATH | libc::O_DIRECTORY, 0, Resolve::NoSymlinks)?;
    let made = match kind {
        Kind::Directory => {
            nix::sys::stat::mkdirat(&parent, name.as_os_str(), Mode::from_bits_truncate(0o755))
        }
        Kind::File => {
            let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
            let mode = Mode::from_bits_truncate(0o644);
            nix::fcntl::openat(&parent, name.as_os_str(), flags, mode).map(drop)
        }
    };
    match made {
        // A neighbour with a shared volume was faster.
        Err(nix::errno::Errno::EEXIST) => Ok(()),
        other => Ok(other?),
    }
}

/// Whether the file behind `fd` is of this kind.
///
/// # Errors
/// Those of fstat(2).
pub(super) fn is(fd: BorrowedFd<'_>, kind: SFlag) -> io::Result<bool> {
    Ok(fstat(fd)?.st_mode & SFlag::S_IFMT.bits() == kind.bits())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn root() -> (tempfile::TempDir, fs::File) {
        let dir = tempfile::tempdir().unwrap();
        let file = fs::File::open(dir.path()).unwrap();
        (dir, file)
    }

    #[test]
    fn missing_directories_and_a_file_are_made() {
        let (dir, root) = root();
        let path = Path::new("/a/b/../c/file");
        open_or_make(root.as_fd(), path, Kind::File, Links::Follow).unwrap();
        assert!(dir.path().join("a/c/file").is_file());
        assert!(dir.path().join("a/b").is_dir());
        open_or_make(root.as_fd(), path, Kind::File, Links::Follow).unwrap();
    }

    #[test]
    fn a_dangling_link_is_followed_inside_the_root_and_its_target_made() {
        let (dir, root) = root();
        fs::create_dir(dir.path().join("var")).unwrap();
        symlink("/berth-test-run", dir.path().join("var/run")).unwrap();
        symlink("../../../up", dir.path().join("var/up")).unwrap();
        for path in ["var/run/secrets", "var/up/x"] {
            open_or_make(root.as_fd(), Path::new(path), Kind::Directory, Links::Follow).unwrap();
        }
        assert!(dir.path().join("berth-test-run/secrets").is_dir());
        assert!(dir.path().join("up/x").is_dir());
        assert!(!Path::new("/berth-test-run").exists());
    }

    #[test]
    fn a_link_loop_ends_and_a_refused_link_is_an_error() {
        let (dir, root) = root();
        symlink("b", dir.path().join("a")).unwrap();
        symlink("a", dir.path().join("b")).unwrap();
        symlink("/etc", dir.path().join("proc")).unwrap();
        let open = |path, links| {
            open_or_make(root.as_fd(), Path::new(path), Kind::Directory, links)
                .unwrap_err()
                .raw_os_error()
        };
        assert_eq!(open("a/x", Links::Follow), Some(libc::ELOOP));
        assert_eq!(open("proc", Links::Refuse), Some(libc::ELOOP));
        assert_eq!(open("proc/x", Links::Refuse), Some(libc::ELOOP));
        assert!(!dir.path().join("etc").exists());
    }
}
