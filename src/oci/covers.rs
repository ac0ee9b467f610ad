//! What masked paths are covered with: an empty folder, or a null device. Not the container's /dev/null,
//! which is the image's to arrange.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use nix::sys::stat::{Mode, SFlag, makedev, mkdirat, mknodat};

use super::rootfs::open_existing;
use super::target;
use crate::sys::mount::{self, Change, FsContext, Reach, attr};
use crate::undefended::{Defence, removed};

/// The cover of folders.
const FOLDER: &CStr = c"dir";
/// The cover of files.
const NULL: &CStr = c"null";

/// A place with both.
pub(super) struct Covers {
    place: OwnedFd,
    /// Its mount is read-only, and what is cloned from it with it.
    sealed: bool,
}

impl Covers {
    /// On a small read-only tmpfs, attached at `below`: nothing can be cloned from a mount that is not
    /// attached.
    pub(super) fn make(below: BorrowedFd<'_>, label: Option<&str>) -> io::Result<Self> {
        let place = new_tmpfs(c"mask", 0, label)?;
        seal(&place)?;
        mount::attach(place.as_fd(), below)?;
        Ok(Self { place, sealed: true })
    }

    /// Those beside the nodes of a tmpfs of [`new_tmpfs`].
    pub(super) fn beside(nodes: BorrowedFd<'_>) -> io::Result<Self> {
        Ok(Self { place: nodes.try_clone_to_owned()?, sealed: false })
    }

    /// Covers a path below `root`, if it is there.
    pub(super) fn mask(&self, root: BorrowedFd<'_>, path: &str) -> io::Result<()> {
        let Some(at) = open_existing(root, path)? else { return Ok(()) };
        let name = match target::is(at.as_fd(), SFlag::S_IFDIR)? {
            true => FOLDER,
            false => NULL,
        };
        let cover = match removed(Defence::Mask) {
            true => mount::clone_tree(root, c"dev/null", Reach::One)?,
            false => {
                let cover = mount::clone_tree(self.place.as_fd(), name, Reach::One)?;
                if !self.sealed {
                    seal(&cover)?;
                }
                cover
            }
        };
        mount::attach(cover.as_fd(), at.as_fd())
    }
}

fn seal(mount: &OwnedFd) -> io::Result<()> {
    let readonly = Change { set: attr::RDONLY, ..Change::default() };
    mount::set_attributes(mount.as_fd(), readonly, Reach::One)
}

/// A small tmpfs, detached, with both covers and room for `others` more nodes; with this SELinux label.
pub(super) fn new_tmpfs(source: &CStr, others: usize, label: Option<&str>) -> io::Result<OwnedFd> {
    let context = FsContext::open(c"tmpfs")?;
    context.set_label(label)?;
    context.set(c"source", source)?;
    context.set(c"nr_inodes", &CString::new((others + 4).to_string())?)?;
    context.set(c"size", c"4096")?;
    context.set(c"mode", c"0755")?;
    let place = context.mount(attr::NOSUID | attr::NOEXEC)?;
    mkdirat(&place, FOLDER, Mode::from_bits_truncate(0o555))?;
    let mode = Mode::from_bits_truncate(0o666);
    mknodat(&place, NULL, SFlag::S_IFCHR, mode, makedev(1, 3))?;
    Ok(place)
}
