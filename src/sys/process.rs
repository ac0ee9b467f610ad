//! Processes: known by boot id, pid and start time, held by pidfd (pidfd_open(2), Linux 5.3).
//!
//! A pid alone is a name that the kernel gives again. Whoever keeps one over a restart keeps an
//! [`InitPid`]; whoever acts on a process first turns it into a pidfd, which is checked against
//! the start time *after* it was opened and then means that process and no other.

use std::fmt::Write as _;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

/// A process of a certain boot. Equal values mean the same process, also over a reboot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "daemon", derive(serde::Serialize, serde::Deserialize))]
pub struct InitPid {
    /// The pid in the host's pid namespace.
    pub pid: i32,
    /// When it started: clock ticks since boot, field 22 of /proc/pid/stat.
    pub start_time: u64,
    /// The boot it belongs to.
    pub boot_id: String,
}

impl InitPid {
    /// The process that has `pid` now.
    ///
    /// # Errors
    /// ENOENT or ESRCH when there is none; what reading /proc answers.
    pub fn of(pid: i32) -> io::Result<Self> {
        let stat = read_stat(pid)?;
        Ok(Self::from_parts(pid, stat.start_time))
    }

    /// A process of this boot whose start time is already known.
    pub fn from_parts(pid: i32, start_time: u64) -> Self {
        Self { pid, start_time, boot_id: boot_id().to_owned() }
    }

    /// Whether it exists and runs. A zombie does not run. False for every process of another boot.
    pub fn alive(&self) -> bool {
        self.boot_id == boot_id()
            && read_stat(self.pid)
                .is_ok_and(|s| s.start_time == self.start_time && !matches!(s.state, b'Z' | b'X'))
    }

    /// A pidfd of exactly this process, or `None` when it is gone (a zombie is not gone).
    ///
    /// # Errors
    /// What pidfd_open(2) answers besides ESRCH: EMFILE, ENFILE, ENOMEM.
    pub fn pidfd(&self) -> io::Result<Option<OwnedFd>> {
        if self.boot_id != boot_id() {
            return Ok(None);
        }
        let fd = match open_pidfd(self.pid) {
            Ok(fd) => fd,
            Err(e) if matches!(e.raw_os_error(), Some(libc::ESRCH | libc::EINVAL)) => {
                return Ok(None);
            }
            Err(e) => return Err(e),
        };
        // Checked after opening: from here the pid cannot change hands under us.
        let same = read_stat(self.pid).is_ok_and(|s| s.start_time == self.start_time);
        Ok(same.then_some(fd))
    }
}

/// The kernel's random id of this boot (random(4)), or `unknown` without /proc.
pub fn boot_id() -> &'static str {
    static ID: OnceLock<String> = OnceLock::new();
    ID.get_or_init(|| {
        std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .map_or_else(|_| "unknown".to_owned(), |id| id.trim().to_owned())
    })
}

struct Stat {
    state: u8,
    start_time: u64,
}

fn read_stat(pid: i32) -> io::Result<Stat> {
    let mut path = String::with_capacity(24);
    // Writing to a String cannot fail.
    write!(path, "/proc/{pid}/stat").ok();
    parse_stat(&std::fs::read(path)?)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "unreadable /proc/pid/stat"))
}

/// proc_pid_stat(5). The second field is the program's name in parentheses, which may hold spaces
/// and parentheses of its own: the last `)` ends it.
fn parse_stat(text: &[u8]) -> Option<Stat> {
    let end = text.iter().rposition(|b| *b == b')')?;
    let rest = std::str::from_utf8(text.get(end + 1..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    // The state is field 3; the start time is field 22, the 18th after it.
    let start_time = fields.nth(18)?.parse().ok()?;
    Some(Stat { state, start_time })
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By exit(2), with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl Ended {
    /// The code as the field counts it: 0 to 255, 128 + signal for a death by signal.
    pub fn exit_code(self) -> i32 {
        match self {
            Self::Code(code) => code & 0xff,
            Self::Signal(signal) => 128 + signal,
        }
    }

    /// The signal it died of.
    pub fn signal(self) -> Option<i32> {
        match self {
            Self::Code(_) => None,
            Self::Signal(signal) => Some(signal),
        }
    }
}

/// Reaps one ended child, whichever: its pid and how it ended. `None` when no child has ended.
///
/// # Errors
/// The errno of waitid(2); ECHILD (no children) is `None`.
pub fn reap_any() -> io::Result<Option<(i32, Ended)>> {
    raw_wait(libc::P_ALL, 0, libc::WEXITED | libc::WNOHANG)
}

/// Waits until the child behind `pidfd` has ended and reaps it.
///
/// # Errors
/// ECHILD when it is not a child of this process, or already reaped.
pub fn wait_pidfd(pidfd: BorrowedFd<'_>) -> io::Result<Ended> {
    let id = pidfd.as_raw_fd().cast_unsigned();
    loop {
        match raw_wait(libc::P_PIDFD, id, libc::WEXITED) {
            Ok(Some((_, ended))) => return Ok(ended),
            Ok(None) => return Err(io::Error::from_raw_os_error(libc::ECHILD)),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// As [`wait_pidfd`], without waiting: `None` while it runs, and when it is no child any more.
///
/// # Errors
/// EINVAL when `pidfd` is none.
pub fn try_wait_pidfd(pidfd: BorrowedFd<'_>) -> io::Result<Option<Ended>> {
    let id = pidfd.as_raw_fd().cast_unsigned();
    Ok(raw_wait(libc::P_PIDFD, id, libc::WEXITED | libc::WNOHANG)?.map(|(_, ended)| ended))
}

/// waitid(2) by hand: nix knows no real-time signals, of which a process can die, too. `None` when
/// no child has ended, or there is none.
fn raw_wait(kind: libc::idtype_t, id: libc::id_t, flags: i32) -> io::Result<Option<(i32, Ended)>> {
    // SAFETY: siginfo_t is plain data for which all-zero is valid.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: `info` is a live siginfo_t that the kernel may write.
    if unsafe { libc::waitid(kind, id, &raw mut info, flags) } < 0 {
        let error = io::Error::last_os_error();
        return match error.raw_os_error() {
            Some(libc::ECHILD) => Ok(None),
            _ => Err(error),
        };
    }
    // SAFETY: waitid(2) filled the SIGCHLD fields, or left si_pid 0 when no child had ended.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    if pid == 0 {
        return Ok(None);
    }
    let ended = match info.si_code {
        libc::CLD_EXITED => Ended::Code(status),
        _ => Ended::Signal(status),
    };
    Ok(Some((pid, ended)))
}

/// pidfd_open(2).
///
/// # Errors
/// ESRCH when no such process exists; EMFILE, ENFILE, ENOMEM.
pub fn open_pidfd(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: only integers are passed.
    super::new_fd(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })
}

/// pidfd_send_signal(2) (Linux 5.1).
///
/// # Errors
/// ESRCH when the process has ended and was reaped; EPERM; EINVAL for an invalid signal.
pub fn signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: a null siginfo is allowed and means what kill(2) would send.
    super::check(unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    })
    .map(drop)
}

/// Sends SIGKILL; a process that is already gone is success.
///
/// # Errors
/// As [`signal()`], without ESRCH.
pub fn kill(pidfd: BorrowedFd<'_>) -> io::Result<()> {
    match signal(pidfd, libc::SIGKILL) {
        Err(e) if e.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        other => other,
    }
}

/// Proof that this process has one thread, so that clone without exec, unshare and setns of
/// process-wide namespaces are safe. Made once in `main`; nothing in the shim starts a thread.
#[derive(Debug)]
pub struct SingleThreaded(());

impl SingleThreaded {
    /// Counts the threads of this process.
    ///
    /// # Errors
    /// EBUSY when there are several; what reading /proc/self/status answers.
    pub fn prove() -> io::Result<Self> {
        let status = std::fs::read_to_string("/proc/self/status")?;
        let threads = status.lines().find_map(|l| l.strip_prefix("Threads:")).map(str::trim);
        if threads == Some("1") {
            Ok(Self(()))
        } else {
            Err(io::Error::from_raw_os_error(libc::EBUSY))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::process::Command;

    #[test]
    fn a_stat_line_with_a_hostile_name_is_parsed() {
        let mut text = b"7 (a) R 1 ) x) S".to_vec();
        for field in 4..=21 {
            text.extend(format!(" {field}").bytes());
        }
        text.extend(b" 424242 23 24\n");
        let stat = parse_stat(&text).unwrap();
        assert_eq!((stat.state, stat.start_time), (b'S', 424_242));
        assert!(parse_stat(b"7 (a").is_none());
        assert!(parse_stat(b"7 (a) S 1 2").is_none());
    }

    #[test]
    fn this_process_is_alive_and_another_start_time_is_not() {
        let me = InitPid::of(std::process::id().cast_signed()).unwrap();
        assert!(me.alive());
        assert!(me.pidfd().unwrap().is_some());
        let other = InitPid { start_time: me.start_time + 1, ..me.clone() };
        assert!(!other.alive());
        assert!(other.pidfd().unwrap().is_none());
        let other = InitPid { boot_id: "another".to_owned(), ..me };
        assert!(!other.alive());
        assert!(other.pidfd().unwrap().is_none());
    }

    #[test]
    fn a_zombie_is_not_alive_but_can_be_held() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let init = InitPid::of(child.id().cast_signed()).unwrap();
        let fd = init.pidfd().unwrap().unwrap();
        kill(fd.as_fd()).unwrap();
        // Readable when ended, before anybody reaps.
        let mut poll = [nix::poll::PollFd::new(fd.as_fd(), nix::poll::PollFlags::POLLIN)];
        assert_eq!(nix::poll::poll(&mut poll, 5000u16).unwrap(), 1);
        assert!(!init.alive());
        assert!(init.pidfd().unwrap().is_some());
        assert_eq!(wait_pidfd(fd.as_fd()).unwrap(), Ended::Signal(9));
        assert!(init.pidfd().unwrap().is_none());
        kill(fd.as_fd()).unwrap();
        child.try_wait().unwrap_err();
    }

    #[test]
    fn a_process_with_threads_gets_no_proof() {
        let (_keep, wait) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || wait.recv());
        assert!(SingleThreaded::prove().is_err());
        drop(_keep);
        thread.join().unwrap().unwrap_err();
    }

    #[test]
    fn exit_codes_are_counted_as_the_field_does() {
        assert_eq!(Ended::Code(3).exit_code(), 3);
        assert_eq!(Ended::Signal(9).exit_code(), 137);
        assert_eq!(Ended::Signal(9).signal(), Some(9));
    }
}
