//! What the node uses, from /proc.

use crate::clock::now_nanos;
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
const KIB: u64 = 1024;
const SECOND: i64 = 1_000_000_000;

impl NodeUsage {
    /// Reads it. Blocking. What cannot be read is 0.
    pub(in crate::kubelet) fn read(proc: &Path) -> Self {
        let text = |name: &str| std::fs::read_to_string(proc.join(name)).unwrap_or_default();
        let (stat, memory) = (text("stat"), text("meminfo"));
        let (vmstat, load, most) = (text("vmstat"), text("loadavg"), text("sys/kernel/pid_max"));
        let kib = |name| number(&memory, name).saturating_mul(KIB);
        let total = kib("MemTotal:");
        let used_bytes = total.saturating_sub(kib("MemFree:"));
        let working_set_bytes = used_bytes.saturating_sub(kib("Inactive(file):"));
        let boot = i64::try_from(number(&stat, "btime")).unwrap_or(0);
        Self {
            at_nanos: now_nanos(),
            boot_nanos: boot.saturating_mul(SECOND),
            cpu_nanos: busy_ticks(&stat).saturating_mul(TICK),
            used_bytes,
            working_set_bytes,
            available_bytes: total.saturating_sub(working_set_bytes),
            kernel_available_bytes: kib("MemAvailable:"),
            rss_bytes: kib("AnonPages:"),
            swap_used_bytes: kib("SwapTotal:").saturating_sub(kib("SwapFree:")),
            swap_available_bytes: kib("SwapFree:"),
            page_faults: number(&vmstat, "pgfault"),
            major_page_faults: number(&vmstat, "pgmajfault"),
            tasks: tasks(&load),
            pid_max: most.trim().parse().unwrap_or(0),
        }
    }

    /// Nanoseconds of CPU a second since an earlier look.
    pub(in crate::kubelet) fn nano_cores_since(&self, before: &Self) -> Option<u64> {
        let passed = u64::try_from(self.at_nanos.checked_sub(before.at_nanos)?).ok()?;
        let used = u128::from(self.cpu_nanos.checked_sub(before.cpu_nanos)?) * 1_000_000_000;
        u64::try_from(used.checked_div(u128::from(passed))?).ok()
    }
}

/// The number behind a line's first word.
fn number(text: &str, name: &str) -> u64 {
    let of = |line: &str| {
        let mut words = line.split_whitespace();
        (words.next() == Some(name)).then(|| words.next()?.parse().ok()).flatten()
    };
    text.lines().find_map(of).unwrap_or(0)
}

/// Of `cpu user nice system idle iowait irq softirq steal ...` what is neither idle nor waits; what guests use is in
/// `user` already.
fn busy_ticks(stat: &str) -> u64 {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu ")).unwrap_or_default();
    let ticks = line.split_whitespace().take(8).enumerate();
    let busy = ticks.filter(|(at, _)| !matches!(at, 3 | 4));
    busy.filter_map(|(_, word)| word.parse::<u64>().ok()).fold(0, u64::saturating_add)
}

/// Of `0.1 0.2 0.3 running/all last`.
fn tasks(load: &str) -> u64 {
    let word = load.split_whitespace().nth(3).and_then(|word| word.split_once('/'));
    word.and_then(|(_, all)| all.parse().ok()).unwrap_or(0)
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

    #[test]
    fn the_node_is_read_from_the_files_of_proc() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        std::fs::create_dir_all(dir.path().join("sys/kernel")).unwrap();
        write("stat", "cpu  100 1 50 9999 77 2 3 4 50 0\ncpu0 1 1 1 1\nbtime 1000\n");
        write(
            "meminfo",
            "MemTotal: 1000 kB\nMemFree: 400 kB\nMemAvailable: 550 kB\nInactive(file): 100 kB\nAnonPages: 7 kB\n\
            SwapTotal: 50 kB\nSwapFree: 20 kB\n",
        );
        write("vmstat", "pgfault 12\npgmajfault 3\n");
        write("loadavg", "0.1 0.2 0.3 2/345 6789\n");
        write("sys/kernel/pid_max", "4194304\n");
        let read = NodeUsage::read(dir.path());
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
    fn a_rate_is_between_two_looks() {
        let before = NodeUsage { at_nanos: SECOND, cpu_nanos: 10, ..NodeUsage::default() };
        let now = NodeUsage { at_nanos: 3 * SECOND, cpu_nanos: 1010, ..NodeUsage::default() };
        assert_eq!(now.nano_cores_since(&before), Some(500));
        assert_eq!(before.nano_cores_since(&now), None);
        assert_eq!(now.nano_cores_since(&now), None);
    }
}
