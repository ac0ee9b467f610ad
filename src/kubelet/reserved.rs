//! What of the node is not for pods: what its system and its runtime keep for themselves; pure.

use crate::config;
use crate::quantity::{parse_milli, parse_whole};
use std::collections::BTreeMap;

/// Amounts that are kept back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reserved {
    /// Thousandths of a CPU.
    pub cpu_milli: u64,
    /// Bytes.
    pub memory_bytes: u64,
    /// Bytes of node-local storage.
    pub ephemeral_storage_bytes: u64,
    /// Processes.
    pub pids: u64,
}

impl Reserved {
    /// All that the configuration keeps back.
    pub fn of(config: &config::Kubelet) -> Self {
        Self::parse(&config.system_reserved).and(Self::parse(&config.kube_reserved))
    }

    /// One list. What validation has let through is a quantity.
    pub fn parse(list: &BTreeMap<String, String>) -> Self {
        let whole = |name| list.get(name).and_then(|text| parse_whole(text).ok()).unwrap_or(0);
        Self {
            cpu_milli: list.get("cpu").and_then(|text| parse_milli(text).ok()).unwrap_or(0),
            memory_bytes: whole("memory"),
            ephemeral_storage_bytes: whole("ephemeral-storage"),
            pids: whole("pid"),
        }
    }

    fn and(self, other: Self) -> Self {
        Self {
            cpu_milli: self.cpu_milli.saturating_add(other.cpu_milli),
            memory_bytes: self.memory_bytes.saturating_add(other.memory_bytes),
            ephemeral_storage_bytes: self
                .ephemeral_storage_bytes
                .saturating_add(other.ephemeral_storage_bytes),
            pids: self.pids.saturating_add(other.pids),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_lists_count() {
        let list = |rows: &[(&str, &str)]| {
            rows.iter().map(|(name, amount)| ((*name).to_owned(), (*amount).to_owned())).collect()
        };
        let config = config::Kubelet {
            system_reserved: list(&[("cpu", "500m"), ("memory", "1Gi"), ("pid", "1k")]),
            kube_reserved: list(&[("cpu", "1"), ("ephemeral-storage", "2Gi")]),
            ..config::Kubelet::default()
        };
        let expected = Reserved {
            cpu_milli: 1500,
            memory_bytes: 1 << 30,
            ephemeral_storage_bytes: 2 << 30,
            pids: 1000,
        };
        assert_eq!(Reserved::of(&config), expected);
    }
}
