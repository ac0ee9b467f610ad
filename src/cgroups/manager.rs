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

use super::group::Group;
use super::leaf::{Above, Leaf};
use super::limits::{Setting, plan_limits};
use super::path::{HELPERS, SHIMS};
use super::tree::Tree;
use super::{CgroupError, CgroupPath, Resources};
use crate::config;
use crate::ids::SandboxId;
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

/// The node's cgroups. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Cgroups {
    tree: Arc<Tree>,
}

impl Cgroups {
    /// Looks at the hierarchy; makes and changes nothing.
    ///
    /// # Errors
    /// [`CgroupError::NotCgroup2`]; [`CgroupError::MissingControllers`] unless best effort is
    /// configured; [`CgroupError::Unsupported`] for the systemd driver.
    pub fn open(config: &config::Cgroups) -> Result<Self, CgroupError> {
        if config.driver == config::CgroupDriver::Systemd {
            return Err(CgroupError::Unsupported { what: "the systemd cgroup driver" });
        }
        Ok(Self { tree: Arc::new(Tree::open(&config.root, config.enforce)?) })
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

    /// The parent cgroup of a pod as given; none: `/berth`.
    ///
    /// # Errors
    /// As [`CgroupPath::of_parent`].
    pub fn parent_path(&self, parent: Option<&str>) -> Result<CgroupPath, CgroupError> {
        CgroupPath::of_parent(parent)
    }

    /// Makes `<parent>/<id>` with all controllers for its leaves, and applies the pod's limits. Done
    /// already is success. On an error a pod's cgroup that was made stays for [`Group::remove`].
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
        let pod = self.pod(&parent.child(id.as_str()));
        self.tree.make_domain(pod.path())?;
        pod.apply(resources)?;
        Ok(pod)
    }

    /// A handle on the pod cgroup at `path`, as a record keeps it.
    pub fn pod(&self, path: &CgroupPath) -> PodCgroup {
        PodCgroup { group: Group::new(&self.tree, path.clone()) }
    }

    /// The cgroup of a sandbox's shim.
    pub fn shim(&self, id: &SandboxId) -> Leaf {
        self.own(SHIMS, id)
    }

    /// The cgroup of a sandbox's helpers.
    pub fn helpers(&self, id: &SandboxId) -> Leaf {
        self.own(HELPERS, id)
    }

    /// The cgroup of a container that belongs to no pod; those above it are made with it.
    pub fn container(&self, path: &CgroupPath) -> Leaf {
        Leaf::new(&self.tree, path.clone(), Above::Domain)
    }

    /// The ids that have a cgroup below `/berth-shims` or `/berth-helpers`: for recovery.
    pub fn owned_sandboxes(&self) -> Vec<SandboxId> {
        let mut ids = Vec::new();
        for top in [SHIMS, HELPERS] {
            let folder = self.tree.root().join(top.trim_start_matches('/'));
            // A folder that is missing or unreadable holds nothing to recover.
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let name = entry.file_name();
                ids.extend(name.to_str().and_then(|name| SandboxId::parse(name).ok()));
            }
        }
        ids.sort();
        ids.dedup();
        ids
    }

    fn own(&self, top: &str, id: &SandboxId) -> Leaf {
        let root = CgroupPath::root();
        let path = root.child(top.trim_start_matches('/')).child(id.as_str());
        Leaf::new(&self.tree, path, Above::Made)
    }
}

/// A handle on a pod's cgroup: holds no process itself, only leaves.
#[derive(Clone, Debug)]
pub struct PodCgroup {
    group: Group,
}

/// What can be done with any cgroup can be done with a pod's; the two differ in what else they may.
impl Deref for PodCgroup {
    type Target = Group;
    fn deref(&self) -> &Group {
        &self.group
    }
}

impl PodCgroup {
    /// The leaf `name` of the pod: `pause`, or a container's id.
    pub fn leaf(&self, name: &str) -> Leaf {
        Leaf::new(&self.group.tree, self.group.path.child(name), Above::Required)
    }
}

#[cfg(test)]
#[path = "kernel_tests.rs"]
mod tests;
