//! The kernel's view: what /proc and /sys say, not what a reply says.

use super::poll::eventually;
use anyhow::{Context as _, Result};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// A line of mountinfo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    /// Where it is mounted.
    pub(crate) point: String,
    /// Its own options.
    pub(crate) options: String,
    /// `shared:N`, `master:N`, or empty.
    pub(crate) propagation: String,
    /// The file system's type.
    pub(crate) kind: String,
    /// What is mounted.
    pub(crate) source: String,
    /// Options of the file system.
    pub(crate) super_options: String,
}

/// The mounts that a process (`"self"` or a pid) sees, in order.
///
/// # Errors
/// There is no such process.
pub(crate) fn mounts(process: &str) -> Result<Vec<Mount>> {
    let path = format!("/proc/{process}/mountinfo");
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    Ok(text.lines().filter_map(parse_mount).collect())
}

/// Mounts from the text of a mountinfo file.
pub(crate) fn parse_mounts(text: &str) -> Vec<Mount> {
    text.lines().filter_map(parse_mount).collect()
}

fn parse_mount(line: &str) -> Option<Mount> {
    let (left, right) = line.split_once(" - ")?;
    let mut left = left.split(' ').skip(4);
    let mut right = right.splitn(3, ' ');
    Some(Mount {
        point: left.next()?.to_owned(),
        options: left.next()?.to_owned(),
        propagation: left.collect::<Vec<_>>().join(" "),
        kind: right.next()?.to_owned(),
        source: right.next()?.to_owned(),
        super_options: right.next().unwrap_or_default().to_owned(),
    })
}

/// The inode of a process's namespace, which is its identity.
///
/// # Errors
/// There is no such process or namespace.
pub(crate) fn namespace(pid: i32, kind: &str) -> Result<u64> {
    let path = format!("/proc/{pid}/ns/{kind}");
    Ok(std::fs::metadata(&path).with_context(|| format!("stat {path}"))?.ino())
}

/// The test's own process.
///
/// # Errors
/// Never, as long as the kernel's pids are positive.
pub(crate) fn own_pid() -> Result<i32> {
    Ok(i32::try_from(std::process::id())?)
}

/// Breaks all stream connections of a process whose other end's path ends with `name`: both ends read
/// the end of the stream, and neither process is told otherwise. How many.
///
/// # Errors
/// There is no such process, or its sockets cannot be had.
pub(crate) fn cut_connections(pid: i32, name: &str) -> Result<usize> {
    use nix::libc::{SYS_pidfd_getfd, SYS_pidfd_open, syscall};
    use nix::sys::socket::{Shutdown, UnixAddr, getpeername, shutdown};
    let owned = |fd: i64| match i32::try_from(fd) {
        // SAFETY: the kernel answered with a descriptor that is new to this process.
        Ok(fd) if fd >= 0 => Some(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => None,
    };
    // SAFETY: two numbers are passed.
    let process = owned(unsafe { syscall(SYS_pidfd_open, pid, 0) }).context("no such process")?;
    let mut cut = 0;
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd"))? {
        let number: i32 = entry?.file_name().to_string_lossy().parse()?;
        // SAFETY: three numbers are passed.
        let copy = owned(unsafe { syscall(SYS_pidfd_getfd, process.as_raw_fd(), number, 0) });
        let Some(copy) = copy else { continue };
        let peer = getpeername::<UnixAddr>(copy.as_raw_fd());
        if peer.is_ok_and(|peer| peer.path().is_some_and(|path| path.ends_with(name))) {
            shutdown(copy.as_raw_fd(), Shutdown::Both)?;
            cut += 1;
        }
    }
    Ok(cut)
}

/// The niceness of a process, of /proc/PID/stat.
///
/// # Errors
/// There is no such process.
pub(crate) fn niceness(pid: i32) -> Result<i32> {
    let text = read(format!("/proc/{pid}/stat"))?;
    let (_, rest) = text.rsplit_once(')').context("no name")?;
    Ok(rest.split_whitespace().nth(16).context("no niceness")?.parse()?)
}

/// A field of /proc/PID/status.
///
/// # Errors
/// There is no such process or field.
pub(crate) fn status_field(pid: i32, field: &str) -> Result<String> {
    let path = format!("/proc/{pid}/status");
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    field_of(&text, field).with_context(|| format!("{path} has no {field}"))
}

/// The value behind `name:` in a text of lines.
pub(crate) fn field_of(text: &str, name: &str) -> Option<String> {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .map(|value| value.trim().to_owned())
}

/// The number behind `key ` in a flat-keyed file of a cgroup.
///
/// # Errors
/// There is no such file or key.
pub(crate) fn counter(file: &Path, key: &str) -> Result<u64> {
    let text = read(file)?;
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
    Ok(value.with_context(|| format!("no {key} in {}", file.display()))?.parse()?)
}

/// A file, without white space around its text.
///
/// # Errors
/// It cannot be read.
pub(crate) fn read(path: impl AsRef<Path>) -> Result<String> {
    let path = path.as_ref();
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    Ok(text.trim().to_owned())
}

/// The pids in a cgroup, its children not counted.
///
/// # Errors
/// There is no such cgroup.
pub(crate) fn pids_in(group: &Path) -> Result<Vec<i32>> {
    read(group.join("cgroup.procs"))?
        .lines()
        .map(|pid| pid.parse().with_context(|| format!("pid {pid:?}")))
        .collect()
}

/// The v2 cgroup of a process, below the root of the hierarchy.
///
/// # Errors
/// There is no such process.
pub(crate) fn cgroup_of(pid: i32) -> Result<String> {
    let text = read(format!("/proc/{pid}/cgroup"))?;
    text.lines().find_map(|l| l.strip_prefix("0::")).map(str::to_owned).context("no v2 cgroup")
}

/// Every cgroup below one, parents first.
pub(crate) fn cgroups_below(group: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = std::fs::read_dir(group) else { return found };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.push(entry.path());
            found.extend(cgroups_below(&entry.path()));
        }
    }
    found
}

/// Removes a cgroup and what is below it, as far as it is empty.
pub(crate) fn remove_cgroup(group: &Path) {
    for child in cgroups_below(group).iter().rev() {
        std::fs::remove_dir(child).ok();
    }
    std::fs::remove_dir(group).ok();
}

/// The names in a folder, sorted; none when it does not exist.
pub(crate) fn names_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// What the descriptors of a process point to.
///
/// # Errors
/// There is no such process.
pub(crate) fn descriptors(pid: i32) -> Result<Vec<String>> {
    let folder = PathBuf::from(format!("/proc/{pid}/fd"));
    let mut targets = Vec::new();
    for name in names_in(&folder) {
        if let Ok(target) = std::fs::read_link(folder.join(name)) {
            targets.push(target.to_string_lossy().into_owned());
        }
    }
    Ok(targets)
}

/// Whether a process can run: it exists, is no zombie, and has its memory. The first process of a pid namespace
/// has given it back while it waits for somebody to reap the last of the others (pid_namespaces(7)).
pub(crate) fn alive(pid: i32) -> bool {
    status_field(pid, "State").is_ok_and(|state| !state.starts_with('Z'))
        && status_field(pid, "VmSize").is_ok()
}

/// Waits until a process handles SIGTERM: one that comes before is lost for the first of a pid namespace, which gets no
/// signal that it does not handle.
///
/// # Errors
/// It does not.
pub(crate) fn wait_heeds_term(pid: i32) -> Result<()> {
    eventually("the container heeds SIGTERM", || {
        let caught = u64::from_str_radix(&status_field(pid, "SigCgt")?, 16)?;
        Ok((caught & (1 << 14) != 0).then_some(()))
    })
}

/// The names of this network namespace's interfaces.
pub(crate) fn links() -> Vec<String> {
    // /sys may have been mounted in another one.
    let table = read("/proc/thread-self/net/dev").unwrap_or_default();
    let names = table.lines().filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned()));
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}
