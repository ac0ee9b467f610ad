//! Every key of `config.toml`, its default and its unit. Unknown keys are refused.

use super::kubelet::Kubelet;
use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// The effective configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The gRPC socket.
    pub server: Server,
    /// Exec, attach and port-forward.
    pub streaming: Streaming,
    /// Where things are kept.
    pub paths: Paths,
    /// Control groups.
    pub cgroups: Cgroups,
    /// What processes get.
    pub process: Process,
    /// SELinux labels.
    pub selinux: Selinux,
    /// Runtime handlers beside the native executor, by name.
    pub runtimes: BTreeMap<String, Runtime>,
    /// Classes of block I/O, by name.
    pub blockio: BTreeMap<String, BlockIo>,
    /// The pod network.
    pub network: Network,
    /// Devices by CDI names.
    pub cdi: Cdi,
    /// Checkpoints of containers and pods.
    pub checkpoint: Checkpoint,
    /// Images.
    pub image: ImageConfig,
    /// The kubelet half; none: berth serves CRI alone.
    pub kubelet: Option<Kubelet>,
    /// The daemon's own log.
    pub log: Logging,
}

/// `[server]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// The unix socket that serves CRI v1.
    pub socket: PathBuf,
    /// The group that may connect beside root; none: root alone. The socket's mode is 0660.
    pub group: Option<String>,
    /// How long a stop waits for RPCs in flight, seconds.
    pub drain_seconds: u64,
}

impl Default for Server {
    fn default() -> Self {
        Self { socket: "/run/berth/berth.sock".into(), group: None, drain_seconds: 10 }
    }
}

/// `[streaming]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Streaming {
    /// Where the URLs of Exec, Attach and PortForward are served; port 0: a free one. The kubelet must reach it.
    pub address: SocketAddr,
    /// A chain of certificates, PEM; with it and the key the URLs are https.
    pub tls_cert: Option<PathBuf>,
    /// The certificate's private key, PEM.
    pub tls_key: Option<PathBuf>,
    /// After how long without a byte in either direction a session is ended, seconds.
    pub idle_timeout_seconds: u64,
    /// The keys by which a client at a container's terminal leaves it, as `ctrl-p,ctrl-q`; empty: none.
    pub detach_keys: String,
}

impl Default for Streaming {
    fn default() -> Self {
        Self {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            tls_cert: None,
            tls_key: None,
            idle_timeout_seconds: 4 * 3600,
            detach_keys: "ctrl-p,ctrl-q".into(),
        }
    }
}

/// `[paths]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Paths {
    /// Live state, on tmpfs.
    pub run: PathBuf,
    /// Images, writable layers and what outlives a boot, on disk.
    pub state: PathBuf,
    /// The folder that holds `berth-shim` and `berth-pause`; none: the folder of `berth` itself,
    /// else /usr/libexec/berth.
    pub libexec: Option<PathBuf>,
}

impl Default for Paths {
    fn default() -> Self {
        Self { run: "/run/berth".into(), state: "/var/lib/berth".into(), libexec: None }
    }
}

/// Whether what the host cannot do is an error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Enforce {
    /// An error that names the cause.
    #[default]
    Required,
    /// Left out, and told in `Status` and in inspect. For developer machines.
    BestEffort,
}

/// Who makes cgroups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CgroupDriver {
    /// berth itself, by mkdir.
    #[default]
    Cgroupfs,
    /// systemd, by transient scopes.
    Systemd,
}

/// `[cgroups]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cgroups {
    /// Who makes cgroups.
    pub driver: CgroupDriver,
    /// Whether a missing controller is an error.
    pub enforce: Enforce,
    /// Where cgroup v2 is mounted.
    pub root: PathBuf,
}

impl Default for Cgroups {
    fn default() -> Self {
        Self {
            driver: CgroupDriver::Cgroupfs,
            enforce: Enforce::Required,
            root: "/sys/fs/cgroup".into(),
        }
    }
}

/// `[process]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Process {
    /// Whether a lower oom_score_adj or a higher hard limit that the kernel refuses is an error.
    pub privileges: Enforce,
    /// RLIMIT_NOFILE of containers: soft.
    pub nofile_soft: u64,
    /// RLIMIT_NOFILE of containers: hard.
    pub nofile_hard: u64,
}

impl Default for Process {
    fn default() -> Self {
        Self { privileges: Enforce::Required, nofile_soft: 1024, nofile_hard: 524_288 }
    }
}

/// `[selinux]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Selinux {
    /// Whether pods get labels. Without, a request that asks for one is refused.
    pub enabled: bool,
    /// The type of processes.
    pub process_type: String,
    /// The type of processes of privileged containers.
    pub privileged_type: String,
    /// The type of the files that processes of pods may use.
    pub file_type: String,
    /// Pods get categories below this.
    pub category_range: u32,
}

impl Default for Selinux {
    fn default() -> Self {
        Self {
            enabled: false,
            process_type: "container_t".into(),
            privileged_type: "spc_t".into(),
            file_type: "container_file_t".into(),
            category_range: 1024,
        }
    }
}

/// `[runtimes.NAME]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Runtime {
    /// The program of an OCI runtime.
    pub path: PathBuf,
}

/// `[blockio.NAME]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BlockIo {
    /// The share of every device, 1 to 10000; the kernel's default is 100 (`io.weight`).
    pub weight: Option<u16>,
    /// Limits, each `DEVICE rbps=N wbps=N riops=N wiops=N`: a path or MAJOR:MINOR, bytes and operations
    /// a second (`io.max`).
    pub max: Vec<String>,
}

/// Which network pods get.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkMode {
    /// CNI plugins, by the first conflist.
    #[default]
    Cni,
    /// berth's own bridge.
    Builtin,
}

/// `[network]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Network {
    /// CNI plugins or berth's own bridge; never changed by itself.
    pub mode: NetworkMode,
    /// The folder of conflists; the first in lexical order is used.
    pub cni_conf_dir: PathBuf,
    /// From what a conflist is made when a kubelet tells the node's pod range; none: from nothing.
    pub cni_conf_template: Option<PathBuf>,
    /// Folders of plugin binaries, in order.
    pub cni_bin_dirs: Vec<PathBuf>,
    /// How long one plugin may take, seconds.
    pub cni_timeout_seconds: u64,
    /// The built-in bridge's interface name.
    pub bridge: String,
    /// Pod addresses of the built-in network; the first is the bridge's.
    pub subnet: Ipv4Net,
    /// IPv6 pod addresses of the built-in network; none: IPv4 alone.
    pub subnet6: Option<Ipv6Net>,
    /// The interface MTU of the built-in network, bytes.
    pub mtu: u32,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            mode: NetworkMode::Cni,
            cni_conf_dir: "/etc/cni/net.d".into(),
            cni_conf_template: None,
            cni_bin_dirs: vec!["/opt/cni/bin".into(), "/usr/lib/cni".into()],
            cni_timeout_seconds: 60,
            bridge: "berth0".into(),
            subnet: Ipv4Net::new_assert(Ipv4Addr::new(10, 88, 0, 0), 16),
            subnet6: None,
            mtu: 1500,
        }
    }
}

/// `[checkpoint]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Checkpoint {
    /// The program that dumps and restores processes; none: `criu` in the usual folders.
    pub criu: Option<PathBuf>,
}

/// `[cdi]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cdi {
    /// Folders of CDI specifications; a later one goes before an earlier one.
    pub dirs: Vec<PathBuf>,
}

impl Default for Cdi {
    fn default() -> Self {
        Self { dirs: vec!["/etc/cdi".into(), "/var/run/cdi".into()] }
    }
}

/// `[image]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImageConfig {
    /// Keeps compressed blobs after their layer was unpacked.
    pub keep_blobs: bool,
    /// Registries that are spoken to over plain HTTP, `host` or `host:port`.
    pub plain_http: Vec<String>,
    /// Names or globs of images that are never collected.
    pub pinned: Vec<String>,
    /// Folders of `<host>/hosts.toml`, in order.
    pub hosts_dirs: Vec<PathBuf>,
    /// docker's `config.json`, for credentials that a request does not bring; none: there are none.
    pub docker_config: Option<PathBuf>,
    /// Which images may be pulled, and who has to have signed them; none: all may.
    pub policy: Option<PathBuf>,
    /// How long a registry may send nothing, seconds.
    pub progress_timeout_seconds: u64,
    /// How many layers of one image are fetched at once.
    pub parallel_layers: usize,
    /// The largest unpacked size of a layer, bytes.
    pub max_layer_bytes: u64,
    /// The largest number of entries in a layer.
    pub max_layer_entries: u64,
}

impl Default for ImageConfig {
    fn default() -> Self {
        Self {
            keep_blobs: false,
            plain_http: Vec::new(),
            pinned: Vec::new(),
            hosts_dirs: vec!["/etc/berth/certs.d".into()],
            docker_config: None,
            policy: None,
            progress_timeout_seconds: 60,
            parallel_layers: 3,
            max_layer_bytes: 64 << 30,
            max_layer_entries: 4_000_000,
        }
    }
}

/// `[log]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Logging {
    /// `error`, `warn`, `info`, `debug`, `trace`, or a tracing filter.
    pub level: String,
    /// One JSON object a line instead of text.
    pub json: bool,
}

impl Default for Logging {
    fn default() -> Self {
        Self { level: "info".into(), json: false }
    }
}
