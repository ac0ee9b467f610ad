//! What a cgroup uses. Each group of figures comes from one controller and is `None` where that
//! controller is not on: a missing controller is no error to a reader.

use super::dir::Dir;
use super::events::{MemoryEvents, parse_memory_events};
use super::parse::{
    Nested, Pressure, parse_flat, parse_limit, parse_nested, parse_number, parse_pressure,
};
use super::{CgroupError, Limit};
use serde::{Deserialize, Serialize};

/// The usage of a cgroup and everything below it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CgroupStats {
    /// When it was read, Unix nanoseconds.
    pub timestamp_nanos: i64,
    /// CPU time; the kernel accounts it without the controller, too.
    pub cpu: Option<CpuStats>,
    /// Memory.
    pub memory: Option<MemoryStats>,
    /// Tasks.
    pub pids: Option<PidsStats>,
    /// Block I/O, summed over devices.
    pub io: Option<IoStats>,
    /// CPU pressure.
    pub cpu_pressure: Option<Pressure>,
    /// Memory pressure.
    pub memory_pressure: Option<Pressure>,
    /// I/O pressure.
    pub io_pressure: Option<Pressure>,
}

/// `cpu.stat`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CpuStats {
    /// CPU time, microseconds.
    pub usage_usec: u64,
    /// In user mode.
    pub user_usec: u64,
    /// In the kernel.
    pub system_usec: u64,
    /// Periods in which tasks ran under a quota.
    pub nr_periods: u64,
    /// Periods in which the quota was used up.
    pub nr_throttled: u64,
    /// Time lost to the quota, microseconds.
    pub throttled_usec: u64,
}

/// `memory.*`, in bytes where no other unit is named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MemoryStats {
    /// Everything charged.
    pub current: u64,
    /// `current` less inactive file pages: what a kubelet compares with a limit.
    pub working_set: u64,
    /// Anonymous memory, what the field calls RSS.
    pub rss: u64,
    /// The largest `current` so far; kernels before 5.19 do not tell.
    pub peak: Option<u64>,
    /// The ceiling of this cgroup.
    pub limit: Option<Limit>,
    /// Swap in use; `None` without swap accounting.
    pub swap: Option<u64>,
    /// The ceiling of swap.
    pub swap_limit: Option<Limit>,
    /// Page faults.
    pub page_faults: u64,
    /// Page faults that waited for I/O.
    pub major_page_faults: u64,
    /// Out-of-memory and pressure events.
    pub events: MemoryEvents,
}

/// `pids.*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PidsStats {
    /// Tasks, threads included.
    pub current: u64,
    /// The ceiling.
    pub max: Option<Limit>,
}

/// `io.stat`, summed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct IoStats {
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub write_bytes: u64,
    /// Reads.
    pub read_ops: u64,
    /// Writes.
    pub write_ops: u64,
    /// Bytes discarded.
    pub discard_bytes: u64,
    /// Discards.
    pub discard_ops: u64,
}

impl IoStats {
    /// The figures of one device's line.
    pub(super) fn of(device: &Nested<'_>) -> Self {
        Self {
            read_bytes: device.value("rbytes"),
            write_bytes: device.value("wbytes"),
            read_ops: device.value("rios"),
            write_ops: device.value("wios"),
            discard_bytes: device.value("dbytes"),
            discard_ops: device.value("dios"),
        }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            read_bytes: self.read_bytes.saturating_add(other.read_bytes),
            write_bytes: self.write_bytes.saturating_add(other.write_bytes),
            read_ops: self.read_ops.saturating_add(other.read_ops),
            write_ops: self.write_ops.saturating_add(other.write_ops),
            discard_bytes: self.discard_bytes.saturating_add(other.discard_bytes),
            discard_ops: self.discard_ops.saturating_add(other.discard_ops),
        }
    }
}

/// Reads all figures of the cgroup.
pub(super) fn read_stats(dir: &Dir, timestamp_nanos: i64) -> Result<CgroupStats, CgroupError> {
    Ok(CgroupStats {
        timestamp_nanos,
        cpu: read_cpu(dir)?,
        memory: read_memory(dir)?,
        pids: read_pids(dir)?,
        io: read_io(dir)?,
        cpu_pressure: read_pressure(dir, "cpu.pressure")?,
        memory_pressure: read_pressure(dir, "memory.pressure")?,
        io_pressure: read_pressure(dir, "io.pressure")?,
    })
}

fn read_cpu(dir: &Dir) -> Result<Option<CpuStats>, CgroupError> {
    let Some(text) = dir.read("cpu.stat")? else { return Ok(None) };
    let mut cpu = CpuStats::default();
    for line in parse_flat(&text) {
        let (key, value) = line.map_err(|line| odd(dir, "cpu.stat", line))?;
        match key {
            "usage_usec" => cpu.usage_usec = value,
            "user_usec" => cpu.user_usec = value,
            "system_usec" => cpu.system_usec = value,
            "nr_periods" => cpu.nr_periods = value,
            "nr_throttled" => cpu.nr_throttled = value,
            "throttled_usec" => cpu.throttled_usec = value,
            _ => {}
        }
    }
    Ok(Some(cpu))
}

/// Memory alone: what a change of the limit is compared with.
pub(super) fn read_memory(dir: &Dir) -> Result<Option<MemoryStats>, CgroupError> {
    let Some(current) = read_with(dir, "memory.current", parse_number)? else { return Ok(None) };
    let mut memory = MemoryStats { current, working_set: current, ..MemoryStats::default() };
    let stat = dir.read("memory.stat")?.unwrap_or_default();
    for line in parse_flat(&stat) {
        let (key, value) = line.map_err(|line| odd(dir, "memory.stat", line))?;
        match key {
            "anon" => memory.rss = value,
            // The two files are read one after the other, so the difference may fall below zero.
            "inactive_file" => memory.working_set = current.saturating_sub(value),
            "pgfault" => memory.page_faults = value,
            "pgmajfault" => memory.major_page_faults = value,
            _ => {}
        }
    }
    memory.peak = read_with(dir, "memory.peak", parse_number)?;
    memory.limit = read_with(dir, "memory.max", parse_limit)?;
    memory.swap = read_with(dir, "memory.swap.current", parse_number)?;
    memory.swap_limit = read_with(dir, "memory.swap.max", parse_limit)?;
    memory.events = read_memory_events(dir)?.unwrap_or_default();
    Ok(Some(memory))
}

/// `memory.events`: hierarchical, so a kill in an exec slot counts for its container.
pub(super) fn read_memory_events(dir: &Dir) -> Result<Option<MemoryEvents>, CgroupError> {
    let Some(text) = dir.read("memory.events")? else { return Ok(None) };
    parse_memory_events(&text).map(Some).map_err(|line| odd(dir, "memory.events", line))
}

fn read_pids(dir: &Dir) -> Result<Option<PidsStats>, CgroupError> {
    let Some(current) = read_with(dir, "pids.current", parse_number)? else { return Ok(None) };
    Ok(Some(PidsStats { current, max: read_with(dir, "pids.max", parse_limit)? }))
}

fn read_io(dir: &Dir) -> Result<Option<IoStats>, CgroupError> {
    let Some(text) = dir.read("io.stat")? else { return Ok(None) };
    let mut io = IoStats::default();
    for line in parse_nested(&text) {
        let device = line.map_err(|line| odd(dir, "io.stat", line))?;
        io = io.plus(IoStats::of(&device));
    }
    Ok(Some(io))
}

fn read_pressure(dir: &Dir, name: &'static str) -> Result<Option<Pressure>, CgroupError> {
    let Some(text) = dir.read(name)? else { return Ok(None) };
    parse_pressure(&text).map(Some).map_err(|line| odd(dir, name, line))
}

pub(super) fn read_with<T>(
    dir: &Dir,
    name: &str,
    parse: fn(&str) -> Option<T>,
) -> Result<Option<T>, CgroupError> {
    let Some(text) = dir.read(name)? else { return Ok(None) };
    parse(&text).map(Some).ok_or_else(|| odd(dir, name, text.trim()))
}

pub(super) fn odd(dir: &Dir, name: &str, line: &str) -> CgroupError {
    CgroupError::Parse { path: dir.path().join(name), line: line.chars().take(120).collect() }
}

#[cfg(test)]
#[path = "stats_tests.rs"]
mod tests;
