//! What the engine asks of the network, and what it gets.

use crate::ids::SandboxId;
use crate::sandbox::config::{DnsConfig, PortMapping};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

/// The interface that a pod's network is on.
pub const POD_INTERFACE: &str = "eth0";

/// One pod to be attached.
#[derive(Clone, Debug)]
pub struct AttachRequest {
    /// The sandbox.
    pub sandbox: SandboxId,
    /// The network namespace by path, for plugins: its pin, or `/proc/<pid>/ns/net`.
    pub netns: PathBuf,
    /// The same network namespace, opened.
    pub netns_fd: Arc<OwnedFd>,
    /// The pod's name.
    pub name: String,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's uid.
    pub uid: String,
    /// The pod's hostname.
    pub hostname: String,
    /// Ports of the host that lead to the pod.
    pub port_mappings: Vec<PortMapping>,
    /// The pod's annotations; two of them limit its bandwidth.
    pub annotations: BTreeMap<String, String>,
    /// The pod's DNS settings.
    pub dns: Option<DnsConfig>,
    /// The pod's cgroup, for plugins with the capability `cgroupPath`.
    pub cgroup: Option<String>,
}

/// What a pod got.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// The pod's addresses, IPv4 first; the first is the one that CRI calls `ip`.
    pub ips: Vec<IpAddr>,
    /// The interface they are on.
    pub interface: String,
}

/// Why pods with a network of their own cannot run now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {message}")]
pub struct NotReady {
    /// The condition's reason: `NetworkPluginNotReady`.
    pub reason: String,
    /// What is missing and where it was looked for.
    pub message: String,
}

impl NotReady {
    /// The one reason that a kubelet knows.
    pub const REASON: &'static str = "NetworkPluginNotReady";

    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { reason: Self::REASON.to_owned(), message: message.into() }
    }
}
