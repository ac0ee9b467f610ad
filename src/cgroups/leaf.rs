//! A cgroup that holds processes: pause's, a container's, a shim's, a helper's. It hands no
//! controller down, which is what permits exec slots below it.

use super::devices::{DeviceRule, plan_program};
use super::group::Group;
use super::tree::Tree;
use super::{CgroupError, CgroupPath};
use crate::sys::bpf;
use std::io;
use std::ops::Deref;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Duration;

/// Which files of a cgroup belong to whom it is delegated to.
const DELEGATE: &str = "/sys/kernel/cgroup/delegate";
/// The same, where sysfs does not tell.
const DELEGATED: &str = "cgroup.procs\ncgroup.threads\ncgroup.subtree_control\n";

/// More execs at a time than this are refused.
const SLOTS: u32 = 1024;

/// A handle on a cgroup that holds processes.
#[derive(Clone, Debug)]
pub struct Leaf {
    group: Group,
    above: Above,
    /// An exec slot is its holder's until the last clone of the handle is dropped.
    _reservation: Option<Arc<Reservation>>,
}

/// What becomes of a missing cgroup above a leaf.
#[derive(Clone, Copy, Debug)]
pub(super) enum Above {
    /// It is an error: a pod's is made with its limits, by itself.
    Required,
    /// It is made: berth's own folders of shims and helpers.
    Made,
    /// It is made, with all controllers for the leaf: containers of no pod.
    Domain,
}

/// What can be done with any cgroup can be done with a leaf; the two differ in what else they may.
impl Deref for Leaf {
    type Target = Group;
    fn deref(&self) -> &Group {
        &self.group
    }
}

impl Leaf {
    pub(super) fn new(tree: &Arc<Tree>, path: CgroupPath, above: Above) -> Self {
        Self { group: Group::new(tree, path), above, _reservation: None }
    }

    /// Makes it; done already is success.
    ///
    /// # Errors
    /// [`CgroupError::Access`], of kind `NotFound` when its pod's cgroup is gone.
    pub fn create(&self) -> Result<(), CgroupError> {
        match self.above {
            Above::Required => self.tree.make(&self.path),
            Above::Made => self.tree.make_plain(&self.path),
            Above::Domain => {
                if let Some(above) = self.path.parent() {
                    self.tree.make_passing_domain(&above)?;
                }
                self.tree.make(&self.path)
            }
        }
    }

    /// Gives it to a user and a group of the host: the folder and the files that the kernel says may
    /// be delegated (/sys/kernel/cgroup/delegate).
    ///
    /// # Errors
    /// [`CgroupError::Access`].
    pub fn give_to(&self, (uid, gid): (u32, u32)) -> Result<(), CgroupError> {
        let folder = self.folder();
        let files = std::fs::read_to_string(DELEGATE).unwrap_or_else(|_| DELEGATED.to_owned());
        // A kernel names files that this cgroup does not have, for lack of a controller.
        let files = files.lines().map(|file| folder.join(file)).filter(|path| path.exists());
        for path in std::iter::once(folder.clone()).chain(files) {
            std::os::unix::fs::lchown(&path, Some(uid), Some(gid))
                .map_err(|source| CgroupError::Access { operation: "chown", path, source })?;
        }
        Ok(())
    }

    /// Makes it for a new owner: one that is there already must be empty.
    ///
    /// # Errors
    /// [`CgroupError::Busy`] with the processes in it; as [`Leaf::create`].
    pub fn create_empty(&self) -> Result<(), CgroupError> {
        if self.populated()? {
            let pids = self.pids()?;
            return Err(CgroupError::Busy { path: self.folder(), waited: Duration::ZERO, pids });
        }
        if self.exists() && self.was_killed() {
            self.remove()?;
        }
        self.create()
    }

    /// A cgroup for one exec: `x0`, `x1`, … below this one, made on first need and given out again
    /// once it is empty. Hold the handle until the exec's process is in it.
    ///
    /// # Errors
    /// [`CgroupError::Access`] of kind `ResourceExhausted` when 1024 execs run.
    pub fn exec_slot(&self) -> Result<Leaf, CgroupError> {
        for number in 0..SLOTS {
            let path = self.path.child(&format!("x{number}"));
            let Some(reservation) = Reservation::take(&self.tree, &path) else { continue };
            let group = Group::new(&self.tree, path);
            let _reservation = Some(Arc::new(reservation));
            let slot = Leaf { group, above: Above::Required, _reservation };
            match std::fs::create_dir(slot.folder()) {
                Ok(()) => return Ok(slot),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(CgroupError::access("create cgroup", slot.folder(), e)),
            }
            if slot.populated()? {
                continue;
            }
            if slot.was_killed() {
                slot.renew()?;
            }
            return Ok(slot);
        }
        let source = io::Error::from_raw_os_error(libc::EAGAIN);
        Err(CgroupError::access("find a free exec slot in", self.folder(), source))
    }

    /// The exec slot that holds process `pid`, if one does.
    ///
    /// # Errors
    /// [`CgroupError::Access`].
    pub fn slot_of(&self, pid: i32) -> Result<Option<Group>, CgroupError> {
        for number in 0..SLOTS {
            let slot = Group::new(&self.tree, self.path.child(&format!("x{number}")));
            // They are made one after the other, and go with the container.
            if !slot.exists() {
                break;
            }
            if slot.pids()?.contains(&pid) {
                return Ok(Some(slot));
            }
        }
        Ok(None)
    }

    /// Replaces an empty cgroup by a new one of its name.
    fn renew(&self) -> Result<(), CgroupError> {
        let folder = self.folder();
        std::fs::remove_dir(&folder)
            .map_err(|e| CgroupError::access("remove cgroup", &folder, e))?;
        std::fs::create_dir(&folder).map_err(|e| CgroupError::access("create cgroup", &folder, e))
    }

    /// Permits the devices of `rules` and denies all others, from now on and for every process in it
    /// and below it; replaces earlier rules without a gap.
    ///
    /// # Errors
    /// [`CgroupError::Invalid`] for a rule that no device can match; [`CgroupError::Access`].
    pub fn set_devices(&self, rules: &[DeviceRule]) -> Result<(), CgroupError> {
        let program = plan_program(rules)?;
        let failed = |operation, source| CgroupError::access(operation, self.folder(), source);
        let mut cached = self.tree.program();
        let fd = match cached.as_ref() {
            Some((instructions, fd)) if *instructions == program => Arc::clone(fd),
            _ => {
                let fd = bpf::load_device_program(&program)
                    .map_err(|e| failed("load the device program of", e))?;
                let fd = Arc::new(fd);
                *cached = Some((program, Arc::clone(&fd)));
                fd
            }
        };
        drop(cached);
        bpf::set_device_program(self.dir()?.fd(), (*fd).as_fd())
            .map_err(|e| failed("attach the device program of", e))
    }
}

/// Keeps two execs from taking the same empty slot: it is empty until the process is in it.
#[derive(Debug)]
struct Reservation {
    tree: Arc<Tree>,
    path: CgroupPath,
}

impl Reservation {
    fn take(tree: &Arc<Tree>, path: &CgroupPath) -> Option<Self> {
        let fresh = tree.slots().insert(path.clone());
        fresh.then(|| Self { tree: Arc::clone(tree), path: path.clone() })
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.tree.slots().remove(&self.path);
    }
}
