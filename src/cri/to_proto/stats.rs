//! Usage figures as replies. A figure that the kernel does not give is absent, not zero.

use super::container::metadata;
use super::image::filesystem;
use super::sandbox::metadata as sandbox_metadata;
use crate::cgroups::{CgroupStats, Limit, Pressure, Stall};
use crate::cni::InterfaceStats;
use crate::cri::proto;
use crate::engine::view::{ContainerView, SandboxView};
use crate::image::FsUsage;
use crate::sandbox::config::PodNamespace;

/// What there is to tell of a container.
pub(crate) struct Figures<'a> {
    /// The container.
    pub(crate) view: &'a ContainerView,
    /// The kernel's counters; `None` while it does not run.
    pub(crate) stats: Option<&'a CgroupStats>,
    /// What its writable layer takes.
    pub(crate) writable_layer: Option<&'a FsUsage>,
    /// Nanoseconds of CPU a second, from two samples.
    pub(crate) nano_cores: Option<u64>,
}

/// A container's figures.
pub(crate) fn container_stats(figures: &Figures<'_>) -> proto::ContainerStats {
    let view = figures.view;
    let stats = figures.stats;
    proto::ContainerStats {
        attributes: Some(proto::ContainerAttributes {
            id: view.id.to_string(),
            metadata: Some(metadata(&view.config)),
            labels: view.config.labels.clone(),
            annotations: view.config.annotations.clone(),
        }),
        cpu: stats.and_then(|s| cpu(s, figures.nano_cores)),
        memory: stats.and_then(memory),
        writable_layer: figures.writable_layer.map(filesystem),
        swap: stats.and_then(swap),
        io: stats.map(io),
    }
}

/// A pod's figures: its cgroup, its interfaces, its containers.
pub(crate) fn sandbox_stats(
    view: &SandboxView,
    stats: Option<&CgroupStats>,
    network: &[InterfaceStats],
    containers: Vec<proto::ContainerStats>,
    process_count: u64,
) -> proto::PodSandboxStats {
    // The pod's rate is the sum of its containers'; the kernel's counter alone has no rate.
    let rates = containers.iter().filter_map(|c| c.cpu?.usage_nano_cores).map(|v| v.value);
    let nano_cores = rates.reduce(u64::saturating_add);
    let timestamp = stats.map_or(0, |s| s.timestamp_nanos);
    proto::PodSandboxStats {
        attributes: Some(proto::PodSandboxAttributes {
            id: view.id.to_string(),
            metadata: Some(sandbox_metadata(&view.config.metadata)),
            labels: view.config.labels.clone(),
            annotations: view.config.annotations.clone(),
        }),
        linux: Some(proto::LinuxPodSandboxStats {
            cpu: stats.and_then(|s| cpu(s, nano_cores)),
            memory: stats.and_then(memory),
            network: match view.config.namespaces.network {
                PodNamespace::Pod => network_usage(network, timestamp),
                PodNamespace::Node => None,
            },
            process: Some(proto::ProcessUsage { timestamp, process_count: value(process_count) }),
            containers,
            io: stats.map(io),
        }),
        windows: None,
    }
}

fn value(value: u64) -> Option<proto::UInt64Value> {
    Some(proto::UInt64Value { value })
}

fn cpu(stats: &CgroupStats, nano_cores: Option<u64>) -> Option<proto::CpuUsage> {
    let cpu = stats.cpu.as_ref()?;
    Some(proto::CpuUsage {
        timestamp: stats.timestamp_nanos,
        usage_core_nano_seconds: value(cpu.usage_usec.saturating_mul(1000)),
        usage_nano_cores: nano_cores.and_then(value),
        psi: stats.cpu_pressure.map(pressure),
    })
}

fn memory(stats: &CgroupStats) -> Option<proto::MemoryUsage> {
    let memory = stats.memory.as_ref()?;
    let available = match memory.limit {
        Some(Limit::Value(limit)) => value(limit.saturating_sub(memory.working_set)),
        Some(Limit::Max) | None => None,
    };
    Some(proto::MemoryUsage {
        timestamp: stats.timestamp_nanos,
        working_set_bytes: value(memory.working_set),
        available_bytes: available,
        usage_bytes: value(memory.current),
        rss_bytes: value(memory.rss),
        page_faults: value(memory.page_faults),
        major_page_faults: value(memory.major_page_faults),
        psi: stats.memory_pressure.map(pressure),
    })
}

fn swap(stats: &CgroupStats) -> Option<proto::SwapUsage> {
    let memory = stats.memory.as_ref()?;
    let usage = memory.swap?;
    let available = match memory.swap_limit {
        Some(Limit::Value(limit)) => value(limit.saturating_sub(usage)),
        Some(Limit::Max) | None => None,
    };
    Some(proto::SwapUsage {
        timestamp: stats.timestamp_nanos,
        swap_available_bytes: available,
        swap_usage_bytes: value(usage),
    })
}

fn io(stats: &CgroupStats) -> proto::IoUsage {
    proto::IoUsage { timestamp: stats.timestamp_nanos, psi: stats.io_pressure.map(pressure) }
}

fn pressure(pressure: Pressure) -> proto::PsiStats {
    let stall = |stall: Stall| {
        Some(proto::PsiData {
            total: stall.total_usec,
            avg10: stall.avg10,
            avg60: stall.avg60,
            avg300: stall.avg300,
        })
    };
    proto::PsiStats { full: stall(pressure.full), some: stall(pressure.some) }
}

/// The first interface is the default one. What a pod tells itself by `lo` is no traffic.
fn network_usage(interfaces: &[InterfaceStats], timestamp: i64) -> Option<proto::NetworkUsage> {
    let real = interfaces.iter().filter(|i| i.name != "lo");
    let mut usages = real.map(|i| proto::NetworkInterfaceUsage {
        name: i.name.clone(),
        rx_bytes: value(i.rx_bytes),
        rx_errors: value(i.rx_errors),
        tx_bytes: value(i.tx_bytes),
        tx_errors: value(i.tx_errors),
    });
    let default_interface = Some(usages.next()?);
    Some(proto::NetworkUsage { timestamp, default_interface, interfaces: usages.collect() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroups::{CpuStats, MemoryStats};

    fn stats() -> CgroupStats {
        CgroupStats {
            timestamp_nanos: 7,
            cpu: Some(CpuStats { usage_usec: 3, ..CpuStats::default() }),
            memory: Some(MemoryStats {
                current: 100,
                working_set: 60,
                limit: Some(Limit::Value(50)),
                ..MemoryStats::default()
            }),
            ..CgroupStats::default()
        }
    }

    #[test]
    fn units_are_the_interface_s_and_nothing_falls_below_zero() {
        let cpu = cpu(&stats(), Some(5)).unwrap();
        assert_eq!(cpu.usage_core_nano_seconds.unwrap().value, 3000);
        assert_eq!((cpu.timestamp, cpu.usage_nano_cores.unwrap().value), (7, 5));
        let memory = memory(&stats()).unwrap();
        assert_eq!(memory.working_set_bytes.unwrap().value, 60);
        assert_eq!(memory.available_bytes.unwrap().value, 0);
    }

    #[test]
    fn a_figure_that_the_kernel_does_not_give_is_absent() {
        let none = CgroupStats::default();
        assert!(cpu(&none, Some(1)).is_none() && memory(&none).is_none());
        assert!(swap(&stats()).is_none());
        let unlimited = MemoryStats { limit: Some(Limit::Max), ..MemoryStats::default() };
        let stats = CgroupStats { memory: Some(unlimited), ..none };
        assert!(memory(&stats).unwrap().available_bytes.is_none());
        assert!(network_usage(&[], 1).is_none());
    }

    #[test]
    fn the_first_interface_but_lo_is_the_default_one() {
        let named = |name: &str| InterfaceStats { name: name.into(), ..Default::default() };
        let usage = network_usage(&[named("lo"), named("eth0"), named("net1")], 1).unwrap();
        assert_eq!(usage.default_interface.unwrap().name, "eth0");
        assert_eq!(usage.interfaces.len(), 1);
    }
}
