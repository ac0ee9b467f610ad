//! From requests and limits to files of the kernel: pure, and the only place that knows the units
//! (Documentation/admin-guide/cgroup-v2.rst; the CRI's LinuxContainerResources).
//!
//! The order of the writes matters in two places: swap before memory, so that nothing is swapped
//! out while a smaller limit takes hold, and `unified` last, because it overrides.

use super::cpulist::CpuList;
use super::{CgroupError, Limit, Resources};

/// What to do when the kernel has no such file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Absent {
    /// An error: what was asked for cannot be done.
    Fail,
    /// Nothing: without the file there is nothing to limit.
    Ignore,
    /// Nothing, if the node has no swap.
    NeedsNoSwap,
    /// An error that names the `unified` key.
    UnknownKey,
}

/// One value for one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Setting {
    /// The file's name in the cgroup's folder.
    pub file: String,
    /// The value; several lines are written one by one.
    pub value: String,
    /// What a missing file means.
    pub absent: Absent,
}

impl Setting {
    fn new(file: impl Into<String>, value: impl ToString) -> Self {
        Self { file: file.into(), value: value.to_string(), absent: Absent::Fail }
    }

    /// The controller that owns the file.
    pub(super) fn controller(&self) -> &str {
        self.file.split('.').next().unwrap_or_default()
    }
}

/// The settings that `resources` ask for, in the order in which they are to be written.
pub(super) fn plan_limits(resources: &Resources) -> Result<Vec<Setting>, CgroupError> {
    let mut plan = Vec::new();
    plan_cpu(resources, &mut plan)?;
    plan_memory(resources, &mut plan)?;
    if let Some(limit) = resources.pids_limit {
        plan.push(Setting::new("pids.max", pids_max(limit)?));
    }
    plan_hugetlb(resources, &mut plan)?;
    plan_unified(resources, &mut plan)?;
    Ok(plan)
}

fn plan_cpu(resources: &Resources, plan: &mut Vec<Setting>) -> Result<(), CgroupError> {
    if let Some(weight) = resources.cpu_shares.and_then(cpu_weight) {
        plan.push(Setting::new("cpu.weight", weight));
    }
    if resources.cpu_quota.is_some() || resources.cpu_period.is_some() {
        plan.push(Setting::new("cpu.max", cpu_max(resources.cpu_quota, resources.cpu_period)?));
    }
    for (file, list) in
        [("cpuset.cpus", &resources.cpuset_cpus), ("cpuset.mems", &resources.cpuset_mems)]
    {
        if let Some(list) = list.as_ref().filter(|list| !list.is_empty()) {
            plan.push(Setting::new(file, CpuList::parse(list)?));
        }
    }
    Ok(())
}

/// `cpu.weight` of CPU shares: ceil(10^((l² + 125·l)/612 − 7/34)), l = log2(shares), which maps 2,
/// 1024 and 262144 to 1, 100 and 10000. 0 shares: nothing asked for.
pub(super) fn cpu_weight(shares: u64) -> Option<u64> {
    match u32::try_from(shares).unwrap_or(u32::MAX) {
        0 => None,
        1 | 2 => Some(1),
        262_144.. => Some(10_000),
        shares => {
            let l = f64::from(shares).log2();
            let weight = 10f64.powf((l * l + 125.0 * l) / 612.0 - 7.0 / 34.0).ceil();
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a whole number, clamped to what the kernel takes"
            )]
            let weight = weight.clamp(1.0, 10_000.0) as u64;
            Some(weight)
        }
    }
}

/// The kernel takes periods of 1 ms to 1 s, and quotas from 1 ms to 2^44 − 1 µs.
fn cpu_max(quota: Option<Limit>, period: Option<u64>) -> Result<String, CgroupError> {
    let period = period.unwrap_or(100_000);
    if !(1_000..=1_000_000).contains(&period) {
        let reason = "expected 1000 to 1000000 microseconds";
        return Err(CgroupError::invalid("CPU period", period, reason));
    }
    match quota {
        None | Some(Limit::Max) => Ok(format!("max {period}")),
        Some(Limit::Value(quota)) if (1_000..1 << 44).contains(&quota) => {
            Ok(format!("{quota} {period}"))
        }
        Some(Limit::Value(quota)) => {
            Err(CgroupError::invalid("CPU quota", quota, "expected 1000 to 2^44 microseconds"))
        }
    }
}

/// No process starts in less: stack, page tables and the C library's pages are charged.
const MEMORY_FLOOR: u64 = 512 << 10;

fn plan_memory(resources: &Resources, plan: &mut Vec<Setting>) -> Result<(), CgroupError> {
    if let Some(Limit::Value(bytes)) = resources.memory_limit {
        if bytes < MEMORY_FLOOR {
            let reason = "no process starts in less than 512 KiB";
            return Err(CgroupError::invalid("memory limit", bytes, reason));
        }
        representable("memory limit", bytes)?;
    }
    if let Some(swap) = swap_max(resources)? {
        let absent = match swap {
            Limit::Value(0) => Absent::NeedsNoSwap,
            Limit::Max => Absent::Ignore,
            Limit::Value(_) => Absent::Fail,
        };
        plan.push(Setting { absent, ..Setting::new("memory.swap.max", text(swap)) });
    }
    if let Some(limit) = resources.memory_limit {
        plan.push(Setting::new("memory.max", text(limit)));
    }
    Ok(())
}

/// The field counts memory and swap together, the kernel swap alone. A memory limit without a swap
/// limit means: no swap.
fn swap_max(resources: &Resources) -> Result<Option<Limit>, CgroupError> {
    let refuse = |bytes, reason: &str| Err(CgroupError::invalid("swap limit", bytes, reason));
    match (resources.memory_swap_limit, resources.memory_limit) {
        (None, Some(Limit::Value(_))) => Ok(Some(Limit::Value(0))),
        (None, _) => Ok(None),
        (Some(Limit::Max), _) => Ok(Some(Limit::Max)),
        (Some(Limit::Value(both)), Some(Limit::Value(memory))) => {
            representable("swap limit", both)?;
            match both.checked_sub(memory) {
                Some(swap) => Ok(Some(Limit::Value(swap))),
                None => refuse(both, "it counts memory and swap, and is below the memory limit"),
            }
        }
        (Some(Limit::Value(both)), _) => {
            refuse(both, "it counts memory and swap, and needs a memory limit")
        }
    }
}

fn pids_max(limit: Limit) -> Result<String, CgroupError> {
    match limit {
        // PID_MAX_LIMIT; the kernel answers a bare EINVAL above it.
        Limit::Value(tasks) if !(1..=4_194_304).contains(&tasks) => {
            Err(CgroupError::invalid("pids limit", tasks, "expected 1 to 4194304"))
        }
        limit => Ok(text(limit)),
    }
}

fn plan_hugetlb(resources: &Resources, plan: &mut Vec<Setting>) -> Result<(), CgroupError> {
    for (size, bytes) in &resources.hugepage_limits {
        let digits = size.strip_suffix("B").and_then(|s| s.strip_suffix(['K', 'M', 'G']));
        if !digits.is_some_and(|d| !d.is_empty() && d.bytes().all(|b| b.is_ascii_digit())) {
            let reason = "expected a number and KB, MB or GB, as in 2MB";
            return Err(CgroupError::invalid("huge page size", size, reason));
        }
        representable("huge page limit", *bytes)?;
        // A kubelet sends a zero for every size, asked for or not; without the controller there is
        // nothing to hold a pod back with, and nothing was promised to it either.
        let absent = if *bytes == 0 { Absent::Ignore } else { Absent::Fail };
        plan.push(Setting { absent, ..Setting::new(format!("hugetlb.{size}.max"), bytes) });
        plan.push(Setting {
            absent: Absent::Ignore,
            ..Setting::new(format!("hugetlb.{size}.rsvd.max"), bytes)
        });
    }
    Ok(())
}

fn plan_unified(resources: &Resources, plan: &mut Vec<Setting>) -> Result<(), CgroupError> {
    for (key, value) in &resources.unified {
        let refuse = |reason| CgroupError::UnknownSetting { key: key.clone(), reason };
        if key.contains('/') || key.contains('\0') {
            return Err(refuse("a key is a file name and not a path"));
        }
        if !key.split_once('.').is_some_and(|(a, b)| !a.is_empty() && !b.is_empty()) {
            return Err(refuse("expected <controller>.<setting>"));
        }
        // cgroup.procs, cgroup.kill, cgroup.freeze, … are actions of berth's, not settings.
        if key.starts_with("cgroup.")
            && key != "cgroup.max.depth"
            && key != "cgroup.max.descendants"
        {
            return Err(refuse("the cgroup.* files are berth's own"));
        }
        if value.trim().is_empty() || value.contains('\0') {
            return Err(CgroupError::invalid("value of unified key", key, "it is empty"));
        }
        plan.push(Setting { absent: Absent::UnknownKey, ..Setting::new(key, value.trim()) });
    }
    Ok(())
}

/// Page counters are signed; a number above is a negative one that lost its sign on the way.
fn representable(what: &'static str, bytes: u64) -> Result<(), CgroupError> {
    match i64::try_from(bytes) {
        Ok(_) => Ok(()),
        Err(_) => Err(CgroupError::invalid(what, bytes, "it does not fit 63 bits")),
    }
}

fn text(limit: Limit) -> String {
    match limit {
        Limit::Max => "max".to_owned(),
        Limit::Value(value) => value.to_string(),
    }
}

#[cfg(test)]
#[path = "limits_tests.rs"]
mod tests;
