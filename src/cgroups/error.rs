//! What can fail with control groups.

use super::SystemdError;
use crate::error::ErrorKind;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// A failed operation on control groups.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// What was asked for is wrong in itself: a path, a limit, a device rule.
    #[error("{what} {value:?} is refused: {reason}")]
    Invalid {
        /// What kind of value.
        what: &'static str,
        /// The value.
        value: String,
        /// Why.
        reason: String,
    },
    /// A `unified` key that is no setting of this kernel.
    #[error("unified key {key:?} is refused: {reason}")]
    UnknownSetting {
        /// The key as given.
        key: String,
        /// Why.
        reason: &'static str,
    },
    /// systemd did not do what it was asked for.
    #[error("the systemd cgroup driver")]
    Systemd(#[source] Box<SystemdError>),
    /// The configured root is something else.
    #[error("{path} is not a cgroup v2 file system")]
    NotCgroup2 {
        /// The configured root.
        path: PathBuf,
    },
    /// Controllers that berth needs and the kernel does not offer there.
    #[error("{path} lacks the controllers {}", missing.join(", "))]
    MissingControllers {
        /// The cgroup that should offer them.
        path: PathBuf,
        /// Their names.
        missing: Vec<String>,
    },
    /// A cgroup cannot hand a controller down while it holds processes itself.
    #[error("enable {controller} below {path}: the cgroup holds processes of its own")]
    InternalProcesses {
        /// The cgroup.
        path: PathBuf,
        /// The controller.
        controller: String,
    },
    /// A system call on a cgroup.
    #[error("{operation} {path}")]
    Access {
        /// What was attempted.
        operation: &'static str,
        /// The cgroup or its file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A value that the kernel did not take.
    #[error("write {value:?} to {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What was written.
        value: String,
        /// Why not.
        source: io::Error,
    },
    /// A file of the kernel that reads otherwise than documented.
    #[error("parse {path}: {line:?}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// The offending line.
        line: String,
    },
    /// A setting that the cgroup cannot honour as it is now.
    #[error("{file} {value:?} cannot be honoured by {path}: {reason}")]
    Conflict {
        /// The setting.
        file: String,
        /// The value asked for.
        value: String,
        /// The cgroup.
        path: PathBuf,
        /// What stands against it.
        reason: String,
    },
    /// Processes that did not end, or a cgroup that could not be removed for them.
    #[error("{path} is still in use after {waited:?}, by {}", pids_text(pids))]
    Busy {
        /// The cgroup.
        path: PathBuf,
        /// How long it was waited for.
        waited: Duration,
        /// Who is in it.
        pids: Vec<i32>,
    },
    /// A change that failed half-way and could not be taken back wholly.
    #[error("old settings could not be restored ({}) after a failed change", failed.join("; "))]
    Rollback {
        /// The failure that began it.
        source: Box<CgroupError>,
        /// What stayed changed, and why.
        failed: Vec<String>,
    },
}

fn pids_text(pids: &[i32]) -> String {
    if pids.is_empty() {
        return "no process that can be seen".to_owned();
    }
    let shown: Vec<String> = pids.iter().take(16).map(i32::to_string).collect();
    format!("pids {}", shown.join(" "))
}

impl From<SystemdError> for CgroupError {
    fn from(error: SystemdError) -> Self {
        Self::Systemd(Box::new(error))
    }
}

impl CgroupError {
    pub(super) fn invalid(
        what: &'static str,
        value: impl ToString,
        reason: impl Into<String>,
    ) -> Self {
        let value = value.to_string().chars().take(256).collect();
        Self::Invalid { what, value, reason: reason.into() }
    }

    pub(super) fn access(
        operation: &'static str,
        path: impl Into<PathBuf>,
        source: io::Error,
    ) -> Self {
        Self::Access { operation, path: path.into(), source }
    }

    /// The coarse kind.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Invalid { .. } | Self::UnknownSetting { .. } => ErrorKind::InvalidArgument,
            Self::Systemd(error) => error.kind(),
            Self::NotCgroup2 { .. }
            | Self::MissingControllers { .. }
            | Self::InternalProcesses { .. }
            | Self::Conflict { .. } => ErrorKind::FailedPrecondition,
            Self::Access { source, .. } => io_kind(source),
            Self::Write { source, .. } => match source.raw_os_error() {
                // The value is berth's or the caller's; the kernel alone knows its last limits.
                Some(libc::EINVAL | libc::ERANGE) => ErrorKind::InvalidArgument,
                _ => io_kind(source),
            },
            Self::Parse { .. } => ErrorKind::Internal,
            Self::Busy { .. } => ErrorKind::DeadlineExceeded,
            Self::Rollback { source, .. } => source.kind(),
        }
    }
}

fn io_kind(error: &io::Error) -> ErrorKind {
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENODEV) => ErrorKind::NotFound,
        Some(libc::EACCES | libc::EPERM | libc::EROFS) => ErrorKind::PermissionDenied,
        // EAGAIN: cgroup.max.depth or cgroup.max.descendants of an ancestor.
        Some(libc::EAGAIN | libc::ENOMEM | libc::ENOSPC | libc::EMFILE | libc::ENFILE) => {
            ErrorKind::ResourceExhausted
        }
        _ => ErrorKind::Internal,
    }
}
