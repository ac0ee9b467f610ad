//! The node's cgroups: where pods, shims and helpers are, and how they come to be.
//!
//! ```text
//! <cgroup parent>/<sandbox id>             a pod: limits of the pod, controllers handed down
//! <cgroup parent>/<sandbox id>/pause       leaf
//! <cgroup parent>/<sandbox id>/<container> leaf: limits and devices of the container
//! <cgroup parent>/<sandbox id>/<container>/x0 …   exec slots
//! /berth-shims/<sandbox id>                leaf: the pod's supervisor, under no limit of the pod
//! /berth-helpers/<sandbox id>              leaf: CNI plugins and hooks
//! ```
//!
//! Under the systemd driver a pod is `<slice>/berth-<sandbox id>.scope` and a shim is in
//! `/system.slice/berth-shims.scope/<sandbox id>`. What was made under one driver is found and removed under
//! the other.

use super::group::Group;
use super::leaf::{Above, Leaf};
use super::limits::{Setting, plan_limits};
use super::path::{HELPERS, SHIM_SCOPE, SHIM_SLICE, SHIMS, is_slice};
use super::pod::{PodCgroup, apply_told, sandbox_of, scope_path};
use super::scope::Scope;
use super::systemd::{Seat, Shims, Systemd, limits};
use super::tree::Tree;
use super::{CgroupError, CgroupPath, Resources};
use crate::config;
use crate::ids::SandboxId;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;

/// The node's cgroups. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Cgroups {
    tree: Arc<Tree>,
    driver: Driver,
}

/// Who makes the cgroups of pods and shims.
#[derive(Clone, Debug)]
enum Driver {
    Cgroupfs,
    Systemd { systemd: Systemd, shims: Arc<Shims> },
}

impl Cgroups {
    /// Looks at the hierarchy; makes and changes nothing.
    ///
    /// # Errors
    /// [`CgroupError::NotCgroup2`]; [`CgroupError::MissingControllers`] unless best effort is
    /// configured; [`CgroupError::Systemd`] for the systemd driver outside of an asynchronous runtime.
    pub fn open(config: &config::Cgroups) -> Result<Self, CgroupError> {
        let tree = Arc::new(Tree::open(&config.root, config.enforce)?);
        let driver = match config.driver {
            config::CgroupDriver::Cgroupfs => Driver::Cgroupfs,
            config::CgroupDriver::Systemd => {
                let systemd = Systemd::new()?;
                let shims = Arc::new(Shims::new(&tree, &systemd));
                Driver::Systemd { systemd, shims }
            }
        };
        Ok(Self { tree, driver })
    }

    /// Plain folders that stand in for a hierarchy.
    #[cfg(test)]
    pub(crate) fn of_folders(root: &Path) -> Result<Self, CgroupError> {
        Ok(Self { tree: Arc::new(Tree::read(root)?), driver: Driver::Cgroupfs })
    }

    /// Sees to it, once a start and before any pod, that systemd answers, and ends what an earlier daemon
    /// left of its requests. Nothing to do under the cgroupfs driver. Blocks.
    ///
    /// # Errors
    /// [`CgroupError::Systemd`]; what cannot be ended.
    pub fn prepare(&self) -> Result<(), CgroupError> {
        let Driver::Systemd { systemd, shims } = &self.driver else { return Ok(()) };
        systemd.is_active(SHIM_SCOPE)?;
        shims.sweep()
    }

    /// What of these resources best effort leaves out, a line each: settings of missing controllers.
    pub fn left_out(&self, resources: &Resources) -> Vec<String> {
        // What cannot be planned was refused when it was asked for.
        let plan = plan_limits(resources).unwrap_or_default();
        let missing = |setting: &&Setting| self.tree.missing().contains(&setting.controller());
        let words = |s: &Setting| {
            format!("{} {}: no {} controller", s.file, s.value.trim(), s.controller())
        };
        plan.iter().filter(missing).map(words).collect()
    }

    /// What best effort leaves out, a sentence each; empty when nothing is.
    pub fn degraded(&self) -> Vec<String> {
        let sentence = |controller: &&str| {
            let root = self.tree.root().display();
            format!("cgroup controller {controller} is missing at {root}; its limits are not set")
        };
        self.tree.missing().iter().map(sentence).collect()
    }

    /// Where the hierarchy is mounted.
    pub fn root(&self) -> &Path {
        self.tree.root()
    }

    /// The parent cgroup of a pod as given; none: `/berth`, or `berth.slice` under the systemd driver.
    ///
    /// # Errors
    /// As [`CgroupPath::of_parent`], [`CgroupPath::of_slice`].
    pub fn parent_path(&self, parent: Option<&str>) -> Result<CgroupPath, CgroupError> {
        match self.driver {
            Driver::Cgroupfs => CgroupPath::of_parent(parent),
            Driver::Systemd { .. } => CgroupPath::of_slice(parent),
        }
    }

    /// Where the cgroup of a new pod will be.
    pub fn pod_path(&self, parent: &CgroupPath, id: &SandboxId) -> CgroupPath {
        match self.driver {
            Driver::Cgroupfs => parent.child(id.as_str()),
            Driver::Systemd { .. } => scope_path(parent, id),
        }
    }

    /// Makes the pod's cgroup with all controllers for its leaves, and applies the pod's limits. Done
    /// already is success. On an error a pod's cgroup that was made stays for [`PodCgroup::remove`].
    /// Under the systemd driver nothing is made before [`PodCgroup::take_in`].
    ///
    /// # Errors
    /// [`CgroupError::InternalProcesses`] when a cgroup above holds processes;
    /// [`CgroupError::MissingControllers`]; what [`Group::apply`] says.
    pub fn create_pod(
        &self,
        parent: &CgroupPath,
        id: &SandboxId,
        resources: &Resources,
    ) -> Result<PodCgroup, CgroupError> {
        let pod = self.pod(&self.pod_path(parent, id));
        if pod.systemd.is_none() {
            self.tree.make_domain(pod.path())?;
            pod.apply(resources)?;
        }
        Ok(pod)
    }

    /// A cgroup for pods to be in, with all above it and with `resources` in force: a kubelet's, of a pod or of a
    /// class of pods. It is gone with the last pod in it. With the systemd driver it is a slice, which stays until
    /// [`Self::remove_parent`]. Blocks.
    ///
    /// # Errors
    /// It cannot be made, or a value is refused.
    pub fn make_parent(&self, path: &CgroupPath, resources: &Resources) -> Result<(), CgroupError> {
        if let Driver::Systemd { systemd, .. } = &self.driver {
            let properties = limits(&plan_limits(resources)?)?;
            return Ok(systemd.make_slice(path.slice(), properties)?);
        }
        self.tree.make_passing_domain(path)?;
        Group::new(&self.tree, path.clone()).apply(resources)
    }

    /// Removes what [`Self::make_parent`] made, if a pod that never came has left it, or it is a slice. Blocks.
    ///
    /// # Errors
    /// As [`Group::remove`]; [`CgroupError::Systemd`].
    pub fn remove_parent(&self, path: &CgroupPath) -> Result<(), CgroupError> {
        if let Driver::Systemd { systemd, .. } = &self.driver {
            return Ok(systemd.stop(path.slice())?);
        }
        let group = Group::new(&self.tree, path.clone());
        if group.exists() { group.remove() } else { Ok(()) }
    }

    /// Sets limits of a cgroup that is there already. With the systemd driver it is a slice or another unit, and systemd
    /// sets them. Blocks.
    ///
    /// # Errors
    /// It does not exist; a value is refused.
    pub fn limit(&self, path: &CgroupPath, resources: &Resources) -> Result<(), CgroupError> {
        let group = Group::new(&self.tree, path.clone());
        if !group.exists() {
            return Err(CgroupError::invalid("cgroup", path, "it does not exist"));
        }
        match &self.driver {
            Driver::Systemd { systemd, .. } => apply_told(&group, systemd, resources),
            Driver::Cgroupfs => group.apply(resources),
        }
    }

    /// The cgroups above one that are there because pods are: those that berth made on the way to it, or systemd, of no
    /// unit file. The others have the limits that somebody else has thought of. Blocks.
    ///
    /// # Errors
    /// [`CgroupError::Systemd`].
    pub fn made_above(&self, path: &CgroupPath) -> Result<Vec<CgroupPath>, CgroupError> {
        let mut made = Vec::new();
        let mut next = path.parent();
        while let Some(step) = next.filter(|step| *step != CgroupPath::root()) {
            let ours = match &self.driver {
                Driver::Systemd { systemd, .. } => systemd.is_implicit(step.slice())?,
                Driver::Cgroupfs => self.tree.made(&step),
            };
            next = step.parent();
            made.extend(ours.then_some(step));
        }
        Ok(made)
    }

    /// The text of one of a cgroup's files, without the line end; none when there is no such file, or no such cgroup.
    ///
    /// # Errors
    /// [`CgroupError::Access`].
    pub fn read(&self, path: &CgroupPath, file: &str) -> Result<Option<String>, CgroupError> {
        let group = Group::new(&self.tree, path.clone());
        match group.read_back(file) {
            Err(_) if !group.exists() => Ok(None),
            read => read,
        }
    }

    /// Whether there is a cgroup.
    pub fn exists(&self, path: &CgroupPath) -> bool {
        Group::new(&self.tree, path.clone()).exists()
    }

    /// Whether pods' cgroups are systemd's.
    pub fn is_systemd(&self) -> bool {
        matches!(self.driver, Driver::Systemd { .. })
    }

    /// A handle on the pod cgroup at `path`, as a record keeps it.
    pub fn pod(&self, path: &CgroupPath) -> PodCgroup {
        let systemd = match &self.driver {
            // A pod of the other driver stays what it was made as.
            Driver::Systemd { systemd, .. } if sandbox_of(path.name()).is_some() => {
                Some(systemd.clone())
            }
            _ => None,
        };
        PodCgroup { group: Group::new(&self.tree, path.clone()), systemd }
    }

    /// Keeps the place where shims are made, until the shim of a new sandbox is in it. `pause` is the pause
    /// program. Nothing to do under the cgroupfs driver. Blocks.
    ///
    /// # Errors
    /// [`CgroupError::Systemd`].
    pub fn seat(&self, pause: BorrowedFd<'_>) -> Result<Seat, CgroupError> {
        match &self.driver {
            Driver::Cgroupfs => Ok(Seat::free()),
            Driver::Systemd { shims, .. } => shims.seat(pause),
        }
    }

    /// The cgroup of a sandbox's shim.
    pub fn shim(&self, id: &SandboxId) -> Leaf {
        let cgroupfs = self.own(SHIMS, id);
        match &self.driver {
            Driver::Systemd { shims, .. } if !cgroupfs.exists() => {
                Leaf::new(&self.tree, shims.path().child(id.as_str()), Above::Required)
            }
            Driver::Cgroupfs if !cgroupfs.exists() => {
                let scope = Leaf::new(&self.tree, shim_scope().child(id.as_str()), Above::Required);
                if scope.exists() { scope } else { cgroupfs }
            }
            _ => cgroupfs,
        }
    }

    /// The cgroup of a sandbox's helpers.
    pub fn helpers(&self, id: &SandboxId) -> Leaf {
        self.own(HELPERS, id)
    }

    /// The cgroup of a container that belongs to no pod; those above it are made with it.
    pub fn container(&self, path: &CgroupPath) -> Leaf {
        Leaf::new(&self.tree, path.clone(), Above::Domain)
    }

    /// The scope at `path` of a container that belongs to no pod, whoever makes other cgroups.
    ///
    /// # Errors
    /// [`CgroupError::Systemd`] outside of an asynchronous runtime.
    pub fn scope(&self, path: &CgroupPath) -> Result<Scope, CgroupError> {
        let systemd = match &self.driver {
            Driver::Systemd { systemd, .. } => systemd.clone(),
            Driver::Cgroupfs => Systemd::new()?,
        };
        Ok(Scope::new(&self.tree, path.clone(), systemd))
    }

    /// The ids that have a cgroup of a shim or of helpers: for recovery.
    pub fn owned_sandboxes(&self) -> Vec<SandboxId> {
        let mut ids = Vec::new();
        let top = |path: &str| CgroupPath::root().child(path.trim_start_matches('/'));
        for top in [top(SHIMS), top(HELPERS), shim_scope()] {
            // A folder that is missing or unreadable holds nothing to recover.
            for entry in
                std::fs::read_dir(top.below(self.tree.root())).into_iter().flatten().flatten()
            {
                let name = entry.file_name();
                ids.extend(name.to_str().and_then(|name| SandboxId::parse(name).ok()));
            }
        }
        ids.sort();
        ids.dedup();
        ids
    }

    /// The scopes of pods below any slice, where systemd makes them: for recovery.
    pub fn scopes(&self) -> Vec<(SandboxId, PodCgroup)> {
        let mut found = Vec::new();
        if matches!(self.driver, Driver::Cgroupfs) {
            return found;
        }
        let mut slices = vec![CgroupPath::root()];
        while let Some(slice) = slices.pop() {
            let folder = slice.below(self.tree.root());
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let name = entry.file_name();
                let Some(name) = name.to_str() else { continue };
                if is_slice(name) {
                    slices.push(slice.child(name));
                } else if let Some(id) = sandbox_of(name) {
                    found.push((id, self.pod(&slice.child(name))));
                }
            }
        }
        found
    }

    fn own(&self, top: &str, id: &SandboxId) -> Leaf {
        let root = CgroupPath::root();
        let path = root.child(top.trim_start_matches('/')).child(id.as_str());
        Leaf::new(&self.tree, path, Above::Made)
    }
}

/// Where the shims are under the systemd driver.
fn shim_scope() -> CgroupPath {
    CgroupPath::root().child(SHIM_SLICE).child(SHIM_SCOPE)
}

#[cfg(test)]
#[path = "kernel_tests.rs"]
mod tests;
