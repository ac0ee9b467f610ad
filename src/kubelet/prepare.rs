//! From the configuration to what all workers work with.

use super::board::Board;
use super::cgroups::{PodRules, QosCgroups, enforce_reserved};
use super::error::KubeletError;
use super::eviction::{EvictionTally, Pressure};
use super::files::ClusterDns;
use super::http::{Pulse, Tallies};
use super::node::NodeFacts;
use super::objects::Objects;
use super::request::MemoryRules;
use super::shutdown::groups;
use super::userns::Ids;
use super::volumes::Volumes;
use super::worker::{Host, PullLimits, Settings};
use crate::cgroups::{Cgroups, swap_bytes};
use crate::config::{self, Config};
use crate::cri::client::Cri;
use crate::probes::check::Checker;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

/// What there is already.
pub(super) struct Given {
    pub(super) config: Arc<Config>,
    pub(super) own: config::Kubelet,
    pub(super) cri: Arc<dyn Cri>,
    /// The runtime's name.
    pub(super) runtime: String,
    pub(super) objects: watch::Receiver<Arc<Objects>>,
    pub(super) tasks: TaskTracker,
}

/// Reads what the node is, and makes what all pods need of it. Blocking.
///
/// # Errors
/// The node is not fit for what is configured.
pub(super) fn prepare(given: Given) -> Result<Arc<Host>, KubeletError> {
    let Given { config, own, cri, runtime, objects, tasks } = given;
    let state = config.paths.state.join("kubelet");
    let pods = state.join("pods");
    let board = Board::open(state.join("status"))?;
    let node = NodeFacts::read(&own, &config.paths.state)?;
    if own.fail_swap_on {
        match swap_bytes().map_err(KubeletError::Swaps)? {
            0 => {}
            bytes => return Err(KubeletError::Swap { bytes }),
        }
    }
    let asks = [
        ("memory_qos", own.memory_qos),
        ("swap_behavior", own.swap_behavior == config::SwapBehavior::LimitedSwap),
    ];
    if let Some((key, _)) = asks.into_iter().find(|(_, asked)| *asked && node.legacy_cgroups) {
        return Err(KubeletError::LegacyCgroups { key });
    }
    let cgroups = Cgroups::open(&config.cgroups)?;
    enforce_reserved(&own, &cgroups)?;
    let rules = PodRules::new(&own, &node);
    let cgroups = match own.cgroup_root.as_str() {
        "" => None,
        root => Some(QosCgroups::new(cgroups, root, rules)),
    };
    cgroups.as_ref().map_or(Ok(()), QosCgroups::let_go)?;
    let userns = Ids::read(pods.clone())?;
    let checker = Arc::new(Checker::new(Arc::clone(&cri))?);
    let volumes = Volumes::new(pods.clone(), config.paths.run.join("kubelet/payload"));
    // After all that may refuse the node: what is mounted is given back by who is given the host.
    volumes.prepare_node()?;
    Ok(Arc::new(Host {
        cri,
        runtime,
        settings: settings(&own, pods),
        node,
        objects,
        cgroups,
        userns,
        volumes: Arc::new(volumes),
        pulls: PullLimits::new(&own),
        checker,
        began: Instant::now(),
        board,
        shutting_down: watch::Sender::new(false),
        tallies: Tallies::default(),
        pulse: Pulse::new(Instant::now()),
        evictions: EvictionTally::default(),
        pressure: watch::Sender::new(Pressure::default()),
        tasks,
    }))
}

/// What `own` says of single pods, whose files are in `pods`.
pub(super) fn settings(own: &config::Kubelet, pods: PathBuf) -> Settings {
    let resolv_conf = own.resolv_conf.clone().unwrap_or_else(|| "/etc/resolv.conf".into());
    Settings {
        pods,
        pod_logs: own.pod_logs_dir.clone(),
        container_logs: own.container_logs_dir.clone(),
        seccomp_profiles: own.seccomp_dir.clone(),
        seccomp_default: own.seccomp_default,
        memory: MemoryRules::new(own),
        crash_cap: Duration::from_secs(own.crash_loop_max_seconds),
        sync: Duration::from_secs(own.sync_seconds),
        shutdown: groups(own),
        allowed_sysctls: own.allowed_unsafe_sysctls.clone(),
        dns: ClusterDns {
            servers: own.cluster_dns.iter().map(ToString::to_string).collect(),
            domain: own.cluster_domain.clone(),
        },
        resolv_conf,
    }
}
