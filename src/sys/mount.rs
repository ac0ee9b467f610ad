//! The file-descriptor mount API: fsopen(2), fsconfig(2), fsmount(2), open_tree(2), move_mount(2),
//! mount_setattr(2) (Linux 5.2 to 5.12), and pivot_root(2), umount2(2).

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::null;

const FSCONFIG_SET_FLAG: u32 = 0;
const FSCONFIG_SET_STRING: u32 = 1;
const FSCONFIG_CMD_CREATE: u32 = 6;
const FSMOUNT_CLOEXEC: u32 = 1;
const FSOPEN_CLOEXEC: u32 = 1;
const OPEN_TREE_CLONE: u32 = 1;
const OPEN_TREE_CLOEXEC: u32 = libc::O_CLOEXEC as u32;
const MOVE_MOUNT_F_EMPTY_PATH: u32 = 0x4;
const MOVE_MOUNT_T_EMPTY_PATH: u32 = 0x40;

/// Mount attributes of fsmount(2) and mount_setattr(2).
pub mod attr {
    /// Read-only.
    pub const RDONLY: u64 = 0x1;
    /// Set-user-id bits and file capabilities are ignored.
    pub const NOSUID: u64 = 0x2;
    /// Device nodes cannot be opened.
    pub const NODEV: u64 = 0x4;
    /// Nothing can be executed.
    pub const NOEXEC: u64 = 0x8;
    /// The field of the access-time modes; clear it when setting one.
    pub const ATIME_FIELD: u64 = 0x70;
    /// Access times are not updated.
    pub const NOATIME: u64 = 0x10;
    /// Access times are always updated.
    pub const STRICTATIME: u64 = 0x20;
    /// Access times of directories are not updated.
    pub const NODIRATIME: u64 = 0x80;
    /// Ids are mapped by the user namespace of `userns_fd`.
    pub const IDMAP: u64 = 0x0010_0000;
    /// Symlinks are not followed.
    pub const NOSYMFOLLOW: u64 = 0x0020_0000;
}

/// How mount and unmount events travel (mount_namespaces(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// Neither way.
    Private,
    /// From the peer group into this mount.
    Slave,
    /// Both ways.
    Shared,
    /// Neither way, and cannot be bind mounted.
    Unbindable,
}

impl Propagation {
    fn bits(self) -> u64 {
        match self {
            Self::Private => libc::MS_PRIVATE,
            Self::Slave => libc::MS_SLAVE,
            Self::Shared => libc::MS_SHARED,
            Self::Unbindable => libc::MS_UNBINDABLE,
        }
    }
}

/// Whether an operation covers the mounts below the named one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Only the named mount.
    One,
    /// The whole tree.
    Tree,
}

impl Reach {
    fn at_flag(self) -> u32 {
        match self {
            Self::One => 0,
            Self::Tree => libc::AT_RECURSIVE.cast_unsigned(),
        }
    }
}

/// A file system context: fsopen(2), configured option by option, then turned into a mount.
#[derive(Debug)]
pub struct FsContext(OwnedFd);

impl FsContext {
    /// Opens a context for a file system type.
    ///
    /// # Errors
    /// ENODEV for an unknown type, EPERM without CAP_SYS_ADMIN.
    pub fn open(fs_type: &CStr) -> io::Result<Self> {
        // SAFETY: `fs_type` is NUL-terminated and outlives the call.
        super::new_fd(unsafe { libc::syscall(libc::SYS_fsopen, fs_type.as_ptr(), FSOPEN_CLOEXEC) })
            .map(Self)
    }

    /// Sets `key=value`. The kernel takes at most 255 bytes of value.
    ///
    /// # Errors
    /// EINVAL for an unknown key or a refused value; [`FsContext::log`] may say more.
    pub fn set(&self, key: &CStr, value: &CStr) -> io::Result<()> {
        // SAFETY: both strings are NUL-terminated and outlive the call; aux is 0 as demanded.
        super::check(unsafe {
            libc::syscall(
                libc::SYS_fsconfig,
                self.0.as_raw_fd(),
                FSCONFIG_SET_STRING,
                key.as_ptr(),
                value.as_ptr(),
                0,
            )
        })
        .map(drop)
    }

    /// Gives every file of the new file system this SELinux label (`context=`); without one it
    /// stays as the policy has it.
    ///
    /// # Errors
    /// EINVAL on a kernel that runs without SELinux, for a label that its policy does not know, or one
    /// that is too long.
    pub fn set_label(&self, label: Option<&str>) -> io::Result<()> {
        let Some(label) = label else { return Ok(()) };
        let label = CString::new(label).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
        self.set(c"context", &label)
    }

    /// Sets a flag option such as `ro`.
    ///
    /// # Errors
    /// EINVAL for an unknown flag.
    pub fn set_flag(&self, key: &CStr) -> io::Result<()> {
        // SAFETY: the key is NUL-terminated; value is null and aux 0 as FSCONFIG_SET_FLAG demands.
        super::check(unsafe {
            libc::syscall(
                libc::SYS_fsconfig,
                self.0.as_raw_fd(),
                FSCONFIG_SET_FLAG,
                key.as_ptr(),
                null::<u8>(),
                0,
            )
        })
        .map(drop)
    }

    /// Creates the superblock and a detached mount of it with `attrs` ([`attr`]).
    ///
    /// # Errors
    /// What the file system answers: EINVAL, EBUSY, ENOENT; EPERM; [`FsContext::log`] may say more.
    pub fn mount(&self, attrs: u64) -> io::Result<OwnedFd> {
        // SAFETY: FSCONFIG_CMD_CREATE takes null key, null value and aux 0.
        super::check(unsafe {
            libc::syscall(
                libc::SYS_fsconfig,
                self.0.as_raw_fd(),
                FSCONFIG_CMD_CREATE,
                null::<u8>(),
                null::<u8>(),
                0,
            )
        })?;
        let attrs = libc::c_uint::try_from(attrs)
            .map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
        // SAFETY: only integers are passed.
        super::new_fd(unsafe {
            libc::syscall(libc::SYS_fsmount, self.0.as_raw_fd(), FSMOUNT_CLOEXEC, attrs)
        })
    }

    /// What the kernel wrote into the context's log, one message a line; empty when it wrote none.
    pub fn log(&self) -> String {
        let mut text = String::new();
        let mut line = [0u8; 512];
        while let Ok(n) = nix::unistd::read(&self.0, &mut line) {
            let Some(message) = line.get(..n).filter(|m| !m.is_empty()) else { break };
            text.push_str(&String::from_utf8_lossy(message));
        }
        text
    }
}

/// open_tree(2) with OPEN_TREE_CLONE: a detached copy of the mount at `path` below `dir`
/// (an empty path: `dir` itself). `Reach::Tree` copies the mounts below it, too.
///
/// # Errors
/// ENOENT; EINVAL for an unbindable mount, or one that this namespace does not hold.
pub fn clone_tree(dir: BorrowedFd<'_>, path: &CStr, reach: Reach) -> io::Result<OwnedFd> {
    let flags =
        OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | libc::AT_EMPTY_PATH.cast_unsigned() | reach.at_flag();
    // SAFETY: `path` is NUL-terminated and outlives the call.
    super::new_fd(unsafe {
        libc::syscall(libc::SYS_open_tree, dir.as_raw_fd(), path.as_ptr(), flags)
    })
}

/// move_mount(2): attaches the detached mount `from` at the file or directory `to`, both given by
/// descriptor.
///
/// # Errors
/// ENOTDIR when one is a directory and the other is not; EINVAL, EPERM.
pub fn attach(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: both paths are the empty, NUL-terminated string.
    super::check(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            from.as_raw_fd(),
            c"".as_ptr(),
            to.as_raw_fd(),
            c"".as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH,
        )
    })
    .map(drop)
}

/// What mount_setattr(2) changes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Change {
    /// Attributes to set ([`attr`]).
    pub set: u64,
    /// Attributes to clear.
    pub clear: u64,
    /// The propagation to set.
    pub propagation: Option<Propagation>,
}

/// mount_setattr(2) on the mount that `mount` refers to (Linux 5.12).
///
/// # Errors
/// EINVAL when `mount` is not the root of a mount; EPERM for a locked attribute.
pub fn set_attributes(mount: BorrowedFd<'_>, change: Change, reach: Reach) -> io::Result<()> {
    set_attributes_idmapped(mount, change, reach, None)
}

/// As [`set_attributes`], and maps ids by `userns` (a user namespace descriptor) when given.
///
/// # Errors
/// As [`set_attributes`]; EINVAL when the file system cannot be idmapped.
pub fn set_attributes_idmapped(
    mount: BorrowedFd<'_>,
    change: Change,
    reach: Reach,
    userns: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    #[repr(C)]
    struct MountAttr {
        set: u64,
        clear: u64,
        propagation: u64,
        userns_fd: u64,
    }
    let mut request = MountAttr {
        set: change.set,
        clear: change.clear,
        propagation: change.propagation.map_or(0, Propagation::bits),
        userns_fd: 0,
    };
    if let Some(userns) = userns {
        request.set |= attr::IDMAP;
        request.userns_fd = u64::from(userns.as_raw_fd().cast_unsigned());
    }
    let flags = libc::AT_EMPTY_PATH.cast_unsigned() | reach.at_flag();
    // SAFETY: the path is the empty string; `request` is a live struct mount_attr of the size given.
    super::check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const request,
            size_of::<MountAttr>(),
        )
    })
    .map(drop)
}

/// pivot_root(".", "."): the working directory becomes the root and the old root is stacked below
/// it; unmount it with [`detach`] of ".".
///
/// # Errors
/// EINVAL when the working directory is not a mount point or its parent mount is shared.
pub fn pivot_to_working_directory() -> io::Result<()> {
    // SAFETY: both arguments are the NUL-terminated string ".".
    super::check(unsafe { libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) })
        .map(drop)
}

/// umount2(2) with MNT_DETACH.
///
/// # Errors
/// EINVAL when `path` is not a mount point, ENOENT.
pub fn detach(path: &CStr) -> io::Result<()> {
    // SAFETY: `path` is NUL-terminated.
    super::check(libc::c_long::from(unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) }))
        .map(drop)
}

/// mount(2) that changes only the propagation of the tree at `path`.
///
/// # Errors
/// EINVAL when `path` is not a mount point.
pub fn set_propagation(path: &CStr, propagation: Propagation, reach: Reach) -> io::Result<()> {
    let recursive = if reach == Reach::Tree { libc::MS_REC } else { 0 };
    // SAFETY: source, type and data may be null when only propagation changes; `path` is
    // NUL-terminated.
    super::check(libc::c_long::from(unsafe {
        libc::mount(null(), path.as_ptr(), null(), propagation.bits() | recursive, null())
    }))
    .map(drop)
}

/// Plain mount(2), for the few places where a path is the right tool.
///
/// # Errors
/// The errno of mount(2).
pub fn mount(
    source: &CStr,
    target: &CStr,
    fs_type: &CStr,
    flags: u64,
    data: &str,
) -> io::Result<()> {
    let data = CString::new(data).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    // SAFETY: all four are NUL-terminated strings that outlive the call.
    super::check(libc::c_long::from(unsafe {
        libc::mount(source.as_ptr(), target.as_ptr(), fs_type.as_ptr(), flags, data.as_ptr().cast())
    }))
    .map(drop)
}
