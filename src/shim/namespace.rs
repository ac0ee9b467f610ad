//! The shim's own mount namespace, which holds nothing of the host's tree.
//!
//! | path    | what                                                                    |
//! |---------|-------------------------------------------------------------------------|
//! | `/`     | a small tmpfs                                                           |
//! | `/proc` | a full proc, of the host's pid namespace                                |
//! | `/sys`  | a full sysfs; a user namespace may mount its own only beside full ones  |
//! | `/shm`  | the pod's /dev/shm, where it has one                                    |
//! | `/root` | empty, for whoever needs a place to attach something in a namespace of its own |
//!
//! What containers need of the host comes as detached mounts by descriptor. So the host's mount
//! table does not grow by a pod, and a volume of the host is never held busy.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use nix::fcntl::{OFlag, open};
use nix::sched::CloneFlags;
use nix::sys::stat::Mode;

use crate::sys::mount::{self, FsContext, Propagation, Reach, attr};
use crate::sys::process::SingleThreaded;

/// Where the pod's shm is.
pub(super) const SHM: &CStr = c"/shm";

const SAFE: u64 = attr::NOSUID | attr::NODEV | attr::NOEXEC;

/// The namespace, once entered.
#[derive(Debug, Default)]
pub(super) struct Namespace {
    shm: bool,
}

/// A step of entering that failed.
#[derive(Debug, thiserror::Error)]
#[error("{step}")]
pub struct NamespaceError {
    step: &'static str,
    #[source]
    source: io::Error,
}

fn at(step: &'static str) -> impl FnOnce(io::Error) -> NamespaceError {
    move |source| NamespaceError { step, source }
}

impl Namespace {
    /// Leaves the host's mount namespace for a new, almost empty one.
    pub(super) fn enter(_: &SingleThreaded) -> Result<Self, NamespaceError> {
        nix::sched::unshare(CloneFlags::CLONE_NEWNS)
            .map_err(|e| at("unshare the mount namespace")(e.into()))?;
        mount::set_propagation(c"/", Propagation::Slave, Reach::Tree)
            .map_err(at("make every mount a slave"))?;
        let root = tmpfs(c"64k", c"0755", None, None).map_err(at("make the root"))?;
        // Any folder will do: it is gone with the old root.
        attach(&root, c"/proc").map_err(at("attach the root"))?;
        nix::unistd::fchdir(&root).map_err(|e| at("enter the root")(e.into()))?;
        mount::pivot_to_working_directory().map_err(at("pivot"))?;
        mount::detach(c".").map_err(at("detach the host's tree"))?;
        nix::unistd::chdir(c"/").map_err(|e| at("enter the root")(e.into()))?;
        mount::set_propagation(c"/", Propagation::Private, Reach::Tree)
            .map_err(at("make the root private"))?;
        for folder in [c"/proc", c"/sys", SHM, c"/root"] {
            nix::unistd::mkdir(folder, Mode::from_bits_truncate(0o755))
                .map_err(|e| at("make a folder")(e.into()))?;
        }
        for (kind, path) in [(c"proc", c"/proc"), (c"sysfs", c"/sys")] {
            FsContext::open(kind)
                .and_then(|context| context.mount(SAFE))
                .and_then(|mounted| attach(&mounted, path))
                .map_err(at("mount proc and sysfs"))?;
        }
        Ok(Self::default())
    }

    /// Mounts the pod's shm of at most `bytes`, which belongs to `owner` (user, group), with this SELinux
    /// label.
    pub(super) fn mount_shm(
        &mut self,
        bytes: u64,
        owner: Option<(u32, u32)>,
        label: Option<&str>,
    ) -> io::Result<()> {
        if self.shm {
            return Ok(());
        }
        let size = CString::new(bytes.to_string())?;
        attach(&tmpfs(&size, c"1777", owner, label)?, SHM)?;
        self.shm = true;
        Ok(())
    }

    /// Where the pod's shm is, if it has one.
    pub(super) fn shm(&self) -> Option<&'static CStr> {
        self.shm.then_some(SHM)
    }
}

fn tmpfs(
    size: &CStr,
    mode: &CStr,
    owner: Option<(u32, u32)>,
    label: Option<&str>,
) -> io::Result<OwnedFd> {
    let context = FsContext::open(c"tmpfs")?;
    context.set_label(label)?;
    context.set(c"size", size)?;
    context.set(c"mode", mode)?;
    if let Some((uid, gid)) = owner {
        context.set(c"uid", &CString::new(uid.to_string())?)?;
        context.set(c"gid", &CString::new(gid.to_string())?)?;
    }
    context.mount(SAFE)
}

fn attach(mounted: &OwnedFd, path: &CStr) -> io::Result<()> {
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC | OFlag::O_DIRECTORY;
    let place = open(path, flags, Mode::empty())?;
    mount::attach(mounted.as_fd(), place.as_fd())
}
