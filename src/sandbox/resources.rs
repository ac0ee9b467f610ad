//! The limits of a pod's own cgroup, from what its containers ask for together and from what the pod
//! costs beside them (KEP-688, pod overhead). Pure.

use crate::cgroups::{Limit, Resources};

/// The kernel's CPU period where none is given, microseconds.
const CPU_PERIOD: u64 = 100_000;
/// The end of the scale of CPU shares.
const MAX_SHARES: u64 = 262_144;

/// The limits of a pod. An overhead adds to a limit; where the containers have none, it sets none.
pub fn pod_limits(resources: Option<&Resources>, overhead: Option<&Resources>) -> Resources {
    let mut pod = resources.cloned().unwrap_or_default();
    let Some(overhead) = overhead else { return pod };
    pod.cpu_shares = match (pod.cpu_shares, overhead.cpu_shares) {
        (Some(own), Some(more)) => Some(own.saturating_add(more).min(MAX_SHARES)),
        (own, more) => own.or(more),
    };
    if let (Some(Limit::Value(own)), Some(Limit::Value(more))) = (pod.cpu_quota, overhead.cpu_quota)
    {
        let period = pod.cpu_period.unwrap_or(CPU_PERIOD);
        let more = scaled(more, period, overhead.cpu_period.unwrap_or(CPU_PERIOD));
        pod.cpu_quota = Some(Limit::Value(own.saturating_add(more)));
    }
    if let (Some(Limit::Value(own)), Some(Limit::Value(more))) =
        (pod.memory_limit, overhead.memory_limit)
    {
        pod.memory_limit = Some(Limit::Value(own.saturating_add(more)));
        // It counts memory and swap together, and the overhead brings no swap.
        if let Some(Limit::Value(both)) = pod.memory_swap_limit {
            pod.memory_swap_limit = Some(Limit::Value(both.saturating_add(more)));
        }
    }
    for (size, more) in &overhead.hugepage_limits {
        let own = pod.hugepage_limits.entry(size.clone()).or_default();
        *own = own.saturating_add(*more);
    }
    for (file, value) in &overhead.unified {
        pod.unified.entry(file.clone()).or_insert_with(|| value.clone());
    }
    pod
}

/// What to write to get from the limits `old` to `new`: `new`, and no limit where only `old` had one.
/// Huge pages, CPU lists and `unified` files that `new` does not name have no neutral value and stay.
pub fn replacing(old: &Resources, new: &Resources) -> Resources {
    let mut write = new.clone();
    if new.cpu_shares.is_none() && old.cpu_shares.is_some() {
        // The kernel's default weight.
        write.cpu_shares = Some(1024);
    }
    if new.cpu_quota.is_none() && old.cpu_quota.is_some() {
        write.cpu_quota = Some(Limit::Max);
    }
    if new.memory_limit.is_none() && old.memory_limit.is_some() {
        write.memory_limit = Some(Limit::Max);
        write.memory_swap_limit = new.memory_swap_limit.or(Some(Limit::Max));
    }
    write
}

/// A quota of another period.
fn scaled(quota: u64, to: u64, from: u64) -> u64 {
    let scaled = u128::from(quota) * u128::from(to) / u128::from(from.max(1));
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> Resources {
        Resources {
            cpu_shares: Some(512),
            cpu_quota: Some(Limit::Value(50_000)),
            memory_limit: Some(Limit::Value(64 << 20)),
            memory_swap_limit: Some(Limit::Value(64 << 20)),
            hugepage_limits: [("2MB".to_owned(), 0)].into(),
            ..Resources::default()
        }
    }

    fn overhead() -> Resources {
        Resources {
            cpu_shares: Some(256),
            cpu_quota: Some(Limit::Value(5_000)),
            cpu_period: Some(50_000),
            memory_limit: Some(Limit::Value(16 << 20)),
            hugepage_limits: [("2MB".to_owned(), 2 << 20)].into(),
            ..Resources::default()
        }
    }

    #[test]
    fn an_overhead_adds_to_each_limit_in_its_unit() {
        let pod = pod_limits(Some(&some()), Some(&overhead()));
        assert_eq!(pod.cpu_shares, Some(768));
        assert_eq!(pod.cpu_quota, Some(Limit::Value(60_000)), "5 ms of 50 are 10 of 100");
        assert_eq!(pod.memory_limit, Some(Limit::Value(80 << 20)));
        assert_eq!(pod.memory_swap_limit, Some(Limit::Value(80 << 20)));
        assert_eq!(pod.hugepage_limits["2MB"], 2 << 20);
    }

    #[test]
    fn an_overhead_limits_nothing_that_the_containers_leave_open() {
        let pod = pod_limits(None, Some(&overhead()));
        assert_eq!((pod.cpu_quota, pod.memory_limit), (None, None));
        assert_eq!(pod.cpu_shares, Some(256));
        let open = Resources { memory_limit: Some(Limit::Max), ..some() };
        assert_eq!(pod_limits(Some(&open), Some(&overhead())).memory_limit, Some(Limit::Max));
        assert_eq!(pod_limits(Some(&some()), None), some());
        assert_eq!(pod_limits(None, None), Resources::default());
    }

    #[test]
    fn what_is_not_limited_any_more_is_opened() {
        let write = replacing(&some(), &Resources::default());
        assert_eq!(write.cpu_shares, Some(1024));
        assert_eq!(write.cpu_quota, Some(Limit::Max));
        assert_eq!(write.memory_limit, Some(Limit::Max));
        assert_eq!(write.memory_swap_limit, Some(Limit::Max));
        let nothing = Resources::default();
        assert_eq!(replacing(&nothing, &nothing), nothing);
        assert_eq!(replacing(&nothing, &some()), some());
    }
}
