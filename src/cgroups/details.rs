//! Figures of a cgroup that metrics show and statistics do not: limits as the kernel has them, I/O by
//! device, huge pages. Read when somebody asks for metrics, not with every statistic.

use super::dir::Dir;
use super::parse::{parse_flat, parse_limit, parse_nested, parse_number};
use super::stats::{IoStats, odd, read_with};
use super::{CgroupError, Limit};

/// What a cgroup's files tell beside its statistics. `None`, and empty: the controller is not on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CgroupDetails {
    /// Quota and period, microseconds.
    pub cpu_max: Option<(Limit, u64)>,
    /// `cpu.weight`.
    pub cpu_weight: Option<u64>,
    /// Page cache, bytes.
    pub cache: Option<u64>,
    /// Mapped files, bytes.
    pub mapped_file: Option<u64>,
    /// The kernel's own memory, bytes (Linux 5.18).
    pub kernel: Option<u64>,
    /// `memory.min`: memory that is not taken away, bytes.
    pub reserved: Option<Limit>,
    /// I/O by device.
    pub io: Vec<DeviceIo>,
    /// Huge pages by size.
    pub hugetlb: Vec<HugeTlb>,
}

/// I/O with one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceIo {
    /// The device's major number.
    pub major: u32,
    /// Its minor number.
    pub minor: u32,
    /// The figures.
    pub io: IoStats,
}

/// Huge pages of one size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HugeTlb {
    /// The size, as the kernel names it: `2MB`.
    pub size: String,
    /// Bytes in use.
    pub current: u64,
}

/// Reads the details.
pub(super) fn read_details(dir: &Dir) -> Result<CgroupDetails, CgroupError> {
    let mut details = CgroupDetails {
        cpu_max: read_with(dir, "cpu.max", parse_cpu_max)?,
        cpu_weight: read_with(dir, "cpu.weight", parse_number)?,
        reserved: read_with(dir, "memory.min", parse_limit)?,
        io: read_io(dir)?,
        hugetlb: read_hugetlb(dir)?,
        ..CgroupDetails::default()
    };
    for line in parse_flat(&dir.read("memory.stat")?.unwrap_or_default()) {
        let (key, value) = line.map_err(|line| odd(dir, "memory.stat", line))?;
        match key {
            "file" => details.cache = Some(value),
            "file_mapped" => details.mapped_file = Some(value),
            "kernel" => details.kernel = Some(value),
            _ => {}
        }
    }
    Ok(details)
}

/// `quota period`; the quota may be `max`.
fn parse_cpu_max(text: &str) -> Option<(Limit, u64)> {
    let (quota, period) = text.trim().split_once(' ')?;
    Some((parse_limit(quota)?, period.parse().ok()?))
}

fn read_io(dir: &Dir) -> Result<Vec<DeviceIo>, CgroupError> {
    let text = dir.read("io.stat")?.unwrap_or_default();
    let mut devices = Vec::new();
    for line in parse_nested(&text) {
        let line = line.map_err(|line| odd(dir, "io.stat", line))?;
        let number = |text: &str| text.parse().ok();
        let numbers = line.key.split_once(':').and_then(|(a, b)| Some((number(a)?, number(b)?)));
        let (major, minor) = numbers.ok_or_else(|| odd(dir, "io.stat", line.key))?;
        devices.push(DeviceIo { major, minor, io: IoStats::of(&line) });
    }
    Ok(devices)
}

/// The sizes are those that the cgroup has files of.
fn read_hugetlb(dir: &Dir) -> Result<Vec<HugeTlb>, CgroupError> {
    let entries = std::fs::read_dir(dir.path())
        .map_err(|e| CgroupError::access("list cgroup", dir.path(), e))?;
    let mut sizes = Vec::new();
    for entry in entries.flatten() {
        let name = entry.file_name();
        let size = name.to_str().and_then(|n| n.strip_prefix("hugetlb.")?.strip_suffix(".current"));
        sizes.extend(size.filter(|size| !size.contains('.')).map(str::to_owned));
    }
    sizes.sort();
    let mut found = Vec::new();
    for size in sizes {
        let current = read_with(dir, &format!("hugetlb.{size}.current"), parse_number)?;
        found.extend(current.map(|current| HugeTlb { size, current }));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> (tempfile::TempDir, Dir) {
        let temp = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(temp.path().join(name), text).unwrap();
        }
        let dir = Dir::open(temp.path()).unwrap();
        (temp, dir)
    }

    #[test]
    fn every_file_is_read_by_its_format() {
        let (_temp, dir) = folder(&[
            ("cpu.max", "50000 100000\n"),
            ("cpu.weight", "59\n"),
            ("memory.min", "max\n"),
            ("memory.stat", "anon 1\nfile 2\nkernel 3\nfile_mapped 4\n"),
            ("io.stat", "8:16 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n"),
            ("hugetlb.2MB.current", "4194304\n"),
            ("hugetlb.2MB.rsvd.current", "7\n"),
            ("hugetlb.2MB.max", "max\n"),
        ]);
        let details = read_details(&dir).unwrap();
        assert_eq!(details.cpu_max, Some((Limit::Value(50_000), 100_000)));
        assert_eq!((details.cpu_weight, details.reserved), (Some(59), Some(Limit::Max)));
        let memory = (details.cache, details.kernel, details.mapped_file);
        assert_eq!(memory, (Some(2), Some(3), Some(4)));
        let [device] = details.io.as_slice() else { panic!("{:?}", details.io) };
        assert_eq!((device.major, device.minor, device.io.write_bytes), (8, 16, 20));
        assert_eq!(details.hugetlb, [HugeTlb { size: "2MB".into(), current: 4_194_304 }]);
    }

    #[test]
    fn without_controllers_there_is_nothing_and_no_error() {
        let (_temp, dir) = folder(&[("cpu.stat", "usage_usec 1\n")]);
        assert_eq!(read_details(&dir).unwrap(), CgroupDetails::default());
    }

    #[test]
    fn an_unlimited_quota_has_a_period() {
        assert_eq!(parse_cpu_max("max 100000\n"), Some((Limit::Max, 100_000)));
        assert_eq!(parse_cpu_max("max\n"), None);
    }
}
