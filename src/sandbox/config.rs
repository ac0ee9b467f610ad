//! What RunPodSandbox asks for, validated.

use crate::cgroups::Resources;
use crate::idmap::IdMaps;
use crate::selinux;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

/// A seccomp or AppArmor profile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// berth's own.
    RuntimeDefault,
    /// None.
    Unconfined,
    /// A file (seccomp) or a loaded profile's name (AppArmor).
    Localhost(String),
}

/// Who a sandbox is: the four together name it, and only one may exist at a time.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SandboxMetadata {
    /// The pod's name.
    pub name: String,
    /// The pod's uid.
    pub uid: String,
    /// The pod's namespace.
    pub namespace: String,
    /// How many sandboxes this pod had before.
    pub attempt: u32,
}

impl SandboxMetadata {
    /// `name_namespace_uid_attempt`, the reservation key.
    pub fn reservation(&self) -> String {
        format!("{}_{}_{}_{}", self.name, self.namespace, self.uid, self.attempt)
    }
}

/// The whole request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxConfig {
    /// Name, uid, namespace, attempt.
    pub metadata: SandboxMetadata,
    /// The pod's hostname; empty: the host's.
    pub hostname: String,
    /// Where container logs go; `None`: nowhere.
    pub log_directory: Option<PathBuf>,
    /// DNS settings; `None`: the host's resolv.conf.
    pub dns: Option<DnsConfig>,
    /// Ports to map from the host.
    pub port_mappings: Vec<PortMapping>,
    /// Labels, for filters.
    pub labels: BTreeMap<String, String>,
    /// Annotations, handed through.
    pub annotations: BTreeMap<String, String>,
    /// The parent cgroup as given: a cgroupfs path or a `*.slice` name; `None`: berth's own.
    pub cgroup_parent: Option<String>,
    /// Which namespaces the pod has of its own.
    pub namespaces: SandboxNamespaces,
    /// The ids of the pod's user namespace; `None`: the host's. Not written when there is none, so
    /// that requests of before have the same hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub userns: Option<IdMaps>,
    /// Whom pause runs as, by ids of the pod's user namespace; `None`: its root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<PodUser>,
    /// Whether containers of this pod may be privileged.
    pub privileged: bool,
    /// The seccomp profile of pause; `None`: unconfined. Containers have their own.
    #[serde(default)]
    pub seccomp: Option<Profile>,
    /// The parts of the pod's SELinux label that are asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selinux: Option<selinux::Options>,
    /// Kernel parameters, namespaced ones only.
    pub sysctls: BTreeMap<String, String>,
    /// What the pod itself costs beside its containers.
    pub overhead: Option<Resources>,
    /// Pod-level resources.
    pub resources: Option<Resources>,
}

/// A user and its groups.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodUser {
    /// The user.
    pub uid: u32,
    /// The primary group.
    pub gid: u32,
    /// All groups: the primary one first.
    pub groups: Vec<u32>,
}

/// resolv.conf, field by field.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsConfig {
    /// `nameserver` lines.
    pub servers: Vec<String>,
    /// The `search` line.
    pub searches: Vec<String>,
    /// The `options` line.
    pub options: Vec<String>,
}

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// One port of the pod that the host forwards. Mappings without a host port are dropped on entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortMapping {
    /// The protocol.
    pub protocol: Protocol,
    /// The port inside the pod, 1 to 65535.
    pub container_port: u16,
    /// The port on the host, 1 to 65535.
    pub host_port: u16,
    /// The host address; `None`: every one.
    pub host_ip: Option<IpAddr>,
}

/// Whose namespace a pod uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PodNamespace {
    /// One of its own, held by pause.
    Pod,
    /// The host's.
    Node,
}

/// Whose pid namespace containers use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PidNamespace {
    /// One shared by the pod; pause is pid 1.
    Pod,
    /// One a container.
    Container,
    /// The host's.
    Node,
    /// That of another container of the pod (only in a container's own request).
    Target(String),
}

/// The pod's namespaces. uts follows net: the host's with a host network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxNamespaces {
    /// Network (and uts).
    pub network: PodNamespace,
    /// System V IPC, POSIX queues and /dev/shm.
    pub ipc: PodNamespace,
    /// The pod's default for its containers.
    pub pid: PidNamespace,
}
