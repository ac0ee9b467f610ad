//! A container and a command in one, as the shim holds them.
//!
//! | from     | what                       | to                                     |
//! |----------|----------------------------|----------------------------------------|
//! | –        | `StartContainer`, cloned   | `Starting`                             |
//! | Starting | ready, pipe closed         | `Running`; `Started` is answered       |
//! | Starting | failed, died, deadline     | gone; `Failed` is answered             |
//! | –        | of a handler: `create`     | `Handled`, which ends as Starting does |
//! | Running  | first process reaped       | `Exited`; the event is told            |
//! | Exited   | `Forget`                   | gone                                   |

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use super::attach::Attached;
use super::exit_file::ExitRecord;
use super::handler::{Handled, Runtime};
use super::io::{Log, Lost, Output, Read, Scratch, Stream, now_nanos};
use super::memory::OomCounts;
use super::starting::Starting;
use super::wire;
use crate::sys::process::{self, Ended, InitPid};

/// A process that runs its program.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) pid: i32,
    pub(super) start_time: u64,
    pub(super) pidfd: OwnedFd,
}

/// When a child that is not reaped yet started. Asked at once: after the reaping it is too late.
pub(super) fn start_time(pid: i32) -> u64 {
    // /proc has every child that is not reaped. 0 is no process' start time.
    InitPid::of(pid).map_or(0, |init| init.start_time)
}

impl Process {
    pub(super) fn new(pid: i32, start_time: u64, pidfd: OwnedFd) -> Self {
        Self { pid, start_time, pidfd }
    }

    pub(super) fn to_wire(&self) -> wire::Process {
        wire::Process { pid: self.pid, start_time: self.start_time }
    }

    /// Sends a signal; one that has ended has got what was asked for.
    pub(super) fn signal(&self, number: i32) -> std::io::Result<()> {
        match process::signal(self.pidfd.as_fd(), number) {
            Err(e) if e.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            other => other,
        }
    }

    pub(super) fn kill(&self) {
        // It may be gone already; a failure otherwise shows as a process that stays.
        process::kill(self.pidfd.as_fd()).ok();
    }
}

/// How far a process is. See the module's table.
#[derive(Debug)]
pub(super) enum Phase {
    Starting(Starting),
    /// Another runtime is at work on it.
    Handled(Box<Handled>),
    Running(Process),
    Exited(ExitRecord),
    /// Nothing is left; swept at the end of the round.
    Gone,
}

impl Phase {
    /// The pid of the process that is not reaped yet.
    pub(super) fn pid(&self) -> Option<i32> {
        match self {
            Self::Starting(starting) if starting.ended.is_none() => Some(starting.pid),
            Self::Running(process) => Some(process.pid),
            _ => None,
        }
    }

    pub(super) fn is_live(&self) -> bool {
        matches!(self, Self::Starting(_) | Self::Handled(_) | Self::Running(_))
    }

    pub(super) fn is_starting(&self) -> bool {
        matches!(self, Self::Starting(_) | Self::Handled(_))
    }

    pub(super) fn kill(&self) {
        match self {
            Self::Starting(starting) => starting.kill(),
            Self::Handled(handled) => handled.kill(),
            Self::Running(process) => process.kill(),
            Self::Exited(_) | Self::Gone => {}
        }
    }
}

/// A container.
pub(super) struct Container {
    pub(super) id: String,
    pub(super) phase: Phase,
    pub(super) log: Log,
    /// Standard output and error while somebody can write to them; with a terminal its master.
    pub(super) streams: [Option<Stream>; 2],
    /// A copy of the terminal's master, for its size.
    pub(super) terminal: Option<OwnedFd>,
    /// Kept so that reading standard input waits instead of ending.
    pub(super) stdin: Option<OwnedFd>,
    /// Who listens and talks.
    pub(super) attached: Attached,
    pub(super) cgroup: OwnedFd,
    pub(super) oom_before: OomCounts,
    /// What best effort passed over.
    pub(super) left_out: Vec<String>,
    /// Its first process has got the signal that asks it to end.
    pub(super) asked_to_end: bool,
    /// What made it, if not this project's executor.
    pub(super) runtime: Option<Rc<Runtime>>,
}

impl Container {
    /// Moves what stream `which` has brought into the log.
    pub(super) fn pump(&mut self, which: usize, scratch: &mut Scratch) -> Option<Lost> {
        let stream = self.streams.get_mut(which)?;
        let mut to = Output { log: &mut self.log, attached: &mut self.attached };
        if stream.as_mut()?.pump(&mut to, scratch) == Read::End {
            *stream = None;
        }
        self.log.take_lost()
    }

    /// Where input goes.
    pub(super) fn input(&self) -> Option<BorrowedFd<'_>> {
        self.stdin.as_ref().or(self.terminal.as_ref()).map(AsFd::as_fd)
    }

    /// The first process was reaped: its output is flushed, then the record is made. What holds
    /// the streams open beyond this goes on being logged.
    pub(super) fn end(
        &mut self,
        ended: Ended,
        scratch: &mut Scratch,
    ) -> (ExitRecord, Option<Lost>) {
        let finished_at_nanos = now_nanos();
        let mut to = Output { log: &mut self.log, attached: &mut self.attached };
        for stream in &mut self.streams {
            if let Some(open) = stream
                && open.drain(&mut to, scratch) == Read::End
            {
                *stream = None;
            }
        }
        let oom = OomCounts::read(self.cgroup.as_fd());
        let record = ExitRecord {
            exit_code: ended.exit_code(),
            signal: ended.signal(),
            finished_at_nanos,
            oom_killed: oom.kills > self.oom_before.kills,
            oom_group_kill: oom.group_kills > self.oom_before.group_kills,
        };
        self.stdin = None;
        self.attached.container_ended(record.exit_code);
        self.phase = Phase::Exited(record.clone());
        (record, self.log.take_all_lost())
    }

    pub(super) fn to_wire(&self) -> Option<wire::ContainerState> {
        let (process, exit) = match &self.phase {
            Phase::Running(process) => (Some(process.to_wire()), None),
            Phase::Exited(record) => (None, Some(record.clone().into())),
            Phase::Starting(_) | Phase::Handled(_) | Phase::Gone => return None,
        };
        let (container, left_out) = (self.id.clone(), self.left_out.clone());
        Some(wire::ContainerState { container, process, exit, left_out })
    }
}

/// A command in a container.
pub(super) struct Exec {
    pub(super) container: String,
    pub(super) id: String,
    pub(super) phase: Phase,
    /// The terminal's master: a copy for its size goes, the terminal hangs up, with the
    /// connection, since whoever used it was there.
    pub(super) terminal: Option<OwnedFd>,
}

impl Exec {
    pub(super) fn to_wire(&self) -> Option<wire::ExecState> {
        let Phase::Running(process) = &self.phase else { return None };
        let container = self.container.clone();
        Some(wire::ExecState { container, process: process.to_wire() })
    }
}
