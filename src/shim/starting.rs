//! A process between clone and exec: what it reported, and until when it may take.
//!
//! | report                | pipe   | means                                     |
//! |-----------------------|--------|-------------------------------------------|
//! | a failed step         | –      | failed; the child is ending               |
//! | ready                 | closed | the program runs, or already ran          |
//! | nothing               | closed | killed on the way                         |
//! | anything else         | open   | not decided, until the deadline           |

use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use super::container::{Process, start_time};
use super::wire;
use crate::oci::{Report, Spawned, StepError, parse_left_out, parse_report, take_terminal};
use crate::sys::process::{self, Ended};

/// More than any report is long; a child that writes more is not ours any more.
const MAX_REPORT: usize = 16 * 1024;

/// Who asked, on which connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asker {
    /// The connection.
    pub(super) generation: u64,
    /// The request.
    pub(super) id: u64,
}

/// A process that has a pid and does not run its program yet.
#[derive(Debug)]
pub(super) struct Starting {
    pub(super) asker: Asker,
    pub(super) pid: i32,
    pidfd: OwnedFd,
    start_time: u64,
    pub(super) deadline: Instant,
    /// How it ended, if it was reaped before the report was complete.
    pub(super) ended: Option<Ended>,
    report: OwnedFd,
    /// Where the master of its terminal comes from, when it is to have one.
    terminal: Option<OwnedFd>,
    bytes: Vec<u8>,
}

/// Where a start stands.
#[derive(Debug)]
pub(super) enum Progress {
    Undecided,
    Runs,
    Failed(wire::Failed),
}

impl Starting {
    pub(super) fn new(
        asker: Asker,
        spawned: Spawned,
        terminal: Option<OwnedFd>,
        within: Duration,
    ) -> Self {
        let now = Instant::now();
        // A deadline beyond the clock's range is none that matters.
        let deadline = now.checked_add(within).unwrap_or(now);
        let Spawned { pid, pidfd, report } = spawned;
        let start_time = start_time(pid);
        let (ended, bytes) = (None, Vec::new());
        Self { asker, pid, pidfd, start_time, deadline, ended, report, terminal, bytes }
    }

    pub(super) fn report(&self) -> BorrowedFd<'_> {
        self.report.as_fd()
    }

    /// Reads what there is, and says where the start stands.
    pub(super) fn progress(&mut self, now: Instant) -> Progress {
        let end = self.read();
        match (parse_report(&self.bytes), end) {
            (Report::Failed(error), _) => Progress::Failed(failed(&error)),
            (Report::Ready, End::Yes) => Progress::Runs,
            (Report::Pending, End::Yes) => Progress::Failed(self.died()),
            (_, End::No) if now >= self.deadline => Progress::Failed(late()),
            (_, End::No) => Progress::Undecided,
        }
    }

    fn read(&mut self) -> End {
        let mut buffer = [0u8; 512];
        // A File for the sake of `Read`; the descriptor stays ours.
        let Ok(copy) = self.report.try_clone() else { return End::No };
        let mut pipe = std::fs::File::from(copy);
        while self.bytes.len() < MAX_REPORT {
            match pipe.read(&mut buffer) {
                Ok(0) => return End::Yes,
                Ok(n) => self.bytes.extend_from_slice(buffer.get(..n).unwrap_or_default()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return End::No,
                Err(_) => return End::Yes,
            }
        }
        End::No
    }

    fn died(&self) -> wire::Failed {
        let how = match self.ended {
            Some(Ended::Signal(signal)) => format!("it was killed by signal {signal}"),
            Some(Ended::Code(code)) => format!("it exited with {code}"),
            None => "it ended".to_owned(),
        };
        wire::Failed {
            step: "start".to_owned(),
            errno: None,
            message: Some(format!("{how} before its program ran")),
        }
    }

    /// What best effort passed over so far.
    pub(super) fn left_out(&self) -> Vec<String> {
        parse_left_out(&self.bytes)
    }

    /// The master of its terminal, twice, once it runs; `None` when it was not to have one.
    pub(super) fn take_terminal(&self) -> io::Result<Option<[OwnedFd; 2]>> {
        let Some(from) = &self.terminal else { return Ok(None) };
        let master = take_terminal(from.as_fd())?;
        Ok(Some([master.try_clone()?, master]))
    }

    /// The process, from here on without its report.
    pub(super) fn into_process(self) -> Process {
        Process::new(self.pid, self.start_time, self.pidfd)
    }

    /// Ends the process; it is reaped as any child.
    pub(super) fn kill(&self) {
        // It may be gone already; a failure otherwise shows as a process that stays.
        process::kill(self.pidfd.as_fd()).ok();
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Yes,
    No,
}

/// A failed step in the protocol's words.
pub(super) fn failed(error: &StepError) -> wire::Failed {
    wire::Failed {
        step: error.step.name().to_owned(),
        errno: Some(error.errno),
        message: Some(error.message()),
    }
}

/// A failed system call in the protocol's words.
pub(super) fn refused(step: &str, error: &io::Error) -> wire::Failed {
    let errno = error.raw_os_error();
    let message = match errno {
        Some(errno) => nix::errno::Errno::from_raw(errno).desc().to_owned(),
        None => error.to_string(),
    };
    wire::Failed { step: step.to_owned(), errno, message: Some(message) }
}

pub(super) fn late() -> wire::Failed {
    refused("start within the deadline", &io::Error::from_raw_os_error(libc::ETIMEDOUT))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Step;
    use crate::testing::eventually;

    fn starting() -> (Starting, OwnedFd) {
        let (report, tell) = crate::sys::pipe::pipe().unwrap();
        let pid = std::process::id().cast_signed();
        let pidfd = process::open_pidfd(pid).unwrap();
        let asker = Asker { generation: 1, id: 1 };
        let spawned = Spawned { pid, pidfd, report };
        (Starting::new(asker, spawned, None, Duration::from_secs(60)), tell)
    }

    #[test]
    fn a_program_runs_when_ready_was_told_and_the_pipe_is_closed() {
        let (mut starting, tell) = starting();
        assert!(matches!(starting.progress(Instant::now()), Progress::Undecided));
        nix::unistd::write(&tell, b"R").unwrap();
        assert!(matches!(starting.progress(Instant::now()), Progress::Undecided));
        drop(tell);
        eventually("the end of the report", || {
            matches!(starting.progress(Instant::now()), Progress::Runs)
        });
    }

    #[test]
    fn a_death_on_the_way_is_a_failure_that_says_how() {
        let (mut starting, tell) = starting();
        drop(tell);
        starting.ended = Some(Ended::Signal(9));
        let mut message = None;
        eventually("a failure", || {
            if let Progress::Failed(failed) = starting.progress(Instant::now()) {
                message = failed.message;
            }
            message.is_some()
        });
        assert_eq!(message.unwrap(), "it was killed by signal 9 before its program ran");
    }

    #[test]
    fn the_deadline_ends_an_undecided_start() {
        let (mut starting, _tell) = starting();
        let later = Instant::now() + Duration::from_secs(61);
        let Progress::Failed(failed) = starting.progress(later) else { panic!() };
        assert_eq!(failed.errno, Some(libc::ETIMEDOUT));
    }

    #[test]
    fn a_failed_step_is_told_with_its_name() {
        let error = StepError { step: Step::Cwd, errno: libc::ENOENT, detail: "/x".to_owned() };
        let failed = failed(&error);
        assert_eq!(failed.step, "change to working directory");
        assert_eq!(failed.message.unwrap(), "no such file or directory: /x");
    }
}
