//! Ends and starts: reaping, exit records, and which starts are decided.

use std::os::fd::AsFd as _;
use std::time::Instant;

use super::container::Phase;
use super::exit_file::ExitRecord;
use super::server::{Pause, Server};
use super::starting::{Asker, Progress};
use super::wire::{self, event::What, reply};
use crate::sys::heap;
use crate::sys::process::{self, Ended};

impl Server {
    /// Reaps everything that has ended, orphans included.
    pub(super) fn reap(&mut self) {
        while let Ok(Some((pid, ended))) = process::reap_any() {
            self.child_ended(pid, ended);
        }
    }

    fn child_ended(&mut self, pid: i32, ended: Ended) {
        if let Pause::Running(pause) = &self.pause
            && pause.pid == pid
        {
            self.pause = Pause::Ended;
            if self.shutdown.is_none() {
                self.tell(What::PauseExited(wire::PauseExited {}));
            }
        } else if let Some(n) = self.containers.iter().position(|c| c.phase.pid() == Some(pid)) {
            self.container_ended(n, ended);
        } else if let Some(n) = self.execs.iter().position(|e| e.phase.pid() == Some(pid)) {
            self.exec_ended(n, ended);
        }
        // Anything else is an orphan that was given to this subreaper.
    }

    fn container_ended(&mut self, n: usize, ended: Ended) {
        let Some(c) = self.containers.get_mut(n) else { return };
        if let Phase::Starting(starting) = &mut c.phase {
            // Decided by its report; if it did run, the end is told after the start.
            starting.ended = Some(ended);
            return;
        }
        let id = c.id.clone();
        let (record, lost) = c.end(ended, &mut self.scratch);
        self.store(&id, &record);
        if let Some(lost) = lost {
            self.tell_lost(id.clone(), lost);
        }
        let exit = record.into();
        self.tell(What::ContainerExited(wire::ContainerExited { container: id, exit }));
    }

    /// The event is told, and kept, whether or not the file can be written.
    fn store(&self, id: &str, record: &ExitRecord) {
        record.store(self.given.exits.as_fd(), id).ok();
    }

    fn exec_ended(&mut self, n: usize, ended: Ended) {
        let Some(exec) = self.execs.get_mut(n) else { return };
        if let Phase::Starting(starting) = &mut exec.phase {
            starting.ended = Some(ended);
            return;
        }
        exec.phase = Phase::Gone;
        let (container, id) = (exec.container.clone(), exec.id.clone());
        let code = ended.exit_code();
        self.tell(What::ExecExited(wire::ExecExited { container, exec: id, code }));
    }

    /// Moves every start that is decided to its next phase and answers it.
    pub(super) fn check_starts(&mut self) {
        let now = Instant::now();
        for n in 0..self.containers.len() {
            let Some(c) = self.containers.get_mut(n) else { continue };
            if let Some((asker, result, ended)) = advance(&mut c.phase, now) {
                self.answer(asker, result, Vec::new());
                if let Some(ended) = ended {
                    self.container_ended(n, ended);
                }
                heap::trim();
            }
        }
        for n in 0..self.execs.len() {
            let Some(exec) = self.execs.get_mut(n) else { continue };
            if let Some((asker, result, ended)) = advance(&mut exec.phase, now) {
                let terminal = exec.terminal.as_ref().and_then(|t| t.try_clone().ok());
                self.answer(asker, result, terminal.into_iter().collect());
                if let Some(ended) = ended {
                    self.exec_ended(n, ended);
                }
            }
        }
    }
}

/// The next phase of a start that is decided, its answer, and its end if it was reaped already.
fn advance(phase: &mut Phase, now: Instant) -> Option<(Asker, reply::Result, Option<Ended>)> {
    let Phase::Starting(starting) = phase else { return None };
    let (asker, ended) = (starting.asker, starting.ended);
    match starting.progress(now) {
        Progress::Undecided => None,
        Progress::Failed(failed) => {
            starting.kill();
            *phase = Phase::Gone;
            Some((asker, reply::Result::Failed(failed), None))
        }
        Progress::Runs => {
            let Phase::Starting(starting) = std::mem::replace(phase, Phase::Gone) else {
                return None;
            };
            let process = starting.into_process();
            let started = wire::Started { process: process.to_wire() };
            *phase = Phase::Running(process);
            Some((asker, reply::Result::Started(started), ended))
        }
    }
}
