//! The daemon's side of a shim: one handle a pod, requests as methods.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub use super::api::{
    Adopted, Begun, ContainerIo, ExecIo, Held, PausePlan, ShimBinaries, ShimError, ShimEvent,
};
pub use super::attachment::{AttachEnd, Attachment, Wanted};
use super::connection::Connection;
pub use super::connection::Events;
pub use super::launch::SpawnShim;
use super::protocol::VERSION;
use super::wire::{self, reply, request::Verb};
use crate::ids::{ContainerId, SandboxId};
use crate::oci;
use crate::store::Layout;
use crate::sys::process::InitPid;
use crate::sys::socket;

/// For what a shim answers without waiting for anything.
const AT_ONCE: Duration = Duration::from_secs(15);

/// New network namespaces wait for old ones to be taken apart by the kernel.
const PAUSE: Duration = Duration::from_secs(60);

/// How long an exec's set-up may take.
const EXEC: Duration = Duration::from_secs(30);

/// What the answer may take beyond the deadline that the shim itself keeps.
const SLACK: Duration = Duration::from_secs(10);

/// A running shim. Cheap to clone; the connection ends with the last clone.
#[derive(Clone)]
pub struct Shim {
    connection: Arc<Connection>,
}

impl std::fmt::Debug for Shim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shim")
    }
}

impl Shim {
    /// Starts a shim and connects to it. The sandbox's folder exists already.
    ///
    /// # Errors
    /// What failed; no shim is left then.
    pub async fn spawn(request: SpawnShim<'_>, events: Events) -> Result<(Self, Begun), ShimError> {
        let (sandbox, layout) = (request.sandbox, request.layout);
        let started = super::launch::start(&request).await?;
        match Self::adopt(sandbox, layout, events).await {
            Ok((shim, adopted)) => {
                let left_out = started.keep();
                Ok((shim, Begun { process: adopted.shim, left_out }))
            }
            Err(error) => {
                started.undo().await;
                Err(error)
            }
        }
    }

    /// Connects to a running shim: what it holds first, then, by `events` and in order, all that
    /// nobody has acknowledged.
    ///
    /// # Errors
    /// [`ShimError::Connect`] when nobody listens; a version or an answer that is not understood.
    pub async fn adopt(
        sandbox: &SandboxId,
        layout: &Layout,
        events: Events,
    ) -> Result<(Self, Adopted), ShimError> {
        let socket = connect(&layout.sandbox(sandbox), &layout.shim_socket(sandbox))?;
        let shim = Self { connection: Arc::new(Connection::new(socket, sandbox.clone(), events)?) };
        let hello = wire::Hello { version: VERSION };
        let limit = EXEC + SLACK;
        match shim.connection.ask("hello", Verb::Hello(hello), Vec::new(), limit).await? {
            (reply::Result::State(state), _) => Ok((shim, adopted(state)?)),
            (other, _) => Err(unexpected("hello", &other)),
        }
    }

    /// Starts the pod's pause process in `cgroup`, and mounts its shm. Once a shim.
    ///
    /// # Errors
    /// [`ShimError::Step`] with what failed; the connection's errors.
    pub async fn start_pause(&self, plan: PausePlan, cgroup: OwnedFd) -> Result<Begun, ShimError> {
        let copy = |(_, fd): &(_, Arc<OwnedFd>)| fd.try_clone();
        let user = plan.user.as_ref().map(copy).transpose();
        let user =
            user.map_err(|source| ShimError::Prepare { what: "copy a descriptor", source })?;
        let fds = std::iter::once(cgroup).chain(user).collect();
        let verb = Verb::StartPause(wire::StartPause { plan: plan.into() });
        Ok(self.started("start_pause", verb, fds, PAUSE).await?.0)
    }

    /// Starts a container's first process in `cgroup`. Answers when it has exec'd; the shim gives
    /// up on it after `deadline`.
    ///
    /// # Errors
    /// [`ShimError::Step`] with the step that failed; nothing runs then. Whether something runs
    /// after [`ShimError::Disconnected`] and [`ShimError::Deadline`] tells [`Shim::adopt`].
    #[expect(clippy::too_many_arguments, reason = "each is of its own type, and all are needed")]
    pub async fn start_container(
        &self,
        id: &ContainerId,
        prepared: oci::Prepared,
        io: ContainerIo,
        cgroup: OwnedFd,
        deadline: Duration,
    ) -> Result<Begun, ShimError> {
        let verb = Verb::StartContainer(wire::StartContainer {
            container: id.to_string(),
            plan: prepared.plan,
            tty: Some(io.tty),
            stdin: Some(io.stdin),
            log: Some(io.log.is_some()),
            deadline_millis: millis(deadline),
        });
        let fds = std::iter::once(cgroup).chain(io.log).chain(prepared.fds).collect();
        Ok(self.started("start_container", verb, fds, deadline + SLACK).await?.0)
    }

    /// Starts a command in a running container, in `cgroup`. Its end comes as
    /// [`ShimEvent::ExecExited`]. With [`ExecIo::Tty`] the terminal's master comes along.
    ///
    /// # Errors
    /// As [`Shim::start_container`].
    #[expect(clippy::too_many_arguments, reason = "each is of its own type, and all are needed")]
    pub async fn exec(
        &self,
        id: &ContainerId,
        exec_id: &str,
        plan: oci::ExecPlan,
        io: ExecIo,
        cgroup: OwnedFd,
    ) -> Result<(InitPid, Option<OwnedFd>), ShimError> {
        let (tty, [stdin, stdout, stderr]) = match io {
            ExecIo::Pipes { stdin, stdout, stderr } => (false, [stdin, stdout, stderr]),
            ExecIo::Tty => (true, [None, None, None]),
        };
        let verb = Verb::StartExec(wire::StartExec {
            container: id.to_string(),
            exec: exec_id.to_owned(),
            plan,
            tty: Some(tty),
            stdin: Some(stdin.is_some()),
            stdout: Some(stdout.is_some()),
            stderr: Some(stderr.is_some()),
            deadline_millis: millis(EXEC),
        });
        let fds = std::iter::once(cgroup).chain(stdin).chain(stdout).chain(stderr).collect();
        // What is left out here was left out of the container's first process, too.
        let (begun, mut fds) = self.started("exec", verb, fds, EXEC + SLACK).await?;
        Ok((begun.process, fds.pop()))
    }

    /// Has the container's output go to `file` from now on.
    ///
    /// # Errors
    /// ENOENT by [`ShimError::Step`] for a container that the shim does not know.
    pub async fn reopen_log(&self, id: &ContainerId, file: OwnedFd) -> Result<(), ShimError> {
        let verb = Verb::ReopenLog(wire::ReopenLog { container: id.to_string() });
        self.done("reopen_log", verb, vec![file]).await
    }

    /// Sets the size of a terminal: the container's, or that of its command `exec`.
    ///
    /// # Errors
    /// ENOENT by [`ShimError::Step`] when there is none; ENOTTY when it has no terminal.
    pub async fn resize(
        &self,
        id: &ContainerId,
        exec: Option<&str>,
        width: u16,
        height: u16,
    ) -> Result<(), ShimError> {
        let verb = Verb::Resize(wire::Resize {
            container: id.to_string(),
            exec: exec.map(str::to_owned),
            width: width.into(),
            height: height.into(),
        });
        self.done("resize", verb, Vec::new()).await
    }

    /// Asks a container to end. Its first process gets one signal, however often this is asked for,
    /// also by daemons after this one. A container that has ended is success.
    ///
    /// # Errors
    /// ENOENT by [`ShimError::Step`] for a container that the shim does not know; EINVAL for a
    /// signal that is none, and from a shim that is too old to know the request.
    pub async fn stop_signal(&self, id: &ContainerId, signal: i32) -> Result<(), ShimError> {
        let verb = Verb::StopSignal(wire::StopSignal { container: id.to_string(), signal });
        self.done("stop_signal", verb, Vec::new()).await
    }

    /// Attaches to the streams of a running container: output from now on.
    ///
    /// # Errors
    /// By [`ShimError::Step`]: ENOENT for a container that the shim does not know, ESRCH for one that
    /// does not run, EPIPE when its input is closed, EAGAIN when too many are attached, and EINVAL
    /// from a shim that is too old to know the request.
    pub async fn attach(&self, id: &ContainerId, wanted: Wanted) -> Result<Attachment, ShimError> {
        let (attachment, fds) = Attachment::new(wanted).map_err(|source| ShimError::Prepare {
            what: "make the streams of a client",
            source,
        })?;
        let verb = Verb::Attach(wire::Attach {
            container: id.to_string(),
            stdin: Some(wanted.stdin),
            stdout: Some(wanted.stdout),
            stderr: Some(wanted.stderr),
            stdin_once: Some(wanted.stdin_once),
        });
        self.done("attach", verb, fds).await?;
        Ok(attachment)
    }

    /// Drops an ended container: its log, its exit record. One that is not known is success.
    ///
    /// # Errors
    /// EBUSY by [`ShimError::Step`] while it runs.
    pub async fn forget_container(&self, id: &ContainerId) -> Result<(), ShimError> {
        let verb = Verb::Forget(wire::Forget { container: id.to_string() });
        self.done("forget", verb, Vec::new()).await
    }

    /// Drops every event up to and including `seq`.
    ///
    /// # Errors
    /// The connection's.
    pub async fn ack(&self, seq: u64) -> Result<(), ShimError> {
        self.done("ack", Verb::Ack(wire::Ack { seq }), Vec::new()).await
    }

    /// Ends the pod: whatever still runs is killed and reaped, pause last, and the shim exits.
    ///
    /// # Errors
    /// The connection's; [`ShimError::Deadline`] when a process cannot be killed.
    pub async fn shutdown(&self) -> Result<(), ShimError> {
        self.done("shutdown", Verb::Shutdown(wire::Shutdown {}), Vec::new()).await
    }

    async fn done(
        &self,
        name: &'static str,
        verb: Verb,
        fds: Vec<OwnedFd>,
    ) -> Result<(), ShimError> {
        match self.connection.ask(name, verb, fds, AT_ONCE).await? {
            (reply::Result::Done(_), _) => Ok(()),
            (other, _) => Err(unexpected(name, &other)),
        }
    }

    async fn started(
        &self,
        name: &'static str,
        verb: Verb,
        fds: Vec<OwnedFd>,
        limit: Duration,
    ) -> Result<(Begun, Vec<OwnedFd>), ShimError> {
        match self.connection.ask(name, verb, fds, limit).await? {
            (reply::Result::Started(wire::Started { process: of, left_out }), fds) => {
                Ok((Begun { process: process(&of), left_out }, fds))
            }
            (other, _) => Err(unexpected(name, &other)),
        }
    }
}

/// Connects to the socket, by its folder: its path may be longer than an address can be.
fn connect(folder: &Path, path: &Path) -> Result<OwnedFd, ShimError> {
    let dir = std::fs::File::open(folder).map_err(ShimError::Connect)?;
    let name = path.file_name().unwrap_or_default();
    socket::connect(dir.as_fd(), Path::new(name)).map_err(ShimError::Connect)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn process(process: &wire::Process) -> InitPid {
    InitPid::from_parts(process.pid, process.start_time)
}

fn unexpected(name: &str, answer: &reply::Result) -> ShimError {
    let what = match answer {
        reply::Result::Done(_) => "Done",
        reply::Result::Failed(_) => "Failed",
        reply::Result::State(_) => "State",
        reply::Result::Started(_) => "Started",
    };
    ShimError::Answer(format!("{what} to {name}"))
}

fn adopted(state: wire::State) -> Result<Adopted, ShimError> {
    let parse = |id: &str| {
        ContainerId::parse(id)
            .map_err(|e| ShimError::Answer(format!("to hello with a bad id: {e}")))
    };
    let container = |c: wire::ContainerState| {
        let (process, exit) = (c.process.as_ref().map(process), c.exit.map(Into::into));
        Ok(Held { id: parse(&c.container)?, process, exit, left_out: c.left_out })
    };
    let exec = |e: wire::ExecState| Ok((parse(&e.container)?, process(&e.process)));
    Ok(Adopted {
        shim: process(&state.shim),
        pause: state.pause.as_ref().map(process),
        containers: state.containers.into_iter().map(container).collect::<Result<_, _>>()?,
        execs: state.execs.into_iter().map(exec).collect::<Result<_, _>>()?,
    })
}
