//! `create` and `start`: the way of a container's first process.

use std::os::fd::{AsFd as _, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::console::Console;
use super::delete::After;
use super::runtime::Runtime;
use super::verb::{Handled, Verb};
use crate::oci::Stdio;
use crate::shim::container::{Phase, Process, start_time};
use crate::shim::io::Stream;
use crate::shim::lines::Name;
use crate::shim::server::Server;
use crate::shim::starting::{Asker, Starting, failed, refused};
use crate::shim::wire::{self, Failed, reply::Result as Answer};
use crate::sys::process::{self, Ended};

/// A process that a runtime made.
pub(super) struct Made {
    pub(super) process: Process,
    pub(super) ended: Option<Ended>,
}

impl Server {
    /// Has a runtime create a container; it goes on in [`Self::check_handled`].
    pub(in crate::shim) fn create_handled(
        &self,
        (asker, within): (Asker, Duration),
        runtime: &Rc<Runtime>,
        mounts: &[OwnedFd],
        stdio: Stdio,
    ) -> Result<Phase, Failed> {
        runtime.remove("log");
        runtime.remove("pid");
        let bundle = runtime.plan.bundle.clone();
        let pid_file = format!("{bundle}/pid");
        let (stdio, console) = self.handler_stdio(runtime, stdio, "console")?;
        let mut verb = vec!["create", "--bundle", &bundle, "--pid-file", &pid_file];
        verb.extend(console.iter().flat_map(Console::words));
        verb.push(&runtime.id);
        let arguments = runtime.arguments("log", &verb);
        let spawned =
            self.call(runtime, arguments, Some(mounts), &stdio).map_err(|e| failed(&e))?;
        let call = Starting::new(asker, spawned, None, within);
        let runtime = Rc::clone(runtime);
        let verb = Verb::Create;
        Ok(Phase::Handled(Box::new(Handled { runtime, call, verb, console, begun: false })))
    }

    pub(super) fn container_failed(&mut self, n: usize, failed: Failed) {
        let Some(c) = self.containers.get_mut(n) else { return };
        let Phase::Handled(handled) = std::mem::replace(&mut c.phase, Phase::Gone) else { return };
        let runtime = c.runtime.take();
        handled.kill();
        let after = After::Fail(handled.asker(), failed);
        match runtime {
            Some(runtime) if runtime.plan.restore.is_none() => self.close(&runtime, after),
            // criu takes down what it has not brought back whole.
            _ => self.follow(after),
        }
    }

    /// `create` or `start` is done.
    pub(super) fn container_made(&mut self, n: usize) {
        let Some(c) = self.containers.get_mut(n) else { return };
        let Phase::Handled(handled) = std::mem::replace(&mut c.phase, Phase::Gone) else { return };
        let Handled { runtime, call, verb, console, .. } = *handled;
        let asker = call.asker;
        match verb {
            Verb::Create => {
                let within = call.deadline.saturating_duration_since(Instant::now());
                match self.start_made(asker, (&runtime, console), within) {
                    Ok((phase, terminal)) => {
                        if let Some(c) = self.containers.get_mut(n) {
                            c.phase = phase;
                            if let Some([master, copy]) = terminal {
                                c.streams = [Some(Stream::new(master, Name::Stdout)), None];
                                c.terminal = Some(copy);
                            }
                        }
                    }
                    Err(failed) => self.close(&runtime, After::Fail(asker, failed)),
                }
            }
            Verb::Start { init, ended } => {
                let left_out = runtime.plan.left_out.clone();
                c.left_out.clone_from(&left_out);
                let started = wire::Started { process: init.to_wire(), left_out };
                c.phase = Phase::Running(init);
                self.answer(asker, Answer::Started(started), Vec::new());
                if let Some(ended) = ended {
                    self.container_ended(n, ended);
                }
            }
            Verb::Restore => self.container_back(n, asker, &runtime),
            Verb::Exec(_) => {}
        }
    }

    /// Has the runtime start what it created.
    fn start_made(
        &mut self,
        asker: Asker,
        (runtime, console): (&Rc<Runtime>, Option<Console>),
        within: Duration,
    ) -> Result<(Phase, Option<[OwnedFd; 2]>), Failed> {
        let Made { process: init, ended } = self.made(runtime, "pid")?;
        if let Some(ended) = ended {
            return Err(runtime.said("log", "create", ended));
        }
        let terminal = console.map(|console| console.take(runtime, "create")).transpose();
        let terminal = terminal.inspect_err(|_| init.kill())?;
        runtime.remove("log");
        let arguments = runtime.arguments("log", &["start", &runtime.id]);
        let spawned = self
            .no_streams()
            .and_then(|null| self.call(runtime, arguments, None, &null).map_err(|e| failed(&e)))
            .inspect_err(|_| init.kill())?;
        let call = Starting::new(asker, spawned, None, within);
        let (runtime, verb) = (Rc::clone(runtime), Verb::Start { init, ended: None });
        let console = None;
        let handled = Handled { runtime, call, verb, console, begun: false };
        Ok((Phase::Handled(Box::new(handled)), terminal))
    }

    /// The process whose pid a runtime wrote into a file: a child of the shim's by now.
    pub(super) fn made(&mut self, runtime: &Runtime, file: &str) -> Result<Made, Failed> {
        const STEP: &str = "find the process that the runtime made";
        let pid = runtime.read_pid(file)?;
        if let Some(at) = self.strangers.iter().position(|(stranger, _)| *stranger == pid) {
            let (_, ended) = self.strangers.swap_remove(at);
            // A descriptor that stands for nobody any more.
            let pidfd = self.given.null.try_clone().map_err(|e| refused(STEP, &e))?;
            return Ok(Made { process: Process::new(pid, 0, pidfd), ended: Some(ended) });
        }
        let pidfd = process::open_pidfd(pid).map_err(|e| refused(STEP, &e))?;
        let started = start_time(pid);
        // ECHILD: a runtime that keeps the process for itself, or is none.
        let ended = process::try_wait_pidfd(pidfd.as_fd()).map_err(|e| refused(STEP, &e))?;
        Ok(Made { process: Process::new(pid, started, pidfd), ended })
    }
}
