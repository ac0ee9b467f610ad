//! The container's log file. The daemon opens it, the shim writes it.

use super::object::Container;
use crate::blocking;
use crate::error::{AtStep, ErrorKind, Kinded, StepFailed};
use crate::shim::client::ShimError;
use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// A log that cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("{}", path.display())]
pub struct LogError {
    path: PathBuf,
    source: io::Error,
}

impl Kinded for LogError {
    /// What is there and no log, or cannot be a path, is the request's fault.
    fn kind(&self) -> ErrorKind {
        match self.source.raw_os_error() {
            Some(
                libc::EEXIST
                | libc::ENOTDIR
                | libc::EISDIR
                | libc::ELOOP
                | libc::ENAMETOOLONG
                | libc::ENXIO,
            ) => ErrorKind::InvalidArgument,
            _ => Kinded::kind(&self.source),
        }
    }
}

/// Opens a log for appending; it and its folder are made when missing. Mode 0640: logs are read by
/// root and by log agents in root's group.
///
/// # Errors
/// The errno, with the path.
pub fn open(path: &Path) -> Result<File, LogError> {
    let named = |source| LogError { path: path.to_owned(), source };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(named)?;
    }
    std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o640)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
        .map_err(named)
}

/// ReopenContainerLog: the shim goes on in a new file at the same path.
///
/// # Errors
/// FailedPrecondition when the container does not run, and then no file is made.
pub async fn reopen(container: &Container) -> Result<(), StepFailed> {
    let not_running = || StepFailed {
        step: "reopen the log",
        kind: ErrorKind::FailedPrecondition,
        source: "the container is not running".into(),
    };
    if !matches!(container.state(), super::state::State::Running { .. }) {
        return Err(not_running());
    }
    let Some(path) = container.record().log_path else { return Ok(()) };
    let shim = container.sandbox.shim().ok_or_else(not_running)?;
    // Not in the container's lane: a log path that hangs must not hold up a stop.
    let file =
        blocking::run_within("open the log", super::create::HOST_PATH_WITHIN, move |_| open(&path))
            .await
            .at("open the log")?
            .at("open the log")?;
    match shim.reopen_log(&container.id, file.into()).await {
        // It has ended and was removed while the file was opened.
        Err(ShimError::Step { errno: libc::ENOENT, .. }) => Err(not_running()),
        answer => answer.at("hand the log to the shim"),
    }
}
