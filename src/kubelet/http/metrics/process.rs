//! `/metrics`: what the daemon itself uses, by the names that every exporter has for it.

use super::Exposition;
use super::exposition::{Kind, Value};
use procfs::ProcResult;
use procfs::process::Process;

const SECOND: u64 = 1_000_000_000;

/// What the daemon itself uses.
#[derive(Clone, Copy, Debug)]
pub(in crate::kubelet::http) struct ProcessUsage {
    cpu_nanos: u64,
    resident_bytes: u64,
    virtual_bytes: u64,
    descriptors: u64,
    /// Nanoseconds since 1970.
    began: u64,
}

impl ProcessUsage {
    /// Reads it. Blocking.
    ///
    /// # Errors
    /// A file of /proc cannot be read.
    pub(in crate::kubelet::http) fn read() -> ProcResult<Self> {
        let own = Process::myself()?;
        let stat = own.stat()?;
        let tick = SECOND / procfs::ticks_per_second().max(1);
        let boot = procfs::boot_time_secs()?.saturating_mul(SECOND);
        Ok(Self {
            cpu_nanos: stat.utime.saturating_add(stat.stime).saturating_mul(tick),
            resident_bytes: stat.rss.saturating_mul(procfs::page_size()),
            virtual_bytes: stat.vsize,
            descriptors: u64::try_from(own.fd_count()?).unwrap_or(u64::MAX),
            began: boot.saturating_add(stat.starttime.saturating_mul(tick)),
        })
    }

    /// Adds it.
    pub(in crate::kubelet::http) fn tell(&self, all: &mut Exposition) {
        use Kind::{Counter, Gauge};
        for (name, kind, help, value) in [
            ("cpu_seconds_total", Counter, "CPU time, seconds.", Value::Nanos(self.cpu_nanos)),
            ("open_fds", Gauge, "Open file descriptors.", Value::Whole(self.descriptors)),
            ("resident_memory_bytes", Gauge, "Memory.", Value::Whole(self.resident_bytes)),
            ("virtual_memory_bytes", Gauge, "Address space.", Value::Whole(self.virtual_bytes)),
            ("start_time_seconds", Gauge, "Start, seconds since 1970.", Value::Nanos(self.began)),
        ] {
            all.one((&format!("process_{name}"), kind, help), &[], value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::checker::check;
    use super::*;

    #[test]
    fn this_process_began_after_the_boot_and_has_memory_and_files() {
        let usage = ProcessUsage::read().unwrap();
        let now = u64::try_from(crate::clock::now_nanos()).unwrap();
        let boot = procfs::boot_time_secs().unwrap() * SECOND;
        assert!(usage.began >= boot && usage.began <= now, "{usage:?}");
        assert!(usage.resident_bytes > 0 && usage.virtual_bytes > usage.resident_bytes);
        let listed = std::fs::read_dir("/proc/self/fd").unwrap().count();
        assert!(usage.descriptors > 0 && listed > 0);
        let mut all = Exposition::default();
        usage.tell(&mut all);
        let names: Vec<_> = check(&all.text()).unwrap().into_iter().map(|s| s.name).collect();
        assert_eq!(names.len(), 5);
        assert!(names.iter().any(|name| name == "process_resident_memory_bytes"));
    }
}
