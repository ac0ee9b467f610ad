//! Ends and starts: reaping, exit records, and which starts are decided.

use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Instant;

use super::container::Phase;
use super::exit_file::ExitRecord;
use super::handler::After;
use super::io::Stream;
use super::lines::Name;
use super::server::{Pause, Server};
use super::starting::{Asker, Progress, refused};
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
        if self.handled_ended(pid, ended) {
            return;
        }
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
        } else {
            // An orphan that was given to this subreaper.
            self.keep_stranger(pid, ended);
        }
    }

    pub(super) fn container_ended(&mut self, n: usize, ended: Ended) {
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
        let told = What::ContainerExited(wire::ContainerExited { container: id, exit });
        match self.containers.get_mut(n).and_then(|c| c.runtime.take()) {
            Some(runtime) => self.close(&runtime, After::Tell(told)),
            None => self.tell(told),
        }
    }

    /// The event is told, and kept, whether or not the file can be written.
    fn store(&self, id: &str, record: &ExitRecord) {
        record.store(self.given.exits.as_fd(), id).ok();
    }

    pub(super) fn exec_ended(&mut self, n: usize, ended: Ended) {
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
            let Some(decided) = advance(&mut c.phase, now) else { continue };
            if let reply::Result::Started(started) = &decided.result {
                c.left_out.clone_from(&started.left_out);
            }
            if let Some([master, copy]) = decided.terminal {
                c.streams = [Some(Stream::new(master, Name::Stdout)), None];
                c.terminal = Some(copy);
            }
            self.answer(decided.asker, decided.result, Vec::new());
            if let Some(ended) = decided.ended {
                self.container_ended(n, ended);
            }
            heap::trim();
        }
        for n in 0..self.execs.len() {
            let generation = self.link.as_ref().map(|link| link.generation);
            let Some(exec) = self.execs.get_mut(n) else { continue };
            let Some(decided) = advance(&mut exec.phase, now) else { continue };
            let mut given = Vec::new();
            // With the connection of the one who asked, the terminal would have gone, too.
            if let Some([master, copy]) = decided.terminal
                && generation == Some(decided.asker.generation)
            {
                given.push(master);
                exec.terminal = Some(copy);
            }
            self.answer(decided.asker, decided.result, given);
            if let Some(ended) = decided.ended {
                self.exec_ended(n, ended);
            }
        }
    }
}

/// A start that is decided.
struct Decided {
    asker: Asker,
    result: reply::Result,
    /// Its end if it was reaped already.
    ended: Option<Ended>,
    /// The master of its terminal, twice.
    terminal: Option<[OwnedFd; 2]>,
}

/// Moves a start to its next phase if it is decided.
fn advance(phase: &mut Phase, now: Instant) -> Option<Decided> {
    let Phase::Starting(starting) = phase else { return None };
    let (asker, ended) = (starting.asker, starting.ended);
    let failure = match starting.progress(now) {
        Progress::Undecided => return None,
        Progress::Failed(failed) => failed,
        Progress::Runs => match starting.take_terminal() {
            Ok(terminal) => {
                let Phase::Starting(starting) = std::mem::replace(phase, Phase::Gone) else {
                    return None;
                };
                let left_out = starting.left_out();
                let process = starting.into_process();
                let started = wire::Started { process: process.to_wire(), left_out };
                *phase = Phase::Running(process);
                let result = reply::Result::Started(started);
                return Some(Decided { asker, result, ended, terminal });
            }
            Err(error) => refused("take the terminal", &error),
        },
    };
    starting.kill();
    *phase = Phase::Gone;
    let result = reply::Result::Failed(failure);
    Some(Decided { asker, result, ended: None, terminal: None })
}
