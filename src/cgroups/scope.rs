//! The scope of one container that belongs to no pod: systemd makes its cgroup around a process, and the
//! container's processes are in it themselves. Whoever holds one blocks in every request.

use super::apply::apply_settings;
use super::group::Group;
use super::leaf::{Above, Leaf};
use super::limits::plan_limits;
use super::pod::apply_told;
use super::systemd::{Systemd, limits, scope};
use super::tree::Tree;
use super::{CgroupError, CgroupPath, Resources};
use std::sync::Arc;

/// A handle on the scope of a container.
#[derive(Clone, Debug)]
pub struct Scope {
    leaf: Leaf,
    systemd: Systemd,
}

impl Scope {
    pub(super) fn new(tree: &Arc<Tree>, path: CgroupPath, systemd: Systemd) -> Self {
        Self { leaf: Leaf::new(tree, path, Above::Required), systemd }
    }

    fn unit(&self) -> &str {
        self.leaf.path().name()
    }

    /// Has systemd make it around process `pid`, with these limits. A unit of its name that exists is an
    /// error, and stays as it is.
    ///
    /// # Errors
    /// [`CgroupError::Systemd`]; as [`Group::apply`]. Nothing is left then.
    pub fn start(
        &self,
        pid: i32,
        description: String,
        resources: &Resources,
    ) -> Result<(), CgroupError> {
        let plan = plan_limits(resources)?;
        let slice = self.leaf.path().parent().unwrap_or_else(CgroupPath::root);
        let mut properties = scope(description, slice.slice(), pid.unsigned_abs());
        properties.extend(limits(&plan)?);
        self.systemd.start(self.unit(), properties)?;
        let whole = || {
            if !self.leaf.exists() || !self.leaf.pids()?.contains(&pid) {
                let reason = "systemd keeps a unit of this name in a cgroup of another";
                return Err(CgroupError::invalid("unit", self.unit(), reason));
            }
            let tree = &self.leaf.tree;
            tree.hand_down_welcome(&slice);
            // Also what systemd has no word for, and what it rounds.
            apply_settings(&self.leaf.dir()?, &plan, tree.missing())
        };
        whole().inspect_err(|_| {
            // The error that is told is the first one; a scope ends with its last process in any case.
            self.systemd.stop(self.unit()).ok();
        })
    }

    /// As [`Group::apply`]; systemd is told, too.
    ///
    /// # Errors
    /// As [`Group::apply`]; [`CgroupError::Systemd`], and then nothing is changed.
    pub fn apply(&self, resources: &Resources) -> Result<(), CgroupError> {
        let group: &Group = &self.leaf;
        apply_told(group, &self.systemd, resources)
    }

    /// As [`Group::remove`], with the unit. One that is gone is fine.
    ///
    /// # Errors
    /// As [`Group::remove`]; [`CgroupError::Systemd`].
    pub fn remove(&self) -> Result<(), CgroupError> {
        self.systemd.stop(self.unit())?;
        self.leaf.remove()
    }
}
