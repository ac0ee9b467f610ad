//! The names that kubelets and dashboards ask for, and the labels of every sample.

use super::*;
use crate::cgroups::{
    CgroupDetails, CgroupStats, CpuStats, DeviceIo, HugeTlb, IoStats, Limit, MemoryStats,
    PidsStats, Pressure,
};
use crate::cni::InterfaceStats;
use crate::container::processes::ProcessFigures;
use crate::cri::to_proto::metrics::family::{BASE_KEYS, Samples};
use crate::image::FsUsage;
use crate::sys::fs::Space;
use std::collections::{BTreeMap, BTreeSet};

const NAMES: &str = "
    container_blkio_device_usage_total container_cpu_cfs_periods_total
    container_cpu_cfs_throttled_periods_total container_cpu_cfs_throttled_seconds_total
    container_cpu_system_seconds_total container_cpu_usage_seconds_total
    container_cpu_user_seconds_total container_file_descriptors container_fs_inodes_free
    container_fs_inodes_total container_fs_limit_bytes container_fs_reads_bytes_total
    container_fs_reads_total container_fs_usage_bytes container_fs_writes_bytes_total
    container_fs_writes_total container_hugetlb_max_usage_bytes container_hugetlb_usage_bytes
    container_last_seen container_memory_cache container_memory_failcnt
    container_memory_failures_total container_memory_kernel_usage container_memory_mapped_file
    container_memory_max_usage_bytes container_memory_rss container_memory_swap
    container_memory_usage_bytes container_memory_working_set_bytes
    container_network_receive_bytes_total container_network_receive_errors_total
    container_network_receive_packets_dropped_total container_network_receive_packets_total
    container_network_transmit_bytes_total container_network_transmit_errors_total
    container_network_transmit_packets_dropped_total container_network_transmit_packets_total
    container_oom_events_total container_pressure_cpu_stalled_seconds_total
    container_pressure_cpu_waiting_seconds_total container_pressure_io_stalled_seconds_total
    container_pressure_io_waiting_seconds_total container_pressure_memory_stalled_seconds_total
    container_pressure_memory_waiting_seconds_total container_processes container_sockets
    container_spec_cpu_period container_spec_cpu_quota container_spec_cpu_shares
    container_spec_memory_limit_bytes container_spec_memory_reservation_limit_bytes
    container_spec_memory_swap_limit_bytes container_start_time_seconds container_threads
    container_threads_max container_ulimits_soft";

/// A cgroup of which the kernel tells everything.
fn everything() -> GroupFigures {
    let memory = MemoryStats {
        peak: Some(1),
        limit: Some(Limit::Max),
        swap: Some(1),
        swap_limit: Some(Limit::Value(1)),
        ..MemoryStats::default()
    };
    let stats = CgroupStats {
        timestamp_nanos: 7_000_000_000,
        cpu: Some(CpuStats { usage_usec: 3_999_999, ..CpuStats::default() }),
        memory: Some(memory),
        pids: Some(PidsStats { current: 1, max: Some(Limit::Max) }),
        io: Some(IoStats::default()),
        cpu_pressure: Some(Pressure::default()),
        memory_pressure: Some(Pressure::default()),
        io_pressure: Some(Pressure::default()),
    };
    let details = CgroupDetails {
        cpu_max: Some((Limit::Value(5), 10)),
        cpu_weight: Some(100),
        cache: Some(1),
        mapped_file: Some(1),
        kernel: Some(1),
        reserved: Some(Limit::Value(1)),
        io: vec![DeviceIo { major: 0, minor: 1, io: IoStats::default() }],
        hugetlb: vec![HugeTlb { size: "2MB".into(), current: 1 }],
    };
    let soft_limits = vec![("max_open_files".to_owned(), 1024)];
    let processes = ProcessFigures { soft_limits, ..ProcessFigures::default() };
    GroupFigures { stats: Some(stats), details, processes }
}

fn samples() -> Vec<proto::Metric> {
    let mut samples = Samples::of(BASE_KEYS.map(str::to_owned));
    add_group(&mut samples, &everything(), None, 1);
    network::add(&mut samples, &[InterfaceStats { name: "eth0".into(), ..Default::default() }]);
    let layer =
        FsUsage { mountpoint: "/".into(), used_bytes: 1, inodes_used: 1, timestamp_nanos: 1 };
    let space = Space { major: 0, minor: 1, bytes: 1, inodes: 1, inodes_free: 1 };
    disk::add_layer(&mut samples, Some(&layer), Some(&space));
    samples.into_metrics()
}

#[test]
fn every_name_that_is_asked_for_has_one_descriptor() {
    let told: Vec<String> = descriptors().into_iter().map(|d| d.name).collect();
    let asked: Vec<&str> = NAMES.split_whitespace().collect();
    assert_eq!(told, asked);
}

#[test]
fn every_family_has_a_sample_where_the_kernel_tells_everything() {
    let made: BTreeSet<String> = samples().into_iter().map(|m| m.name).collect();
    let asked: BTreeSet<String> = NAMES.split_whitespace().map(str::to_owned).collect();
    let missing: Vec<&String> = asked.difference(&made).collect();
    assert_eq!(missing, ["container_hugetlb_max_usage_bytes"], "which version 2 does not tell");
    assert!(made.is_subset(&asked));
}

// A collector pairs values with keys by position, and refuses another number of them.
#[test]
fn every_sample_has_the_labels_of_its_descriptor() {
    let keys: BTreeMap<String, usize> =
        descriptors().into_iter().map(|d| (d.name, d.label_keys.len())).collect();
    for sample in samples() {
        assert_eq!(sample.label_values.len(), keys[&sample.name], "{sample:?}");
    }
}

#[test]
fn no_two_samples_have_one_name_and_the_same_labels() {
    let all = samples();
    let different: BTreeSet<_> = all.iter().map(|m| (&m.name, &m.label_values)).collect();
    assert_eq!(different.len(), all.len());
}

#[test]
fn seconds_are_whole_and_nothing_of_a_lost_cgroup_is_told() {
    let usage = samples().into_iter().find(|m| m.name == "container_cpu_usage_seconds_total");
    assert_eq!(usage.unwrap().value.unwrap().value, 3);
    let mut samples = Samples::of(BASE_KEYS.map(str::to_owned));
    add_group(&mut samples, &GroupFigures::default(), None, 1);
    assert!(samples.into_metrics().is_empty());
}
