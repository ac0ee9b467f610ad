//! The root file system in the new mount namespace: attach, mounts, devices, masks, pivot.
//!
//! The namespace starts as a copy of the shim's. Everything is made inside the new root before the
//! pivot, where the root is a descriptor and the image cannot redirect a path out of it; then the
//! old root is detached with all that hangs on it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::sys::stat::{Mode, SFlag, makedev, mknodat};

use super::covers::Covers;
use super::create::Stdio;
use super::init::{Init, open_directory};
use super::mount as mounts;
use super::step::{At, Step, StepError};
use super::target::{Kind, Links, open_or_make};
use super::terminal;
use super::userns;
use crate::shim::wire::DevicePlan;
use crate::sys::fds;
use crate::sys::mount::{self, Change, Propagation, Reach, attr};
use crate::sys::path::{Resolve, open_in};
use crate::undefended::{Defence, gap, removed};

/// The links of /dev (OCI runtime spec, "Default Devices", "Dev symbolic links").
const LINKS: [(&str, &str); 5] = [
    ("ptmx", "pts/ptmx"),
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];

/// Places of the mount namespace as it was copied, opened while the process may still search the
/// folders on the way: those of the host's root.
pub(super) struct Places {
    /// The pod's /dev/shm, where that namespace is left before it is mounted.
    shm: Option<OwnedFd>,
    /// Where the new root is attached.
    below: OwnedFd,
    /// In a user namespace: the nodes that were made before it was joined.
    nodes: Option<OwnedFd>,
}

/// Opens the places; with createContainer hooks in the host's tree, which becomes the root.
pub(super) fn open_places(init: &Init<'_>) -> Result<Places, StepError> {
    let plan = init.plan;
    mount::set_propagation(c"/", Propagation::Private, Reach::Tree).at(Step::Rootfs)?;
    let nodes = plan.user.as_ref().map(|_| userns::open_nodes(init)).transpose()?;
    let mut shm = None;
    if let Some(host) = plan.hooks.as_ref().and_then(|hooks| hooks.host_fd) {
        // Nothing can be cloned from a mount that this namespace does not hold any more.
        shm = mounts::clone_pods_shm(init)?;
        enter_host(init.fd(host)?).on(Step::Rootfs, || "the host's tree")?;
    }
    let below = match init.hold {
        // Hooks look for it where the bundle has it.
        Some(hold) => open_directory(hold.root_at()).on(Step::Rootfs, || hold.root_at())?,
        None => open_directory("/").at(Step::Rootfs)?,
    };
    Ok(Places { shm, below, nodes })
}

/// Builds the root up to its attributes. The process's terminal, when it has one.
pub(super) fn build(
    init: &Init<'_>,
    host_proc: BorrowedFd<'_>,
    places: &Places,
) -> Result<Option<OwnedFd>, StepError> {
    let plan = init.plan;
    let Places { shm, below, nodes } = places;
    // Before the root: nothing can be cloned from a mount that is not attached.
    let label = plan.mount_label.as_deref();
    let covers = match nodes {
        Some(nodes) => Some(Covers::beside(nodes.as_fd()).on(Step::Mask, || "find the covers")?),
        None if plan.masked_paths.is_empty() => None,
        None => Some(Covers::make(below.as_fd(), label).on(Step::Mask, || "make the cover")?),
    };
    let root = init.fd(0)?;
    mount::attach(root, below.as_fd()).at(Step::Rootfs)?;
    // A clone of a shared mount is shared, and pivot_root(2) refuses that.
    let private = Change { propagation: Some(Propagation::Private), ..Change::default() };
    mount::set_attributes(root, private, Reach::One).at(Step::Rootfs)?;

    mounts::apply(init, root, shm.as_ref().map(AsFd::as_fd))?;
    for (n, device) in plan.devices.iter().enumerate() {
        match nodes {
            None => make_device(root, device),
            Some(nodes) => userns::place_node(root, nodes.as_fd(), (n, &device.path)),
        }
        .on(Step::Device, || device.path.clone())?;
    }
    if plan.device_links {
        make_links(root)?;
    }
    let terminal = match &init.stdio {
        Stdio::Streams { .. } => None,
        Stdio::Terminal(socket) => {
            let terminal = terminal::open(root, host_proc, socket.as_fd())?;
            gap("console", "");
            make_console(root, terminal.as_fd()).at(Step::Console)?;
            Some(terminal)
        }
    };
    make_cwd(root, &plan.process.cwd)?;
    for path in &plan.readonly_paths {
        make_readonly(root, path).on(Step::ReadonlyPath, || path.clone())?;
    }
    if let Some(covers) = covers {
        for path in &plan.masked_paths {
            covers.mask(root, path).on(Step::Mask, || path.clone())?;
        }
    }
    Ok(terminal)
}

/// Makes the host's tree the root, in place of the shim's.
fn enter_host(host: BorrowedFd<'_>) -> std::io::Result<()> {
    let below = open_directory("/")?;
    mount::attach(host, below.as_fd())?;
    nix::unistd::fchdir(host)?;
    mount::pivot_to_working_directory()?;
    mount::detach(c".")?;
    Ok(nix::unistd::chdir("/")?)
}

fn make_console(root: BorrowedFd<'_>, terminal: BorrowedFd<'_>) -> std::io::Result<()> {
    let console = match removed(Defence::Console) {
        // The name of the first terminal of a devpts.
        true => mount::clone_tree(root, c"dev/pts/0", Reach::One)?,
        false => mount::clone_tree(terminal, c"", Reach::One)?,
    };
    let at = open_or_make(root, Path::new("/dev/console"), Kind::File, Links::Follow)?;
    mount::attach(console.as_fd(), at.as_fd())
}

/// Makes the new root the root and lets go of the old one.
pub(super) fn enter(init: &Init<'_>) -> Result<(), StepError> {
    nix::unistd::fchdir(init.fd(0)?).at(Step::Pivot)?;
    mount::pivot_to_working_directory().at(Step::Pivot)?;
    // The old root lies on top of the new one now, and the cover of masked paths, if it was
    // attached there, on top of that: unmounting "." takes the topmost.
    let covered = init.hold.is_none_or(|hold| hold.root_at() == "/");
    if covered && init.plan.user.is_none() && !init.plan.masked_paths.is_empty() {
        mount::detach(c".").on(Step::Pivot, || "detach the cover")?;
    }
    mount::detach(c".").on(Step::Pivot, || "detach the old root")?;
    check_alone(init)?;
    nix::unistd::chdir("/").at(Step::Pivot)?;
    if init.plan.shared_root {
        mount::set_propagation(c"/", Propagation::Shared, Reach::One).at(Step::RootAttributes)?;
    }
    Ok(())
}

/// Nothing of the old root may be left on top of the new one: "/.." would lead there, and so would
/// joining this mount namespace.
fn check_alone(init: &Init<'_>) -> Result<(), StepError> {
    let top = open_directory("/..").at(Step::Pivot)?;
    let top = fds::mount_id(top.as_fd()).at(Step::Pivot)?;
    let root = fds::mount_id(init.fd(0)?).at(Step::Pivot)?;
    if top == root {
        return Ok(());
    }
    let detail = "the old root is still there".to_owned();
    Err(StepError { step: Step::Pivot, errno: libc::EBUSY, detail })
}

/// Opens a path that may be missing.
pub(super) fn open_existing(root: BorrowedFd<'_>, path: &str) -> std::io::Result<Option<OwnedFd>> {
    match open_in(root, Path::new(path), libc::O_PATH, 0, Resolve::InRoot) {
        Ok(fd) => Ok(Some(fd)),
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => Ok(None),
        Err(e) => Err(e),
    }
}

fn make_readonly(root: BorrowedFd<'_>, path: &str) -> std::io::Result<()> {
    let Some(at) = open_existing(root, path)? else { return Ok(()) };
    let clone = mount::clone_tree(at.as_fd(), c"", Reach::Tree)?;
    let readonly = Change { set: attr::RDONLY, ..Change::default() };
    mount::set_attributes(clone.as_fd(), readonly, Reach::Tree)?;
    mount::attach(clone.as_fd(), at.as_fd())
}

fn make_device(root: BorrowedFd<'_>, device: &DevicePlan) -> std::io::Result<()> {
    let path = Path::new(&device.path);
    let invalid = || std::io::Error::from_raw_os_error(libc::EINVAL);
    let (parent, name) = path.parent().zip(path.file_name()).ok_or_else(invalid)?;
    let parent = open_or_make(root, parent, Kind::Directory, Links::Follow)?;
    let kind = SFlag::from_bits_truncate(device.mode & SFlag::S_IFMT.bits());
    let mode = Mode::from_bits_truncate(device.mode);
    let number = makedev(device.major.into(), device.minor.into());
    let make = || mknodat(&parent, name, kind, mode, number);
    match make() {
        // The image's own, when /dev is part of it: replaced, whatever it is.
        Err(nix::errno::Errno::EEXIST) => {
            nix::unistd::unlinkat(&parent, name, nix::unistd::UnlinkatFlags::NoRemoveDir)?;
            make()?;
        }
        other => other?,
    }
    if device.uid != 0 || device.gid != 0 {
        let (uid, gid) = (Some(device.uid.into()), Some(device.gid.into()));
        let flags = nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW;
        nix::unistd::fchownat(&parent, name, uid, gid, flags)?;
    }
    Ok(())
}

fn make_links(root: BorrowedFd<'_>) -> Result<(), StepError> {
    let dev = open_or_make(root, Path::new("/dev"), Kind::Directory, Links::Follow)
        .on(Step::Device, || "/dev")?;
    for (name, to) in LINKS {
        match nix::unistd::symlinkat(to, &dev, name) {
            // The image's own.
            Err(nix::errno::Errno::EEXIST) => {}
            other => other.on(Step::Device, || format!("/dev/{name}"))?,
        }
    }
    Ok(())
}

/// A missing working directory is made, as the other runtimes do. One that cannot be made fails
/// at chdir, which says so better.
fn make_cwd(root: BorrowedFd<'_>, cwd: &str) -> Result<(), StepError> {
    match open_or_make(root, Path::new(cwd), Kind::Directory, Links::Follow) {
        Err(e) if e.raw_os_error() == Some(libc::EROFS) => Ok(()),
        // Through /proc/self/fd, which the check after chdir refuses.
        Err(e) if e.raw_os_error() == Some(libc::ELOOP) => Ok(()),
        other => other.on(Step::MakeCwd, || format!("{cwd:?}")).map(drop),
    }
}

/// Gives the root its attributes.
pub(super) fn seal(init: &Init<'_>) -> Result<(), StepError> {
    let root = init.fd(0)?;
    if init.plan.readonly_root {
        let readonly = Change { set: attr::RDONLY, ..Change::default() };
        mount::set_attributes(root, readonly, Reach::One)
            .on(Step::RootAttributes, || "read-only")?;
    }
    Ok(())
}
