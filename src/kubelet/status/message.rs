//! What a container says of its end: its termination message.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// The longest message of a file, bytes.
const MAX_FILE: usize = 4096;
/// The longest message of a log, bytes and lines.
const MAX_LOG: usize = 2048;
const MAX_LOG_LINES: usize = 80;
/// The messages of all containers of a pod together, bytes.
const MAX_POD: usize = 12 * 1024;

/// The longest message of a container in a pod of so many.
pub fn message_budget(containers: usize) -> usize {
    (MAX_POD / containers.max(1)).min(MAX_FILE)
}

/// The message that a container left: in its file, or, when that is empty and `fall_back` names a log, the end
/// of its log. Nothing that can be read is no message.
pub fn termination_message(file: Option<&Path>, fall_back: Option<&Path>, budget: usize) -> String {
    let message = file.map(|file| begin_of(file, budget)).unwrap_or_default();
    match fall_back {
        Some(log) if message.is_empty() => end_of_log(log, budget.min(MAX_LOG)),
        _ => message,
    }
}

/// The first bytes of a file that a container could have replaced by anything: what is not a plain file says
/// nothing.
fn begin_of(path: &Path, limit: usize) -> String {
    let open = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(path);
    let Ok(file) = open else { return String::new() };
    if !file.metadata().is_ok_and(|meta| meta.is_file()) {
        return String::new();
    }
    let mut bytes = Vec::new();
    let limit = u64::try_from(limit).unwrap_or(u64::MAX);
    if file.take(limit).read_to_end(&mut bytes).is_err() {
        return String::new();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The last lines of a log in CRI's format, without their heads.
fn end_of_log(path: &Path, limit: usize) -> String {
    let Ok(mut file) = std::fs::File::open(path) else { return String::new() };
    let Ok(length) = file.seek(SeekFrom::End(0)) else { return String::new() };
    // The head of a line is at most 45 bytes, and there are at most 80 lines.
    let window = u64::try_from(limit + MAX_LOG_LINES * 64).unwrap_or(u64::MAX);
    let from = length.saturating_sub(window);
    let mut bytes = Vec::new();
    let read = file.seek(SeekFrom::Start(from)).and_then(|_| file.read_to_end(&mut bytes));
    if read.is_err() {
        return String::new();
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let whole = if from == 0 { text.as_str() } else { text.split_once('\n').map_or("", |t| t.1) };
    let lines: Vec<&str> = whole.lines().filter_map(|line| line.splitn(4, ' ').nth(3)).collect();
    let first = lines.len().saturating_sub(MAX_LOG_LINES);
    let mut message: String = lines.iter().skip(first).flat_map(|line| [*line, "\n"]).collect();
    while message.len() > limit {
        let mut cut = message.len() - limit;
        while !message.is_char_boundary(cut) {
            cut += 1;
        }
        message.drain(..cut);
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_up_to_its_limit_and_nothing_else_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("m");
        std::fs::write(&file, "x".repeat(5000)).unwrap();
        assert_eq!(termination_message(Some(&file), None, message_budget(1)).len(), 4096);
        assert_eq!(termination_message(Some(&file), None, message_budget(6)).len(), 2048);
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("/etc/passwd", &link).unwrap();
        assert_eq!(termination_message(Some(&link), None, 4096), "");
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(termination_message(Some(&fifo), None, 4096), "");
    }

    #[test]
    fn an_empty_file_falls_back_to_the_end_of_the_log() {
        let dir = tempfile::tempdir().unwrap();
        let (file, log) = (dir.path().join("m"), dir.path().join("0.log"));
        std::fs::write(&file, "").unwrap();
        let lines: String = (0..200)
            .map(|n| format!("2026-01-01T00:00:00.000000000Z stdout F line {n}\n"))
            .collect();
        std::fs::write(&log, lines).unwrap();
        let message = termination_message(Some(&file), Some(&log), 4096);
        assert_eq!(message.lines().count(), 80);
        assert!(message.starts_with("line 120\n") && message.ends_with("line 199\n"), "{message}");
        std::fs::write(&log, format!("t stdout F {}\n", "y".repeat(4000))).unwrap();
        assert!(termination_message(Some(&file), Some(&log), 4096).len() <= 2048);
        std::fs::write(&file, "said").unwrap();
        assert_eq!(termination_message(Some(&file), Some(&log), 4096), "said");
        assert_eq!(termination_message(None, None, 4096), "");
    }
}
