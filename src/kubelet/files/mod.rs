//! What a pod is told by files: its hosts, its name, its resolver. Texts are pure; [`replace_in_place`] writes one that
//! is mounted already, and [`read_resolv_conf`] finds the node's own.

mod dns;
mod hostname;
mod hosts;
mod resolv_conf;
mod write;

pub use dns::{ClusterDns, DnsResult, DnsWarning, dns};
pub use hostname::{HostnameError, PodHostname, pod_hostname};
pub use hosts::{hosts_mount, hosts_of_node, hosts_of_pod};
pub use resolv_conf::{ResolvConf, pick_resolv_conf, read_resolv_conf};
pub use write::{FileError, replace_in_place};
