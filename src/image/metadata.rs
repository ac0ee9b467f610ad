//! Owner, mode, extended attributes and time of one file, by its directory and its name; never
//! through a symlink.

use super::entry::{Kind, Meta};
use super::tree::proc_path;
use nix::fcntl::AtFlags;
use nix::sys::stat::{FchmodatFlags, Mode, UtimensatFlags, fchmodat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchownat};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt as _;

/// Names that the kernel gives a meaning on lower layers; an image has no say in that.
pub(super) const OVERLAY_XATTRS: &[u8] = b"trusted.overlay.";
/// A host's labels are not an image's business.
const SELINUX_XATTR: &[u8] = b"security.selinux";

/// Owner, mode, extended attributes, times, in this order: a change of owner clears set-user-id
/// bits and capabilities. The error names the operation. `.` is the directory itself.
pub(super) fn set_meta(
    dir: BorrowedFd<'_>,
    name: &OsStr,
    meta: &Meta,
    kind: &Kind,
) -> Result<(), (&'static str, io::Error)> {
    let (uid, gid) = (Uid::from_raw(meta.uid), Gid::from_raw(meta.gid));
    fchownat(dir, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)
        .map_err(|e| ("set the owner of", e.into()))?;
    if !matches!(kind, Kind::Symlink(_)) {
        // Not a symlink, so there is nothing to follow.
        let mode = Mode::from_bits_truncate(meta.mode);
        fchmodat(dir, name, mode, FchmodatFlags::FollowSymlink)
            .map_err(|e| ("set the mode of", e.into()))?;
    }
    set_xattrs(dir, name, &meta.xattrs)?;
    if *kind != Kind::Directory {
        set_time(dir, name, meta.mtime).map_err(|e| ("set the time of", e))?;
    }
    Ok(())
}

/// Sets extended attributes, except those that are the host's or overlayfs's.
pub(super) fn set_xattrs(
    dir: BorrowedFd<'_>,
    name: &OsStr,
    xattrs: &[(OsString, Vec<u8>)],
) -> Result<(), (&'static str, io::Error)> {
    for (key, value) in xattrs {
        let bytes = key.as_bytes();
        if bytes.starts_with(OVERLAY_XATTRS) || bytes == SELINUX_XATTR {
            tracing::debug!(attribute = %key.display(), "extended attribute of an image left out");
            continue;
        }
        xattr::set(proc_path(dir, name), key, value)
            .map_err(|e| ("set an extended attribute of", e))?;
    }
    Ok(())
}

/// Sets both times, and does not follow a symlink.
pub(super) fn set_time(dir: BorrowedFd<'_>, name: &OsStr, time: TimeSpec) -> io::Result<()> {
    Ok(utimensat(dir, name, &time, &time, UtimensatFlags::NoFollowSymlink)?)
}

/// All extended attributes of `name` in `dir`.
pub(super) fn read_xattrs(
    dir: BorrowedFd<'_>,
    name: &OsStr,
) -> io::Result<Vec<(OsString, Vec<u8>)>> {
    let path = proc_path(dir, name);
    let mut found = Vec::new();
    for key in xattr::list(&path)? {
        if let Some(value) = xattr::get(&path, &key)? {
            found.push((key, value));
        }
    }
    Ok(found)
}
