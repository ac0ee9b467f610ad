//! What is asked for: requests and limits in the field's terms, before they become kernel values.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A ceiling or its absence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Limit {
    /// No ceiling; the kernel's `max`.
    Max,
    /// The ceiling.
    Value(u64),
}

/// Resources of a pod or a container. `None` and empty mean: not asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Relative CPU share, 2 to 262144 (the v1 scale that requests are given in).
    pub cpu_shares: Option<u64>,
    /// CPU time a period, microseconds.
    pub cpu_quota: Option<Limit>,
    /// The CPU period, microseconds.
    pub cpu_period: Option<u64>,
    /// The memory limit, bytes.
    pub memory_limit: Option<Limit>,
    /// Memory and swap together, bytes, as the field counts it.
    pub memory_swap_limit: Option<Limit>,
    /// The oom_score_adj of processes, -1000 to 1000.
    pub oom_score_adj: Option<i32>,
    /// CPUs, in the kernel's list format.
    pub cpuset_cpus: Option<String>,
    /// Memory nodes, in the kernel's list format.
    pub cpuset_mems: Option<String>,
    /// Huge page limits: page size as the kernel names it (`2MB`) and bytes.
    pub hugepage_limits: BTreeMap<String, u64>,
    /// Raw cgroup v2 files, applied last.
    pub unified: BTreeMap<String, String>,
    /// The largest number of tasks.
    pub pids_limit: Option<Limit>,
}
