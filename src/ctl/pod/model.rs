//! The supported part of a Pod.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

/// A pod, as far as its file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.namespace`; `default` when absent.
    pub namespace: String,
    /// `metadata.uid`; made when the pod is run if absent.
    pub uid: Option<String>,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// `metadata.annotations`.
    pub annotations: BTreeMap<String, String>,
    /// `spec.hostname`, else the name, at most 63 characters.
    pub hostname: String,
    /// `spec.hostNetwork`.
    pub host_network: bool,
    /// `spec.hostIPC`.
    pub host_ipc: bool,
    /// `spec.hostPID`.
    pub host_pid: bool,
    /// `spec.shareProcessNamespace`.
    pub share_pid: bool,
    /// `spec.hostAliases`.
    pub host_aliases: Vec<HostAlias>,
    /// Whether `spec.restartPolicy` is absent, where Kubernetes would restart.
    pub restart_policy_absent: bool,
    /// `spec.terminationGracePeriodSeconds`; 30 when absent.
    pub grace_seconds: u32,
    /// `spec.containers`.
    pub containers: Vec<Container>,
    /// `spec.volumes`.
    pub volumes: Vec<Volume>,
}

/// A further line of /etc/hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostAlias {
    /// The address.
    pub ip: IpAddr,
    /// Its names.
    pub hostnames: Vec<String>,
}

/// A container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Its name in the pod.
    pub name: String,
    /// Its image.
    pub image: String,
    /// When the image is pulled.
    pub pull: PullPolicy,
    /// Replaces the entrypoint.
    pub command: Vec<String>,
    /// Replaces the image's Cmd.
    pub args: Vec<String>,
    /// The working directory; empty: the image's.
    pub working_dir: String,
    /// The environment, in order, expanded.
    pub env: Vec<(String, String)>,
    /// Ports.
    pub ports: Vec<Port>,
    /// Requests and limits.
    pub resources: Requests,
    /// Where volumes appear.
    pub mounts: Vec<VolumeMount>,
    /// Whether stdin is open.
    pub stdin: bool,
    /// Whether there is a terminal.
    pub tty: bool,
}

/// When an image is pulled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PullPolicy {
    /// Each time.
    Always,
    /// When it is not here.
    #[default]
    IfNotPresent,
    /// Never; it must be here.
    Never,
}

/// A transport protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// A port of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// In the pod.
    pub container_port: u16,
    /// On the host; `None`: not forwarded.
    pub host_port: Option<u16>,
    /// The host's address; `None`: all.
    pub host_ip: Option<IpAddr>,
    /// The protocol.
    pub protocol: Protocol,
}

/// Requests and limits; `None`: not given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// Thousandths of a CPU.
    pub cpu_request: Option<u64>,
    /// Thousandths of a CPU.
    pub cpu_limit: Option<u64>,
    /// Bytes.
    pub memory_request: Option<u64>,
    /// Bytes.
    pub memory_limit: Option<u64>,
}

/// A volume of the pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Its name in the pod.
    pub name: String,
    /// What it is.
    pub source: VolumeSource,
}

/// What a volume is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VolumeSource {
    /// An empty folder that lives as long as the pod.
    EmptyDir,
    /// A path of the host.
    HostPath {
        /// The path.
        path: PathBuf,
        /// What must be there.
        kind: HostPathKind,
    },
}

/// What must be at a host path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostPathKind {
    /// Anything; a missing one becomes a folder.
    Any,
    /// A folder, made when missing.
    DirectoryOrCreate,
    /// A folder.
    Directory,
    /// A file, made when missing.
    FileOrCreate,
    /// A file.
    File,
    /// A socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

/// Where a volume appears in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeMount {
    /// The volume.
    pub volume: String,
    /// Where.
    pub path: PathBuf,
    /// Whether it cannot be written.
    pub read_only: bool,
    /// Whether mounts made on the host later appear.
    pub host_to_container: bool,
}
