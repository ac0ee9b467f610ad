//! What the daemon asks a shim for and hears from it, in the daemon's own types.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::exit_file::ExitRecord;
use super::protocol::FrameError;
use super::wire;
use crate::blocking::BlockingError;
use crate::error::ErrorKind;
use crate::idmap::IdMaps;
use crate::ids::ContainerId;
use crate::sys::memfd;
use crate::sys::process::InitPid;
use crate::sys::spawn::SpawnError;

/// A request to a shim that was not done.
#[derive(Debug, thiserror::Error)]
pub enum ShimError {
    /// The programs of shim and pause could not be taken into memory.
    #[error("load {path}")]
    Load {
        /// The program's file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Something that a shim needs could not be made.
    #[error("{what} of a shim")]
    Prepare {
        /// What was attempted.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The shim was not started.
    #[error("start a shim")]
    Spawn(#[source] SpawnError),
    /// The shim was started and gave up.
    #[error("start a shim: {0}")]
    Startup(String),
    /// Nobody answers at the shim's socket.
    #[error("connect to a shim")]
    Connect(#[source] io::Error),
    /// The connection is of no use any more.
    #[error("talk to a shim")]
    Protocol(#[source] FrameError),
    /// The shim speaks another version, or does not keep to this one.
    #[error("a shim answered {0}")]
    Answer(String),
    /// The connection ended before the answer came. Whether it was done is not known.
    #[error("the shim's connection ended before it answered to {0}")]
    Disconnected(&'static str),
    /// The answer did not come in time. Whether it was or will be done is not known.
    #[error("the shim did not answer to {verb} within {limit:?}")]
    Deadline {
        /// What was asked.
        verb: &'static str,
        /// How long it was waited for.
        limit: Duration,
    },
    /// The shim, or the process that it made, answered that a step failed.
    #[error("{step}: {message}")]
    Step {
        /// The step, in words.
        step: String,
        /// The errno, 0 when no system call failed.
        errno: i32,
        /// What went wrong, the errno's text included.
        message: String,
    },
    /// The work was cut off in this process.
    #[error("start a shim")]
    Blocking(#[source] BlockingError),
}

impl ShimError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Step { errno: libc::EAGAIN | libc::ENOMEM | libc::ENOSPC, .. } => {
                ErrorKind::ResourceExhausted
            }
            Self::Deadline { .. } | Self::Blocking(_) => ErrorKind::DeadlineExceeded,
            Self::Connect(_) | Self::Disconnected(_) => ErrorKind::Unavailable,
            Self::Load { .. }
            | Self::Prepare { .. }
            | Self::Spawn(_)
            | Self::Startup(_)
            | Self::Protocol(_)
            | Self::Answer(_)
            | Self::Step { .. } => ErrorKind::Internal,
        }
    }
}

/// The programs of shim and pause in sealed memory: what runs is no file of the host.
#[derive(Clone, Debug)]
pub struct ShimBinaries {
    pub(super) shim: Arc<OwnedFd>,
    pub(super) pause: Arc<OwnedFd>,
}

impl ShimBinaries {
    /// Copies both programs into memory. Once a start of the daemon: all shims share the pages.
    ///
    /// # Errors
    /// [`ShimError::Load`].
    pub fn load(shim: &Path, pause: &Path) -> Result<Self, ShimError> {
        let load = |name, path: &Path| {
            memfd::sealed_copy(name, path)
                .map(Arc::new)
                .map_err(|source| ShimError::Load { path: path.to_owned(), source })
        };
        Ok(Self { shim: load(c"berth-shim", shim)?, pause: load(c"berth-pause", pause)? })
    }

    /// The program of pause: one that does not end by itself.
    pub fn pause(&self) -> &Arc<OwnedFd> {
        &self.pause
    }

    pub(super) fn pause_copy(&self) -> io::Result<OwnedFd> {
        self.pause.as_fd().try_clone_to_owned()
    }
}

/// How the pause process of a pod is made.
#[derive(Clone, Debug, Default)]
pub struct PausePlan {
    /// A network namespace of its own.
    pub new_net: bool,
    /// An IPC namespace of its own.
    pub new_ipc: bool,
    /// A UTS namespace of its own.
    pub new_uts: bool,
    /// A pid namespace of its own, of which pause is the first process.
    pub new_pid: bool,
    /// The host name; needs `new_uts`.
    pub hostname: Option<String>,
    /// Kernel parameters of its namespaces, name (dots or slashes) and value, set in order.
    pub sysctls: Vec<(String, String)>,
    /// The size of the pod's /dev/shm; without it there is none.
    pub shm_bytes: Option<u64>,
    /// oom_score_adj of pause.
    pub oom_score_adj: i32,
    /// The seccomp programs that it runs under, from its exec on.
    pub filters: Vec<wire::FilterPlan>,
    /// The pod's user namespace and its maps; it owns the namespaces above.
    pub user: Option<(IdMaps, Arc<OwnedFd>)>,
    /// Its SELinux label.
    pub selinux: Option<String>,
    /// The SELinux label of the pod's /dev/shm.
    pub mount_label: Option<String>,
    /// Whom it runs as, by ids of its user namespace; that one's root without it.
    pub runs_as: Option<wire::PauseUser>,
}

impl From<PausePlan> for wire::PausePlan {
    fn from(p: PausePlan) -> Self {
        let sysctl = |(name, value)| wire::Sysctl { name, value };
        Self {
            new_net: Some(p.new_net),
            new_ipc: Some(p.new_ipc),
            new_uts: Some(p.new_uts),
            new_pid: Some(p.new_pid),
            hostname: p.hostname,
            sysctls: p.sysctls.into_iter().map(sysctl).collect(),
            shm_bytes: p.shm_bytes,
            oom_score_adj: Some(p.oom_score_adj),
            filters: p.filters,
            user: p.user.as_ref().map(|(maps, _)| maps.into()),
            selinux: p.selinux,
            mount_label: p.mount_label,
            runs_as: p.runs_as,
        }
    }
}

/// The standard streams of a container.
#[derive(Debug, Default)]
pub struct ContainerIo {
    /// A terminal; its output is one stream, `stdout`.
    pub tty: bool,
    /// Input is kept open; otherwise it is /dev/null.
    pub stdin: bool,
    /// The log, opened for appending; without it output is dropped.
    pub log: Option<OwnedFd>,
}

/// The standard streams of a command in a container.
#[derive(Debug)]
pub enum ExecIo {
    /// Pipes of the daemon's; a stream without one is /dev/null.
    Pipes {
        /// The read end of its input.
        stdin: Option<OwnedFd>,
        /// The write end of its output.
        stdout: Option<OwnedFd>,
        /// The write end of its errors.
        stderr: Option<OwnedFd>,
    },
    /// A terminal, whose master comes with the answer.
    Tty,
}

/// A process that was started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begun {
    /// The process.
    pub process: InitPid,
    /// What the best-effort switch for privileges passed over, in words.
    pub left_out: Vec<String>,
}

/// A container that a shim holds.
#[derive(Clone, Debug)]
pub struct Held {
    /// Its id.
    pub id: ContainerId,
    /// Its process while it runs.
    pub process: Option<InitPid>,
    /// Its record when it ended.
    pub exit: Option<ExitRecord>,
    /// As in [`Begun`].
    pub left_out: Vec<String>,
}

/// What a shim that was found running holds.
#[derive(Debug)]
pub struct Adopted {
    /// The shim itself.
    pub shim: InitPid,
    /// The pod's pause process while it runs.
    pub pause: Option<InitPid>,
    /// Every container not yet forgotten.
    pub containers: Vec<Held>,
    /// Every command that runs: its container and its process.
    pub execs: Vec<(ContainerId, InitPid)>,
}

/// What a shim tells unasked. Events with a number are told again until they are acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShimEvent {
    /// A container's first process was reaped and its output so far is in the log.
    ContainerExited {
        /// The event's number.
        seq: u64,
        /// The container.
        id: ContainerId,
        /// How it ended.
        exit: ExitRecord,
    },
    /// A command's process was reaped.
    ExecExited {
        /// The event's number.
        seq: u64,
        /// The container.
        container: ContainerId,
        /// The command's name.
        exec_id: String,
        /// 0 to 255, 128 + signal.
        code: i32,
    },
    /// Output of a container could not be written to its log.
    LogLost {
        /// The event's number.
        seq: u64,
        /// The container.
        id: ContainerId,
        /// How much.
        bytes: u64,
        /// Why.
        errno: i32,
    },
    /// A container's runtime did not forget it when it had ended, or had not begun.
    NotDeleted {
        /// The event's number.
        seq: u64,
        /// The container.
        id: ContainerId,
        /// The runtime's program.
        program: String,
        /// What it said.
        cause: String,
    },
    /// Pause ended unasked.
    PauseExited {
        /// The event's number.
        seq: u64,
    },
    /// The connection ended. Nothing more comes from it.
    Disconnected,
}

impl ShimEvent {
    /// The number to acknowledge.
    pub fn seq(&self) -> Option<u64> {
        match self {
            Self::ContainerExited { seq, .. }
            | Self::ExecExited { seq, .. }
            | Self::LogLost { seq, .. }
            | Self::NotDeleted { seq, .. }
            | Self::PauseExited { seq } => Some(*seq),
            Self::Disconnected => None,
        }
    }

    /// `None` for an event of a newer version, or one about an id that is none.
    pub(super) fn from_wire(event: wire::Event) -> Option<Self> {
        use wire::event::What;
        let seq = event.seq;
        Some(match event.what? {
            What::ContainerExited(e) => Self::ContainerExited {
                seq,
                id: ContainerId::parse(&e.container).ok()?,
                exit: e.exit.into(),
            },
            What::ExecExited(e) => Self::ExecExited {
                seq,
                container: ContainerId::parse(&e.container).ok()?,
                exec_id: e.exec,
                code: e.code,
            },
            What::LogLost(e) => Self::LogLost {
                seq,
                id: ContainerId::parse(&e.container).ok()?,
                bytes: e.bytes,
                errno: e.errno,
            },
            What::NotDeleted(e) => Self::NotDeleted {
                seq,
                id: ContainerId::parse(&e.container).ok()?,
                program: e.program,
                cause: e.cause,
            },
            What::PauseExited(_) => Self::PauseExited { seq },
        })
    }
}
