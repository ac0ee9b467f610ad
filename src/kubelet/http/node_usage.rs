//! What the node uses, from /proc.

use crate::clock::now_nanos;
use procfs::{
    CpuTime, Current as _, CurrentSI as _, KernelStats, LoadAverage, Meminfo, ProcResult, VmStat,
};
use std::path::Path;

/// What the node uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::kubelet) struct NodeUsage {
    /// When it was read, nanoseconds since 1970.
    pub(in crate::kubelet) at_nanos: i64,
    /// When the node was booted, nanoseconds since 1970.
    pub(in crate::kubelet) boot_nanos: i64,
    /// CPU time of all CPUs, nanoseconds.
    pub(in crate::kubelet) cpu_nanos: u64,
    /// Memory less what is free.
    pub(in crate::kubelet) used_bytes: u64,
    /// That less files that were not used for long.
    pub(in crate::kubelet) working_set_bytes: u64,
    /// What is left of the memory.
    pub(in crate::kubelet) available_bytes: u64,
    /// What the kernel thinks could be had without swapping, files that were used lately counted.
    pub(in crate::kubelet) kernel_available_bytes: u64,
    /// Memory of processes that is of no file.
    pub(in crate::kubelet) rss_bytes: u64,
    /// Swap in use.
    pub(in crate::kubelet) swap_used_bytes: u64,
    /// Swap not in use.
    pub(in crate::kubelet) swap_available_bytes: u64,
    /// Page faults since the boot.
    pub(in crate::kubelet) page_faults: u64,
    /// Those that had to read.
    pub(in crate::kubelet) major_page_faults: u64,
    /// Tasks there are.
    pub(in crate::kubelet) tasks: u64,
    /// The most process ids.
    pub(in crate::kubelet) pid_max: u64,
}

/// Nanoseconds in a tick of /proc/stat: USER_HZ is 100 (proc(5)).
const TICK: u64 = 10_000_000;
const SECOND: i64 = 1_000_000_000;

/// The files that it is made of.
struct Files {
    kernel: KernelStats,
    memory: Meminfo,
    faults: VmStat,
    load: LoadAverage,
    pid_max: i32,
}

impl NodeUsage {
    /// Reads it. Blocking.
    ///
    /// # Errors
    /// A file of /proc cannot be read.
    pub(in crate::kubelet) fn read() -> ProcResult<Self> {
        Ok(Self::of(&Files {
            kernel: KernelStats::current()?,
            memory: Meminfo::current()?,
            faults: VmStat::current()?,
            load: LoadAverage::current()?,
            pid_max: procfs::sys::kernel::pid_max()?,
        }))
    }

    fn of(files: &Files) -> Self {
        let Files { kernel, memory, faults, load, pid_max } = files;
        let boot = i64::try_from(kernel.btime).unwrap_or(i64::MAX);
        let used_bytes = memory.mem_total.saturating_sub(memory.mem_free);
        let working_set_bytes = used_bytes.saturating_sub(memory.inactive_file.unwrap_or(0));
        let fault =
            |name: &str| faults.0.get(name).and_then(|n| u64::try_from(*n).ok()).unwrap_or(0);
        Self {
            at_nanos: now_nanos(),
            boot_nanos: boot.saturating_mul(SECOND),
            cpu_nanos: busy_ticks(&kernel.total).saturating_mul(TICK),
            used_bytes,
            working_set_bytes,
            available_bytes: memory.mem_total.saturating_sub(working_set_bytes),
            kernel_available_bytes: memory.mem_available.unwrap_or(memory.mem_free),
            rss_bytes: memory.anon_pages.unwrap_or(0),
            swap_used_bytes: memory.swap_total.saturating_sub(memory.swap_free),
            swap_available_bytes: memory.swap_free,
            page_faults: fault("pgfault"),
            major_page_faults: fault("pgmajfault"),
            tasks: u64::from(load.max),
            pid_max: u64::try_from(*pid_max).unwrap_or(0),
        }
    }

    /// Nanoseconds of CPU a second since an earlier look.
    pub(in crate::kubelet) fn nano_cores_since(&self, before: &Self) -> Option<u64> {
        let passed = u64::try_from(self.at_nanos.checked_sub(before.at_nanos)?).ok()?;
        let used = u128::from(self.cpu_nanos.checked_sub(before.cpu_nanos)?) * 1_000_000_000;
        u64::try_from(used.checked_div(u128::from(passed))?).ok()
    }
}

/// What is neither idle nor waits; what guests use is in `user` already.
fn busy_ticks(cpu: &CpuTime) -> u64 {
    let kernel = [cpu.irq, cpu.softirq, cpu.steal].into_iter().flatten();
    [cpu.user, cpu.nice, cpu.system].into_iter().chain(kernel).fold(0, u64::saturating_add)
}

/// A file system as `statvfs` tells it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::kubelet) struct FileSystem {
    pub(in crate::kubelet) capacity_bytes: u64,
    pub(in crate::kubelet) available_bytes: u64,
    pub(in crate::kubelet) used_bytes: u64,
    pub(in crate::kubelet) inodes: u64,
    pub(in crate::kubelet) inodes_free: u64,
}

impl FileSystem {
    /// The one that `path` is on. Blocking.
    pub(in crate::kubelet) fn read(path: &Path) -> Option<Self> {
        let stat = nix::sys::statvfs::statvfs(path).ok()?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.fragment_size());
        Some(Self {
            capacity_bytes: bytes(stat.blocks()),
            available_bytes: bytes(stat.blocks_available()),
            used_bytes: bytes(stat.blocks().saturating_sub(stat.blocks_free())),
            inodes: stat.files(),
            inodes_free: stat.files_free(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use procfs::{FromBufRead as _, FromBufReadSI as _, FromRead as _};

    #[test]
    fn what_the_node_uses_is_made_of_the_files_of_proc() {
        const KIB: u64 = 1024;
        let stat =
            "cpu  100 1 50 9999 77 2 3 4 50 0\ncpu0 1 1 1 1\nctxt 1\nbtime 1000\nprocesses 1\n";
        // The first lines are those that every kernel has.
        let meminfo = "MemTotal: 1000 kB\nMemFree: 400 kB\nMemAvailable: 550 kB\nBuffers: 0 kB\nCached: 0 kB\n\
            SwapCached: 0 kB\nActive: 0 kB\nInactive: 0 kB\nInactive(file): 100 kB\nSwapTotal: 50 kB\n\
            SwapFree: 20 kB\nDirty: 0 kB\nWriteback: 0 kB\nAnonPages: 7 kB\nMapped: 0 kB\nSlab: 0 kB\n\
            Committed_AS: 0 kB\nVmallocTotal: 0 kB\nVmallocUsed: 0 kB\nVmallocChunk: 0 kB\n";
        let system = procfs::current_system_info();
        let read = NodeUsage::of(&Files {
            kernel: KernelStats::from_buf_read(stat.as_bytes(), system).unwrap(),
            memory: Meminfo::from_buf_read(meminfo.as_bytes()).unwrap(),
            faults: VmStat::from_buf_read("pgfault 12\npgmajfault 3\n".as_bytes()).unwrap(),
            load: LoadAverage::from_read("0.1 0.2 0.3 2/345 6789\n".as_bytes()).unwrap(),
            pid_max: 4_194_304,
        });
        let expected = NodeUsage {
            at_nanos: read.at_nanos,
            boot_nanos: 1000 * SECOND,
            cpu_nanos: 160 * TICK,
            used_bytes: 600 * KIB,
            working_set_bytes: 500 * KIB,
            available_bytes: 500 * KIB,
            kernel_available_bytes: 550 * KIB,
            rss_bytes: 7 * KIB,
            swap_used_bytes: 30 * KIB,
            swap_available_bytes: 20 * KIB,
            page_faults: 12,
            major_page_faults: 3,
            tasks: 345,
            pid_max: 4_194_304,
        };
        assert_eq!(read, expected);
    }

    #[test]
    fn this_node_uses_something() {
        let read = NodeUsage::read().unwrap();
        let text = std::fs::read_to_string("/proc/stat").unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("btime ")).unwrap();
        assert_eq!(read.boot_nanos, line.parse::<i64>().unwrap() * SECOND);
        assert!(read.tasks > 0 && read.cpu_nanos > 0 && read.available_bytes > 0, "{read:?}");
    }

    #[test]
    fn a_rate_is_between_two_looks() {
        let before = NodeUsage { at_nanos: SECOND, cpu_nanos: 10, ..NodeUsage::default() };
        let now = NodeUsage { at_nanos: 3 * SECOND, cpu_nanos: 1010, ..NodeUsage::default() };
        assert_eq!(now.nano_cores_since(&before), Some(500));
        assert_eq!(before.nano_cores_since(&now), None);
        assert_eq!(now.nano_cores_since(&now), None);
    }
}
