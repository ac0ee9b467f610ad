//! What the shim does for each request. Nothing here waits.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use super::attach::{Attached, Client};
use super::container::{Container, Exec, Phase, Process, start_time};
use super::exit_file;
use super::handler::Runtime;
use super::io::{Log, Stream};
use super::lines::Name;
use super::link::Asked;
use super::memory::OomCounts;
use super::pause::{PauseParts, spawn_pause};
use super::protocol::{Filled, VERSION};
use super::server::{Pause, Server};
use super::starting::{Asker, Starting, failed, refused};
use super::wire::{self, Failed, reply::Result as Answer, request::Verb};
use crate::idmap::IdMaps;
use crate::ids::ContainerId;
use crate::oci::{PodHandles, Stdio, spawn_exec, spawn_init};
use crate::sys::{pipe, socket, terminal};

/// The descriptors of a request, taken in order.
struct Fds(std::vec::IntoIter<OwnedFd>);

impl Fds {
    fn take(&mut self) -> Result<OwnedFd, Failed> {
        self.0.next().ok_or_else(|| malformed("a descriptor is missing"))
    }

    fn take_if(&mut self, said: Option<bool>) -> Result<Option<OwnedFd>, Failed> {
        if said.unwrap_or(false) { self.take().map(Some) } else { Ok(None) }
    }
}

fn malformed(message: &str) -> Failed {
    Failed {
        step: "read the request".to_owned(),
        errno: Some(libc::EINVAL),
        message: Some(message.to_owned()),
    }
}

fn errno(step: &str, errno: i32) -> Failed {
    refused(step, &io::Error::from_raw_os_error(errno))
}

/// The answer now, or none yet.
type Outcome = Result<Option<Answer>, Failed>;

const DONE: Outcome = Ok(Some(Answer::Done(wire::Done {})));

/// A container's ends of its standard streams, and the shim's.
struct Streams {
    stdio: Stdio,
    streams: [Option<Stream>; 2],
    /// Where a terminal comes from.
    terminal: Option<OwnedFd>,
    stdin: Option<OwnedFd>,
}

impl Server {
    /// Takes what has come on the connection.
    pub(super) fn take_requests(&mut self) {
        let Some(link) = &mut self.link else { return };
        let generation = link.generation;
        let (asked, state) = link.receive();
        for Asked { request, fds } in asked {
            let asker = Asker { generation, id: request.id };
            match self.perform(asker, request.verb, Fds(fds.into_iter())) {
                Ok(Some(answer)) => self.answer(asker, answer, Vec::new()),
                Ok(None) => {}
                Err(failed) => self.answer(asker, Answer::Failed(failed), Vec::new()),
            }
        }
        let still = self.link.as_ref().is_some_and(|link| link.generation == generation);
        if still && !matches!(state, Ok(Filled::Nothing)) {
            self.hang_up();
        }
    }

    fn perform(&mut self, asker: Asker, verb: Option<Verb>, fds: Fds) -> Outcome {
        match verb {
            Some(Verb::Hello(hello)) => self.hello(asker, &hello),
            Some(Verb::StartPause(m)) => self.start_pause(&m.plan, fds),
            Some(Verb::StartContainer(m)) => self.start_container(asker, m, fds),
            Some(Verb::StartExec(m)) => self.start_exec(asker, m, fds),
            Some(Verb::ReopenLog(m)) => self.reopen_log(&m, fds),
            Some(Verb::Resize(m)) => self.resize(&m),
            Some(Verb::Forget(m)) => self.forget(&m),
            Some(Verb::Ack(m)) => {
                self.ledger.acknowledge(m.seq);
                DONE
            }
            Some(Verb::StopSignal(m)) => self.stop_signal(&m),
            Some(Verb::Attach(m)) => self.attach(&m, fds),
            Some(Verb::Shutdown(_)) => {
                self.begin_shutdown(asker);
                Ok(None)
            }
            None => Err(malformed("the verb is unknown to this version")),
        }
    }

    fn hello(&mut self, asker: Asker, hello: &wire::Hello) -> Outcome {
        if hello.version < VERSION {
            return Err(malformed("this shim is newer than berth"));
        }
        // The answer says what is, not what was when the loop came round last.
        self.reap();
        self.greeting = Some(asker);
        Ok(None)
    }

    fn start_pause(&mut self, plan: &wire::PausePlan, mut fds: Fds) -> Outcome {
        if !matches!(self.pause, Pause::None) {
            return Err(errno("start pause", libc::EEXIST));
        }
        let cgroup = fds.take()?;
        let user = fds.take_if(Some(plan.user.is_some()))?;
        if let Some(bytes) = plan.shm_bytes {
            let owner = plan.user.as_ref().and_then(|user| IdMaps::from(user).host_root());
            self.namespace
                .mount_shm(bytes, owner, plan.mount_label.as_deref())
                .map_err(|e| refused("mount the pod's shm", &e))?;
        }
        let parts = PauseParts {
            program: self.given.pause_program.as_fd(),
            cgroup: cgroup.as_fd(),
            null: self.given.null.as_fd(),
            privileges: self.given.privileges,
            user: user.as_ref().map(|fd| fd.as_fd()),
        };
        let child =
            spawn_pause(&self.threads, plan, &parts).map_err(|e| refused(&e.step, &e.source))?;
        let pause = Process::new(child.pid, start_time(child.pid), child.pidfd);
        let started = wire::Started { process: pause.to_wire(), left_out: child.skipped };
        self.pause = Pause::Running(pause);
        Ok(Some(Answer::Started(started)))
    }

    fn start_container(&mut self, asker: Asker, m: wire::StartContainer, mut fds: Fds) -> Outcome {
        // The id becomes a file's name.
        ContainerId::parse(&m.container).map_err(|e| malformed(&e.to_string()))?;
        if self.containers.iter().any(|c| c.id == m.container) {
            return Err(errno("start the container", libc::EEXIST));
        }
        if self.shutdown.is_some() {
            return Err(errno("start the container", libc::ESHUTDOWN));
        }
        let cgroup = fds.take()?;
        let log = fds.take_if(m.log)?;
        let streams = streams(m.tty.unwrap_or(false), m.stdin.unwrap_or(false))
            .map_err(|e| refused("make standard streams", &e))?;
        let oom_before = OomCounts::read(cgroup.as_fd());
        let pod = self.pod_handles(&cgroup);
        let Streams { stdio, streams, terminal, stdin } = streams;
        let within = Duration::from_millis(m.deadline_millis);
        let (phase, runtime) = match m.plan.handler {
            None => {
                let spawned = spawn_init(&self.threads, &m.plan, fds.0.collect(), stdio, &pod)
                    .map_err(|e| failed(&e))?;
                (Phase::Starting(Starting::new(asker, spawned, terminal, within)), None)
            }
            Some(plan) => {
                if plan.needs_pause == Some(true) && pod.pause_pidfd.is_none() {
                    return Err(errno("join the pod's namespaces", libc::ESRCH));
                }
                let (host, bundle) = (fds.take()?, fds.take()?);
                let restores = plan.restore.is_some();
                let runtime = Runtime::new(plan, m.container.clone(), host, bundle);
                let mounts: Vec<OwnedFd> = fds.0.collect();
                let asked = (asker, within);
                let phase = match restores {
                    false => self.create_handled(asked, &runtime, &mounts, stdio)?,
                    true => {
                        let given = (mounts.as_slice(), cgroup.as_fd());
                        self.restore_handled(asked, &runtime, given, stdio)?
                    }
                };
                (phase, Some(runtime))
            }
        };
        self.containers.push(Container {
            id: m.container,
            phase,
            log: Log::new(log),
            streams,
            terminal: None,
            stdin,
            attached: Attached::default(),
            cgroup,
            oom_before,
            left_out: Vec::new(),
            asked_to_end: false,
            runtime,
        });
        Ok(None)
    }

    fn pod_handles<'a>(&'a self, cgroup: &'a OwnedFd) -> PodHandles<'a> {
        let pause_pidfd = match &self.pause {
            Pause::Running(pause) => Some(pause.pidfd.as_fd()),
            Pause::None | Pause::Ended => None,
        };
        PodHandles {
            pause_pidfd,
            shm: self.namespace.shm(),
            cgroup: cgroup.as_fd(),
            fallback_cgroup: self.given.own_cgroup.as_fd(),
        }
    }

    fn start_exec(&mut self, asker: Asker, m: wire::StartExec, mut fds: Fds) -> Outcome {
        const STEP: &str = "start the command";
        if self.execs.iter().any(|e| e.container == m.container && e.id == m.exec) {
            return Err(errno(STEP, libc::EEXIST));
        }
        let cgroup = fds.take()?;
        let (stdio, terminal) = self.exec_stdio(&m, &mut fds)?;
        let container = self.containers.iter().find(|c| c.id == m.container);
        let Some((Phase::Running(init), runtime)) = container.map(|c| (&c.phase, &c.runtime))
        else {
            return Err(errno(STEP, libc::ESRCH));
        };
        let within = Duration::from_millis(m.deadline_millis);
        let phase = match (&m.plan.slot, runtime) {
            (Some(slot), Some(runtime)) => {
                self.exec_handled((asker, within), runtime, (&m.exec, slot), stdio)?
            }
            // A level that no executor has is refused there.
            _ => {
                let pod = self.pod_handles(&cgroup);
                let init = init.pidfd.as_fd();
                let spawned = spawn_exec(&self.threads, &m.plan, init, stdio, &pod)
                    .map_err(|e| failed(&e))?;
                Phase::Starting(Starting::new(asker, spawned, terminal, within))
            }
        };
        self.execs.push(Exec { container: m.container, id: m.exec, phase, terminal: None });
        Ok(None)
    }

    /// A command's ends of its streams, and where its terminal comes from.
    fn exec_stdio(
        &self,
        m: &wire::StartExec,
        fds: &mut Fds,
    ) -> Result<(Stdio, Option<OwnedFd>), Failed> {
        let step = |e: io::Error| refused("make standard streams", &e);
        if m.tty.unwrap_or(false) {
            let (come, go) = socket::pair().map_err(step)?;
            return Ok((Stdio::Terminal(go), Some(come)));
        }
        let stdin = fds.take_if(m.stdin)?;
        let mut output = |said| match fds.take_if(said)? {
            Some(fd) => Ok(fd),
            None => self.given.null.try_clone().map_err(step),
        };
        let (stdout, stderr) = (output(m.stdout)?, output(m.stderr)?);
        Ok((Stdio::Streams { stdin, stdout, stderr }, None))
    }

    fn container(&mut self, step: &str, id: &str) -> Result<&mut Container, Failed> {
        self.containers.iter_mut().find(|c| c.id == id).ok_or_else(|| errno(step, libc::ENOENT))
    }

    fn reopen_log(&mut self, m: &wire::ReopenLog, mut fds: Fds) -> Outcome {
        let file = fds.take()?;
        self.container("reopen the log", &m.container)?.log.reopen(file);
        DONE
    }

    fn resize(&mut self, m: &wire::Resize) -> Outcome {
        const STEP: &str = "resize the terminal";
        let terminal = match &m.exec {
            None => self.container(STEP, &m.container)?.terminal.as_ref(),
            Some(exec) => {
                let mut execs = self.execs.iter();
                execs
                    .find(|e| e.container == m.container && e.id == *exec)
                    .ok_or_else(|| errno(STEP, libc::ENOENT))?
                    .terminal
                    .as_ref()
            }
        };
        let terminal = terminal.ok_or_else(|| errno(STEP, libc::ENOTTY))?;
        let size = |n| u16::try_from(n).map_err(|_| errno(STEP, libc::EINVAL));
        terminal::resize(terminal.as_fd(), size(m.width)?, size(m.height)?)
            .map_err(|e| refused(STEP, &e))?;
        DONE
    }

    fn attach(&mut self, m: &wire::Attach, mut fds: Fds) -> Outcome {
        const STEP: &str = "attach to the container";
        let container = self.container(STEP, &m.container)?;
        if !matches!(container.phase, Phase::Running(_)) {
            return Err(errno(STEP, libc::ESRCH));
        }
        let (control, stdin) = (fds.take()?, fds.take_if(m.stdin)?);
        let outputs = [fds.take_if(m.stdout)?, fds.take_if(m.stderr)?];
        let client = Client::new(control, stdin, outputs, m.stdin_once.unwrap_or(false));
        if client.talks() && container.input().is_none() {
            let message = "the container's input is closed".to_owned();
            let errno = Some(libc::EPIPE);
            return Err(Failed { step: STEP.to_owned(), errno, message: Some(message) });
        }
        container.attached.add(client).map_err(|e| refused(STEP, &e))?;
        DONE
    }

    /// A daemon that was killed does not know whether it was done; this process does.
    fn stop_signal(&mut self, m: &wire::StopSignal) -> Outcome {
        const STEP: &str = "send the stop signal";
        let container = self.container(STEP, &m.container)?;
        let Phase::Running(process) = &container.phase else { return DONE };
        if !container.asked_to_end {
            process.signal(m.signal).map_err(|e| refused(STEP, &e))?;
            container.asked_to_end = true;
        }
        DONE
    }

    fn forget(&mut self, m: &wire::Forget) -> Outcome {
        const STEP: &str = "forget the container";
        // Its cgroup may be known to be empty before this loop has heard of the last end.
        self.reap();
        let Ok(container) = self.container(STEP, &m.container) else { return DONE };
        match &container.phase {
            Phase::Running(_) => return Err(errno(STEP, libc::EBUSY)),
            // The start is answered as failed when its pipe closes.
            Phase::Starting(starting) => starting.kill(),
            Phase::Handled(handled) => handled.kill(),
            Phase::Exited(_) | Phase::Gone => {
                container.phase = Phase::Gone;
                exit_file::remove(self.given.exits.as_fd(), &m.container)
                    .map_err(|e| refused(STEP, &e))?;
            }
        }
        DONE
    }
}

fn streams(tty: bool, stdin: bool) -> io::Result<Streams> {
    if tty {
        let (come, go) = socket::pair()?;
        let stdio = Stdio::Terminal(go);
        return Ok(Streams { stdio, streams: [None, None], terminal: Some(come), stdin: None });
    }
    let (out, stdout) = pipe::pipe()?;
    let (err, stderr) = pipe::pipe()?;
    let (stdin, keep) = if stdin {
        let (read, write) = pipe::stdin_pipe()?;
        (Some(read), Some(write))
    } else {
        (None, None)
    };
    Ok(Streams {
        stdio: Stdio::Streams { stdin, stdout, stderr },
        streams: [Some(Stream::new(out, Name::Stdout)), Some(Stream::new(err, Name::Stderr))],
        terminal: None,
        stdin: keep,
    })
}
