//! Memory: use, events, limits, huge pages.

use super::family::{Family, Samples};
use crate::cgroups::{CgroupDetails, CgroupStats, Limit};
use crate::cri::proto::MetricDescriptor;

const USAGE: Family<0> =
    Family::gauge("container_memory_usage_bytes", [], "All memory charged, bytes.");
const WORKING_SET: Family<0> = Family::gauge(
    "container_memory_working_set_bytes",
    [],
    "Memory without inactive file pages, bytes.",
);
const MAX_USAGE: Family<0> =
    Family::gauge("container_memory_max_usage_bytes", [], "The most memory ever charged, bytes.");
const RSS: Family<0> = Family::gauge("container_memory_rss", [], "Anonymous memory, bytes.");
const CACHE: Family<0> = Family::gauge("container_memory_cache", [], "Page cache, bytes.");
const MAPPED: Family<0> =
    Family::gauge("container_memory_mapped_file", [], "Memory of mapped files, bytes.");
const KERNEL: Family<0> =
    Family::gauge("container_memory_kernel_usage", [], "Memory of the kernel's own, bytes.");
const SWAP: Family<0> = Family::gauge("container_memory_swap", [], "Swap in use, bytes.");
const FAILCNT: Family<0> =
    Family::counter("container_memory_failcnt", [], "How often the memory limit was met.");
const FAILURES: Family<2> = Family::counter(
    "container_memory_failures_total",
    ["failure_type", "scope"],
    "Page faults, and those that waited for I/O.",
);
const OOM_EVENTS: Family<0> =
    Family::counter("container_oom_events_total", [], "Processes killed for want of memory.");
const LIMIT: Family<0> =
    Family::gauge("container_spec_memory_limit_bytes", [], "The memory limit, bytes; 0: no limit.");
const RESERVATION: Family<0> = Family::gauge(
    "container_spec_memory_reservation_limit_bytes",
    [],
    "Memory that is not taken away, bytes; 0: none.",
);
const SWAP_LIMIT: Family<0> = Family::gauge(
    "container_spec_memory_swap_limit_bytes",
    [],
    "The swap limit, bytes; 0: none, or no limit.",
);
const HUGE_USAGE: Family<1> =
    Family::gauge("container_hugetlb_usage_bytes", ["pagesize"], "Huge pages in use, bytes.");
/// Version 2 of cgroups keeps no such account: there is a descriptor, for those who ask for the name,
/// and never a sample.
const HUGE_MAX: Family<1> = Family::gauge(
    "container_hugetlb_max_usage_bytes",
    ["pagesize"],
    "The most huge pages ever in use, bytes; cgroup v2 does not tell.",
);

pub(super) fn descriptors() -> Vec<MetricDescriptor> {
    let plain = [
        USAGE,
        WORKING_SET,
        MAX_USAGE,
        RSS,
        CACHE,
        MAPPED,
        KERNEL,
        SWAP,
        FAILCNT,
        OOM_EVENTS,
        LIMIT,
        RESERVATION,
        SWAP_LIMIT,
    ];
    let more = [FAILURES.descriptor(), HUGE_USAGE.descriptor(), HUGE_MAX.descriptor()];
    plain.iter().map(Family::descriptor).chain(more).collect()
}

pub(super) fn add(samples: &mut Samples, stats: &CgroupStats, details: &CgroupDetails) {
    for huge in &details.hugetlb {
        samples.add(&HUGE_USAGE, [&huge.size], huge.current);
    }
    let Some(memory) = &stats.memory else { return };
    samples.add(&USAGE, [], memory.current);
    samples.add(&WORKING_SET, [], memory.working_set);
    samples.add(&RSS, [], memory.rss);
    samples.add(&FAILCNT, [], memory.events.max);
    samples.add(&OOM_EVENTS, [], memory.events.oom_kill);
    // The kernel's counts include what is below, so both scopes are one.
    for scope in ["container", "hierarchy"] {
        samples.add(&FAILURES, ["pgfault", scope], memory.page_faults);
        samples.add(&FAILURES, ["pgmajfault", scope], memory.major_page_faults);
    }
    samples.add_some(&MAX_USAGE, memory.peak);
    samples.add_some(&SWAP, memory.swap);
    samples.add_some(&CACHE, details.cache);
    samples.add_some(&MAPPED, details.mapped_file);
    samples.add_some(&KERNEL, details.kernel);
    samples.add_some(&LIMIT, memory.limit.map(zero_for_none));
    samples.add_some(&SWAP_LIMIT, memory.swap_limit.map(zero_for_none));
    samples.add_some(&RESERVATION, details.reserved.map(zero_for_none));
}

fn zero_for_none(limit: Limit) -> u64 {
    match limit {
        Limit::Max => 0,
        Limit::Value(bytes) => bytes,
    }
}
