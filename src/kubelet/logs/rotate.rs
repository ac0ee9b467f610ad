//! Rotating the logs of running containers.
//!
//! A log is renamed, and its writer told to open the name anew; until it has, it writes to the renamed file, so
//! that nothing is lost. A daemon that dies in between finds the name missing, and tells the writer then.

use super::plan::{PACKED, PACKING, plan};
use crate::blocking;
use crate::clock::ticks;
use crate::cri::client::{Cri, CriError};
use crate::cri::proto::ReopenContainerLogRequest;
use crate::error::{ErrorKind, chain};
use crate::kubelet::board::{Board, PodView};
use crate::kubelet::spec::{log_folder, name, namespace, uid};
use crate::kubelet::status::{container_id, containers};
use flate2::Compression;
use flate2::write::GzEncoder;
use k8s_openapi::api::core::v1::ContainerStatus;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tracing::{debug, warn};

/// How long logs may get, and how many there may be of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes, from which on a log is rotated.
    pub bytes: u64,
    /// Files of one log, at least two.
    pub files: usize,
    /// How often they are looked at.
    pub every: Duration,
}

/// A log that could not be rotated.
#[derive(Debug, thiserror::Error)]
pub enum RotateError {
    /// A file.
    #[error("{operation} {}", path.display())]
    File {
        /// What was attempted.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Its writer.
    #[error("have the log of container {id} opened anew")]
    Reopen {
        /// The container.
        id: String,
        /// Why not.
        source: CriError,
    },
    /// The work was cut off.
    #[error(transparent)]
    Blocking(#[from] blocking::BlockingError),
}

impl RotateError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::File { .. } => ErrorKind::Internal,
            Self::Reopen { source, .. } => source.kind(),
            Self::Blocking(error) => error.kind(),
        }
    }
}

/// A log that is being written.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Log {
    container: String,
    path: PathBuf,
}

/// Keeps the logs of the board's running containers within the limits, for ever. `logs` is the folder of all pods'.
pub async fn keep_rotating(cri: Arc<dyn Cri>, board: Board, logs: PathBuf, limits: Limits) {
    let mut pulse = ticks(limits.every);
    loop {
        pulse.tick().await;
        for log in board.pods().values().flat_map(|view| written(view, &logs)) {
            if let Err(error) = look_at(&*cri, &log, limits).await {
                let path = log.path.display();
                warn!(%path, error = chain(&error), "a log is not rotated");
            }
        }
    }
}

/// The logs of a pod's running containers.
fn written(view: &PodView, logs: &Path) -> Vec<Log> {
    let pod = &view.pod;
    let folder = logs.join(log_folder(namespace(pod), name(pod), uid(pod)));
    let running = |status: &ContainerStatus| {
        status.state.as_ref()?.running.as_ref()?;
        let file = format!("{}/{}.log", status.name, status.restart_count);
        Some(Log { container: container_id(status)?.to_owned(), path: folder.join(file) })
    };
    pod.status.iter().flat_map(containers).filter_map(running).collect()
}

async fn look_at(cri: &dyn Cri, log: &Log, limits: Limits) -> Result<(), RotateError> {
    let (path, most) = (log.path.clone(), limits.bytes);
    let due = blocking::run("look at a log", move || match std::fs::metadata(&path) {
        Ok(meta) if meta.len() < most => Ok(Due::No),
        Ok(_) => rename(&path),
        // The last run died between the two steps.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Due::Reopen(None)),
        Err(source) => Err(RotateError::File { operation: "look at", path, source }),
    });
    let Due::Reopen(renamed) = due.await?? else { return Ok(()) };
    let request = ReopenContainerLogRequest { container_id: log.container.clone() };
    if let Err(source) = cri.reopen_container_log(request).await {
        if let Some(renamed) = renamed {
            // Its writer goes on with the file that it has: that one gets its name back.
            let path = log.path.clone();
            blocking::run("take back a log's name", move || std::fs::rename(renamed, path).ok())
                .await?;
        }
        return match source.kind() {
            // It has just ended.
            ErrorKind::NotFound | ErrorKind::FailedPrecondition => Ok(()),
            _ => Err(RotateError::Reopen { id: log.container.clone(), source }),
        };
    }
    debug!(path = %log.path.display(), "a log was rotated");
    let (path, files) = (log.path.clone(), limits.files);
    blocking::run("pack old logs", move || tidy(&path, files)).await?
}

/// Whether a log's writer is to open its name anew.
#[derive(Debug)]
enum Due {
    No,
    /// Since it was renamed to this, or is missing.
    Reopen(Option<PathBuf>),
}

fn rename(path: &Path) -> Result<Due, RotateError> {
    let time = k8s_openapi::jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S").to_string();
    let mut to = path.as_os_str().to_owned();
    to.push(format!(".{time}"));
    let to = PathBuf::from(to);
    // A second rotation in the same second waits for the next look: a name is a moment.
    if to.exists() {
        return Ok(Due::No);
    }
    let failed = |source| RotateError::File { operation: "rename", path: path.to_owned(), source };
    std::fs::rename(path, &to).map_err(failed)?;
    Ok(Due::Reopen(Some(to)))
}

/// Packs the rotated files of a log, and removes those that are too many.
fn tidy(path: &Path, files: usize) -> Result<(), RotateError> {
    let (Some(folder), Some(base)) = (path.parent(), path.file_name().and_then(|n| n.to_str()))
    else {
        return Ok(());
    };
    let failed = |operation, path: &Path| {
        let path = path.to_owned();
        move |source| RotateError::File { operation, path, source }
    };
    let entries = std::fs::read_dir(folder).map_err(failed("list", folder))?;
    let names: Vec<String> =
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    let plan = plan(base, &names, files);
    for name in plan.leftovers.iter().chain(&plan.remove) {
        let path = folder.join(name);
        std::fs::remove_file(&path).map_err(failed("remove", &path))?;
    }
    for name in &plan.pack {
        let path = folder.join(name);
        pack(&path).map_err(failed("pack", &path))?;
    }
    Ok(())
}

/// Replaces a file by itself in gzip: there is one of both at any moment.
fn pack(path: &Path) -> io::Result<()> {
    let beside = |end: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        PathBuf::from(name)
    };
    let (packing, packed) = (beside(PACKING), beside(PACKED));
    let mut source = File::open(path)?;
    let mode = source.metadata()?.permissions();
    let target = File::create(&packing)?;
    target.set_permissions(mode)?;
    let mut encoder = GzEncoder::new(target, Compression::default());
    io::copy(&mut source, &mut encoder)?;
    encoder.finish()?.sync_data()?;
    std::fs::rename(&packing, &packed)?;
    std::fs::remove_file(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn what_is_packed_says_the_same_as_before() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("0.log");
        let text = "2026-01-01T00:00:00Z stdout F line\n".repeat(1000);
        for name in ["0.log", "0.log.20260101-000001", "0.log.20260101-000002"] {
            std::fs::write(dir.path().join(name), &text).unwrap();
        }
        tidy(&log, 5).unwrap();
        let packed = "0.log.20260101-000001.gz";
        assert_eq!(names(dir.path()), ["0.log", packed, "0.log.20260101-000002"]);
        let mut unpacked = String::new();
        let file = File::open(dir.path().join(packed)).unwrap();
        flate2::read::GzDecoder::new(file).read_to_string(&mut unpacked).unwrap();
        assert_eq!(unpacked, text);
        tidy(&log, 2).unwrap();
        assert_eq!(names(dir.path()), ["0.log", "0.log.20260101-000002"]);
    }

    #[test]
    fn a_name_is_given_once_a_second() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("0.log");
        let mut renamed = 0;
        for n in 0..3 {
            std::fs::write(&log, n.to_string()).unwrap();
            renamed += usize::from(matches!(rename(&log).unwrap(), Due::Reopen(_)));
        }
        let rotated = names(dir.path()).iter().filter(|name| *name != "0.log").count();
        assert_eq!(rotated, renamed, "none replaced another");
    }
}
