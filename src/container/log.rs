//! The container's log file. The daemon opens it, the shim writes it.

use super::object::Container;
use crate::blocking;
use crate::error::{AtStep, ErrorKind, StepFailed};
use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Opens a log for appending; it and its folder are made when missing. Mode 0640: logs are read by
/// root and by log agents in root's group.
///
/// # Errors
/// The errno, with the path.
pub fn open(path: &Path) -> io::Result<File> {
    let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
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
    shim.reopen_log(&container.id, file.into()).await.at("hand the log to the shim")
}
