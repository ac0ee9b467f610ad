//! A pod's cgroup: `<cgroup parent>/<sandbox id>`, or under the systemd driver the scope
//! `<slice>/berth-<sandbox id>.scope`. It holds no process itself, only leaves.

use super::apply::{apply_settings, apply_settings_then};
use super::group::Group;
use super::leaf::{Above, Leaf};
use super::limits::plan_limits;
use super::systemd::{Systemd, limits, scope};
use super::{CgroupError, CgroupPath, Resources};
use crate::ids::SandboxId;
use std::ops::Deref;
use std::os::fd::OwnedFd;

/// The leaf of a pod's pause.
const PAUSE: &str = "pause";

/// A handle on a pod's cgroup.
#[derive(Clone, Debug)]
pub struct PodCgroup {
    pub(super) group: Group,
    /// Whose scope it is, if it is one.
    pub(super) systemd: Option<Systemd>,
}

/// What can be done with any cgroup can be done with a pod's; the two differ in what else they may.
impl Deref for PodCgroup {
    type Target = Group;
    fn deref(&self) -> &Group {
        &self.group
    }
}

/// Where a pod's scope is.
pub(super) fn scope_path(slice: &CgroupPath, id: &SandboxId) -> CgroupPath {
    slice.child(&format!("berth-{id}.scope"))
}

/// The sandbox of a scope's name.
pub(super) fn sandbox_of(unit: &str) -> Option<SandboxId> {
    let id = unit.strip_prefix("berth-")?.strip_suffix(".scope")?;
    SandboxId::parse(id).ok()
}

impl PodCgroup {
    /// The leaf `name` of the pod: `pause`, or a container's id.
    pub fn leaf(&self, name: &str) -> Leaf {
        Leaf::new(&self.group.tree, self.group.path.child(name), Above::Required)
    }

    /// The open cgroup in which pause starts: its leaf; under the systemd driver its shim's, because a scope
    /// does not exist without a process.
    ///
    /// # Errors
    /// As [`Leaf::create`].
    pub fn pause_start(&self, shim: &Leaf) -> Result<OwnedFd, CgroupError> {
        if self.systemd.is_some() {
            return shim.open_fd();
        }
        let leaf = self.leaf(PAUSE);
        leaf.create()?;
        leaf.open_fd()
    }

    /// Brings pause, which runs, into its leaf. Nothing to do but under the systemd driver: there the scope
    /// is made around it, with the pod's limits, and berth makes what is inside. Blocks.
    ///
    /// # Errors
    /// [`CgroupError::Systemd`]; as [`Group::apply`].
    pub fn take_in(&self, pause: i32, resources: &Resources) -> Result<(), CgroupError> {
        let Some(systemd) = &self.systemd else { return Ok(()) };
        let plan = plan_limits(resources)?;
        let unit = self.path.name();
        let slice = self.path.parent().unwrap_or_else(CgroupPath::root);
        let id = sandbox_of(unit).map_or_else(|| unit.to_owned(), |id| id.short().to_owned());
        let mut properties = scope(format!("berth pod {id}"), slice.slice(), pause.unsigned_abs());
        properties.extend(limits(&plan)?);
        systemd.start(unit, properties)?;
        let leaf = self.leaf(PAUSE);
        leaf.create()?;
        leaf.enter(pause)?;
        self.tree.open_delegated(&self.path)?;
        // Also what systemd has no word for, and what it rounds.
        apply_settings(&self.dir()?, &plan, self.tree.missing())
    }

    /// As [`Group::apply`]. Under the systemd driver systemd is told, too: what it does not know it may set
    /// back. Blocks.
    ///
    /// # Errors
    /// As [`Group::apply`]; [`CgroupError::Systemd`], and then nothing is changed.
    pub fn apply(&self, resources: &Resources) -> Result<(), CgroupError> {
        match &self.systemd {
            Some(systemd) => apply_told(&self.group, systemd, resources),
            None => self.group.apply(resources),
        }
    }

    /// As [`Group::remove`]; the scope ends with it. Blocks.
    ///
    /// # Errors
    /// As [`Group::remove`]; [`CgroupError::Systemd`].
    pub fn remove(&self) -> Result<(), CgroupError> {
        if let Some(systemd) = &self.systemd {
            systemd.stop(self.path.name())?;
        }
        self.group.remove()
    }
}

/// Changes the limits of a unit's cgroup, and tells systemd, or changes nothing.
pub(super) fn apply_told(
    group: &Group,
    systemd: &Systemd,
    resources: &Resources,
) -> Result<(), CgroupError> {
    let plan = plan_limits(resources)?;
    let properties = limits(&plan)?;
    if plan.is_empty() {
        return Ok(());
    }
    let (dir, missing) = (group.dir()?, group.tree.missing());
    // The kernel first: it says what it refuses, and a limit below what is in use is seen in time.
    apply_settings_then(&dir, &plan, missing, || {
        if properties.is_empty() {
            return Ok(());
        }
        systemd.set(group.path.name(), properties).map_err(CgroupError::from)
    })?;
    apply_settings(&dir, &plan, missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_scope_tells_its_sandbox() {
        let id = SandboxId::parse(&"a1".repeat(32)).unwrap();
        let slice = CgroupPath::of_slice(Some("k-p.slice")).unwrap();
        let path = scope_path(&slice, &id);
        assert_eq!(path.as_str(), format!("/k.slice/k-p.slice/berth-{id}.scope"));
        assert_eq!(sandbox_of(path.name()), Some(id));
        for other in ["berth-shims.scope", "berth-x.scope", "session-1.scope", "berth-.scope"] {
            assert_eq!(sandbox_of(other), None, "{other}");
        }
    }
}
