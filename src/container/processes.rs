//! What the processes of a cgroup hold: descriptors, sockets, threads, soft limits. From /proc, for
//! metrics alone; a process that ends meanwhile is not counted.

use std::io::{BufRead as _, BufReader};

/// Figures of a group of processes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessFigures {
    /// Processes.
    pub processes: u64,
    /// Their threads.
    pub threads: u64,
    /// Their open descriptors.
    pub descriptors: u64,
    /// Those of them that are sockets.
    pub sockets: u64,
    /// Soft limits of the first process by name; those that are unlimited are left out.
    pub soft_limits: Vec<(String, u64)>,
}

/// Reads the figures of `pids`, and the limits of `init` where there is one.
pub fn read(pids: &[i32], init: Option<i32>) -> ProcessFigures {
    let mut figures = ProcessFigures::default();
    for pid in pids {
        let Some(threads) = threads(*pid) else { continue };
        figures.processes += 1;
        figures.threads += threads;
        for entry in std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
            figures.descriptors += 1;
            let target = std::fs::read_link(entry.path()).unwrap_or_default();
            if target.as_os_str().as_encoded_bytes().starts_with(b"socket:") {
                figures.sockets += 1;
            }
        }
    }
    if let Some(pid) = init {
        let text = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap_or_default();
        figures.soft_limits = soft_limits(&text);
    }
    figures
}

fn threads(pid: i32) -> Option<u64> {
    let file = std::fs::File::open(format!("/proc/{pid}/status")).ok()?;
    let lines = BufReader::new(file).lines().map_while(Result::ok);
    lines.into_iter().find_map(|line| line.strip_prefix("Threads:")?.trim().parse().ok())
}

/// The lines of proc_pid_limits(5): a name of several words, at least two spaces, soft, hard, unit.
fn soft_limits(text: &str) -> Vec<(String, u64)> {
    let limit = |line: &str| {
        let (name, rest) = line.split_once("  ")?;
        let soft = rest.split_ascii_whitespace().next()?.parse().ok()?;
        Some((name.to_lowercase().replace(' ', "_"), soft))
    };
    text.lines().skip(1).filter_map(limit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: &str = "\
Limit                     Soft Limit           Hard Limit           Units     
Max cpu time              unlimited            unlimited            seconds   
Max open files            1024                 524288               files     
Max nice priority         0                    0                    
";

    #[test]
    fn soft_limits_are_named_by_their_words() {
        let expected = [("max_open_files".to_owned(), 1024), ("max_nice_priority".to_owned(), 0)];
        assert_eq!(soft_limits(LIMITS), expected);
    }

    #[test]
    fn sockets_and_threads_of_this_process_are_counted() {
        let own = i32::try_from(std::process::id()).unwrap();
        let before = read(&[own], Some(own));
        let _socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let after = read(&[own, -1], None);
        assert!(after.sockets > before.sockets && after.descriptors > after.sockets);
        assert_eq!((before.processes, after.processes), (1, 1), "a pid of nobody is not counted");
        assert!(before.threads >= 1 && !before.soft_limits.is_empty());
    }
}
