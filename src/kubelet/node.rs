//! What is known of the node, and what of it pods may use.

use super::reserved::Reserved;
use crate::config::{self, Signal};
use nix::ifaddrs::getifaddrs;
use nix::sys::statfs::CGROUP2_SUPER_MAGIC;
use nix::unistd::{SysconfVar, sysconf};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

/// Amounts of what a node has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    /// Thousandths of a CPU.
    pub cpu_milli: u64,
    /// Bytes.
    pub memory_bytes: u64,
    /// Bytes of node-local storage.
    pub ephemeral_storage_bytes: u64,
    /// Pods.
    pub pods: u64,
    /// Processes.
    pub pids: u64,
    /// Bytes of huge pages, by page size in bytes.
    pub hugepages: BTreeMap<u64, u64>,
}

/// More is reserved than there is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reserved} of {resource} are reserved, and the node has {capacity}")]
pub struct NodeError {
    resource: &'static str,
    reserved: u64,
    capacity: u64,
}

/// The node that pods run on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeFacts {
    /// Its name, lower case.
    pub name: String,
    /// Its addresses, the first of each family first.
    pub ips: Vec<IpAddr>,
    /// What it has.
    pub capacity: Amounts,
    /// What all pods together are held to: capacity less what is reserved.
    pub for_pods: Amounts,
    /// What pods may ask for: capacity less what is reserved and less the hard eviction thresholds.
    pub allocatable: Amounts,
    /// Whether the runtime of the pods has the older cgroup hierarchies, and refuses keys of the newer one.
    pub legacy_cgroups: bool,
}

/// Bytes in a kibibyte, the unit of /proc/meminfo.
const KIB: u64 = 1024;

impl NodeFacts {
    /// Reads what the node is and has. Blocking. `state` is on the file system that pods use.
    ///
    /// # Errors
    /// Nothing would be left for pods.
    pub fn read(config: &config::Kubelet, state: &Path) -> Result<Self, NodeError> {
        let name = config.node_name.clone().unwrap_or_else(|| {
            let name = nix::unistd::gethostname().unwrap_or_default();
            name.to_string_lossy().to_lowercase()
        });
        let ips = if config.node_ips.is_empty() { own_ips() } else { config.node_ips.clone() };
        let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        // All of them, whatever share of their time the daemon itself may have.
        let online = sysconf(SysconfVar::_NPROCESSORS_ONLN).ok().flatten();
        let cpus = online.and_then(|count| u64::try_from(count).ok()).unwrap_or(1);
        let of_cpus = config.pods_per_core.map(|each| each.saturating_mul(cpus));
        let capacity = Amounts {
            cpu_milli: cpus * 1000,
            memory_bytes: field(&memory, "MemTotal"),
            ephemeral_storage_bytes: size_of_file_system(state),
            pods: of_cpus.map_or(config.max_pods, |pods| pods.min(config.max_pods)),
            pids: most_pids(),
            hugepages: hugepages(Path::new("/sys/kernel/mm/hugepages")),
        };
        let for_pods = Reserved::of(config).taken_from(&capacity)?;
        let mut allocatable = for_pods.clone();
        let less = |left: &mut u64, signal, capacity| {
            *left = left.saturating_sub(config.eviction.hard_of(signal, capacity));
        };
        less(&mut allocatable.memory_bytes, Signal::MemoryAvailable, capacity.memory_bytes);
        // What is set aside for huge pages is no other memory's.
        let huge = capacity.hugepages.values().fold(0_u64, |sum, bytes| sum.saturating_add(*bytes));
        allocatable.memory_bytes = allocatable.memory_bytes.saturating_sub(huge);
        let storage = capacity.ephemeral_storage_bytes;
        less(&mut allocatable.ephemeral_storage_bytes, Signal::NodeFsAvailable, storage);
        // berth's own engine uses the newer hierarchy, wherever it is mounted; another runtime what it finds here.
        let other = config.runtime_endpoint.is_some();
        let legacy_cgroups = other && !is_unified(Path::new("/sys/fs/cgroup"));
        Ok(Self { name, ips, capacity, for_pods, allocatable, legacy_cgroups })
    }
}

/// A line of /proc/meminfo, in bytes.
fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0).saturating_mul(KIB)
}

impl Reserved {
    /// What is left of `capacity`.
    fn taken_from(&self, capacity: &Amounts) -> Result<Amounts, NodeError> {
        let less = |resource, capacity: u64, reserved: u64| {
            let error = NodeError { resource, reserved, capacity };
            capacity.checked_sub(reserved).ok_or(error)
        };
        Ok(Amounts {
            cpu_milli: less("cpu (thousandths)", capacity.cpu_milli, self.cpu_milli)?,
            memory_bytes: less("memory (bytes)", capacity.memory_bytes, self.memory_bytes)?,
            ephemeral_storage_bytes: less(
                "ephemeral-storage (bytes)",
                capacity.ephemeral_storage_bytes,
                self.ephemeral_storage_bytes,
            )?,
            pids: less("pid", capacity.pids, self.pids)?,
            ..capacity.clone()
        })
    }
}

/// The most processes that the kernel allows at a time.
fn most_pids() -> u64 {
    let number = |name: &str| {
        let text = std::fs::read_to_string(format!("/proc/sys/kernel/{name}")).ok()?;
        text.trim().parse::<u64>().ok()
    };
    number("pid_max").into_iter().chain(number("threads-max")).min().unwrap_or(0)
}

fn size_of_file_system(path: &Path) -> u64 {
    let stat = nix::sys::statvfs::statvfs(path);
    stat.map_or(0, |stat| stat.blocks().saturating_mul(stat.fragment_size()))
}

fn is_unified(path: &Path) -> bool {
    nix::sys::statfs::statfs(path).is_ok_and(|stat| stat.filesystem_type() == CGROUP2_SUPER_MAGIC)
}

/// Huge pages by their size, both in bytes: `hugepages-2048kB/nr_hugepages`.
fn hugepages(folder: &Path) -> BTreeMap<u64, u64> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let size = name.to_str().and_then(|n| n.strip_prefix("hugepages-")?.strip_suffix("kB"));
        let Some(size) = size.and_then(|kib| kib.parse::<u64>().ok()) else { continue };
        let count = std::fs::read_to_string(entry.path().join("nr_hugepages")).unwrap_or_default();
        let count = count.trim().parse::<u64>().unwrap_or(0);
        all.insert(size * KIB, count.saturating_mul(size * KIB));
    }
    all
}

/// The first global address of each family, IPv4 first; the loopback's if there is none.
fn own_ips() -> Vec<IpAddr> {
    let all: Vec<IpAddr> = getifaddrs()
        .into_iter()
        .flatten()
        .filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))
        })
        .filter(is_global)
        .collect();
    let v4 = all.iter().find(|ip| ip.is_ipv4());
    let v6 = all.iter().find(|ip| ip.is_ipv6());
    let found: Vec<IpAddr> = v4.into_iter().chain(v6).copied().collect();
    if found.is_empty() { vec![Ipv4Addr::LOCALHOST.into()] } else { found }
}

fn is_global(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !ip.is_loopback() && !ip.is_link_local() && !ip.is_unspecified(),
        IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unicast_link_local() && !ip.is_unspecified(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_bytes() {
        let text = "MemTotal:       16384 kB\nMemFree: 1 kB\n";
        assert_eq!(field(text, "MemTotal"), 16 << 20);
        assert_eq!(field(text, "Missing"), 0);
    }

    #[test]
    fn a_node_has_a_name_addresses_and_something_for_pods() {
        let node = NodeFacts::read(&config::Kubelet::default(), Path::new("/")).unwrap();
        assert!(!node.name.is_empty() && !node.ips.is_empty());
        assert!(node.capacity.cpu_milli >= 1000 && node.capacity.memory_bytes > 0);
        assert!(node.allocatable.memory_bytes < node.capacity.memory_bytes);
        assert_eq!(node.allocatable.pods, 110);
        let storage = node.capacity.ephemeral_storage_bytes;
        let tenth = u64::try_from(u128::from(storage) * 10_000 / 100_000).unwrap();
        assert_eq!(node.allocatable.ephemeral_storage_bytes, storage - tenth);
    }

    #[test]
    fn what_is_reserved_is_not_for_pods_and_more_than_there_is_cannot_be() {
        let reserving = |cpu: &str| config::Kubelet {
            system_reserved: [("cpu".to_owned(), cpu.to_owned())].into(),
            kube_reserved: [("memory".to_owned(), "1Mi".to_owned())].into(),
            ..config::Kubelet::default()
        };
        let node = NodeFacts::read(&reserving("250m"), Path::new("/")).unwrap();
        let (all, left) = (&node.capacity, &node.for_pods);
        assert_eq!(left.cpu_milli, all.cpu_milli - 250);
        assert_eq!(left.memory_bytes, all.memory_bytes - (1 << 20));
        assert_eq!(node.allocatable.memory_bytes, left.memory_bytes - (100 << 20));
        let error = NodeFacts::read(&reserving("1M"), Path::new("/")).unwrap_err().to_string();
        assert!(error.starts_with("1000000000 of cpu"), "{error}");
    }

    #[test]
    fn huge_pages_are_counted_in_bytes() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("hugepages-2048kB")).unwrap();
        std::fs::write(dir.path().join("hugepages-2048kB/nr_hugepages"), "3\n").unwrap();
        assert_eq!(hugepages(dir.path()), BTreeMap::from([(2 << 20, 6 << 20)]));
    }
}
