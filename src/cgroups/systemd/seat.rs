//! The scope of the shims, which has to exist before the first shim is in it.
//!
//! systemd makes a scope around a process, and ends it when the last one has gone; a shim is cloned into
//! its own cgroup below the scope. So while a shim is on its way there, a seed process holds the scope: one
//! for all that are under way. It is the pause program, and holds nothing else.

use super::super::group::Group;
use super::super::leaf::{Above, Leaf};
use super::super::path::{HELPERS, SHIM_SCOPE, SHIM_SLICE};
use super::super::tree::Tree;
use super::super::{CgroupError, CgroupPath};
use super::{Systemd, SystemdError, scope};
use crate::lock::lock;
use crate::sys::process::{kill, open_pidfd};
use crate::sys::spawn::{Child, Privileges, Spawn};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::{Arc, Mutex};

/// Where a seed starts: outside of the daemon's own cgroup.
const NURSERY: &str = "seed";
/// The name a seed is seen by.
const SEED: &str = "berth-seed";
/// How often a scope that ends at the wrong moment is begun anew.
const ATTEMPTS: u32 = 8;

/// The scope of the shims.
#[derive(Debug)]
pub(in crate::cgroups) struct Shims {
    systemd: Systemd,
    group: Group,
    nursery: Leaf,
    held: Mutex<Held>,
}

/// Who holds the scope now.
#[derive(Debug, Default)]
struct Held {
    seats: usize,
    seed: Option<Child>,
}

/// Keeps the scope of the shims until a shim is in it. Dropping it never blocks.
#[derive(Debug)]
pub struct Seat {
    shims: Option<Arc<Shims>>,
}

impl Seat {
    /// Where nothing has to be held.
    pub(in crate::cgroups) fn free() -> Self {
        Self { shims: None }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(shims) = self.shims.take() {
            let systemd = shims.systemd.clone();
            systemd.in_background(move || shims.release());
        }
    }
}

impl Shims {
    pub(in crate::cgroups) fn new(tree: &Arc<Tree>, systemd: &Systemd) -> Self {
        let root = CgroupPath::root();
        let nursery = root.child(HELPERS.trim_start_matches('/')).child(NURSERY);
        Self {
            systemd: systemd.clone(),
            group: Group::new(tree, root.child(SHIM_SLICE).child(SHIM_SCOPE)),
            nursery: Leaf::new(tree, nursery, Above::Made),
            held: Mutex::default(),
        }
    }

    /// The cgroup of the scope.
    pub(in crate::cgroups) fn path(&self) -> &CgroupPath {
        self.group.path()
    }

    /// Sees to it that the scope exists, and goes on to for as long as the seat is held. Blocks.
    pub(in crate::cgroups) fn seat(
        self: &Arc<Self>,
        program: BorrowedFd<'_>,
    ) -> Result<Seat, CgroupError> {
        let mut held = lock(&self.held);
        if held.seed.is_none() {
            held.seed = Some(self.plant(program)?);
        }
        held.seats += 1;
        Ok(Seat { shims: Some(Arc::clone(self)) })
    }

    fn release(&self) {
        let mut held = lock(&self.held);
        held.seats = held.seats.saturating_sub(1);
        if held.seats == 0
            && let Some(seed) = held.seed.take()
        {
            end(&seed);
        }
    }

    /// Ends what a daemon that was killed left of its seeds. Blocks.
    pub(in crate::cgroups) fn sweep(&self) -> Result<(), CgroupError> {
        self.nursery.kill()?;
        // Shims are in cgroups below: what is in the scope's own is a seed.
        let procs = match self.group.read_back("cgroup.procs") {
            Err(_) if !self.group.exists() => None,
            result => result?,
        };
        for pid in procs.unwrap_or_default().lines().filter_map(|line| line.parse().ok()) {
            // One that is gone meanwhile is fine.
            open_pidfd(pid).and_then(|pidfd| kill(pidfd.as_fd())).ok();
        }
        self.nursery.remove()
    }

    /// A seed in the scope.
    fn plant(&self, program: BorrowedFd<'_>) -> Result<Child, CgroupError> {
        self.nursery.create()?;
        let dir = self.nursery.open_fd()?;
        let seed = Spawn::file(program, SEED)
            .cgroup(dir.as_fd())
            .oom_score_adj(-999)
            .privileges(Privileges::BestEffort)
            .spawn()
            .map_err(|e| {
                CgroupError::access("start a process for", self.group.folder(), e.source)
            })?;
        match self.hold(seed.pid) {
            Ok(()) => {
                self.nursery.remove().ok();
                Ok(seed)
            }
            Err(error) => {
                end(&seed);
                self.nursery.remove().ok();
                Err(error)
            }
        }
    }

    /// Brings the process into the scope, which is made around it if it is not there.
    fn hold(&self, pid: i32) -> Result<(), CgroupError> {
        let mut last = None;
        for _ in 0..ATTEMPTS {
            if self.systemd.is_active(SHIM_SCOPE)? {
                // First in, then asked again: systemd looks whether a scope is empty before it ends it.
                match self.group.enter(pid) {
                    Ok(()) if self.systemd.is_active(SHIM_SCOPE)? => return Ok(()),
                    Ok(()) => {}
                    Err(error) => last = Some(error),
                }
                continue;
            }
            let text = "Supervisors of berth's pods".to_owned();
            let properties = scope(text, SHIM_SLICE, pid.unsigned_abs());
            match self.systemd.start(SHIM_SCOPE, properties) {
                Ok(()) => return Ok(()),
                // The one before has not ended wholly.
                Err(error) if error.is("UnitExists") => last = Some(error.into()),
                Err(error) => return Err(error.into()),
            }
        }
        Err(last.unwrap_or_else(|| {
            let state = "ending again and again".to_owned();
            SystemdError::State { operation: "hold", unit: SHIM_SCOPE.to_owned(), state }.into()
        }))
    }
}

/// Ends and reaps a seed.
fn end(seed: &Child) {
    if let Err(error) = seed.kill().and_then(|()| seed.wait()) {
        tracing::warn!(pid = seed.pid, %error, "the process that held the shims' scope has not ended");
    }
}
