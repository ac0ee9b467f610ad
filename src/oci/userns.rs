//! A process in a user namespace: what has to be done before it is joined, and the change of user
//! after it.
//!
//! ```text
//! intermediate, the host's root           the process, in the namespace
//!   oom_score_adj, hard limits              cgroup, keyring, /proc/self as the host's user 0
//!   streams to the user inside              becomes the user 0 inside
//!   device nodes                            everything else
//!   joins the namespace, clones ──────────▸
//! ```
//!
//! Joining gives every capability *in* the namespace and leaves the user id, which it does not map:
//! until the change of user, files of the host's root can be written, and no file can be made.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::sys::stat::{Mode, SFlag, fstat, makedev, mknodat, umask};

use super::covers;
use super::create::Stdio;
use super::hold::{Hold, SPARE};
use super::init::{Init, open_directory};
use super::process::is_null;
use super::step::{At, Step, StepError};
use crate::idmap::{IdMaps, IdRange};
use crate::shim::wire::{self, ProcessPlan, UserPlan};
use crate::sys::mount::{self, Propagation, Reach};
use crate::sys::{caps, ns, prctl};

/// Namespaces that are made with the process; it makes the others itself, as its own root.
pub(super) const CLONED: u64 = (libc::CLONE_NEWNS | libc::CLONE_NEWPID).cast_unsigned() as u64;

impl From<&wire::IdRange> for IdRange {
    fn from(range: &wire::IdRange) -> Self {
        Self { container: range.container, host: range.host, length: range.length }
    }
}

impl From<&IdRange> for wire::IdRange {
    fn from(range: &IdRange) -> Self {
        Self { container: range.container, host: range.host, length: range.length }
    }
}

impl From<&UserPlan> for IdMaps {
    fn from(plan: &UserPlan) -> Self {
        let [uids, gids] =
            [&plan.uids, &plan.gids].map(|list| list.iter().map(Into::into).collect());
        Self { uids, gids }
    }
}

impl From<&IdMaps> for UserPlan {
    fn from(maps: &IdMaps) -> Self {
        let [uids, gids] =
            [&maps.uids, &maps.gids].map(|list| list.iter().map(Into::into).collect());
        Self { uids, gids }
    }
}

/// What only the host's root may do for the process.
pub(super) fn before(user: &UserPlan, plan: &ProcessPlan, stdio: &Stdio) -> Result<(), StepError> {
    raise_limits(plan);
    let maps = IdMaps::from(user);
    let detail = || format!("{} is not mapped", plan.uid);
    let none = || std::io::Error::from_raw_os_error(libc::EINVAL);
    let owner = maps.host_uid(plan.uid).ok_or_else(none).on(Step::User, detail)?;
    if let Stdio::Streams { stdin, stdout, stderr } = stdio {
        for fd in [stdin.as_ref(), Some(stdout), Some(stderr)].into_iter().flatten() {
            give(fd.as_fd(), owner);
        }
    }
    Ok(())
}

/// Hard limits can only be lowered inside. A refusal is told when the limits are set.
fn raise_limits(plan: &ProcessPlan) {
    for limit in &plan.limits {
        let Ok(have) = prctl::get_limit(limit.resource) else { continue };
        if limit.hard > have.hard {
            let raised = prctl::Limit { soft: have.soft, hard: limit.hard };
            prctl::set_limit(limit.resource, raised).ok();
        }
    }
}

/// The process can then open /dev/stdout again. What cannot change hands stays as it is.
fn give(fd: BorrowedFd<'_>, owner: u32) {
    if !is_null(fd) && fstat(fd).is_ok_and(|info| info.st_uid != owner) {
        nix::unistd::fchown(fd, Some(owner.into()), None).ok();
    }
}

/// Becomes the user 0 of the namespace, with every capability in it.
pub(super) fn become_root() -> Result<(), StepError> {
    caps::set_user(0, 0, &[]).on(Step::User, || "the user namespace's root")?;
    // The change of user may undo it (fs.suid_dumpable).
    prctl::not_dumpable().at(Step::Attributes)
}

/// Where the nodes are.
fn place(hold: Option<&dyn Hold>) -> &str {
    hold.map_or(SPARE, Hold::spare)
}

/// Makes the container's device nodes, by number, and the covers of masked paths: no node can be
/// made inside a user namespace. They are on a small tmpfs of the host's, in a mount namespace that
/// the container's is copied from, and go with the old root.
pub(super) fn make_nodes(init: &Init<'_>) -> Result<(), StepError> {
    ns::unshare(init.t, libc::CLONE_NEWNS.cast_unsigned()).at(Step::Device)?;
    mount::set_propagation(c"/", Propagation::Private, Reach::Tree).at(Step::Device)?;
    // Nodes have the modes that the plan says. The process sets its own umask.
    umask(Mode::empty());
    let nodes = covers::new_tmpfs(c"nodes", init.plan.devices.len(), None)
        .on(Step::Device, || "make a place")?;
    let maps = init.plan.user.as_ref().map(IdMaps::from).unwrap_or_default();
    for (n, device) in init.plan.devices.iter().enumerate() {
        let kind = SFlag::from_bits_truncate(device.mode & SFlag::S_IFMT.bits());
        let mode = Mode::from_bits_truncate(device.mode);
        let number = makedev(device.major.into(), device.minor.into());
        let name = n.to_string();
        let detail = || device.path.clone();
        mknodat(&nodes, name.as_str(), kind, mode, number).on(Step::Device, detail)?;
        // An owner that is not mapped is nobody inside, as everywhere.
        let owner = (maps.host_uid(device.uid), maps.host_gid(device.gid));
        let (uid, gid) = (owner.0.map(Into::into), owner.1.map(Into::into));
        let flags = nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW;
        nix::unistd::fchownat(&nodes, name.as_str(), uid, gid, flags).on(Step::Device, detail)?;
    }
    let below = place(init.hold);
    let at = open_directory(below).on(Step::Device, || below)?;
    mount::attach(nodes.as_fd(), at.as_fd()).on(Step::Device, || below)
}

/// The copy of the nodes in the process's own mount namespace.
pub(super) fn open_nodes(init: &Init<'_>) -> Result<OwnedFd, StepError> {
    let below = place(init.hold);
    open_directory(below).on(Step::Device, || below)
}

/// Puts the node with this number at a device's place, over a file of its own.
pub(super) fn place_node(
    root: BorrowedFd<'_>,
    nodes: BorrowedFd<'_>,
    (number, path): (usize, &str),
) -> std::io::Result<()> {
    use super::target::{Kind, Links, open_or_make};
    let path = Path::new(path);
    let invalid = || std::io::Error::from_raw_os_error(libc::EINVAL);
    let (parent, name) = path.parent().zip(path.file_name()).ok_or_else(invalid)?;
    let parent = open_or_make(root, parent, Kind::Directory, Links::Follow)?;
    match nix::unistd::unlinkat(&parent, name, nix::unistd::UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(nix::errno::Errno::ENOENT) => {}
        Err(e) => return Err(e.into()),
    }
    let at = open_or_make(parent.as_fd(), Path::new(name), Kind::File, Links::Refuse)?;
    let number = std::ffi::CString::new(number.to_string())?;
    let node = mount::clone_tree(nodes, &number, Reach::One)?;
    mount::attach(node.as_fd(), at.as_fd())
}
