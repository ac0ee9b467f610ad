//! `linux.resources` → limits and device rules. What cgroup v2 has no file for is refused by name.
//! Pure.

use super::error::{Doing as _, RuntimeError};
use crate::cgroups::{DeviceRule, Limit, Permissions, Resources, Verdict};
use oci_spec::runtime::{LinuxBlockIo, LinuxResources, LinuxThrottleDevice, Spec};
use std::collections::BTreeMap;

/// What a configuration asks of a cgroup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    /// Limits.
    pub(super) limits: Resources,
    /// Device rules, the whole list.
    pub(super) devices: Vec<DeviceRule>,
}

/// Those of a configuration. The devices that every container has are permitted after all rules.
pub(super) fn of_spec(spec: &Spec) -> Result<Asked, RuntimeError> {
    let given = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
    let limits = given.map(limits).transpose()?.unwrap_or_default();
    Ok(Asked { limits, devices: devices(given)? })
}

/// The device rules of a configuration and those of the devices that every container has.
pub(super) fn devices(given: Option<&LinuxResources>) -> Result<Vec<DeviceRule>, RuntimeError> {
    let listed = given.and_then(|resources| resources.devices().as_deref()).unwrap_or_default();
    let mut rules = DeviceRule::from_oci(listed).doing(|| "read linux.resources.devices")?;
    // null, zero, full, random, urandom, tty, ptmx, and /dev/pts/*.
    let standard = [
        (1, Some(3)),
        (1, Some(5)),
        (1, Some(7)),
        (1, Some(8)),
        (1, Some(9)),
        (5, Some(0)),
        (5, Some(2)),
        (136, None),
    ];
    rules.extend(standard.map(|(major, minor)| DeviceRule::char(major, minor)));
    // Making a node is not using it.
    rules.push(DeviceRule {
        verdict: Verdict::Allow,
        permissions: Permissions::MKNOD,
        ..DeviceRule::ALLOW_ALL
    });
    Ok(rules)
}

fn refuse<T>(field: &str) -> Result<T, RuntimeError> {
    Err(RuntimeError::refused(format!("linux.resources.{field} is not supported by cgroup v2")))
}

/// A ceiling as the field writes it: negative for none, 0 for nothing said.
fn limit(value: Option<i64>) -> Option<Limit> {
    match value {
        None | Some(0) => None,
        Some(value) => Some(u64::try_from(value).map_or(Limit::Max, Limit::Value)),
    }
}

/// The limits of a list of resources.
///
/// # Errors
/// For what cgroup v2 cannot do.
pub(super) fn limits(given: &LinuxResources) -> Result<Resources, RuntimeError> {
    let mut asked = Resources::default();
    let mut files = BTreeMap::new();
    memory(given, &mut asked, &mut files)?;
    cpu(given, &mut asked, &mut files)?;
    if let Some(block_io) = given.block_io() {
        io(block_io, &mut files)?;
    }
    asked.pids_limit = limit(given.pids().as_ref().map(|pids| pids.limit()));
    for huge in given.hugepage_limits().iter().flatten() {
        let bytes = u64::try_from(huge.limit())
            .doing(|| format!("linux.resources.hugepageLimits {}", huge.page_size()))?;
        asked.hugepage_limits.insert(huge.page_size().clone(), bytes);
    }
    if let Some(network) = given.network()
        && (network.class_id().is_some_and(|id| id != 0)
            || network.priorities().as_ref().is_some_and(|list| !list.is_empty()))
    {
        return refuse("network");
    }
    if given.rdma().as_ref().is_some_and(|rdma| !rdma.is_empty()) {
        return Err(RuntimeError::refused("linux.resources.rdma is not supported"));
    }
    // What is said in the kernel's own words goes before what is translated.
    files.extend(given.unified().iter().flatten().map(|(k, v)| (k.clone(), v.clone())));
    asked.unified = files;
    Ok(asked)
}

fn memory(
    given: &LinuxResources,
    asked: &mut Resources,
    files: &mut BTreeMap<String, String>,
) -> Result<(), RuntimeError> {
    let Some(memory) = given.memory() else { return Ok(()) };
    asked.memory_limit = limit(memory.limit());
    asked.memory_swap_limit = limit(memory.swap());
    match limit(memory.reservation()) {
        None => {}
        Some(Limit::Max) => drop(files.insert("memory.low".to_owned(), "max".to_owned())),
        Some(Limit::Value(bytes)) => {
            files.insert("memory.low".to_owned(), bytes.to_string());
        }
    }
    let kernel = memory.kernel();
    if kernel.is_some_and(|bytes| bytes > 0) {
        return refuse("memory.kernel");
    }
    if memory.kernel_tcp().is_some_and(|bytes| bytes > 0) {
        return refuse("memory.kernelTCP");
    }
    if memory.swappiness().is_some() {
        return refuse("memory.swappiness");
    }
    if memory.disable_oom_killer() == Some(true) {
        return refuse("memory.disableOOMKiller");
    }
    Ok(())
}

fn cpu(
    given: &LinuxResources,
    asked: &mut Resources,
    files: &mut BTreeMap<String, String>,
) -> Result<(), RuntimeError> {
    let Some(cpu) = given.cpu() else { return Ok(()) };
    asked.cpu_shares = cpu.shares().filter(|shares| *shares != 0);
    asked.cpu_quota = limit(cpu.quota());
    asked.cpu_period = cpu.period().filter(|period| *period != 0);
    asked.cpuset_cpus = cpu.cpus().clone().filter(|list| !list.is_empty());
    asked.cpuset_mems = cpu.mems().clone().filter(|list| !list.is_empty());
    if let Some(idle) = cpu.idle() {
        files.insert("cpu.idle".to_owned(), idle.to_string());
    }
    if let Some(burst) = cpu.burst() {
        files.insert("cpu.max.burst".to_owned(), burst.to_string());
    }
    let realtime = cpu.realtime_runtime().is_some_and(|n| n != 0)
        || cpu.realtime_period().is_some_and(|n| n != 0);
    if realtime { refuse("cpu.realtimeRuntime") } else { Ok(()) }
}

/// `io.weight` counts from 1 to 10000, the field from 10 to 1000.
fn io_weight(weight: u16) -> Result<u64, RuntimeError> {
    match weight {
        10..=1000 => Ok(1 + (u64::from(weight) - 10) * 9999 / 990),
        _ => Err(RuntimeError::refused(format!(
            "linux.resources.blockIO.weight {weight} is not from 10 to 1000"
        ))),
    }
}

fn io(given: &LinuxBlockIo, files: &mut BTreeMap<String, String>) -> Result<(), RuntimeError> {
    if given.leaf_weight().is_some_and(|weight| weight != 0) {
        return refuse("blockIO.leafWeight");
    }
    let mut weights = Vec::new();
    if let Some(weight) = given.weight().filter(|weight| *weight != 0) {
        weights.push(format!("default {}", io_weight(weight)?));
    }
    for device in given.weight_device().iter().flatten() {
        if device.leaf_weight().is_some_and(|weight| weight != 0) {
            return refuse("blockIO.weightDevice.leafWeight");
        }
        if let Some(weight) = device.weight() {
            let number = format!("{}:{}", device.major(), device.minor());
            weights.push(format!("{number} {}", io_weight(weight)?));
        }
    }
    if !weights.is_empty() {
        files.insert("io.weight".to_owned(), weights.join("\n"));
    }
    let mut throttles = Vec::new();
    for (word, list) in [
        ("rbps", given.throttle_read_bps_device()),
        ("wbps", given.throttle_write_bps_device()),
        ("riops", given.throttle_read_iops_device()),
        ("wiops", given.throttle_write_iops_device()),
    ] {
        throttles.extend(list.iter().flatten().map(|device| throttle(word, device)));
    }
    if !throttles.is_empty() {
        files.insert("io.max".to_owned(), throttles.join("\n"));
    }
    Ok(())
}

fn throttle(word: &str, device: &LinuxThrottleDevice) -> String {
    let rate = match device.rate() {
        0 => "max".to_owned(),
        rate => rate.to_string(),
    };
    format!("{}:{} {word}={rate}", device.major(), device.minor())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn of(value: Value) -> Result<Resources, String> {
        let given: LinuxResources = serde_json::from_value(value).unwrap();
        limits(&given).map_err(|e| crate::error::chain(&e))
    }

    #[test]
    fn zero_says_nothing_and_a_negative_number_is_no_ceiling() {
        let none = of(json!({
            "memory": { "limit": 0, "disableOOMKiller": false }, "pids": { "limit": 0 },
            "cpu": { "shares": 0, "quota": 0, "period": 0, "cpus": "" }, "blockIO": { "weight": 0 },
        }));
        assert_eq!(none.unwrap(), Resources::default());
        let most = of(json!({
            "memory": { "limit": -1, "swap": -1 }, "pids": { "limit": -1 }, "cpu": { "quota": -1 },
        }))
        .unwrap();
        let max = Some(Limit::Max);
        assert_eq!((most.memory_limit, most.memory_swap_limit), (max, max));
        assert_eq!((most.pids_limit, most.cpu_quota), (max, max));
    }

    #[test]
    fn every_field_that_cgroup_v2_has_becomes_one_of_its_files() {
        let asked = of(json!({
            "memory": { "limit": 1048576, "swap": 2097152, "reservation": 4096 },
            "cpu": { "shares": 512, "quota": 5000, "period": 10000, "cpus": "0-1", "mems": "0",
                     "idle": 1, "burst": 100 },
            "pids": { "limit": 9 },
            "hugepageLimits": [{ "pageSize": "2MB", "limit": 4194304 }],
            "blockIO": {
                "weight": 500,
                "weightDevice": [{ "major": 8, "minor": 0, "weight": 10 }],
                "throttleReadBpsDevice": [{ "major": 8, "minor": 0, "rate": 600 }],
                "throttleWriteIOPSDevice": [{ "major": 8, "minor": 16, "rate": 300 }],
            },
            "unified": { "memory.low": "8192", "memory.high": "1000000" },
        }))
        .unwrap();
        assert_eq!(asked.memory_limit, Some(Limit::Value(1 << 20)));
        assert_eq!(asked.memory_swap_limit, Some(Limit::Value(2 << 20)));
        assert_eq!((asked.cpu_shares, asked.cpu_period), (Some(512), Some(10_000)));
        assert_eq!(asked.cpu_quota, Some(Limit::Value(5000)));
        assert_eq!(asked.pids_limit, Some(Limit::Value(9)));
        assert_eq!(asked.hugepage_limits["2MB"], 4 << 20);
        let files: Vec<(&str, &str)> =
            asked.unified.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(
            files,
            [
                ("cpu.idle", "1"),
                ("cpu.max.burst", "100"),
                ("io.max", "8:0 rbps=600\n8:16 wiops=300"),
                ("io.weight", "default 4950\n8:0 1"),
                ("memory.high", "1000000"),
                ("memory.low", "8192"),
            ]
        );
    }

    #[test]
    fn what_cgroup_v2_has_not_is_refused_by_name() {
        for (field, value) in [
            ("memory.kernel", json!({ "memory": { "kernel": 1 } })),
            ("memory.kernelTCP", json!({ "memory": { "kernelTCP": 1 } })),
            ("memory.swappiness", json!({ "memory": { "swappiness": 0 } })),
            ("memory.disableOOMKiller", json!({ "memory": { "disableOOMKiller": true } })),
            ("cpu.realtimeRuntime", json!({ "cpu": { "realtimePeriod": 1 } })),
            ("blockIO.leafWeight", json!({ "blockIO": { "leafWeight": 1 } })),
            ("blockIO.weight 9", json!({ "blockIO": { "weight": 9 } })),
            ("network", json!({ "network": { "classID": 1 } })),
            ("rdma", json!({ "rdma": { "mlx5_1": { "hcaHandles": 3 } } })),
        ] {
            let error = of(value).unwrap_err();
            assert!(error.starts_with(&format!("linux.resources.{field}")), "{error}");
        }
    }

    #[test]
    fn the_devices_that_every_container_has_are_permitted_last() {
        let given: LinuxResources =
            serde_json::from_value(json!({ "devices": [{ "allow": false, "access": "rwm" }] }))
                .unwrap();
        let rules = devices(Some(&given)).unwrap();
        assert_eq!(rules[0].verdict, Verdict::Deny);
        assert!(rules[1..].iter().all(|rule| rule.verdict == Verdict::Allow));
        assert!(rules.contains(&DeviceRule::char(1, Some(3))));
        assert_eq!(devices(None).unwrap(), rules[1..]);
    }
}
