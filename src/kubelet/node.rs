//! What is known of the node, and what of it pods may use.

use std::collections::BTreeMap;
use std::net::IpAddr;

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
    /// Bytes of huge pages, by page size in bytes.
    pub hugepages: BTreeMap<u64, u64>,
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
    /// What pods may use of it: capacity less what is reserved and less the hard eviction thresholds.
    pub allocatable: Amounts,
}
