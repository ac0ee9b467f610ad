//! `[kubelet]`: with it, berth takes pods itself.

use super::eviction::{Eviction, ImageGc};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// Whether containers may swap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SwapBehavior {
    /// No container does.
    #[default]
    NoSwap,
    /// Containers of burstable pods do, in proportion to the memory that they ask for.
    LimitedSwap,
}

/// How long pods of a priority may take to end when the node is shut down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShutdownGrace {
    /// From this priority on, up to that of the next.
    pub priority: i32,
    /// Seconds.
    pub seconds: u64,
}

/// What of the node is held to its limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Enforced {
    /// All pods together: to what is not reserved.
    Pods,
    /// `system_reserved_cgroup`: to `system_reserved`.
    SystemReserved,
    /// `kube_reserved_cgroup`: to `kube_reserved`.
    KubeReserved,
    /// The same of its CPU alone.
    SystemReservedCompressible,
    /// The same of its CPU alone.
    KubeReservedCompressible,
}

/// `[kubelet]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Kubelet {
    /// A KubeletConfiguration of `kubelet.config.k8s.io/v1beta1`, for what is not set here.
    pub config_file: Option<PathBuf>,
    /// A folder of manifests; none: no such source.
    pub manifest_dir: Option<PathBuf>,
    /// An address that manifests are fetched from; none: no such source.
    pub manifest_url: Option<String>,
    /// Headers of those requests.
    pub manifest_url_headers: BTreeMap<String, String>,
    /// How often the folder is read without a reason, seconds.
    pub file_check_seconds: u64,
    /// How often manifests are fetched, seconds.
    pub http_check_seconds: u64,
    /// The node's name; none: the host's, in lower case.
    pub node_name: Option<String>,
    /// The node's addresses; empty: those of its interfaces.
    pub node_ips: Vec<IpAddr>,
    /// The socket of another CRI runtime that runs the pods; none: berth itself.
    pub runtime_endpoint: Option<PathBuf>,
    /// The folder of the pods' logs.
    pub pod_logs_dir: PathBuf,
    /// The folder of links to them, by container.
    pub container_logs_dir: PathBuf,
    /// The folder of seccomp profiles that pods name.
    pub seccomp_dir: PathBuf,
    /// The cgroup below which pods are; empty: the runtime's choice.
    pub cgroup_root: String,
    /// What of the node is held to its limits.
    pub enforce_node_allocatable: Vec<Enforced>,
    /// What the system keeps for itself: quantities of `cpu`, `memory`, `ephemeral-storage`, `pid`.
    pub system_reserved: BTreeMap<String, String>,
    /// What the runtime and the kubelet half keep for themselves, as above.
    pub kube_reserved: BTreeMap<String, String>,
    /// The cgroup of the system, which exists; none: it is not held to anything.
    pub system_reserved_cgroup: Option<String>,
    /// The cgroup of the runtime, which exists; none: it is not held to anything.
    pub kube_reserved_cgroup: Option<String>,
    /// The most processes of a pod; none: as many as the kernel allows.
    pub pod_pids_limit: Option<u64>,
    /// Whether memory that is asked for is kept, and who takes much more is slowed down.
    pub memory_qos: bool,
    /// From how much on of what is between request and limit, percent.
    pub memory_throttling_percent: u64,
    /// Whether containers may swap.
    pub swap_behavior: SwapBehavior,
    /// Whether a node with swap is an error.
    pub fail_swap_on: bool,
    /// Whether the kernel kills one process that uses too much memory, and not its whole container.
    pub single_process_oom_kill: bool,
    /// Whether containers that say nothing of seccomp have the runtime's profile.
    pub seccomp_default: bool,
    /// How long pods may take to end when the node is shut down, seconds; none: they end with it.
    pub shutdown_grace_seconds: Option<u64>,
    /// How much of that is for critical pods, which end last, seconds.
    pub shutdown_grace_critical_seconds: Option<u64>,
    /// The same by priorities, instead.
    pub shutdown_grace_by_priority: Vec<ShutdownGrace>,
    /// The servers of the cluster's DNS; empty: pods get the node's.
    pub cluster_dns: Vec<IpAddr>,
    /// The domain of the cluster.
    pub cluster_domain: String,
    /// The resolv.conf that pods get; none: the node's.
    pub resolv_conf: Option<PathBuf>,
    /// The most pods at a time.
    pub max_pods: u64,
    /// The most pods a CPU at a time; none: as many as `max_pods`.
    pub pods_per_core: Option<u64>,
    /// Sysctls that pods may set beside the safe ones; one that ends in `*` stands for all that begin so.
    pub allowed_unsafe_sysctls: Vec<String>,
    /// How many images are pulled at a time; none: all that are asked for.
    pub parallel_pulls: Option<usize>,
    /// How many pulls are begun a second; none: all that are asked for.
    pub pulls_per_second: Option<u64>,
    /// How many of them may be begun at once, after a time without.
    pub pulls_burst: u64,
    /// The longest back-off of containers that crash, seconds.
    pub crash_loop_max_seconds: u64,
    /// How often a pod is looked at without a reason, seconds.
    pub sync_seconds: u64,
    /// From which size on a container's log is rotated, bytes.
    pub container_log_max_bytes: u64,
    /// How many files there may be of one log, the written one counted.
    pub container_log_max_files: usize,
    /// How often logs are looked at, seconds.
    pub container_log_check_seconds: u64,
    /// Where the HTTP API is served with TLS; none: on its unix socket alone.
    pub http_address: Option<SocketAddr>,
    /// Its chain of certificates, PEM; none: one that berth signs itself.
    pub http_tls_cert: Option<PathBuf>,
    /// The certificate's private key, PEM.
    pub http_tls_key: Option<PathBuf>,
    /// The authorities of clients' certificates, PEM; none: no certificate counts.
    pub client_ca: Option<PathBuf>,
    /// The file of bearer tokens; none: no token counts.
    pub static_tokens: Option<PathBuf>,
    /// Whether who shows neither is let in as `system:anonymous`.
    pub anonymous: bool,
    /// Who may read of the HTTP API: `user:NAME`, `group:NAME`.
    pub readers: Vec<String>,
    /// Who may run commands through it.
    pub executors: Vec<String>,
    /// When pods have to make room.
    pub eviction: Eviction,
    /// When images have to.
    pub image_gc: ImageGc,
}

impl Default for Kubelet {
    fn default() -> Self {
        Self {
            config_file: None,
            manifest_dir: None,
            manifest_url: None,
            manifest_url_headers: BTreeMap::new(),
            file_check_seconds: 20,
            http_check_seconds: 20,
            node_name: None,
            node_ips: Vec::new(),
            runtime_endpoint: None,
            pod_logs_dir: "/var/log/pods".into(),
            container_logs_dir: "/var/log/containers".into(),
            seccomp_dir: "/var/lib/kubelet/seccomp".into(),
            cgroup_root: "kubepods".into(),
            enforce_node_allocatable: vec![Enforced::Pods],
            system_reserved: BTreeMap::new(),
            kube_reserved: BTreeMap::new(),
            system_reserved_cgroup: None,
            kube_reserved_cgroup: None,
            pod_pids_limit: None,
            memory_qos: false,
            memory_throttling_percent: 90,
            swap_behavior: SwapBehavior::NoSwap,
            fail_swap_on: false,
            single_process_oom_kill: false,
            seccomp_default: false,
            shutdown_grace_seconds: None,
            shutdown_grace_critical_seconds: None,
            shutdown_grace_by_priority: Vec::new(),
            cluster_dns: Vec::new(),
            cluster_domain: "cluster.local".into(),
            resolv_conf: None,
            max_pods: 110,
            pods_per_core: None,
            allowed_unsafe_sysctls: Vec::new(),
            parallel_pulls: None,
            pulls_per_second: None,
            pulls_burst: 10,
            crash_loop_max_seconds: 300,
            sync_seconds: 60,
            container_log_max_bytes: 10 << 20,
            container_log_max_files: 5,
            container_log_check_seconds: 10,
            http_address: None,
            http_tls_cert: None,
            http_tls_key: None,
            client_ca: None,
            static_tokens: None,
            anonymous: false,
            readers: vec!["group:system:masters".into()],
            executors: vec!["group:system:masters".into()],
            eviction: Eviction::default(),
            image_gc: ImageGc::default(),
        }
    }
}
