//! A place inside a volume, bound so that what a container does to the volume later changes nothing.
//!
//! The volume is hostile: a container that had it before may have put symlinks anywhere, and another may swap them now.
//! The place is opened with openat2(2) and RESOLVE_BENEATH: links that stay inside are followed, any step out of the
//! volume is an error, absolute links among them. What was opened is what is bound, by its descriptor.

use super::error::VolumeError;
use super::mount_point::open_folder;
use super::remove::unmount_at;
use crate::blocking;
use crate::sys::fds;
use crate::sys::mount::{self, Reach};
use crate::sys::path::{Resolve, open_in};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, SFlag, fstat, mkdirat};
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// A place that a container wants.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    pub(super) container: &'a str,
    pub(super) volume: &'a str,
    /// Relative and clean.
    pub(super) sub_path: &'a str,
    /// What happens when it is not there.
    pub(super) missing: Missing,
    /// Whether anybody still waits for it.
    pub(super) still: &'a blocking::Wanted,
}

/// What happens with a place that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// It is made, as a folder with the mode of the volume's root.
    Create,
    /// It is an error: the volume's files are not its containers' to make.
    Refuse,
}

impl Wanted<'_> {
    fn refuse(&self, component: &str, reason: &'static str) -> VolumeError {
        VolumeError::SubPath {
            container: self.container.to_owned(),
            volume: self.volume.to_owned(),
            sub_path: self.sub_path.to_owned(),
            component: component.to_owned(),
            reason,
        }
    }
}

/// The path without what means nothing; `None` when it is the volume itself. Pure.
///
/// # Errors
/// The reason why it is no place in a volume.
pub(super) fn clean(sub_path: &str) -> Result<Option<String>, &'static str> {
    if sub_path.starts_with('/') {
        return Err("is absolute");
    }
    if sub_path.contains('\0') {
        return Err("has a NUL byte");
    }
    let parts: Vec<&str> =
        sub_path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.contains(&"..") {
        return Err("has a part '..'");
    }
    Ok((!parts.is_empty()).then(|| parts.join("/")))
}

/// Opens the place (O_PATH), after making what is missing of it.
///
/// # Errors
/// [`VolumeError::SubPath`] with the first part of it that is wrong.
pub(super) fn open(root: BorrowedFd<'_>, wanted: &Wanted<'_>) -> Result<OwnedFd, VolumeError> {
    let all = Path::new(wanted.sub_path);
    if let Ok(found) = open_in(root, all, libc::O_PATH, 0, Resolve::Beneath) {
        return Ok(found);
    }
    let mode = fstat(root).map_err(VolumeError::io("look at the root of", all))?.st_mode & 0o7777;
    let mut parent: Option<OwnedFd> = None;
    let mut path = PathBuf::new();
    for part in wanted.sub_path.split('/') {
        path.push(part);
        let here = parent.as_ref().map_or(root, |parent| parent.as_fd());
        // From the root each time: a link may lead up, as long as it stays inside.
        let next = match open_in(root, &path, libc::O_PATH, 0, Resolve::Beneath) {
            Ok(found) => found,
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => create(here, part, mode, wanted)?,
            Err(e) => return Err(refusal(&e, part, wanted)),
        };
        parent = Some(next);
    }
    parent.ok_or_else(|| wanted.refuse("", "is empty"))
}

fn refusal(error: &io::Error, part: &str, wanted: &Wanted<'_>) -> VolumeError {
    match error.raw_os_error() {
        Some(libc::EXDEV) => wanted.refuse(part, "leads out of the volume"),
        Some(libc::ENOTDIR) => wanted.refuse(part, "is not in a directory"),
        Some(libc::ELOOP) => wanted.refuse(part, "is a symlink that leads nowhere"),
        Some(libc::ENAMETOOLONG) => wanted.refuse(part, "is too long"),
        _ => {
            let source = io::Error::from_raw_os_error(error.raw_os_error().unwrap_or(libc::EIO));
            VolumeError::Io { operation: "open the sub-path", path: wanted.sub_path.into(), source }
        }
    }
}

fn create(
    parent: BorrowedFd<'_>,
    part: &str,
    mode: u32,
    wanted: &Wanted<'_>,
) -> Result<OwnedFd, VolumeError> {
    if wanted.missing == Missing::Refuse {
        return Err(wanted.refuse(part, "does not exist"));
    }
    wanted.still.still()?;
    let path = Path::new(part);
    let bits = Mode::from_bits_truncate(mode);
    let made = match mkdirat(parent, path, bits) {
        Ok(()) => true,
        // Another container was as fast, or it is a link that leads nowhere.
        Err(Errno::EEXIST) => false,
        Err(Errno::ENOTDIR) => return Err(wanted.refuse(part, "is not in a directory")),
        Err(e) => {
            return Err(VolumeError::io("create the sub-path", Path::new(wanted.sub_path))(e));
        }
    };
    let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW;
    let found = open_in(parent, path, flags, 0, Resolve::NoSymlinks).map_err(|e| {
        let error = match e.raw_os_error() {
            // With O_PATH and O_NOFOLLOW a link is found, and is no directory.
            Some(libc::ENOTDIR) => libc::ELOOP,
            other => other.unwrap_or(libc::EIO),
        };
        refusal(&io::Error::from_raw_os_error(error), part, wanted)
    })?;
    if made {
        // The umask has no say.
        let flags = nix::sys::stat::FchmodatFlags::FollowSymlink;
        nix::sys::stat::fchmodat(&found, ".", bits, flags)
            .map_err(VolumeError::io("set the mode of the sub-path", Path::new(wanted.sub_path)))?;
    }
    Ok(found)
}

/// Binds what is open as `source` at `target`, a path of berth's own whose folder exists. What is bound
/// there already stays when it is the same file, and makes way when not.
///
/// # Errors
/// The step that failed.
pub(super) fn bind(
    source: BorrowedFd<'_>,
    target: &Path,
    still: &blocking::Wanted,
) -> Result<(), VolumeError> {
    let at = |operation| VolumeError::io::<io::Error>(operation, target);
    let (Some(folder), Some(name)) = (target.parent(), target.file_name()) else {
        return Err(at("bind at")(io::Error::from(io::ErrorKind::InvalidFilename)));
    };
    let folder = open_folder(folder).map_err(at("open the folder of"))?;
    let name = name.to_string_lossy();
    let wanted = shape(source).map_err(at("look at the source of"))?;
    loop {
        let open = || {
            let flags = libc::O_PATH | libc::O_NOFOLLOW;
            open_in(folder.as_fd(), Path::new(&*name), flags, 0, Resolve::NoSymlinks)
        };
        let there = match open() {
            Ok(there) => there,
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => {
                still.effect(|| make_target(target, wanted))?.map_err(at("create"))?;
                continue;
            }
            Err(e) => return Err(at("open")(e)),
        };
        let id = |fd: BorrowedFd<'_>| fds::mount_id(fd).map_err(at("look at"));
        if id(there.as_fd())? == id(folder.as_fd())? {
            if shape(there.as_fd()).map_err(at("look at"))? == wanted {
                let copy = mount::clone_tree(source, c"", Reach::One).map_err(at("bind to"))?;
                let bound = still.effect(|| mount::attach(copy.as_fd(), there.as_fd()))?;
                return bound.map_err(at("bind at"));
            }
            // Of an earlier source.
            still.effect(|| remove_target(target))?.map_err(at("remove"))?;
        } else if same_file(source, there.as_fd()).map_err(at("look at"))? {
            return Ok(());
        } else {
            still.effect(|| unmount_at(folder.as_fd(), &name))?.map_err(at("unmount"))?;
        }
    }
}

/// What a bind needs to lie on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Folder,
    /// Anything else.
    File,
}

fn shape(fd: BorrowedFd<'_>) -> io::Result<Shape> {
    let is_folder = fstat(fd)?.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits();
    Ok(if is_folder { Shape::Folder } else { Shape::File })
}

fn same_file(one: BorrowedFd<'_>, other: BorrowedFd<'_>) -> io::Result<bool> {
    let (one, other) = (fstat(one)?, fstat(other)?);
    Ok((one.st_dev, one.st_ino) == (other.st_dev, other.st_ino))
}

fn make_target(target: &Path, shape: Shape) -> io::Result<()> {
    match shape {
        Shape::Folder => fs::create_dir(target),
        Shape::File => fs::OpenOptions::new().create_new(true).write(true).open(target).map(drop),
    }
}

fn remove_target(target: &Path) -> io::Result<()> {
    match fs::symlink_metadata(target)?.is_dir() {
        true => fs::remove_dir(target),
        false => fs::remove_file(target),
    }
}

/// The folder of a volume, open: `flags` say whether its own name may be a symlink.
pub(super) fn open_root(path: &Path, flags: OFlag) -> Result<OwnedFd, VolumeError> {
    let flags = flags | OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    nix::fcntl::open(path, flags, Mode::empty()).map_err(VolumeError::io("open the volume", path))
}

#[cfg(test)]
#[path = "sub_path_tests.rs"]
mod tests;
