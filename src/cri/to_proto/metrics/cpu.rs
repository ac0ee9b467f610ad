//! CPU time, throttling, CPU limits, and time lost to waiting.

use super::family::{Family, Samples};
use crate::cgroups::{CgroupDetails, CgroupStats, Limit, Pressure};
use crate::cri::proto::MetricDescriptor;

const USAGE: Family<1> =
    Family::counter("container_cpu_usage_seconds_total", ["cpu"], "CPU time used, seconds.");
const USER: Family<0> =
    Family::counter("container_cpu_user_seconds_total", [], "CPU time in user mode, seconds.");
const SYSTEM: Family<0> =
    Family::counter("container_cpu_system_seconds_total", [], "CPU time in the kernel, seconds.");
const PERIODS: Family<0> =
    Family::counter("container_cpu_cfs_periods_total", [], "Periods of the CPU quota.");
const THROTTLED_PERIODS: Family<0> = Family::counter(
    "container_cpu_cfs_throttled_periods_total",
    [],
    "Periods in which the CPU quota was used up.",
);
const THROTTLED: Family<0> = Family::counter(
    "container_cpu_cfs_throttled_seconds_total",
    [],
    "Time lost to the CPU quota, seconds.",
);
const PERIOD: Family<0> =
    Family::gauge("container_spec_cpu_period", [], "The CPU period, microseconds.");
const QUOTA: Family<0> = Family::gauge(
    "container_spec_cpu_quota",
    [],
    "CPU time a period, microseconds; no sample: no limit.",
);
const SHARES: Family<0> = Family::gauge("container_spec_cpu_shares", [], "CPU shares asked for.");
/// Waiting: somebody waits. Stalled: everybody waits.
const STALLS: [(Family<0>, Family<0>); 3] = [
    (
        Family::counter(
            "container_pressure_cpu_waiting_seconds_total",
            [],
            "Time in which some tasks waited for CPU, seconds.",
        ),
        Family::counter(
            "container_pressure_cpu_stalled_seconds_total",
            [],
            "Time in which all tasks waited for CPU, seconds.",
        ),
    ),
    (
        Family::counter(
            "container_pressure_memory_waiting_seconds_total",
            [],
            "Time in which some tasks waited for memory, seconds.",
        ),
        Family::counter(
            "container_pressure_memory_stalled_seconds_total",
            [],
            "Time in which all tasks waited for memory, seconds.",
        ),
    ),
    (
        Family::counter(
            "container_pressure_io_waiting_seconds_total",
            [],
            "Time in which some tasks waited for I/O, seconds.",
        ),
        Family::counter(
            "container_pressure_io_stalled_seconds_total",
            [],
            "Time in which all tasks waited for I/O, seconds.",
        ),
    ),
];

/// The kernel's weight where nothing was asked for, in shares.
const DEFAULT_SHARES: u64 = 1024;
const USEC: u64 = 1_000_000;

pub(super) fn descriptors() -> Vec<MetricDescriptor> {
    let stalls = STALLS.iter().flat_map(|(some, all)| [some.descriptor(), all.descriptor()]);
    [USER, SYSTEM, PERIODS, THROTTLED_PERIODS, THROTTLED, PERIOD, QUOTA, SHARES]
        .iter()
        .map(Family::descriptor)
        .chain([USAGE.descriptor()])
        .chain(stalls)
        .collect()
}

/// `shares`: what was asked for; the kernel keeps a coarser weight.
pub(super) fn add(
    samples: &mut Samples,
    stats: &CgroupStats,
    details: &CgroupDetails,
    shares: Option<u64>,
) {
    if let Some(cpu) = &stats.cpu {
        samples.add(&USAGE, ["total"], cpu.usage_usec / USEC);
        samples.add(&USER, [], cpu.user_usec / USEC);
        samples.add(&SYSTEM, [], cpu.system_usec / USEC);
        // Without the controller there is no quota and nothing counts.
        if details.cpu_max.is_some() {
            samples.add(&PERIODS, [], cpu.nr_periods);
            samples.add(&THROTTLED_PERIODS, [], cpu.nr_throttled);
            samples.add(&THROTTLED, [], cpu.throttled_usec / USEC);
        }
    }
    if let Some((quota, period)) = details.cpu_max {
        samples.add(&PERIOD, [], period);
        if let Limit::Value(quota) = quota {
            samples.add(&QUOTA, [], quota);
        }
    }
    if details.cpu_weight.is_some() {
        samples.add(&SHARES, [], shares.unwrap_or(DEFAULT_SHARES));
    }
    let pressures = [stats.cpu_pressure, stats.memory_pressure, stats.io_pressure];
    for ((some, all), pressure) in STALLS.iter().zip(pressures) {
        let Some(Pressure { some: waiting, full: stalled }) = pressure else { continue };
        samples.add(some, [], waiting.total_usec / USEC);
        samples.add(all, [], stalled.total_usec / USEC);
    }
}
