//! What a container's memory means to the kernel beside its limit: what it keeps, from where on it is slowed down
//! (KEP-2570), how much of it may be swapped out (KEP-2400), and who dies when there is none left; pure.

use crate::config;
use crate::kubelet::node::NodeFacts;
use crate::kubelet::qos::Qos;
use std::collections::BTreeMap;

/// What an operator has chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryRules {
    /// Slow down from so many percent on of what is between request and limit, and keep requests; none: neither.
    pub throttling_percent: Option<u64>,
    /// Whether containers may swap.
    pub swap: config::SwapBehavior,
    /// Whether one process is killed, and not its whole container.
    pub single_kill: bool,
}

impl MemoryRules {
    /// As configured.
    pub fn new(config: &config::Kubelet) -> Self {
        Self {
            throttling_percent: config.memory_qos.then_some(config.memory_throttling_percent),
            swap: config.swap_behavior,
            single_kill: config.single_process_oom_kill,
        }
    }

    /// Whether memory that is asked for is kept, at every level of the hierarchy: a cgroup keeps no more than the one
    /// above it does (Documentation/admin-guide/cgroup-v2.rst, memory.min).
    pub fn keeps(self) -> bool {
        self.throttling_percent.is_some()
    }

    /// Whether a pod's containers may swap if they ask for memory.
    pub(super) fn lets_swap(self, class: Qos, critical: bool) -> bool {
        self.swap == config::SwapBehavior::LimitedSwap && class == Qos::Burstable && !critical
    }
}

/// A container's memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Memory {
    pub(super) class: Qos,
    /// Bytes; 0: nothing is asked for.
    pub(super) request: u64,
    pub(super) limit: Option<u64>,
    /// Whether the node needs the container.
    pub(super) critical: bool,
}

/// The kernel's page, bytes: the smallest there is, which all others are multiples of.
const PAGE: u64 = 4096;

impl Memory {
    /// The kernel's files with their values, on a node with so much swap.
    pub(super) fn files(
        self,
        rules: MemoryRules,
        node: &NodeFacts,
        swap_bytes: u64,
    ) -> BTreeMap<String, String> {
        let mut files = BTreeMap::new();
        if node.legacy_cgroups {
            // The older hierarchies have none of them.
            return files;
        }
        let mut set = |file: &str, value: u64| files.insert(file.to_owned(), value.to_string());
        if !rules.single_kill {
            // An out-of-memory kill takes the whole container.
            set("memory.oom.group", 1);
        }
        if swap_bytes > 0 {
            set("memory.swap.max", self.swap(rules, node.capacity.memory_bytes, swap_bytes));
        }
        if let Some(percent) = rules.throttling_percent {
            if self.request > 0 {
                set("memory.min", self.request);
            }
            if let Some(high) = self.high(percent, node.allocatable.memory_bytes) {
                set("memory.high", high);
            }
        }
        files
    }

    /// From where on it is slowed down; none where request and limit are the same, or nothing is between them.
    fn high(self, percent: u64, allocatable: u64) -> Option<u64> {
        if self.limit.unwrap_or(0) == self.request {
            return None;
        }
        let between = self.limit.unwrap_or(allocatable).checked_sub(self.request)?;
        let part = u128::from(between) * u128::from(percent) / 100;
        let high = u64::try_from(part).ok()?.checked_add(self.request)? / PAGE * PAGE;
        Some(high).filter(|high| *high > self.request)
    }

    /// Its share of the node's swap is that of the node's memory which it asks for.
    fn swap(self, rules: MemoryRules, memory_bytes: u64, swap_bytes: u64) -> u64 {
        let asks = self.request > 0 && self.limit != Some(self.request);
        if !rules.lets_swap(self.class, self.critical) || !asks {
            return 0;
        }
        let share =
            u128::from(self.request) * u128::from(swap_bytes) / u128::from(memory_bytes.max(1));
        u64::try_from(share).unwrap_or(u64::MAX).min(swap_bytes) / PAGE * PAGE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const SWAP: u64 = 512 * MIB;

    fn node() -> NodeFacts {
        let mut node = NodeFacts::default();
        node.capacity.memory_bytes = 1024 * MIB;
        node.allocatable.memory_bytes = 900 * MIB;
        node
    }

    fn memory(class: Qos, request: u64, limit: Option<u64>) -> Memory {
        Memory { class, request: request * MIB, limit: limit.map(|l| l * MIB), critical: false }
    }

    fn rules(percent: Option<u64>, swap: config::SwapBehavior) -> MemoryRules {
        MemoryRules { throttling_percent: percent, swap, single_kill: false }
    }

    #[test]
    fn memory_is_kept_and_slowed_down_by_the_formula() {
        let no = config::SwapBehavior::NoSwap;
        for (name, memory, min, high) in [
            ("burstable", memory(Qos::Burstable, 100, Some(200)), Some(100 * MIB), Some(190 * MIB)),
            // 100 + 0.9 · (900 − 100)
            ("no limit", memory(Qos::Burstable, 100, None), Some(100 * MIB), Some(820 * MIB)),
            ("guaranteed", memory(Qos::Guaranteed, 100, Some(100)), Some(100 * MIB), None),
            ("nothing", memory(Qos::BestEffort, 0, None), None, None),
            ("a limit alone", memory(Qos::Burstable, 0, Some(100)), None, Some(90 * MIB)),
            ("more than there is", memory(Qos::Burstable, 1000, None), Some(1000 * MIB), None),
        ] {
            let files = memory.files(rules(Some(90), no), &node(), SWAP);
            let value = |file: &str| files.get(file).and_then(|value| value.parse::<u64>().ok());
            assert_eq!((value("memory.min"), value("memory.high")), (min, high), "{name}");
            let off = memory.files(rules(None, no), &node(), SWAP);
            assert!(!off.contains_key("memory.min") && !off.contains_key("memory.high"), "{name}");
        }
        let odd = Memory { request: 1, limit: Some(10_000), ..memory(Qos::Burstable, 0, None) };
        assert_eq!(odd.high(90, 0), Some(8192), "whole pages");
    }

    #[test]
    fn swap_is_for_burstable_containers_by_their_share_of_memory() {
        let limited = config::SwapBehavior::LimitedSwap;
        let swap = |memory: Memory, behavior, swap_bytes| {
            memory.files(rules(None, behavior), &node(), swap_bytes).get("memory.swap.max").cloned()
        };
        let critical = Memory { critical: true, ..memory(Qos::Burstable, 256, None) };
        for (name, of, behavior, expected) in [
            ("a quarter", memory(Qos::Burstable, 256, None), limited, 128 * MIB),
            ("more than all", memory(Qos::Burstable, 4096, None), limited, 512 * MIB),
            ("nothing asked for", memory(Qos::Burstable, 0, Some(9)), limited, 0),
            ("no more than asked for", memory(Qos::Burstable, 64, Some(64)), limited, 0),
            ("guaranteed", memory(Qos::Guaranteed, 64, Some(64)), limited, 0),
            ("best effort", memory(Qos::BestEffort, 0, None), limited, 0),
            ("critical", critical, limited, 0),
            ("off", memory(Qos::Burstable, 256, None), config::SwapBehavior::NoSwap, 0),
        ] {
            assert_eq!(swap(of, behavior, SWAP), Some(expected.to_string()), "{name}");
        }
        assert_eq!(swap(memory(Qos::Burstable, 256, None), limited, 0), None);
    }

    #[test]
    fn a_kill_takes_the_container_unless_told_otherwise() {
        let mut rules = rules(None, config::SwapBehavior::NoSwap);
        let of = memory(Qos::BestEffort, 0, None);
        assert_eq!(of.files(rules, &node(), 0)["memory.oom.group"], "1");
        rules.single_kill = true;
        assert!(!of.files(rules, &node(), 0).contains_key("memory.oom.group"));
    }
}
