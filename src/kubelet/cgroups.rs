//! The cgroups of a kubelet: `kubepods/{burstable,besteffort}/pod<uid>`, with guaranteed pods directly below
//! `kubepods`. A sandbox's own cgroup is made below its pod's by the runtime.
//!
//! A class gets the CPU of what its pods ask for together; a pod its own requests and limits.

use super::qos::{Qos, qos};
use super::request::{pod_resources, qos_shares};
use super::spec::uid;
use crate::cgroups::{CgroupError, CgroupPath, Cgroups, Limit, Resources};
use crate::cri::proto;
use crate::error::ErrorKind;
use crate::lock::lock;
use k8s_openapi::api::core::v1::Pod;
use std::collections::BTreeMap;
use std::sync::Mutex;

/// A cgroup of a pod or a class that cannot be made or removed.
#[derive(Debug, thiserror::Error)]
#[error("{operation} the cgroup of {subject}")]
pub struct QosError {
    operation: &'static str,
    subject: String,
    #[source]
    source: Box<CgroupError>,
}

impl QosError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        self.source.kind()
    }
}

/// The cgroups of all pods.
#[derive(Debug)]
pub struct QosCgroups {
    cgroups: Cgroups,
    root: String,
    /// The CPU shares of the burstable pods, by uid.
    burstable: Mutex<BTreeMap<String, u64>>,
}

impl QosCgroups {
    /// Below `root`: `kubepods`, or a path that ends so.
    pub fn new(cgroups: Cgroups, root: &str) -> Self {
        Self { cgroups, root: root.trim_matches('/').to_owned(), burstable: Mutex::default() }
    }

    /// A pod's cgroup, as its sandbox's parent.
    pub fn parent(&self, pod: &Pod) -> String {
        let class = class(qos(pod));
        if self.cgroups.is_systemd() {
            // Dashes are levels.
            let root = self.root.replace('/', "-");
            let class = class.map(|class| format!("-{class}")).unwrap_or_default();
            return format!("{root}{class}-pod{}.slice", uid(pod).replace('-', "_"));
        }
        let class = class.map(|class| format!("/{class}")).unwrap_or_default();
        format!("/{}{class}/pod{}", self.root, uid(pod))
    }

    /// Makes a pod's cgroup, and counts it in its class.
    ///
    /// # Errors
    /// [`QosError`].
    pub fn make(&self, pod: &Pod) -> Result<(), QosError> {
        let resources = pod_resources(pod);
        if qos(pod) == Qos::Burstable {
            let shares = u64::try_from(resources.cpu_shares).unwrap_or(0);
            lock(&self.burstable).insert(uid(pod).to_owned(), shares);
        }
        self.weigh_class(qos(pod))?;
        self.apply(&self.parent(pod), &limits(&resources), || format!("pod {}", uid(pod)))
    }

    /// Takes a pod out of its class. Its cgroup went with its sandbox, if there ever was one.
    ///
    /// # Errors
    /// [`QosError`]: the class's share cannot be set, or the cgroup cannot be removed.
    pub fn remove(&self, pod: &Pod) -> Result<(), QosError> {
        if !self.cgroups.is_systemd() {
            let gone = CgroupPath::parse(&self.parent(pod))
                .and_then(|path| self.cgroups.remove_parent(&path));
            gone.map_err(|source| QosError {
                operation: "remove",
                subject: format!("pod {}", uid(pod)),
                source: Box::new(source),
            })?;
        }
        let counted = lock(&self.burstable).remove(uid(pod)).is_some();
        let others = !lock(&self.burstable).is_empty();
        if counted && others { self.weigh_class(Qos::Burstable) } else { Ok(()) }
    }

    fn weigh_class(&self, of: Qos) -> Result<(), QosError> {
        let Some(name) = class(of) else { return Ok(()) };
        let shares = match of {
            Qos::Burstable => lock(&self.burstable).values().sum::<u64>().clamp(2, 262_144),
            Qos::BestEffort | Qos::Guaranteed => qos_shares(0),
        };
        let resources = Resources { cpu_shares: Some(shares), ..Resources::default() };
        self.apply(&format!("/{}/{name}", self.root), &resources, || format!("class {name}"))
    }

    fn apply(
        &self,
        path: &str,
        resources: &Resources,
        subject: impl Fn() -> String,
    ) -> Result<(), QosError> {
        if self.cgroups.is_systemd() {
            return Ok(());
        }
        let made =
            CgroupPath::parse(path).and_then(|path| self.cgroups.make_parent(&path, resources));
        made.map_err(|source| QosError {
            operation: "make",
            subject: subject(),
            source: Box::new(source),
        })
    }
}

/// The folder of a class.
fn class(qos: Qos) -> Option<&'static str> {
    match qos {
        Qos::Guaranteed => None,
        Qos::Burstable => Some("burstable"),
        Qos::BestEffort => Some("besteffort"),
    }
}

/// What CRI counts as 0 is not asked for.
fn limits(resources: &proto::LinuxContainerResources) -> Resources {
    let some = |value: i64| u64::try_from(value).ok().filter(|value| *value > 0);
    Resources {
        cpu_shares: some(resources.cpu_shares),
        cpu_quota: some(resources.cpu_quota).map(Limit::Value),
        cpu_period: some(resources.cpu_quota).and(some(resources.cpu_period)),
        memory_limit: some(resources.memory_limit_in_bytes).map(Limit::Value),
        ..Resources::default()
    }
}
