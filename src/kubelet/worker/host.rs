//! What all workers work with.

use super::pull_limits::PullLimits;
use crate::cri::client::Cri;
use crate::kubelet::board::Board;
use crate::kubelet::cgroups::QosCgroups;
use crate::kubelet::eviction::{EvictionTally, Pressure};
use crate::kubelet::http::{Pulse, Tallies};
use crate::kubelet::node::NodeFacts;
use crate::kubelet::objects::Objects;
use crate::kubelet::request::MemoryRules;
use crate::kubelet::shutdown::Group;
use crate::kubelet::spec::log_folder;
use crate::kubelet::userns::Ids;
use crate::kubelet::volumes::Volumes;
use crate::probes::Checker;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

/// What an operator can choose, as far as it concerns a single pod.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The folder of pods: their volumes and files, a folder each.
    pub pods: PathBuf,
    /// The folder of logs, as tools look for it: `/var/log/pods`.
    pub pod_logs: PathBuf,
    /// The folder of links to them by container: `/var/log/containers`.
    pub container_logs: PathBuf,
    /// The folder of the node's seccomp profiles.
    pub seccomp_profiles: PathBuf,
    /// Whether who says nothing of seccomp has the runtime's profile.
    pub seccomp_default: bool,
    /// What containers' memory means beside its limit.
    pub memory: MemoryRules,
    /// The longest back-off of containers that crash.
    pub crash_cap: Duration,
    /// The groups in which pods end before the node does; none: they do not.
    pub shutdown: Vec<Group>,
    /// How often a pod is looked at without a reason.
    pub sync: Duration,
    /// Sysctls that pods may set beside the safe ones.
    pub allowed_sysctls: Vec<String>,
    /// The DNS servers and the domain of the cluster; no servers: pods get the node's.
    pub dns: crate::kubelet::files::ClusterDns,
    /// The resolv.conf that pods get.
    pub resolv_conf: PathBuf,
}

/// What all workers work with.
pub struct Host {
    /// The runtime.
    pub cri: Arc<dyn Cri>,
    /// Its name.
    pub runtime: String,
    /// What an operator has chosen.
    pub settings: Settings,
    /// The node.
    pub node: NodeFacts,
    /// ConfigMaps, Secrets and Services, as they are now.
    pub objects: watch::Receiver<Arc<Objects>>,
    /// The cgroups of pods; none: the runtime's choice.
    pub cgroups: Option<QosCgroups>,
    /// The ids of pods with user namespaces.
    pub userns: Ids,
    /// The pods' volumes.
    pub volumes: Arc<Volumes>,
    /// How many images are pulled at once.
    pub pulls: PullLimits,
    /// What probes and hooks share.
    pub checker: Arc<Checker>,
    /// When the daemon began: what runs since before is not probed all at once.
    pub began: Instant,
    /// Statuses and events.
    pub board: Board,
    /// Whether the node is shutting down.
    pub shutting_down: watch::Sender<bool>,
    /// What probes came to.
    pub tallies: Tallies,
    /// Whether the loop of the kubelet half turns.
    pub pulse: Pulse,
    /// How many pods were evicted.
    pub evictions: EvictionTally,
    /// What of the node is short: `borrow()` it, or `subscribe()` to be told.
    pub pressure: watch::Sender<Pressure>,
    /// Every task of the kubelet half.
    pub tasks: TaskTracker,
}

impl Host {
    /// The folder of a pod's files.
    pub(in crate::kubelet) fn pod_dir(&self, uid: &str) -> PathBuf {
        self.settings.pods.join(uid)
    }

    /// The folder of a pod's logs.
    pub(in crate::kubelet) fn log_dir(&self, namespace: &str, name: &str, uid: &str) -> PathBuf {
        self.settings.pod_logs.join(log_folder(namespace, name, uid))
    }

    /// The link by which tools find a container's log.
    pub(in crate::kubelet) fn log_link(
        &self,
        pod: &str,
        namespace: &str,
        container: (&str, &str),
    ) -> PathBuf {
        let (name, id) = container;
        let link = format!("{pod}_{namespace}_{name}-{id}.log");
        self.settings.container_logs.join(link)
    }
}
