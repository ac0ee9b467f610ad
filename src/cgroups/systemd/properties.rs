//! Limits as systemd calls them: pure. From the files and values that the kernel is given, so that both say
//! the same.
//!
//! The cgroup of a unit is systemd's, and what it knows of the limits there is what it sets again when it
//! sees fit (`daemon-reload`, a change of the slice). A file that no property stands for is never touched by
//! it: there the kernel's value alone counts (systemd.resource-control(5)).

use super::super::CgroupError;
use super::super::cpulist::CpuList;
use super::super::limits::Setting;
use zbus::zvariant::Value;

/// One property of a unit.
pub(in crate::cgroups) type Property = (&'static str, Value<'static>);

/// systemd's word for "no limit".
const INFINITY: u64 = u64::MAX;
/// systemd keeps a quota in whole percents of a CPU, which is this many microseconds a second.
const PERCENT: u64 = 10_000;

/// A delegated scope around process `pid`.
pub(in crate::cgroups) fn scope(description: String, slice: &str, pid: u32) -> Vec<Property> {
    vec![
        ("Description", description.into()),
        ("Slice", slice.to_owned().into()),
        ("PIDs", vec![pid].into()),
        ("Delegate", true.into()),
        // Pods are ended by who runs them, and not side by side with that at a shutdown.
        ("DefaultDependencies", false.into()),
        // A failed one goes like any other.
        ("CollectMode", "inactive-or-failed".into()),
    ]
}

/// The properties that stand for `settings`; a later setting of the same file wins.
///
/// # Errors
/// [`CgroupError::Invalid`] for a value that the kernel might take and systemd has no form of.
pub(in crate::cgroups) fn limits(settings: &[Setting]) -> Result<Vec<Property>, CgroupError> {
    let mut all: Vec<Property> = Vec::new();
    for setting in settings {
        for (name, value) in of_setting(setting)? {
            all.retain(|(earlier, _)| *earlier != name);
            all.push((name, value));
        }
    }
    Ok(all)
}

fn of_setting(setting: &Setting) -> Result<Vec<Property>, CgroupError> {
    let name = match setting.file.as_str() {
        "cpu.max" => return cpu_max(setting),
        "cpuset.cpus" => return Ok(vec![("AllowedCPUs", mask(setting)?)]),
        "cpuset.mems" => return Ok(vec![("AllowedMemoryNodes", mask(setting)?)]),
        "cpu.weight" => "CPUWeight",
        "memory.min" => "MemoryMin",
        "memory.low" => "MemoryLow",
        "memory.high" => "MemoryHigh",
        "memory.max" => "MemoryMax",
        "memory.swap.max" => "MemorySwapMax",
        "pids.max" => "TasksMax",
        _ => return Ok(Vec::new()),
    };
    Ok(vec![(name, number(setting, &setting.value)?.into())])
}

/// `max 100000`, `50000 100000`; a period may be left out.
fn cpu_max(setting: &Setting) -> Result<Vec<Property>, CgroupError> {
    let mut words = setting.value.split_ascii_whitespace();
    let quota = number(setting, words.next().unwrap_or_default())?;
    let period = number(setting, words.next().unwrap_or("100000"))?.max(1);
    let per_second = if quota == INFINITY {
        INFINITY
    } else {
        let exact = u128::from(quota) * 1_000_000 / u128::from(period);
        let percents = exact.div_ceil(u128::from(PERCENT)) * u128::from(PERCENT);
        u64::try_from(percents).unwrap_or(INFINITY)
    };
    Ok(vec![("CPUQuotaPerSecUSec", per_second.into()), ("CPUQuotaPeriodUSec", period.into())])
}

/// A bit a member, the lowest of the first byte first.
fn mask(setting: &Setting) -> Result<Value<'static>, CgroupError> {
    let mut bytes: Vec<u8> = Vec::new();
    for member in CpuList::parse(&setting.value)?.members() {
        let (byte, bit) = (usize::from(member / 8), member % 8);
        if bytes.len() <= byte {
            bytes.resize(byte + 1, 0);
        }
        if let Some(byte) = bytes.get_mut(byte) {
            *byte |= 1 << bit;
        }
    }
    Ok(bytes.into())
}

fn number(setting: &Setting, text: &str) -> Result<u64, CgroupError> {
    if text == "max" {
        return Ok(INFINITY);
    }
    text.parse().map_err(|_| {
        let reason = format!("{} is a number or max under the systemd cgroup driver", setting.file);
        CgroupError::invalid("value", &setting.value, reason)
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::limits::plan_limits;
    use super::super::super::{Limit, Resources};
    use super::*;

    fn of(resources: &Resources) -> Vec<(&'static str, Value<'static>)> {
        limits(&plan_limits(resources).unwrap()).unwrap()
    }

    #[test]
    fn each_limit_has_its_property() {
        let resources = Resources {
            cpu_shares: Some(1024),
            cpu_quota: Some(Limit::Value(50_000)),
            cpu_period: Some(100_000),
            memory_limit: Some(Limit::Value(64 << 20)),
            memory_swap_limit: Some(Limit::Value(96 << 20)),
            pids_limit: Some(Limit::Value(100)),
            cpuset_cpus: Some("0-1,9".into()),
            cpuset_mems: Some("0".into()),
            unified: [("memory.high".to_owned(), "1000000".to_owned())].into(),
            ..Resources::default()
        };
        let expected: Vec<Property> = vec![
            ("CPUWeight", 100u64.into()),
            ("CPUQuotaPerSecUSec", 500_000u64.into()),
            ("CPUQuotaPeriodUSec", 100_000u64.into()),
            ("AllowedCPUs", vec![0b11u8, 0b10].into()),
            ("AllowedMemoryNodes", vec![1u8].into()),
            ("MemorySwapMax", (32u64 << 20).into()),
            ("MemoryMax", (64u64 << 20).into()),
            ("TasksMax", 100u64.into()),
            ("MemoryHigh", 1_000_000u64.into()),
        ];
        assert_eq!(of(&resources), expected);
        assert!(of(&Resources::default()).is_empty());
    }

    #[test]
    fn no_limit_is_infinity_and_a_quota_is_rounded_up_to_a_percent() {
        let open = Resources {
            cpu_quota: Some(Limit::Max),
            memory_limit: Some(Limit::Max),
            pids_limit: Some(Limit::Max),
            ..Resources::default()
        };
        let expected: Vec<Property> = vec![
            ("CPUQuotaPerSecUSec", u64::MAX.into()),
            ("CPUQuotaPeriodUSec", 100_000u64.into()),
            ("MemoryMax", u64::MAX.into()),
            ("TasksMax", u64::MAX.into()),
        ];
        assert_eq!(of(&open), expected);
        for (quota, period, per_second) in [
            (33_333, 100_000, 340_000u64),
            (1_000, 1_000_000, 10_000),
            (250_000, 100_000, 2_500_000),
        ] {
            let resources = Resources {
                cpu_quota: Some(Limit::Value(quota)),
                cpu_period: Some(period),
                ..Resources::default()
            };
            assert_eq!(of(&resources)[0], ("CPUQuotaPerSecUSec", per_second.into()), "{quota}");
        }
    }

    #[test]
    fn a_raw_file_overrides_and_what_has_no_property_is_left_to_the_kernel() {
        let unified = |key: &str, value: &str| Resources {
            memory_limit: Some(Limit::Max),
            unified: [(key.to_owned(), value.to_owned())].into(),
            ..Resources::default()
        };
        assert_eq!(of(&unified("memory.max", "4096000")), [("MemoryMax", 4_096_000u64.into())]);
        assert_eq!(of(&unified("memory.oom.group", "1")), [("MemoryMax", u64::MAX.into())]);
        let plan = plan_limits(&unified("memory.max", "4M")).unwrap();
        let message = limits(&plan).unwrap_err().to_string();
        assert!(message.contains("\"4M\"") && message.contains("memory.max"), "{message}");
    }

    #[test]
    fn a_scope_is_delegated_and_says_nothing_of_devices() {
        let scope = scope("pod a".into(), "kubepods-pod1.slice", 7);
        let value = |name| scope.iter().find(|(n, _)| *n == name).map(|(_, value)| value.clone());
        assert_eq!(value("Delegate"), Some(true.into()));
        assert_eq!(value("Slice"), Some("kubepods-pod1.slice".into()));
        assert_eq!(value("PIDs"), Some(vec![7u32].into()));
        // With any of them systemd would attach a device program of its own, and anew at each reload.
        assert!(scope.iter().all(|(name, _)| !name.starts_with("Device")));
    }
}
