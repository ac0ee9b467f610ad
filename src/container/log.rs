//! The container's log file. The daemon opens it, the shim writes it.

use super::object::Container;
use crate::error::{AtStep, ErrorKind, Kinded, StepFailed};
use crate::shim::client::ShimError;
use crate::sys::path::{Resolve, open_in};
use crate::undefended::{Defence, removed};
use nix::sys::stat::{Mode, mkdirat};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

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

/// Opens a container's log for appending; it and its folder are made when missing. `None` when it
/// has none. Mode 0640: logs are read by root and by log agents in root's group.
///
/// The pod's folder is the request's word. What is below it may have been changed by a container
/// that has logs among its volumes: no symlink is followed there.
///
/// # Errors
/// The errno, with the path.
pub fn open(container: &Container) -> Result<Option<File>, LogError> {
    let record = container.record();
    let Some(path) = record.log_path else { return Ok(None) };
    open_below(folder_of(&path, &record.config.log_path), &path).map(Some)
}

/// The folder that `below` was joined to.
fn folder_of<'p>(path: &'p Path, below: &Path) -> &'p Path {
    let names = below.components().filter(|part| matches!(part, Component::Normal(_))).count();
    path.ancestors().nth(names).unwrap_or(Path::new("/"))
}

fn open_below(folder: &Path, path: &Path) -> Result<File, LogError> {
    let named = |source| LogError { path: path.to_owned(), source };
    if removed(Defence::LogPath) {
        return open_by_path(path).map_err(named);
    }
    let misplaced = || named(io::Error::from_raw_os_error(libc::EXDEV));
    let below = path.strip_prefix(folder).map_err(|_| misplaced())?;
    let name = below.file_name().ok_or_else(misplaced)?;
    std::fs::create_dir_all(folder).map_err(named)?;
    let mut dir: OwnedFd = File::open(folder).map_err(named)?.into();
    for part in below.parent().into_iter().flatten() {
        match mkdirat(&dir, part, Mode::from_bits_truncate(0o755)) {
            Ok(()) | Err(nix::errno::Errno::EEXIST) => {}
            Err(e) => return Err(named(e.into())),
        }
        let flags = libc::O_PATH | libc::O_DIRECTORY;
        dir =
            open_in(dir.as_fd(), Path::new(part), flags, 0, Resolve::NoSymlinks).map_err(named)?;
    }
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_APPEND | HARMLESS;
    open_in(dir.as_fd(), Path::new(name), flags, 0o640, Resolve::NoSymlinks)
        .map(File::from)
        .map_err(named)
}

/// Opening what is no file does nothing.
const HARMLESS: i32 = libc::O_NONBLOCK | libc::O_NOCTTY;

/// As those do it who leave all to the kernel.
fn open_by_path(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::OpenOptions::new().create(true).append(true).custom_flags(HARMLESS).open(path)
}

/// ReopenContainerLog: the shim goes on in a new file at the same path.
///
/// # Errors
/// FailedPrecondition when the container does not run, and then no file is made.
pub async fn reopen(container: &Arc<Container>) -> Result<(), StepFailed> {
    let not_running = || StepFailed {
        step: "reopen the log",
        kind: ErrorKind::FailedPrecondition,
        source: "the container is not running".into(),
    };
    if !matches!(container.state(), super::state::State::Running { .. }) {
        return Err(not_running());
    }
    let shim = container.sandbox.shim().ok_or_else(not_running)?;
    // Not in the container's lane: a log path that hangs must not hold up a stop.
    let work = Arc::clone(container);
    let overdue = &container.sandbox.overdue;
    let file = overdue
        .run_within("open the log", super::create::HOST_PATH_WITHIN, move |_| open(&work))
        .await
        .at("open the log")?
        .at("open the log")?;
    let Some(file) = file else { return Ok(()) };
    match shim.reopen_log(&container.id, file.into()).await {
        // It has ended and was removed while the file was opened.
        Err(ShimError::Step { errno: libc::ENOENT, .. }) => Err(not_running()),
        answer => answer.at("hand the log to the shim"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Write as _;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    #[test]
    fn a_log_and_its_folders_are_made_and_appended_to() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("pods/a");
        let path = folder.join("web/0.log");
        for line in ["one\n", "two\n"] {
            open_below(&folder, &path).unwrap().write_all(line.as_bytes()).unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\ntwo\n");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o137, 0);
    }

    #[test]
    fn the_folder_is_what_the_request_joined_to() {
        let folder = Path::new("/logs/pod");
        for below in ["0.log", "web/0.log", "./web/./0.log", "web//0.log"] {
            assert_eq!(folder_of(&folder.join(below), Path::new(below)), folder, "{below}");
        }
    }

    #[test]
    fn a_symlink_leads_nowhere_but_above_the_pods_folder() {
        let dir = tempfile::tempdir().unwrap();
        let (moved, outside) = (dir.path().join("moved"), dir.path().join("outside"));
        fs::create_dir_all(moved.join("a")).unwrap();
        fs::create_dir(&outside).unwrap();
        symlink("moved", dir.path().join("pods")).unwrap();
        let folder = dir.path().join("pods/a");
        open_below(&folder, &folder.join("0.log")).unwrap();
        assert!(moved.join("a/0.log").exists());
        symlink(&outside, folder.join("web")).unwrap();
        symlink(outside.join("x"), folder.join("link.log")).unwrap();
        for path in ["web/0.log", "link.log"] {
            let error = open_below(&folder, &folder.join(path)).unwrap_err();
            assert_eq!(error.source.raw_os_error(), Some(libc::ELOOP), "{path}");
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        }
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    }
}
