//! Containers and commands that another OCI runtime makes.
//!
//! The runtime is called, verb by verb, as a child of the shim; what it makes becomes a child of the
//! shim, too, which is the subreaper above it. From then on the process is as any other here: its
//! output, its end, its signals are the shim's affair and need no runtime.
//!
//! | verb     | answers by                        | then                                      |
//! |----------|-----------------------------------|-------------------------------------------|
//! | `create` | its exit code, the file `pid`     | the container's process is known; `start` |
//! | `start`  | its exit code                     | the container runs                        |
//! | `exec`   | its exit code, the file `pid-…`   | the command runs                          |
//! | `delete` | its exit code                     | the end, or the failed start, is told     |
//!
//! Why a verb failed is the last line of its log. A container's process may end before it is known
//! which one it is: while a verb is at work, ends of strangers are kept.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::unistd::UnlinkatFlags;

use super::container::{Phase, Process, start_time};
use super::server::Server;
use super::starting::{Asker, Progress, Starting, failed, late, refused};
use super::wire::{self, Failed, HandlerPlan, event::What, reply::Result as Answer};
use crate::oci::{RuntimeCall, Spawned, Stdio, spawn_runtime};
use crate::sys::path::{Resolve, open_in};
use crate::sys::process::{self, Ended};

/// How long a runtime may take to take apart what has ended.
const DELETE_WITHIN: Duration = Duration::from_secs(10);
/// No log of a verb is longer, and no pid file.
const FILE_BYTES: u64 = 64 * 1024;

/// A container's runtime.
#[derive(Debug)]
pub(super) struct Runtime {
    plan: HandlerPlan,
    /// The container's id, by which the runtime knows it.
    id: String,
    /// The host's mount namespace.
    host: OwnedFd,
    /// The bundle's folder.
    bundle: OwnedFd,
}

/// A runtime at work on a start.
#[derive(Debug)]
pub(super) struct Handled {
    runtime: Rc<Runtime>,
    /// The runtime's own process.
    call: Starting,
    verb: Verb,
    /// The program runs, and its report has ended.
    begun: bool,
}

#[derive(Debug)]
enum Verb {
    Create,
    Start {
        init: Process,
        ended: Option<Ended>,
    },
    /// Of the command with this name.
    Exec(String),
}

/// Where a verb stands.
enum Called {
    Undecided,
    Done,
    Failed(Failed),
}

/// A `delete` at work.
#[derive(Debug)]
pub(super) struct Closing {
    call: Starting,
    begun: bool,
    then: After,
}

/// What follows when a runtime has forgotten a container.
#[derive(Debug)]
pub(super) enum After {
    /// Its end is told.
    Tell(What),
    /// Its start is answered.
    Fail(Asker, Failed),
}

/// A process that a runtime made.
struct Made {
    process: Process,
    ended: Option<Ended>,
}

impl Runtime {
    /// From a request and its descriptors; what is left of those is the plan's mounts'.
    pub(super) fn new(plan: HandlerPlan, id: String, host: OwnedFd, bundle: OwnedFd) -> Rc<Self> {
        Rc::new(Self { plan, id, host, bundle })
    }

    fn arguments(&self, log: &str, verb: &[&str]) -> Vec<String> {
        let bundle = &self.plan.bundle;
        let root = format!("{bundle}/state");
        let log = format!("{bundle}/{log}");
        ["--root", &root, "--log", &log, "--log-format", "json"]
            .iter()
            .chain(verb)
            .map(|word| (*word).to_owned())
            .collect()
    }

    fn remove(&self, name: &str) {
        // What stays goes with the folder.
        nix::unistd::unlinkat(&self.bundle, name, UnlinkatFlags::NoRemoveDir).ok();
    }

    fn read(&self, name: &str) -> io::Result<String> {
        let file =
            open_in(self.bundle.as_fd(), Path::new(name), libc::O_RDONLY, 0, Resolve::Beneath)?;
        let mut text = String::new();
        File::from(file).take(FILE_BYTES).read_to_string(&mut text)?;
        Ok(text)
    }

    fn read_pid(&self, name: &str) -> Result<i32, Failed> {
        let step = "read the pid that the runtime wrote";
        let text = self.read(name).map_err(|e| refused(step, &e))?;
        let invalid = |_| refused(step, &io::Error::from_raw_os_error(libc::EINVAL));
        text.trim().parse().map_err(invalid)
    }

    /// The last words of a verb that failed.
    fn said(&self, log: &str, verb: &str, ended: Ended) -> Failed {
        let how = match ended {
            Ended::Code(code) => format!("it exited with {code} and said nothing"),
            Ended::Signal(signal) => format!("it was killed by signal {signal}"),
        };
        let last = self.read(log).ok().and_then(|text| last_message(&text));
        let step = format!("{} {verb}", self.plan.program);
        Failed { step, errno: None, message: Some(last.unwrap_or(how)) }
    }
}

impl Verb {
    fn name(&self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Start { .. } => "start",
            Self::Exec(_) => "exec",
        }
    }

    fn log(&self) -> String {
        match self {
            Self::Create | Self::Start { .. } => "log".to_owned(),
            Self::Exec(id) => format!("log-{id}"),
        }
    }
}

impl Handled {
    pub(super) fn asker(&self) -> Asker {
        self.call.asker
    }

    pub(super) fn deadline(&self) -> Instant {
        self.call.deadline
    }

    /// The pipe to watch, until it has ended.
    pub(super) fn report(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        (!self.begun).then(|| self.call.report())
    }

    pub(super) fn kill(&self) {
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
fn advance(call: &mut Starting, begun: &mut bool, now: Instant) -> Result<Option<Ended>, Failed> {
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

impl Closing {
    pub(super) fn deadline(&self) -> Instant {
        self.call.deadline
    }

    pub(super) fn report(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        (!self.begun).then(|| self.call.report())
    }
}

impl Server {
    /// Has a runtime create a container; it goes on in [`Self::check_handled`].
    pub(super) fn create_handled(
        &self,
        (asker, within): (Asker, Duration),
        runtime: &Rc<Runtime>,
        mounts: &[OwnedFd],
        stdio: &Stdio,
    ) -> Result<Phase, Failed> {
        runtime.remove("log");
        runtime.remove("pid");
        let bundle = runtime.plan.bundle.clone();
        let pid_file = format!("{bundle}/pid");
        let verb = ["create", "--bundle", &bundle, "--pid-file", &pid_file, &runtime.id];
        let arguments = runtime.arguments("log", &verb);
        let spawned = self.call(runtime, arguments, Some(mounts), stdio).map_err(|e| failed(&e))?;
        let call = Starting::new(asker, spawned, None, within);
        let runtime = Rc::clone(runtime);
        Ok(Phase::Handled(Box::new(Handled { runtime, call, verb: Verb::Create, begun: false })))
    }

    /// Has a runtime run a command in its container.
    pub(super) fn exec_handled(
        &self,
        (asker, within): (Asker, Duration),
        runtime: &Rc<Runtime>,
        (exec, slot): (&str, &str),
        stdio: &Stdio,
    ) -> Result<Phase, Failed> {
        // The name becomes that of files.
        if exec.is_empty() || !exec.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(refused("name the command", &io::Error::from_raw_os_error(libc::EINVAL)));
        }
        let folder = &runtime.plan.bundle;
        let pid_file = format!("{folder}/pid-{exec}");
        let process = format!("{folder}/process-{exec}.json");
        let verb = [
            "exec",
            "--process",
            &process,
            "--pid-file",
            &pid_file,
            "--detach",
            "--cgroup",
            slot,
            &runtime.id,
        ];
        let arguments = runtime.arguments(&format!("log-{exec}"), &verb);
        let spawned = self.call(runtime, arguments, None, stdio).map_err(|e| failed(&e))?;
        let call = Starting::new(asker, spawned, None, within);
        let (runtime, verb) = (Rc::clone(runtime), Verb::Exec(exec.to_owned()));
        Ok(Phase::Handled(Box::new(Handled { runtime, call, verb, begun: false })))
    }

    fn call(
        &self,
        runtime: &Runtime,
        arguments: Vec<String>,
        mounts: Option<&[OwnedFd]>,
        stdio: &Stdio,
    ) -> Result<Spawned, crate::oci::StepError> {
        let call = RuntimeCall {
            plan: &runtime.plan,
            host: runtime.host.as_fd(),
            mounts,
            shm: self.namespace.shm(),
            cgroup: self.given.own_cgroup.as_fd(),
            arguments,
        };
        spawn_runtime(&self.threads, &call, stdio)
    }

    /// Streams for a runtime: it gets the null device where the container gets no input.
    pub(super) fn with_stdin(&self, stdio: Stdio) -> Result<Stdio, Failed> {
        match stdio {
            Stdio::Streams { stdin: None, stdout, stderr } => {
                let null = self.given.null.try_clone();
                let stdin = Some(null.map_err(|e| refused("make standard streams", &e))?);
                Ok(Stdio::Streams { stdin, stdout, stderr })
            }
            Stdio::Streams { .. } => Ok(stdio),
            Stdio::Terminal(_) => {
                let none = io::Error::from_raw_os_error(libc::ENOTTY);
                Err(refused("make a terminal with this runtime", &none))
            }
        }
    }

    /// Streams of the shim's null device.
    fn no_streams(&self) -> Result<Stdio, Failed> {
        let null = || self.given.null.try_clone().map_err(|e| refused("make standard streams", &e));
        Ok(Stdio::Streams { stdin: Some(null()?), stdout: null()?, stderr: null()? })
    }

    /// Whether any verb is at work.
    fn any_handled(&self) -> bool {
        self.phases().any(|phase| matches!(phase, Phase::Handled(_)))
    }

    /// Notes an end; false when it is of no verb, and of nothing that a verb may yet name.
    pub(super) fn handled_ended(&mut self, pid: i32, ended: Ended) -> bool {
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
    pub(super) fn keep_stranger(&mut self, pid: i32, ended: Ended) {
        if self.any_handled() {
            self.strangers.push((pid, ended));
        }
    }

    /// Moves on every verb that has ended.
    pub(super) fn check_handled(&mut self) {
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

    fn container_failed(&mut self, n: usize, failed: Failed) {
        let Some(c) = self.containers.get_mut(n) else { return };
        let Phase::Handled(handled) = std::mem::replace(&mut c.phase, Phase::Gone) else { return };
        let runtime = c.runtime.take();
        handled.kill();
        let after = After::Fail(handled.asker(), failed);
        match runtime {
            Some(runtime) => self.close(&runtime, after),
            None => self.follow(after),
        }
    }

    /// `create` or `start` is done.
    fn container_made(&mut self, n: usize) {
        let Some(c) = self.containers.get_mut(n) else { return };
        let Phase::Handled(handled) = std::mem::replace(&mut c.phase, Phase::Gone) else { return };
        let Handled { runtime, call, verb, .. } = *handled;
        let asker = call.asker;
        match verb {
            Verb::Create => {
                let within = call.deadline.saturating_duration_since(Instant::now());
                match self.start_made(asker, &runtime, within) {
                    Ok(phase) => {
                        if let Some(c) = self.containers.get_mut(n) {
                            c.phase = phase;
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
            Verb::Exec(_) => {}
        }
    }

    /// Has the runtime start what it created.
    fn start_made(
        &mut self,
        asker: Asker,
        runtime: &Rc<Runtime>,
        within: Duration,
    ) -> Result<Phase, Failed> {
        let Made { process: init, ended } = self.made(runtime, "pid")?;
        if let Some(ended) = ended {
            return Err(runtime.said("log", "create", ended));
        }
        runtime.remove("log");
        let arguments = runtime.arguments("log", &["start", &runtime.id]);
        let spawned = self
            .no_streams()
            .and_then(|null| self.call(runtime, arguments, None, &null).map_err(|e| failed(&e)))
            .inspect_err(|_| init.kill())?;
        let call = Starting::new(asker, spawned, None, within);
        let (runtime, verb) = (Rc::clone(runtime), Verb::Start { init, ended: None });
        Ok(Phase::Handled(Box::new(Handled { runtime, call, verb, begun: false })))
    }

    /// The process whose pid a runtime wrote into a file: a child of the shim's by now.
    fn made(&mut self, runtime: &Runtime, file: &str) -> Result<Made, Failed> {
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

    fn exec_made(&mut self, n: usize, decided: Result<(), Failed>) {
        let Some(exec) = self.execs.get_mut(n) else { return };
        let Phase::Handled(handled) = std::mem::replace(&mut exec.phase, Phase::Gone) else {
            return;
        };
        let Handled { runtime, call, verb, .. } = *handled;
        let Verb::Exec(id) = verb else { return };
        let pid_file = format!("pid-{id}");
        let made = decided.and_then(|()| self.made(&runtime, &pid_file));
        for name in [pid_file, format!("log-{id}"), format!("process-{id}.json")] {
            runtime.remove(&name);
        }
        match made {
            Ok(Made { process, ended }) => {
                let process_told = process.to_wire();
                if let Some(exec) = self.execs.get_mut(n) {
                    exec.phase = Phase::Running(process);
                }
                let started = wire::Started { process: process_told, left_out: Vec::new() };
                self.answer(call.asker, Answer::Started(started), Vec::new());
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

    /// Has the runtime forget a container that has ended, or never began.
    pub(super) fn close(&mut self, runtime: &Runtime, then: After) {
        runtime.remove("log");
        let arguments = runtime.arguments("log", &["delete", "--force", &runtime.id]);
        let spawned = self
            .no_streams()
            .and_then(|null| self.call(runtime, arguments, None, &null).map_err(|e| failed(&e)));
        // Nobody asked.
        let asker = Asker { generation: 0, id: 0 };
        match spawned {
            Ok(spawned) => {
                let call = Starting::new(asker, spawned, None, DELETE_WITHIN);
                self.closing.push(Closing { call, begun: false, then });
            }
            // The daemon removes its cgroup and its files in any case.
            Err(_) => self.follow(then),
        }
    }

    fn follow(&mut self, after: After) {
        match after {
            After::Tell(what) => self.tell(what),
            After::Fail(asker, failed) => self.answer(asker, Answer::Failed(failed), Vec::new()),
        }
    }

    fn check_closing(&mut self, now: Instant) {
        let mut open = Vec::new();
        for mut closing in std::mem::take(&mut self.closing) {
            match advance(&mut closing.call, &mut closing.begun, now) {
                Ok(None) => open.push(closing),
                decided => {
                    if decided.is_err() {
                        closing.call.kill();
                    }
                    self.follow(closing.then);
                }
            }
        }
        self.closing = open;
    }
}

/// The message of the last line of a log in JSON.
fn last_message(log: &str) -> Option<String> {
    let line = log.lines().rev().find(|line| line.contains("\"msg\""))?;
    let (_, rest) = line.split_once("\"msg\"")?;
    let rest = rest.trim_start().strip_prefix(':')?.trim_start().strip_prefix('"')?;
    let mut text = String::new();
    let mut chars = rest.chars();
    loop {
        match chars.next()? {
            '"' => return Some(text.trim().to_owned()),
            '\\' => match chars.next()? {
                'n' | 't' | 'r' => text.push(' '),
                'u' => {
                    let digits: String = chars.by_ref().take(4).collect();
                    let code = u32::from_str_radix(&digits, 16).ok()?;
                    text.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
                }
                other => text.push(other),
            },
            other => text.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_message_of_a_log_is_read_with_its_escapes() {
        let log = "{\"level\":\"warning\",\"msg\":\"first\",\"time\":\"x\"}\n\
            {\"level\":\"error\", \"msg\": \"exec: \\\"/nope\\\": \\u003cnone\\u003e\\n\",\"time\":\"x\"}\n";
        assert_eq!(last_message(log).unwrap(), "exec: \"/nope\": <none>");
        assert_eq!(last_message("{\"msg\":\"cut"), None);
        assert_eq!(last_message("no such key\n"), None);
        assert_eq!(last_message(""), None);
    }
}
