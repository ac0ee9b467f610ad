//! What the kernel tells of its own accord: `memory.events`, and `cgroup.events`, whose changes can
//! be waited for (poll(2) answers POLLPRI; cgroup-v2.rst, "\[Un\]populated Notification").

use super::CgroupError;
use super::dir::Dir;
use super::parse::parse_flat;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::{self, Read as _, Seek as _};
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

/// Counters of `memory.events`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct MemoryEvents {
    /// Reclaimed below memory.low.
    pub low: u64,
    /// Throttled above memory.high.
    pub high: u64,
    /// Met memory.max.
    pub max: u64,
    /// Allocations that were about to fail.
    pub oom: u64,
    /// Processes killed.
    pub oom_kill: u64,
    /// Whole cgroups killed (memory.oom.group).
    pub oom_group_kill: u64,
}

/// Parses `memory.events`; the error is the offending line. Kernels add keys; they are passed over.
pub fn parse_memory_events(text: &str) -> Result<MemoryEvents, &str> {
    let mut events = MemoryEvents::default();
    for line in parse_flat(text) {
        let (key, value) = line?;
        match key {
            "low" => events.low = value,
            "high" => events.high = value,
            "max" => events.max = value,
            "oom" => events.oom = value,
            "oom_kill" => events.oom_kill = value,
            "oom_group_kill" => events.oom_group_kill = value,
            _ => {}
        }
    }
    Ok(events)
}

/// Whether a process is in the cgroup or below it. Zombies do not count. A cgroup that is gone is
/// empty.
pub(super) fn populated(dir: &Dir) -> Result<bool, CgroupError> {
    let mut file = match dir.file("cgroup.events", libc::O_RDONLY) {
        Ok(file) => file,
        Err(e) if gone(&e) => return Ok(false),
        Err(source) => return Err(failed(dir, "read", source)),
    };
    populated_now(dir, &mut file)
}

/// Waits until nobody is in the cgroup or below it. `false`: somebody still is at the deadline.
pub(super) fn wait_empty(dir: &Dir, limit: Duration) -> Result<bool, CgroupError> {
    let deadline = Instant::now() + limit;
    let mut file = match dir.file("cgroup.events", libc::O_RDONLY) {
        Ok(file) => file,
        Err(e) if gone(&e) => return Ok(true),
        Err(source) => return Err(failed(dir, "read", source)),
    };
    // Each read arms the next notification, so no change between read and poll is lost.
    while populated_now(dir, &mut file)? {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        let mut fds = [PollFd::new(file.as_fd(), PollFlags::POLLPRI)];
        match poll(&mut fds, timeout(left)) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(failed(dir, "poll", errno.into())),
        }
    }
    Ok(true)
}

/// Rounded up: a rest below a millisecond must not spin.
fn timeout(left: Duration) -> PollTimeout {
    PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
}

/// Waits out a short moment in poll(2), for the kernel to let go of something it does not announce.
pub(super) fn pause_for(moment: Duration) {
    // Nothing to do about an early end by a signal: the caller looks again in any case.
    poll(&mut [], timeout(moment)).ok();
}

fn populated_now(dir: &Dir, file: &mut std::fs::File) -> Result<bool, CgroupError> {
    let mut text = String::new();
    let read = file.rewind().and_then(|()| file.read_to_string(&mut text));
    match read {
        Ok(_) => Ok(parse_flat(&text).any(|line| line == Ok(("populated", 1)))),
        Err(e) if gone(&e) => Ok(false),
        Err(source) => Err(failed(dir, "read", source)),
    }
}

/// ENOENT: the folder was removed before the file was opened. ENODEV: after.
pub(super) fn gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV))
}

fn failed(dir: &Dir, operation: &'static str, source: io::Error) -> CgroupError {
    CgroupError::access(operation, dir.path().join("cgroup.events"), source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_events_keep_known_keys_and_pass_over_new_ones() {
        let events = parse_memory_events("low 1\noom_kill 2\noom_group_kill 3\nnew 9\n").unwrap();
        let expected =
            MemoryEvents { low: 1, oom_kill: 2, oom_group_kill: 3, ..MemoryEvents::default() };
        assert_eq!(events, expected);
        assert_eq!(parse_memory_events("oom kill\n"), Err("oom kill"));
    }

    #[test]
    fn populated_is_read_from_the_file_and_a_missing_cgroup_is_empty() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::open(temp.path()).unwrap();
        assert!(!populated(&dir).unwrap());
        std::fs::write(temp.path().join("cgroup.events"), "populated 1\nfrozen 0\n").unwrap();
        assert!(populated(&dir).unwrap());
        std::fs::write(temp.path().join("cgroup.events"), "populated 0\nfrozen 1\n").unwrap();
        assert!(!populated(&dir).unwrap());
    }
}
