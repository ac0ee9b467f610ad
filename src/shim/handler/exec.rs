//! `exec`: commands in a container that a runtime made.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use super::console::Console;
use super::container::Made;
use super::runtime::Runtime;
use super::verb::{Handled, Verb};
use crate::oci::Stdio;
use crate::shim::container::Phase;
use crate::shim::server::Server;
use crate::shim::starting::{Asker, Starting, failed, refused};
use crate::shim::wire::{self, Failed, reply::Result as Answer};

impl Server {
    /// Has a runtime run a command in its container.
    pub(in crate::shim) fn exec_handled(
        &self,
        (asker, within): (Asker, Duration),
        runtime: &Rc<Runtime>,
        (exec, slot): (&str, &str),
        stdio: Stdio,
    ) -> Result<Phase, Failed> {
        // The name becomes that of files.
        if exec.is_empty() || !exec.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(refused("name the command", &io::Error::from_raw_os_error(libc::EINVAL)));
        }
        let folder = &runtime.plan.bundle;
        let pid_file = format!("{folder}/pid-{exec}");
        let process = format!("{folder}/process-{exec}.json");
        let (stdio, console) = self.handler_stdio(runtime, stdio, &format!("console-{exec}"))?;
        let mut verb = vec!["exec", "--process", &process, "--pid-file", &pid_file, "--detach"];
        verb.extend(["--cgroup", slot]);
        verb.extend(console.iter().flat_map(Console::words));
        verb.push(&runtime.id);
        let arguments = runtime.arguments(&format!("log-{exec}"), &verb);
        let spawned = self.call(runtime, arguments, None, &stdio).map_err(|e| failed(&e))?;
        let call = Starting::new(asker, spawned, None, within);
        let (runtime, verb) = (Rc::clone(runtime), Verb::Exec(exec.to_owned()));
        Ok(Phase::Handled(Box::new(Handled { runtime, call, verb, console, begun: false })))
    }

    /// `exec` is done, or failed.
    pub(super) fn exec_made(&mut self, n: usize, decided: Result<(), Failed>) {
        let Some(exec) = self.execs.get_mut(n) else { return };
        let Phase::Handled(handled) = std::mem::replace(&mut exec.phase, Phase::Gone) else {
            return;
        };
        let Handled { runtime, call, verb, console, .. } = *handled;
        let Verb::Exec(id) = verb else { return };
        let pid_file = format!("pid-{id}");
        let made = decided.and_then(|()| self.made(&runtime, &pid_file)).and_then(|made| {
            let terminal = console.map(|console| console.take(&runtime, "exec")).transpose();
            match terminal {
                Ok(terminal) => Ok((made, terminal)),
                Err(failed) => {
                    made.process.kill();
                    Err(failed)
                }
            }
        });
        for name in [pid_file, format!("log-{id}"), format!("process-{id}.json")] {
            runtime.remove(&name);
        }
        match made {
            Ok((Made { process, ended }, terminal)) => {
                let process_told = process.to_wire();
                let generation = self.link.as_ref().map(|link| link.generation);
                let mut given = Vec::new();
                if let Some(exec) = self.execs.get_mut(n) {
                    exec.phase = Phase::Running(process);
                    // With the connection of the one who asked, the terminal would have gone, too.
                    if let Some([master, copy]) = terminal
                        && generation == Some(call.asker.generation)
                    {
                        given.push(master);
                        exec.terminal = Some(copy);
                    }
                }
                let started = wire::Started { process: process_told, left_out: Vec::new() };
                self.answer(call.asker, Answer::Started(started), given);
                if let Some(ended) = ended {
                    self.exec_ended(n, ended);
                }
            }
            Err(failed) => {
                call.kill();
                self.answer(call.asker, Answer::Failed(failed), Vec::new());
            }
        }
    }
}
