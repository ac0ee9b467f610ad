//! What the kernel says about memory: `memory.events` of a container's cgroup.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::BorrowedFd;
use std::path::Path;

use crate::sys::path::{Resolve, open_in};

/// Counters of `memory.events` that only rise. Zero where the memory controller is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct OomCounts {
    /// Processes killed.
    pub(super) kills: u64,
    /// Times the whole cgroup was killed.
    pub(super) group_kills: u64,
}

impl OomCounts {
    /// Reads them of the cgroup `dir`. While the folder exists: an open one of a removed cgroup
    /// answers ENODEV.
    pub(super) fn read(dir: BorrowedFd<'_>) -> Self {
        let path = Path::new("memory.events");
        let Ok(fd) = open_in(dir, path, libc::O_RDONLY, 0, Resolve::Beneath) else {
            return Self::default();
        };
        let mut text = String::new();
        match File::from(fd).read_to_string(&mut text) {
            Ok(_) => Self::parse(&text),
            Err(_) => Self::default(),
        }
    }

    fn parse(text: &str) -> Self {
        let value = |key: &str| {
            text.lines()
                .filter_map(|line| line.split_once(' '))
                .find(|(name, _)| *name == key)
                .and_then(|(_, value)| value.trim().parse().ok())
                .unwrap_or(0)
        };
        Self { kills: value("oom_kill"), group_kills: value("oom_group_kill") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd as _;

    #[test]
    fn kills_are_read_and_a_missing_file_counts_none() {
        let folder = tempfile::tempdir().unwrap();
        let dir = File::open(folder.path()).unwrap();
        assert_eq!(OomCounts::read(dir.as_fd()), OomCounts::default());
        let text = "low 0\nhigh 3\nmax 9\noom 2\noom_kill 4\noom_group_kill 1\n";
        std::fs::write(folder.path().join("memory.events"), text).unwrap();
        assert_eq!(OomCounts::read(dir.as_fd()), OomCounts { kills: 4, group_kills: 1 });
    }
}
