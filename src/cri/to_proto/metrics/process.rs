//! Processes, threads, and what they hold open.

use super::family::{Family, Samples};
use crate::cgroups::{CgroupStats, Limit};
use crate::container::processes::ProcessFigures;
use crate::cri::proto::MetricDescriptor;

const PROCESSES: Family<0> = Family::gauge("container_processes", [], "Processes.");
const THREADS: Family<0> = Family::gauge("container_threads", [], "Threads.");
const THREADS_MAX: Family<0> =
    Family::gauge("container_threads_max", [], "The most threads permitted; 0: no limit.");
const DESCRIPTORS: Family<0> =
    Family::gauge("container_file_descriptors", [], "Open file descriptors.");
const SOCKETS: Family<0> = Family::gauge("container_sockets", [], "Open sockets.");
const ULIMITS: Family<1> = Family::gauge(
    "container_ulimits_soft",
    ["ulimit"],
    "Soft limits of the first process; no sample: no limit.",
);

pub(super) fn descriptors() -> Vec<MetricDescriptor> {
    [PROCESSES, THREADS, THREADS_MAX, DESCRIPTORS, SOCKETS]
        .iter()
        .map(Family::descriptor)
        .chain([ULIMITS.descriptor()])
        .collect()
}

pub(super) fn add(samples: &mut Samples, figures: &ProcessFigures, stats: &CgroupStats) {
    samples.add(&PROCESSES, [], figures.processes);
    samples.add(&THREADS, [], figures.threads);
    samples.add(&DESCRIPTORS, [], figures.descriptors);
    samples.add(&SOCKETS, [], figures.sockets);
    if let Some(max) = stats.pids.as_ref().and_then(|pids| pids.max) {
        let max = match max {
            Limit::Max => 0,
            Limit::Value(max) => max,
        };
        samples.add(&THREADS_MAX, [], max);
    }
    for (name, value) in &figures.soft_limits {
        samples.add(&ULIMITS, [name], *value);
    }
}
