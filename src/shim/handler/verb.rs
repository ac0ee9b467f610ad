//! A verb that is at work on a container or a command.

use std::os::fd::BorrowedFd;
use std::rc::Rc;
use std::time::Instant;

use super::console::Console;
use super::runtime::Runtime;
use crate::shim::container::{Phase, Process};
use crate::shim::server::Server;
use crate::shim::starting::{Asker, Progress, Starting, late};
use crate::shim::wire::Failed;
use crate::sys::process::Ended;

/// A runtime at work on a start.
#[derive(Debug)]
pub(in crate::shim) struct Handled {
    pub(super) runtime: Rc<Runtime>,
    /// The runtime's own process.
    pub(super) call: Starting,
    pub(super) verb: Verb,
    /// Where the terminal arrives, when there is to be one.
    pub(super) console: Option<Console>,
    /// The runtime's program runs, and its report has ended.
    pub(super) begun: bool,
}

/// What a runtime was asked for.
#[derive(Debug)]
pub(super) enum Verb {
    Create,
    Start {
        init: Process,
        ended: Option<Ended>,
    },
    /// Of the command with this name.
    Exec(String),
    /// By criu. What comes back is no runtime's.
    Restore,
}

/// Where a verb stands.
pub(super) enum Called {
    Undecided,
    Done,
    Failed(Failed),
}

impl Verb {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Start { .. } => "start",
            Self::Exec(_) => "exec",
            Self::Restore => "restore",
        }
    }

    fn log(&self) -> String {
        match self {
            Self::Create | Self::Start { .. } | Self::Restore => "log".to_owned(),
            Self::Exec(id) => format!("log-{id}"),
        }
    }
}

impl Handled {
    pub(super) fn asker(&self) -> Asker {
        self.call.asker
    }

    pub(in crate::shim) fn deadline(&self) -> Instant {
        self.call.deadline
    }

    /// The pipe to watch, until it has ended.
    pub(in crate::shim) fn report(&self) -> Option<BorrowedFd<'_>> {
        (!self.begun).then(|| self.call.report())
    }

    pub(in crate::shim) fn kill(&self) {
        self.call.kill();
        if let Verb::Start { init, ended: None } = &self.verb {
            init.kill();
        }
    }

    /// Notes the end of a process of this verb; false when it is none of its.
    fn note(&mut self, pid: i32, how: Ended) -> bool {
        if self.call.pid == pid && self.call.ended.is_none() {
            self.call.ended = Some(how);
            return true;
        }
        match &mut self.verb {
            Verb::Start { init, ended: ended @ None } if init.pid == pid => {
                *ended = Some(how);
                true
            }
            _ => false,
        }
    }

    fn progress(&mut self, now: Instant) -> Called {
        match advance(&mut self.call, &mut self.begun, now) {
            Ok(None) => Called::Undecided,
            Ok(Some(Ended::Code(0))) => Called::Done,
            Ok(Some(ended)) => {
                Called::Failed(self.runtime.said(&self.verb.log(), self.verb.name(), ended))
            }
            Err(failed) => Called::Failed(failed),
        }
    }
}

/// How a call ended, if it has.
pub(super) fn advance(
    call: &mut Starting,
    begun: &mut bool,
    now: Instant,
) -> Result<Option<Ended>, Failed> {
    match call.progress(now) {
        Progress::Undecided => Ok(None),
        Progress::Failed(failed) => Err(failed),
        Progress::Runs => {
            *begun = true;
            match call.ended {
                None if now >= call.deadline => Err(late()),
                ended => Ok(ended),
            }
        }
    }
}

impl Server {
    /// Whether any verb is at work.
    fn any_handled(&self) -> bool {
        self.phases().any(|phase| matches!(phase, Phase::Handled(_)))
    }

    /// Notes an end; false when it is of no verb, and of nothing that a verb may yet name.
    pub(in crate::shim) fn handled_ended(&mut self, pid: i32, ended: Ended) -> bool {
        let containers = self.containers.iter_mut().map(|c| &mut c.phase);
        for phase in containers.chain(self.execs.iter_mut().map(|e| &mut e.phase)) {
            if let Phase::Handled(handled) = phase
                && handled.note(pid, ended)
            {
                return true;
            }
        }
        let closing = self.closing.iter_mut().find(|c| c.call.pid == pid);
        if let Some(closing) = closing.filter(|c| c.call.ended.is_none()) {
            closing.call.ended = Some(ended);
            return true;
        }
        false
    }

    /// Keeps the end of a stranger, who may be a process that a runtime made.
    pub(in crate::shim) fn keep_stranger(&mut self, pid: i32, ended: Ended) {
        if self.any_handled() {
            self.strangers.push((pid, ended));
        }
    }

    /// Moves on every verb that has ended.
    pub(in crate::shim) fn check_handled(&mut self) {
        let now = Instant::now();
        for n in 0..self.containers.len() {
            let Some(c) = self.containers.get_mut(n) else { continue };
            let Phase::Handled(handled) = &mut c.phase else { continue };
            match handled.progress(now) {
                Called::Undecided => {}
                Called::Done => self.container_made(n),
                Called::Failed(failed) => self.container_failed(n, failed),
            }
        }
        for n in 0..self.execs.len() {
            let Some(exec) = self.execs.get_mut(n) else { continue };
            let Phase::Handled(handled) = &mut exec.phase else { continue };
            let decided = match handled.progress(now) {
                Called::Undecided => continue,
                Called::Done => Ok(()),
                Called::Failed(failed) => Err(failed),
            };
            self.exec_made(n, decided);
        }
        if !self.any_handled() {
            self.strangers.clear();
        }
        self.check_closing(now);
    }
}
