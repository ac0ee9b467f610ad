//! fsGroup: a volume's files become a group's, readable and writable for it, and what is made in it later, too.
//!
//! By descriptor: symlinks change their own group and are not followed; other mounts are left alone.

use super::error::VolumeError;
use super::mount_point::open_folder;
use crate::sys::fds;
use k8s_openapi::api::core::v1::Pod;
use nix::dir::{Dir, OwningIter};
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// What a group may do with a file.
const FILE_BITS: u32 = 0o660;
/// With a folder; what is made in it is the group's.
const FOLDER_BITS: u32 = 0o2770;
/// How many folders may be in each other: more than a path can name.
const MAX_DEPTH: usize = 2048;

/// When a volume's files change (`fsGroupChangePolicy`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChangePolicy {
    Always,
    /// Not when its root is right already.
    OnRootMismatch,
}

/// A pod's group of volumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FsGroup {
    pub(super) id: u32,
    pub(super) policy: ChangePolicy,
}

/// The group that a pod asks for; pure.
///
/// # Errors
/// One that is no id.
pub(super) fn of(pod: &Pod) -> Result<Option<FsGroup>, VolumeError> {
    let context = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
    let Some((context, id)) = context.and_then(|context| Some((context, context.fs_group?))) else {
        return Ok(None);
    };
    let Some(id) = u32::try_from(id).ok().filter(|id| *id <= i32::MAX.unsigned_abs()) else {
        return Err(VolumeError::Invalid {
            volume: "*".to_owned(),
            field: "securityContext.fsGroup",
            value: id.to_string(),
            reason: "is not the id of a group",
        });
    };
    let policy = match context.fs_group_change_policy.as_deref() {
        Some("OnRootMismatch") => ChangePolicy::OnRootMismatch,
        _ => ChangePolicy::Always,
    };
    Ok(Some(FsGroup { id, policy }))
}

/// Gives the folder `root` and all in it to the group. The root last: who finds it right finds all right.
///
/// # Errors
/// The file that could not be changed.
pub(super) fn apply(root: &Path, group: u32, policy: ChangePolicy) -> Result<(), VolumeError> {
    let fd = open_folder(root).map_err(VolumeError::io("open", root))?;
    let stat = fstat(&fd).map_err(VolumeError::io("look at", root))?;
    if policy == ChangePolicy::OnRootMismatch && is_right(&stat, group) {
        return Ok(());
    }
    let mount = fds::mount_id(fd.as_fd()).map_err(VolumeError::io("look at", root))?;
    Walk { root, group, mount }.tree(fd)
}

fn is_right(stat: &FileStat, group: u32) -> bool {
    stat.st_gid == group && stat.st_mode & FOLDER_BITS == FOLDER_BITS
}

struct Walk<'a> {
    root: &'a Path,
    group: u32,
    /// The mount that the volume is on.
    mount: u64,
}

/// A folder on the way: changed when all in it is.
struct Folder {
    fd: OwnedFd,
    entries: OwningIter,
}

fn by_fd(fd: BorrowedFd<'_>) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

impl Walk<'_> {
    fn tree(&self, root: OwnedFd) -> Result<(), VolumeError> {
        let mut stack = Vec::new();
        self.one(root, &mut stack)?;
        while let Some(top) = stack.last_mut() {
            let Some(entry) = top.entries.next() else {
                let done = stack.pop();
                done.map_or(Ok(()), |folder| self.change(folder.fd.as_fd()))?;
                continue;
            };
            let entry = entry.map_err(VolumeError::io("list a folder of", self.root))?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            match openat(&top.fd, name, flags, Mode::empty()) {
                Ok(fd) => self.one(fd, &mut stack)?,
                // Removed meanwhile.
                Err(nix::errno::Errno::ENOENT) => {}
                Err(e) => return Err(VolumeError::io("open a file of", self.root)(e)),
            }
        }
        Ok(())
    }

    /// Changes a file, or puts a folder on the stack.
    fn one(&self, fd: OwnedFd, stack: &mut Vec<Folder>) -> Result<(), VolumeError> {
        let mount = fds::mount_id(fd.as_fd());
        if mount.map_err(VolumeError::io("look at a file of", self.root))? != self.mount {
            return Ok(());
        }
        let stat = fstat(&fd).map_err(VolumeError::io("look at a file of", self.root))?;
        if stat.st_mode & SFlag::S_IFMT.bits() != SFlag::S_IFDIR.bits() {
            return self.change(fd.as_fd());
        }
        if stack.len() == MAX_DEPTH {
            let deep = io::Error::from_raw_os_error(libc::ENAMETOOLONG);
            return Err(VolumeError::io("reach the deepest folders of", self.root)(deep));
        }
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let entries = Dir::openat(&fd, ".", flags, Mode::empty())
            .map_err(VolumeError::io("open a folder of", self.root))?
            .into_iter();
        stack.push(Folder { fd, entries });
        Ok(())
    }

    fn change(&self, fd: BorrowedFd<'_>) -> Result<(), VolumeError> {
        let change = || -> io::Result<()> {
            let stat = fstat(fd)?;
            let kind = stat.st_mode & SFlag::S_IFMT.bits();
            nix::unistd::fchownat(fd, "", None, Some(self.group.into()), AtFlags::AT_EMPTY_PATH)?;
            let bits = match kind {
                // A link has no mode.
                kind if kind == SFlag::S_IFLNK.bits() => return Ok(()),
                kind if kind == SFlag::S_IFDIR.bits() => FOLDER_BITS,
                _ => FILE_BITS,
            };
            // After the group: a change of it takes set-id bits away.
            let mode = (stat.st_mode & 0o7777) | bits;
            // The descriptor is of the file itself, whatever its name leads to by now.
            fs::set_permissions(by_fd(fd), fs::Permissions::from_mode(mode))
        };
        change().map_err(|source| {
            let path = fs::read_link(by_fd(fd)).unwrap_or_else(|_| self.root.to_owned());
            VolumeError::Io { operation: "give to the pod's group", path, source }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt as _, symlink};

    const GROUP: u32 = 4711;

    fn of_path(path: &Path) -> (u32, u32) {
        let metadata = fs::symlink_metadata(path).unwrap();
        (metadata.gid(), metadata.mode() & 0o7777)
    }

    fn set(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_tree_becomes_the_groups_without_what_its_links_lead_to() {
        let temp = tempfile::tempdir().unwrap();
        let (root, outside) = (temp.path().join("v"), temp.path().join("outside"));
        fs::create_dir_all(root.join("a/b")).unwrap();
        for (path, mode) in [("a/b/file", 0o600), ("tool", 0o4755)] {
            fs::write(root.join(path), "").unwrap();
            set(&root.join(path), mode);
        }
        fs::write(&outside, "").unwrap();
        set(&outside, 0o600);
        symlink(&outside, root.join("link")).unwrap();
        symlink("/", root.join("a/root")).unwrap();
        apply(&root, GROUP, ChangePolicy::Always).unwrap();
        for (path, mode) in
            [("", 0o2775), ("a", 0o2775), ("a/b", 0o2775), ("a/b/file", 0o660), ("tool", 0o4775)]
        {
            assert_eq!(of_path(&root.join(path)), (GROUP, mode), "{path}");
        }
        assert_eq!(of_path(&root.join("link")).0, GROUP, "a link's own group");
        assert_eq!(of_path(&outside), (0, 0o600));
        assert_ne!(of_path(Path::new("/")).0, GROUP);
    }

    #[test]
    fn a_right_root_spares_the_walk_when_the_policy_says_so() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("v");
        fs::create_dir(&root).unwrap();
        apply(&root, GROUP, ChangePolicy::OnRootMismatch).unwrap();
        assert_eq!(of_path(&root).0, GROUP, "a wrong root is no reason to spare it");
        fs::write(root.join("file"), "").unwrap();
        std::os::unix::fs::chown(root.join("file"), None, Some(1)).unwrap();
        apply(&root, GROUP, ChangePolicy::OnRootMismatch).unwrap();
        assert_eq!(of_path(&root.join("file")).0, 1);
        apply(&root, GROUP, ChangePolicy::Always).unwrap();
        assert_eq!(of_path(&root.join("file")).0, GROUP);
    }

    #[test]
    fn a_root_that_is_a_link_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let link = temp.path().join("v");
        symlink("/etc", &link).unwrap();
        assert!(apply(&link, GROUP, ChangePolicy::Always).is_err());
    }
}
