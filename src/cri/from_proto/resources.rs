//! Requests and limits.
//!
//! In CRI a zero means "not given". Everything else is a value and is checked: what the kernel
//! would refuse only when the container starts is refused here, by name.

use super::RequestError;
use super::text::string;
use crate::cgroups::{Limit, Resources};
use crate::cri::proto;
use crate::sandbox::update::PodResources;
use std::collections::BTreeMap;

/// The kernel's bounds of a CPU period, microseconds (`cpu.max`).
const CPU_PERIOD: std::ops::RangeInclusive<i64> = 1_000..=1_000_000;
/// The kernel's smallest quota, microseconds.
const MIN_CPU_QUOTA: i64 = 1_000;
/// The scale of shares; what lies beyond means the end of the scale to every runtime.
const CPU_SHARES: (u64, u64) = (2, 262_144);
/// Less than a page rounds to nothing, and nothing could start in it.
const MIN_MEMORY: i64 = 4096;
/// More than any address space has.
const MAX_MEMORY: i64 = 1 << 56;

/// Resources of a container or a pod at its creation.
pub(super) fn resources(
    field: &str,
    r: &proto::LinuxContainerResources,
) -> Result<Resources, RequestError> {
    let at = |name: &str| format!("{field}.{name}");
    let memory_limit = memory(&at("memory_limit_in_bytes"), r.memory_limit_in_bytes)?;
    let swap = memory(&at("memory_swap_limit_in_bytes"), r.memory_swap_limit_in_bytes)?;
    if let (Some(Limit::Value(swap)), Some(Limit::Value(memory))) = (swap, memory_limit)
        && swap < memory
    {
        let reason = format!("{swap} is less than memory_limit_in_bytes, which it includes");
        return Err(RequestError::invalid(at("memory_swap_limit_in_bytes"), reason));
    }
    Ok(Resources {
        cpu_shares: shares(&at("cpu_shares"), r.cpu_shares)?,
        cpu_quota: quota(&at("cpu_quota"), r.cpu_quota)?,
        cpu_period: period(&at("cpu_period"), r.cpu_period)?,
        memory_limit,
        memory_swap_limit: swap,
        oom_score_adj: Some(oom_score_adj(&at("oom_score_adj"), r.oom_score_adj)?),
        cpuset_cpus: list(&at("cpuset_cpus"), &r.cpuset_cpus)?,
        cpuset_mems: list(&at("cpuset_mems"), &r.cpuset_mems)?,
        hugepage_limits: hugepages(&at("hugepage_limits"), &r.hugepage_limits)?,
        unified: unified(&at("unified"), &r.unified)?,
        pids_limit: None,
    })
}

/// What UpdateContainerResources changes. A zero leaves a value as it is.
pub(crate) fn update_resources(
    request: &proto::UpdateContainerResourcesRequest,
) -> Result<Resources, RequestError> {
    if request.windows.is_some() {
        return Err(RequestError::unimplemented("windows", "Windows containers are"));
    }
    let linux = request.linux.as_ref().ok_or_else(|| RequestError::missing("linux"))?;
    let mut changed = resources("linux", linux)?;
    if linux.oom_score_adj == 0 {
        changed.oom_score_adj = None;
    }
    Ok(changed)
}

/// What UpdatePodSandboxResources changes.
pub(crate) fn pod_resources(
    request: &proto::UpdatePodSandboxResourcesRequest,
) -> Result<PodResources, RequestError> {
    let part = |field, given: &Option<proto::LinuxContainerResources>| {
        given.as_ref().map(|r| resources(field, r)).transpose()
    };
    Ok(PodResources {
        overhead: part("overhead", &request.overhead)?,
        resources: part("resources", &request.resources)?,
    })
}

fn shares(field: &str, value: i64) -> Result<Option<u64>, RequestError> {
    let shares = u64::try_from(value).map_err(|_| negative(field, value))?;
    Ok((shares != 0).then(|| shares.clamp(CPU_SHARES.0, CPU_SHARES.1)))
}

fn quota(field: &str, value: i64) -> Result<Option<Limit>, RequestError> {
    match value {
        0 => Ok(None),
        -1 => Ok(Some(Limit::Max)),
        MIN_CPU_QUOTA.. => limit(field, value).map(Some),
        _ => Err(RequestError::invalid(
            field,
            format!("{value} is neither -1 nor at least {MIN_CPU_QUOTA} microseconds"),
        )),
    }
}

fn period(field: &str, value: i64) -> Result<Option<u64>, RequestError> {
    if value == 0 {
        return Ok(None);
    }
    let value = Some(value).filter(|v| CPU_PERIOD.contains(v)).ok_or_else(|| {
        RequestError::invalid(field, format!("{value} is not 1000 to 1000000 microseconds"))
    })?;
    u64::try_from(value).map(Some).map_err(|_| negative(field, value))
}

fn memory(field: &str, value: i64) -> Result<Option<Limit>, RequestError> {
    match value {
        0 => Ok(None),
        -1 => Ok(Some(Limit::Max)),
        MIN_MEMORY..=MAX_MEMORY => limit(field, value).map(Some),
        _ => Err(RequestError::invalid(
            field,
            format!("{value} is neither -1 nor {MIN_MEMORY} to {MAX_MEMORY} bytes"),
        )),
    }
}

fn limit(field: &str, value: i64) -> Result<Limit, RequestError> {
    u64::try_from(value).map(Limit::Value).map_err(|_| negative(field, value))
}

fn oom_score_adj(field: &str, value: i64) -> Result<i32, RequestError> {
    i32::try_from(value)
        .ok()
        .filter(|v| (-1000..=1000).contains(v))
        .ok_or_else(|| RequestError::invalid(field, format!("{value} is not -1000 to 1000")))
}

/// A list in the kernel's format, `0-3,8` (cpuset(7), "List format").
fn list(field: &str, text: &str) -> Result<Option<String>, RequestError> {
    if text.is_empty() {
        return Ok(None);
    }
    let number = |s: &str| s.parse::<u16>().ok().filter(|_| s.bytes().all(|b| b.is_ascii_digit()));
    let good = text.split(',').all(|part| match part.split_once('-') {
        Some((from, to)) => matches!((number(from), number(to)), (Some(f), Some(t)) if f <= t),
        None => number(part).is_some(),
    });
    if !good {
        let reason = format!("{text:?} is not a list such as 0-3,8");
        return Err(RequestError::invalid(field, reason));
    }
    Ok(Some(text.to_owned()))
}

/// Sizes as the kernel names them in `hugetlb.<size>.max`.
fn hugepages(
    field: &str,
    limits: &[proto::HugepageLimit],
) -> Result<BTreeMap<String, u64>, RequestError> {
    let mut checked = BTreeMap::new();
    for (index, limit) in limits.iter().enumerate() {
        let field = format!("{field}[{index}].page_size");
        let size = &limit.page_size;
        let known = ["KB", "MB", "GB"].iter().find_map(|unit| size.strip_suffix(unit));
        let digits =
            |n: &str| !n.is_empty() && n.len() <= 4 && n.bytes().all(|b| b.is_ascii_digit());
        if !known.is_some_and(digits) {
            return Err(RequestError::invalid(
                field,
                format!("{size:?} is not a size such as 2MB"),
            ));
        }
        if checked.insert(size.clone(), limit.limit).is_some() {
            return Err(RequestError::invalid(field, format!("{size} is given twice")));
        }
    }
    Ok(checked)
}

/// Names of cgroup files: a controller, a dot, a file. Files of the core (`cgroup.procs`) are not
/// resources.
fn unified(
    field: &str,
    files: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, RequestError> {
    for (name, value) in files {
        let field = format!("{field}[{name:?}]");
        let letters = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_');
        let (controller, file) = name.split_once('.').unwrap_or_default();
        if controller.is_empty() || file.is_empty() || !name.bytes().all(letters) {
            return Err(RequestError::invalid(field, "not a file of a controller"));
        }
        if controller == "cgroup" {
            return Err(RequestError::invalid(field, "not a resource"));
        }
        string(&field, value)?;
        if value.len() > 4096 {
            return Err(RequestError::invalid(field, "longer than a page"));
        }
    }
    Ok(files.clone())
}

fn negative(field: &str, value: i64) -> RequestError {
    RequestError::invalid(field, format!("{value} is negative"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cri::proto::LinuxContainerResources as Proto;

    #[test]
    fn zeros_ask_for_nothing() {
        let none = resources("r", &Proto::default()).unwrap();
        assert_eq!(none, Resources { oom_score_adj: Some(0), ..Resources::default() });
    }

    #[test]
    fn a_kubelet_s_numbers_are_carried_over() {
        let given = Proto {
            cpu_period: 100_000,
            cpu_quota: 50_000,
            cpu_shares: 512,
            memory_limit_in_bytes: 64 << 20,
            memory_swap_limit_in_bytes: 64 << 20,
            oom_score_adj: 937,
            cpuset_cpus: "0-3,8".into(),
            unified: BTreeMap::from([("memory.oom.group".into(), "1".into())]),
            hugepage_limits: vec![proto::HugepageLimit { page_size: "2MB".into(), limit: 0 }],
            ..Proto::default()
        };
        let made = resources("r", &given).unwrap();
        assert_eq!(made.cpu_quota, Some(Limit::Value(50_000)));
        assert_eq!(made.cpu_period, Some(100_000));
        assert_eq!(made.cpu_shares, Some(512));
        assert_eq!(made.memory_limit, Some(Limit::Value(64 << 20)));
        assert_eq!(made.oom_score_adj, Some(937));
        assert_eq!(made.cpuset_cpus.as_deref(), Some("0-3,8"));
        assert_eq!(made.hugepage_limits["2MB"], 0);
        assert_eq!(made.unified["memory.oom.group"], "1");
    }

    #[test]
    fn minus_one_is_no_limit_and_shares_end_where_their_scale_does() {
        let made = resources(
            "r",
            &Proto {
                cpu_quota: -1,
                memory_limit_in_bytes: -1,
                memory_swap_limit_in_bytes: -1,
                cpu_shares: 307_200,
                ..Proto::default()
            },
        )
        .unwrap();
        assert_eq!(made.cpu_quota, Some(Limit::Max));
        assert_eq!(made.memory_limit, Some(Limit::Max));
        assert_eq!(made.memory_swap_limit, Some(Limit::Max));
        assert_eq!(made.cpu_shares, Some(262_144));
    }

    type Change = fn(&mut Proto);

    #[test]
    fn negative_and_absurd_numbers_are_refused_by_name() {
        let cases: [(&str, Change); 17] = [
            ("cpu_period", |r| r.cpu_period = -5),
            ("cpu_period", |r| r.cpu_period = 999),
            ("cpu_quota", |r| r.cpu_quota = -2),
            ("cpu_quota", |r| r.cpu_quota = 10),
            ("cpu_shares", |r| r.cpu_shares = -1),
            ("memory_limit_in_bytes", |r| r.memory_limit_in_bytes = -2),
            ("memory_limit_in_bytes", |r| r.memory_limit_in_bytes = 1),
            ("memory_limit_in_bytes", |r| r.memory_limit_in_bytes = i64::MAX),
            ("memory_swap_limit_in_bytes", |r| {
                r.memory_limit_in_bytes = 2 << 20;
                r.memory_swap_limit_in_bytes = 1 << 20;
            }),
            ("oom_score_adj", |r| r.oom_score_adj = 1001),
            ("oom_score_adj", |r| r.oom_score_adj = i64::MIN),
            ("cpuset_cpus", |r| r.cpuset_cpus = "3-1".into()),
            ("cpuset_mems", |r| r.cpuset_mems = "0,".into()),
            ("unified", |r| drop(r.unified.insert("../memory.max".into(), "1".into()))),
            ("unified", |r| drop(r.unified.insert("cgroup.kill".into(), "1".into()))),
            ("unified", |r| drop(r.unified.insert("memory".into(), "1".into()))),
            ("hugepage_limits[0].page_size", |r| {
                r.hugepage_limits = vec![proto::HugepageLimit { page_size: "2M".into(), limit: 1 }];
            }),
        ];
        for (field, change) in cases {
            let mut given = Proto::default();
            change(&mut given);
            let error = resources("r", &given).expect_err(field);
            assert!(error.to_string().starts_with(&format!("r.{field}")), "{field}: {error}");
            assert_eq!(error.kind(), crate::error::ErrorKind::InvalidArgument);
        }
    }

    #[test]
    fn an_update_needs_resources_and_leaves_a_zero_score_alone() {
        let request = proto::UpdateContainerResourcesRequest::default();
        assert_eq!(update_resources(&request), Err(RequestError::missing("linux")));
        let linux = Some(Proto { cpu_shares: 100, ..Proto::default() });
        let request = proto::UpdateContainerResourcesRequest { linux, ..request };
        assert_eq!(update_resources(&request).unwrap().oom_score_adj, None);
    }
}
