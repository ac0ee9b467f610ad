//! The shim's loop: one thread, one poll, no waiting anywhere else.
//!
//! A round: poll; reap what ended and read what was reported; move output into logs; take
//! requests (`requests.rs`); look at deadlines; sweep what is gone; send. What is found at one
//! index stays there until the sweep.
//!
//! Everything that happened is first made lasting (log flushed, exit file written, event entered
//! in the ledger), then told. So the daemon may be killed, and may be away, at any moment.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::attach::Said;
use super::container::{Container, Exec, Phase, Process};
use super::handler::Closing;
use super::io::{Lost, Scratch};
use super::ledger::Ledger;
use super::link::Link;
use super::namespace::{Namespace, NamespaceError};
use super::starting::Asker;
use super::wire::{self, event::What, reply};
use crate::sys::process::{Ended, InitPid, SingleThreaded};
use crate::sys::spawn::Privileges;
use crate::sys::{heap, socket};

/// After this long without output the buffers for it are given back.
const QUIET: Duration = Duration::from_secs(2);

/// How long the last answer may take to be taken.
const FAREWELL: Duration = Duration::from_secs(5);

/// What a shim is started with.
pub struct Inherited {
    /// The listening socket.
    pub listener: OwnedFd,
    /// The folder for exit records.
    pub exits: OwnedFd,
    /// The pause program.
    pub pause_program: OwnedFd,
    /// The shim's own cgroup.
    pub own_cgroup: OwnedFd,
    /// /dev/null.
    pub null: OwnedFd,
    /// Whether refused privileges are passed over.
    pub privileges: Privileges,
}

/// Why a shim could not begin.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Its own process could not be set up.
    #[error("{step}")]
    Process {
        /// What was attempted.
        step: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Its mount namespace could not be made.
    #[error("make the shim's mount namespace")]
    Namespace(#[source] NamespaceError),
}

/// Pause, as the shim holds it.
pub(super) enum Pause {
    /// Not asked for yet.
    None,
    Running(Process),
    Ended,
}

/// A shim at work.
pub struct Server {
    pub(super) threads: SingleThreaded,
    pub(super) given: Inherited,
    pub(super) namespace: Namespace,
    pub(super) pause: Pause,
    pub(super) containers: Vec<Container>,
    pub(super) execs: Vec<Exec>,
    pub(super) ledger: Ledger,
    pub(super) link: Option<Link>,
    /// `Hello`, to be answered when no start is in flight.
    pub(super) greeting: Option<Asker>,
    /// `Shutdown`, to be answered when nothing is left.
    pub(super) shutdown: Option<Asker>,
    /// Runtimes that forget what has ended.
    pub(super) closing: Vec<Closing>,
    /// Ends of processes that nobody knew while a runtime was at work.
    pub(super) strangers: Vec<(i32, Ended)>,
    signals: SignalFd,
    generations: u64,
    pub(super) scratch: Scratch,
}

/// What a polled descriptor is.
#[derive(Clone, Copy)]
enum Source {
    Listener,
    Signals,
    Link,
    Report,
    Stream {
        container: usize,
        which: usize,
    },
    /// A client that is attached, or room for what one has said.
    Attached {
        container: usize,
        said: Said,
    },
}

impl Server {
    /// Becomes a shim: subreaper, deaf to signals, alone in a mount namespace of its own.
    ///
    /// # Errors
    /// [`ServeError`] with the step.
    pub fn begin(threads: SingleThreaded, given: Inherited) -> Result<Self, ServeError> {
        let at = |step| move |e: nix::Error| ServeError::Process { step, source: e.into() };
        heap::keep_small();
        nix::sys::prctl::set_child_subreaper(true).map_err(at("become a subreaper"))?;
        nix::sys::prctl::set_dumpable(false).map_err(at("become undumpable"))?;
        // Every signal waits, SIGTERM for good: only `Shutdown` and SIGKILL end a shim.
        SigSet::all().thread_block().map_err(at("block signals"))?;
        let mut children = SigSet::empty();
        children.add(nix::sys::signal::Signal::SIGCHLD);
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&children, flags).map_err(at("watch for children"))?;
        let namespace = Namespace::enter(&threads).map_err(ServeError::Namespace)?;
        Ok(Self {
            threads,
            given,
            namespace,
            pause: Pause::None,
            containers: Vec::new(),
            execs: Vec::new(),
            ledger: Ledger::default(),
            link: None,
            greeting: None,
            shutdown: None,
            closing: Vec::new(),
            strangers: Vec::new(),
            signals,
            generations: 0,
            scratch: Scratch::default(),
        })
    }

    /// Serves until a shutdown is answered.
    ///
    /// # Errors
    /// poll(2) failed, which it has no reason to.
    pub fn run(mut self) -> io::Result<()> {
        loop {
            let ready = self.wait()?;
            if ready.is_empty() && self.scratch.is_held() {
                self.scratch.release();
                heap::trim();
            }
            self.round(&ready);
            if let Some(asker) = self.finished() {
                return self.farewell(asker);
            }
        }
    }

    /// Waits for something to happen or a deadline to pass.
    fn wait(&self) -> io::Result<Vec<Source>> {
        let mut sources = Vec::with_capacity(16);
        let mut fds = Vec::with_capacity(16);
        let mut watch = |source, fd, flags| {
            sources.push(source);
            fds.push(PollFd::new(fd, flags));
        };
        watch(Source::Signals, self.signals.as_fd(), PollFlags::POLLIN);
        watch(Source::Listener, self.given.listener.as_fd(), PollFlags::POLLIN);
        if let Some(link) = &self.link {
            let out = if link.has_output() { PollFlags::POLLOUT } else { PollFlags::empty() };
            watch(Source::Link, link.as_fd(), PollFlags::POLLIN | out);
        }
        for phase in self.phases() {
            let report = match phase {
                Phase::Starting(starting) => Some(starting.report()),
                Phase::Handled(handled) => handled.report(),
                _ => None,
            };
            if let Some(report) = report {
                watch(Source::Report, report, PollFlags::POLLIN);
            }
        }
        for report in self.closing.iter().filter_map(Closing::report) {
            watch(Source::Report, report, PollFlags::POLLIN);
        }
        for (container, c) in self.containers.iter().enumerate() {
            // What a runtime says there is told otherwise; if it fails, it is no output.
            if matches!(c.phase, Phase::Handled(_)) {
                continue;
            }
            for (which, stream) in c.streams.iter().enumerate() {
                if let Some(stream) = stream {
                    let source = Source::Stream { container, which };
                    watch(source, stream.as_fd(), PollFlags::POLLIN);
                }
            }
            for (said, fd, flags) in c.attached.watched(c.input()) {
                watch(Source::Attached { container, said }, fd, flags);
            }
        }
        match poll(&mut fds, self.timeout()) {
            Ok(_) => {}
            Err(nix::Error::EINTR) => return Ok(Vec::new()),
            Err(e) => return Err(e.into()),
        }
        let is_ready = |fd: &PollFd<'_>| fd.revents().is_some_and(|r| !r.is_empty());
        Ok(sources.into_iter().zip(&fds).filter(|(_, fd)| is_ready(fd)).map(|(s, _)| s).collect())
    }

    pub(super) fn phases(&self) -> impl Iterator<Item = &Phase> {
        self.containers.iter().map(|c| &c.phase).chain(self.execs.iter().map(|e| &e.phase))
    }

    /// Until the nearest deadline, rounded up; until output is over, if that may be.
    fn timeout(&self) -> PollTimeout {
        let deadlines = self.phases().filter_map(|phase| match phase {
            Phase::Starting(starting) => Some(starting.deadline),
            Phase::Handled(handled) => Some(handled.deadline()),
            _ => None,
        });
        let deadlines = deadlines.chain(self.closing.iter().map(Closing::deadline));
        let quiet = self.scratch.is_held().then(|| Instant::now() + QUIET);
        deadlines.chain(quiet).min().map_or(PollTimeout::NONE, |deadline| {
            let left = deadline.saturating_duration_since(Instant::now());
            PollTimeout::try_from(left.as_millis().saturating_add(1)).unwrap_or(PollTimeout::MAX)
        })
    }

    fn round(&mut self, ready: &[Source]) {
        for source in ready {
            match *source {
                Source::Signals => while matches!(self.signals.read_signal(), Ok(Some(_))) {},
                Source::Stream { container, which } => self.pump(container, which),
                Source::Attached { container, said } => {
                    if let Some(c) = self.containers.get_mut(container) {
                        c.hear(said, &mut self.scratch);
                    }
                }
                Source::Listener => self.accept(),
                Source::Link => self.take_requests(),
                // Looked at below.
                Source::Report => {}
            }
        }
        self.reap();
        self.check_starts();
        self.check_handled();
        self.containers.retain(|c| !matches!(c.phase, Phase::Gone));
        self.containers.iter_mut().for_each(|c| c.attached.sweep());
        self.execs.retain(|e| !matches!(e.phase, Phase::Gone | Phase::Exited(_)));
        self.greet();
        self.flush();
    }

    fn pump(&mut self, container: usize, which: usize) {
        let Some(c) = self.containers.get_mut(container) else { return };
        if let Some(lost) = c.pump(which, &mut self.scratch) {
            let id = c.id.clone();
            self.tell_lost(id, lost);
        }
    }

    pub(super) fn tell_lost(&mut self, container: String, lost: Lost) {
        let Lost { bytes, errno } = lost;
        self.tell(What::LogLost(wire::LogLost { container, bytes, errno }));
    }

    /// Enters an event, and sends it if somebody listens.
    pub(super) fn tell(&mut self, what: What) {
        let event = self.ledger.push(what);
        if let Some(link) = self.link.as_mut().filter(|link| link.greeted)
            && link.event(event).is_err()
        {
            self.hang_up();
        }
    }

    fn accept(&mut self) {
        // A process without descriptors to spare keeps the connection it has.
        let Ok(Some(socket)) = socket::accept(self.given.listener.as_fd()) else { return };
        let own = nix::unistd::geteuid().as_raw();
        if socket::peer_uid(socket.as_fd()).is_ok_and(|uid| uid == own) {
            // The newest daemon counts; an older one is dead or about to be.
            self.hang_up();
            self.generations += 1;
            self.link = Some(Link::new(socket, self.generations));
        }
    }

    pub(super) fn hang_up(&mut self) {
        self.link = None;
        self.greeting = None;
        for exec in &mut self.execs {
            exec.terminal = None;
        }
    }

    /// Answers if the asker's connection still stands.
    pub(super) fn answer(&mut self, asker: Asker, result: reply::Result, fds: Vec<OwnedFd>) {
        if let Some(link) = self.link.as_mut().filter(|l| l.generation == asker.generation)
            && link.reply(asker.id, result, fds).is_err()
        {
            self.hang_up();
        }
    }

    /// Answers `Hello` when nothing is between two states, then tells what was not acknowledged.
    fn greet(&mut self) {
        if self.phases().any(Phase::is_starting) {
            return;
        }
        let Some(asker) = self.greeting.take() else { return };
        let state = self.state();
        self.answer(asker, reply::Result::State(state), Vec::new());
        let Some(link) = &mut self.link else { return };
        link.greeted = true;
        let events = self.ledger.unacknowledged().iter().cloned();
        if events.map(|event| link.event(event)).any(|sent| sent.is_err()) {
            self.hang_up();
        }
    }

    fn state(&self) -> wire::State {
        let own = std::process::id().cast_signed();
        let start_time = InitPid::of(own).map_or(0, |init| init.start_time);
        let pause = match &self.pause {
            Pause::Running(pause) => Some(pause.to_wire()),
            Pause::None | Pause::Ended => None,
        };
        wire::State {
            version: super::protocol::VERSION,
            shim: wire::Process { pid: own, start_time },
            pause,
            containers: self.containers.iter().filter_map(Container::to_wire).collect(),
            execs: self.execs.iter().filter_map(Exec::to_wire).collect(),
        }
    }

    fn flush(&mut self) {
        if self.link.as_mut().is_some_and(|link| link.flush().is_err()) {
            self.hang_up();
        }
    }

    /// Kills everything; what remains is waited for by the loop.
    pub(super) fn begin_shutdown(&mut self, asker: Asker) {
        self.shutdown = Some(asker);
        self.phases().for_each(Phase::kill);
        if let Pause::Running(pause) = &self.pause {
            pause.kill();
        }
    }

    /// The asker of a shutdown that is complete.
    fn finished(&self) -> Option<Asker> {
        let asker = self.shutdown?;
        let pause_runs = matches!(self.pause, Pause::Running(_));
        let rest = self.phases().any(Phase::is_live) || !self.closing.is_empty();
        (!pause_runs && !rest).then_some(asker)
    }

    /// The last answer. A daemon that does not take it finds the socket closed, and the records.
    fn farewell(mut self, asker: Asker) -> io::Result<()> {
        self.answer(asker, reply::Result::Done(wire::Done {}), Vec::new());
        let end = Instant::now() + FAREWELL;
        while let Some(link) = &mut self.link {
            match link.flush() {
                Ok(false) if Instant::now() < end => wait_writable(link.as_fd())?,
                _ => break,
            }
        }
        Ok(())
    }
}

fn wait_writable(fd: BorrowedFd<'_>) -> io::Result<()> {
    let mut fds = [PollFd::new(fd, PollFlags::POLLOUT)];
    match poll(&mut fds, 100u8) {
        Ok(_) | Err(nix::Error::EINTR) => Ok(()),
        Err(e) => Err(e.into()),
    }
}
