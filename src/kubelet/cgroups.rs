//! The cgroups of a kubelet: `kubepods/{burstable,besteffort}/pod<uid>`, with guaranteed pods directly below
//! `kubepods`; with the systemd driver slices of the same names. A sandbox's own cgroup is made below its pod's by the
//! runtime.
//!
//! All pods together are held to what the node has for them; a class gets the CPU, and the memory that is kept, of
//! what its pods ask for together; a pod its own requests and limits. They go with the last pod, so that each new pod
//! sets what is above it anew; and every minute, what others may have changed.

use super::node::NodeFacts;
use super::qos::{Qos, qos};
use super::request::{MemoryRules, pod_resources, qos_shares};
use super::reserved::Reserved;
use super::spec::uid;
use super::wants::asked;
use super::worker::Host;
use crate::blocking;
use crate::cgroups::{CgroupError, CgroupPath, Cgroups, Limit, Resources};
use crate::config::{self, Enforced};
use crate::cri::proto;
use crate::error::{ErrorKind, chain};
use crate::lock::lock;
use k8s_openapi::api::core::v1::Pod;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tracing::warn;

/// How often what is above pods is set again.
const AGAIN: Duration = Duration::from_secs(60);

/// The file of the memory that is kept.
const KEPT: &str = "memory.min";
/// What it is kept for, in errors.
const ABOVE: &str = "what is above pods";

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
    fn new(
        operation: &'static str,
        subject: impl Into<String>,
    ) -> impl FnOnce(CgroupError) -> Self {
        let subject = subject.into();
        move |source| Self { operation, subject, source: Box::new(source) }
    }

    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        self.source.kind()
    }
}

/// What holds for all pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodRules {
    /// The limits of all pods together.
    together: Resources,
    /// The most processes of a pod.
    pids: Option<u64>,
    /// What memory means beside its limit.
    memory: MemoryRules,
}

impl PodRules {
    /// As configured, on this node.
    pub fn new(config: &config::Kubelet, node: &NodeFacts) -> Self {
        let pods = config.enforce_node_allocatable.contains(&Enforced::Pods);
        let left = &node.for_pods;
        let together = Reserved {
            cpu_milli: left.cpu_milli,
            memory_bytes: left.memory_bytes,
            pids: left.pids,
            ..Reserved::default()
        };
        Self {
            together: if pods { held_to(together) } else { Resources::default() },
            pids: config.pod_pids_limit,
            memory: MemoryRules::new(config),
        }
    }
}

/// The limits of a cgroup that may use so much; what is nothing is no limit.
fn held_to(amounts: Reserved) -> Resources {
    let some = |amount: u64| Some(amount).filter(|amount| *amount > 0);
    Resources {
        cpu_shares: some(amounts.cpu_milli).map(qos_shares),
        memory_limit: some(amounts.memory_bytes).map(Limit::Value),
        // Without it a limit of memory would be one of swap, too.
        memory_swap_limit: some(amounts.memory_bytes).map(|_| Limit::Max),
        pids_limit: some(amounts.pids).map(Limit::Value),
        ..Resources::default()
    }
}

/// Holds the system and the runtime to what is reserved for them, where that is asked for. Blocking.
///
/// # Errors
/// Their cgroup is not there, or does not take the limits.
pub fn enforce_reserved(config: &config::Kubelet, cgroups: &Cgroups) -> Result<(), QosError> {
    let has = |what| config.enforce_node_allocatable.contains(&what);
    let rows = [
        (
            "the system",
            &config.system_reserved_cgroup,
            &config.system_reserved,
            (has(Enforced::SystemReserved), has(Enforced::SystemReservedCompressible)),
        ),
        (
            "the runtime",
            &config.kube_reserved_cgroup,
            &config.kube_reserved,
            (has(Enforced::KubeReserved), has(Enforced::KubeReservedCompressible)),
        ),
    ];
    for (whose, group, reserved, (all, cpu_alone)) in rows {
        let Some(group) = group.as_ref().filter(|_| all || cpu_alone) else { continue };
        let all_of_it = Reserved::parse(reserved);
        let amounts = match all {
            true => all_of_it,
            false => Reserved { cpu_milli: all_of_it.cpu_milli, ..Reserved::default() },
        };
        let limited =
            CgroupPath::parse(group).and_then(|path| cgroups.limit(&path, &held_to(amounts)));
        limited.map_err(QosError::new("limit", whose))?;
    }
    Ok(())
}

/// Sets what is above pods again from time to time.
pub async fn keep_enforced(host: Arc<Host>) {
    loop {
        tokio::time::sleep(AGAIN).await;
        let of = Arc::clone(&host);
        let set = blocking::run("set the limits of all pods", move || {
            of.cgroups.as_ref().map_or(Ok(()), QosCgroups::refresh)
        });
        match set.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(error = %chain(&error), "limits of all pods are not set"),
            Err(error) => warn!(%error, "limits of all pods are not set"),
        }
    }
}

/// What a pod asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Asks {
    class: Qos,
    shares: u64,
    memory: u64,
}

/// The cgroups of all pods.
#[derive(Debug)]
pub struct QosCgroups {
    cgroups: Cgroups,
    root: String,
    rules: PodRules,
    /// What the pods ask for, by uid.
    asks: Mutex<BTreeMap<String, Asks>>,
    /// Held from a sum of them until it is set: an older sum is never set after a newer one.
    setting: Mutex<()>,
}

impl QosCgroups {
    /// Below `root`: `kubepods`, or a path that ends so.
    pub fn new(cgroups: Cgroups, root: &str, rules: PodRules) -> Self {
        let root = root.trim_matches('/').to_owned();
        Self { cgroups, root, rules, asks: Mutex::default(), setting: Mutex::default() }
    }

    /// The path of a cgroup below the root: by its class and its last name.
    fn path(&self, class: Option<&str>, last: Option<&str>) -> String {
        let names = class.into_iter().chain(last);
        if self.cgroups.is_systemd() {
            // Dashes are levels.
            let root = self.root.replace('/', "-");
            let name = names.fold(root, |path, name| format!("{path}-{}", name.replace('-', "_")));
            return format!("{name}.slice");
        }
        names.fold(format!("/{}", self.root), |path, name| format!("{path}/{name}"))
    }

    /// A pod's cgroup, as its sandbox's parent.
    pub fn parent(&self, pod: &Pod) -> String {
        self.path(class(qos(pod)), Some(&format!("pod{}", uid(pod))))
    }

    /// Counts a pod in its class, also one whose sandbox is there already.
    pub fn count(&self, pod: &Pod) {
        let resources = pod_resources(pod, self.rules.memory);
        let shares = u64::try_from(resources.cpu_shares).unwrap_or(0);
        let asks = Asks { class: qos(pod), shares, memory: asked(pod).memory_bytes };
        lock(&self.asks).insert(uid(pod).to_owned(), asks);
    }

    /// Makes a pod's cgroup, and counts it in its class. Blocking.
    ///
    /// # Errors
    /// [`QosError`].
    pub fn make(&self, pod: &Pod) -> Result<(), QosError> {
        self.count(pod);
        let resources = self.of_pod(pod);
        let made = self
            .place(&self.parent(pod))
            .and_then(|path| self.cgroups.make_parent(&path, &resources));
        made.map_err(QosError::new("make", format!("pod {}", uid(pod))))?;
        // After it: what is above a pod does not go while there is one.
        let _setting = lock(&self.setting);
        self.weigh_class(qos(pod))?;
        self.limit_root()
    }

    fn of_pod(&self, pod: &Pod) -> Resources {
        let resources = limits(&pod_resources(pod, self.rules.memory));
        Resources { pids_limit: self.rules.pids.map(Limit::Value), ..resources }
    }

    fn keep_memory(
        &self,
        path: &CgroupPath,
        resources: &mut Resources,
        bytes: u64,
    ) -> Result<(), QosError> {
        // What keeps nothing need not have the file: not without a pod, under systemd.
        if self.rules.memory.keeps() && (bytes > 0 || self.is_kept(path)?) {
            resources.unified.insert(KEPT.to_owned(), bytes.to_string());
        }
        Ok(())
    }

    /// Whether a cgroup keeps memory.
    fn is_kept(&self, path: &CgroupPath) -> Result<bool, QosError> {
        let kept = self.cgroups.read(path, KEPT).map_err(QosError::new("look at", ABOVE))?;
        Ok(kept.is_some_and(|bytes| bytes != "0"))
    }

    /// Lets go of the memory that an earlier run has kept above pods, if it is to be kept no more. Once, at the start.
    /// Blocking.
    ///
    /// # Errors
    /// [`QosError`].
    pub fn let_go(&self) -> Result<(), QosError> {
        if self.rules.memory.keeps() {
            return Ok(());
        }
        let _setting = lock(&self.setting);
        let root = self.above(None)?;
        let mut all = self.cgroups.made_above(&root).map_err(QosError::new("limit", ABOVE))?;
        all.push(root);
        for of in [Qos::Burstable, Qos::BestEffort] {
            all.push(self.above(class(of))?);
        }
        let unified = [(KEPT.to_owned(), "0".to_owned())].into();
        let nothing = Resources { unified, ..Resources::default() };
        for path in all {
            if self.is_kept(&path)? {
                self.limit(&path, &nothing, ABOVE)?;
            }
        }
        Ok(())
    }

    /// Takes a pod out of its class. Its cgroup went with its sandbox, if there ever was one and it is no slice.
    /// Blocking.
    ///
    /// # Errors
    /// [`QosError`]: the class's share cannot be set, or the cgroup cannot be removed.
    pub fn remove(&self, pod: &Pod) -> Result<(), QosError> {
        let name = format!("pod{}", uid(pod));
        // A pod of which only containers are known is not known by its class.
        for of in [Qos::Guaranteed, Qos::Burstable, Qos::BestEffort] {
            let path = CgroupPath::parse(&self.path(class(of), Some(&name)));
            let gone = path.and_then(|path| self.cgroups.remove_parent(&path));
            gone.map_err(QosError::new("remove", format!("pod {}", uid(pod))))?;
        }
        lock(&self.asks).remove(uid(pod));
        self.refresh()
    }

    /// Sets what is above pods, where it is, also when there is no pod any more: what was kept for the last one is to go.
    /// Blocking.
    ///
    /// # Errors
    /// [`QosError`], after all was tried.
    pub fn refresh(&self) -> Result<(), QosError> {
        let _setting = lock(&self.setting);
        let burstable = self.weigh_class(Qos::Burstable);
        let best_effort = self.weigh_class(Qos::BestEffort);
        burstable.and(best_effort).and(self.limit_root())
    }

    /// With `setting` held.
    fn weigh_class(&self, of: Qos) -> Result<(), QosError> {
        let Some(name) = class(of) else { return Ok(()) };
        let (shares, memory) = self.sum(|asks| asks.class == of);
        let shares = match of {
            Qos::Burstable => shares.clamp(2, 262_144),
            Qos::BestEffort | Qos::Guaranteed => qos_shares(0),
        };
        // A share is for pods; those of the last run may not be counted yet.
        let has_pods = lock(&self.asks).values().any(|asks| asks.class == of);
        let cpu_shares = has_pods.then_some(shares);
        let mut resources = Resources { cpu_shares, ..Resources::default() };
        let path = self.above(Some(name))?;
        self.keep_memory(&path, &mut resources, memory)?;
        self.limit(&path, &resources, &format!("class {name}"))
    }

    /// With `setting` held.
    fn limit_root(&self) -> Result<(), QosError> {
        let mut resources = self.rules.together.clone();
        let (_, memory) = self.sum(|_| true);
        let root = self.above(None)?;
        self.keep_above(&root, memory)?;
        self.keep_memory(&root, &mut resources, memory)?;
        match self.limit(&root, &resources, "all pods") {
            // Pods of before have more than they may: they are not ended for it, and it is tried again.
            Err(error) if matches!(*error.source, CgroupError::Conflict { .. }) => {
                warn!(error = %chain(&error), "all pods together are not held to their limits yet");
                Ok(())
            }
            result => result,
        }
    }

    /// Keeps the memory of all pods also where berth has made cgroups above theirs: what they keep counts for nothing in
    /// one that keeps less.
    fn keep_above(&self, root: &CgroupPath, bytes: u64) -> Result<(), QosError> {
        if !self.rules.memory.keeps() {
            return Ok(());
        }
        for path in self.cgroups.made_above(root).map_err(QosError::new("limit", ABOVE))? {
            let mut resources = Resources::default();
            self.keep_memory(&path, &mut resources, bytes)?;
            self.limit(&path, &resources, ABOVE)?;
        }
        Ok(())
    }

    /// The shares and the memory that pods ask for together.
    fn sum(&self, counts: impl Fn(&Asks) -> bool) -> (u64, u64) {
        let asks = lock(&self.asks);
        asks.values().filter(|asks| counts(asks)).fold((0, 0), |(shares, memory), asks| {
            (shares.saturating_add(asks.shares), memory.saturating_add(asks.memory))
        })
    }

    /// Where a cgroup of [`Self::path`] is in the hierarchy.
    fn place(&self, path: &str) -> Result<CgroupPath, CgroupError> {
        match self.cgroups.is_systemd() {
            true => CgroupPath::of_slice(Some(path)),
            false => CgroupPath::parse(path),
        }
    }

    /// The cgroup of a class; none: of all pods.
    fn above(&self, class: Option<&str>) -> Result<CgroupPath, QosError> {
        self.place(&self.path(class, None)).map_err(QosError::new("limit", ABOVE))
    }

    /// Sets limits above pods. Where there is nothing, there is no pod either.
    fn limit(
        &self,
        path: &CgroupPath,
        resources: &Resources,
        subject: &str,
    ) -> Result<(), QosError> {
        match self.cgroups.limit(path, resources) {
            Err(_) if !self.cgroups.exists(path) => Ok(()),
            result => result.map_err(QosError::new("limit", subject)),
        }
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
        memory_swap_limit: (resources.memory_swap_limit_in_bytes < 0).then_some(Limit::Max),
        unified: resources.unified.clone(),
        ..Resources::default()
    }
}

#[cfg(test)]
#[path = "cgroups_tests.rs"]
mod tests;
