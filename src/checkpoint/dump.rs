//! Running containers to files: pause all, dump all, let all go on.
//!
//! Everything here blocks, in one go and on one thread: nothing that becomes of the caller, or of the task that
//! waits, comes between a pause and its end. A dump at work is not cut at the caller's deadline, because criu
//! must not be killed while it has code of its own in a process; it is killed a minute later.

use super::command::{failed, tar};
use super::journal::Left;
use super::pause::Paused;
use super::process::outside;
use super::saved::{DIFF, IMAGES, LOG, POD, Parts, SavedContainer, SavedPod, VERSION, write};
use super::{CheckpointError, Criu};
use crate::cgroups::Leaf;
use crate::clock;
use crate::container::config::ContainerConfig;
use crate::error::chain;
use crate::ids::ImageId;
use crate::sandbox::config::SandboxConfig;
use crate::store;
use crate::sys::process::{Ended, InitPid};
use oci_spec::runtime::Spec;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long after the caller's deadline a program at work is killed.
const GRACE: Duration = Duration::from_secs(60);
/// overlayfs's marks that are true of one layer on one host alone.
const NOT_KEPT: [&str; 4] = [
    "--xattrs-exclude=trusted.overlay.origin",
    "--xattrs-exclude=trusted.overlay.impure",
    "--xattrs-exclude=trusted.overlay.nlink",
    "--xattrs-exclude=trusted.overlay.uuid",
];

/// A container that is to be dumped.
#[derive(Debug)]
pub struct Subject {
    /// Its name in the pod.
    pub name: String,
    /// Its id.
    pub id: String,
    /// Its first process.
    pub init: InitPid,
    /// Its cgroup.
    pub leaf: Leaf,
    /// Its OCI configuration.
    pub spec: Spec,
    /// Its request.
    pub config: Arc<ContainerConfig>,
    /// Its image.
    pub image_id: ImageId,
    /// What it has written.
    pub upper: PathBuf,
}

/// A checkpoint of a pod: a folder.
#[derive(Debug)]
pub struct Folder {
    /// An existing folder; nothing of the names of a checkpoint is in it.
    pub output: PathBuf,
    /// The pod.
    pub pod: Arc<SandboxConfig>,
    /// All its running containers.
    pub containers: Vec<Subject>,
}

/// A checkpoint of one container: a file.
#[derive(Debug)]
pub struct Archive {
    /// Does not exist.
    pub file: PathBuf,
    /// Where its parts are gathered; does not exist.
    pub staging: PathBuf,
    /// The container.
    pub container: Subject,
}

/// What all of one checkpoint share.
#[derive(Debug)]
pub struct Way {
    /// The program.
    pub criu: Criu,
    /// The sandbox's cgroup of helpers.
    pub helpers: Leaf,
    /// Where the intent is noted.
    pub journal: PathBuf,
    /// When the caller's time is over.
    pub until: Instant,
}

impl Way {
    fn left(&self, before: &'static str) -> Result<Duration, CheckpointError> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(CheckpointError::Late(before)) } else { Ok(left + GRACE) }
    }

    /// Notes what will be made, makes it, and removes it when it is not whole.
    fn noted(
        &self,
        left: Left,
        work: impl FnOnce() -> Result<(), CheckpointError>,
    ) -> Result<(), CheckpointError> {
        let file = |source: store::StoreError| {
            let source = std::io::Error::other(source);
            CheckpointError::file("note the checkpoint in", &self.journal, source)
        };
        store::save(&self.journal, &left).map_err(file)?;
        let result = work();
        if result.is_err()
            && let Err(error) = left.remove()
        {
            // The journal stays: the next start of the daemon tries again.
            tracing::error!(error = chain(&error), "part of a checkpoint left behind");
            return result;
        }
        let cleared = store::remove(&self.journal).map_err(file);
        result.and(cleared)
    }
}

/// Writes a pod's checkpoint. Blocks.
///
/// # Errors
/// What failed first; the containers go on and nothing is left in the folder.
pub fn to_folder(way: &Way, folder: &Folder) -> Result<(), CheckpointError> {
    let at = |n: usize| folder.output.join(n.to_string());
    let mut left = Left { paths: vec![folder.output.join(POD)] };
    left.paths.extend((0..folder.containers.len()).map(at));
    way.noted(left, || {
        let mut paused = Vec::with_capacity(folder.containers.len());
        for one in &folder.containers {
            paused.push(Paused::new(&one.leaf, &one.name, way.until)?);
        }
        for (n, one) in folder.containers.iter().enumerate() {
            dump(way, one, &at(n))?;
        }
        let pod = SavedPod {
            version: VERSION,
            made_at_nanos: clock::now_nanos(),
            config: Arc::clone(&folder.pod),
            containers: folder.containers.iter().map(|one| one.name.clone()).collect(),
        };
        // Last: a folder without it is none.
        write(&folder.output.join(POD), &pod)?;
        go_on(paused)?;
        in_time(way)
    })
}

/// Writes a container's checkpoint. Blocks.
///
/// # Errors
/// What failed first; the container goes on and there is no file.
pub fn to_archive(way: &Way, archive: &Archive) -> Result<(), CheckpointError> {
    let mut part = archive.file.clone().into_os_string();
    part.push(".part");
    let part = PathBuf::from(part);
    // Its parts are removed in any case.
    let staging = Left { paths: vec![archive.staging.clone()] };
    let left = Left { paths: vec![archive.staging.clone(), part.clone()] };
    way.noted(left, || {
        let paused = Paused::new(&archive.container.leaf, &archive.container.name, way.until)?;
        dump(way, &archive.container, &archive.staging)?;
        // The archive is made of what is written by now.
        paused.go_on()?;
        let (to, from) = (text(&part)?, text(&archive.staging)?);
        let names = ["--create", "--file", to, "--numeric-owner", "--directory", from, "."];
        tar("archive the checkpoint", &names, way.left("the archive")?, &way.helpers)?;
        in_time(way)?;
        std::fs::rename(&part, &archive.file)
            .map_err(|e| CheckpointError::file("rename to", &archive.file, e))?;
        staging.remove()
    })
}

fn go_on(paused: Vec<Paused>) -> Result<(), CheckpointError> {
    // All of them, also after an error.
    paused.into_iter().map(Paused::go_on).fold(Ok(()), Result::and)
}

/// Whoever asked is gone, and would take what comes now for an earlier failure.
fn in_time(way: &Way) -> Result<(), CheckpointError> {
    way.left("it was whole").map(drop)
}

/// Dumps a container that stands still, and stands still afterwards.
fn dump(way: &Way, one: &Subject, folder: &Path) -> Result<(), CheckpointError> {
    if !one.init.alive() {
        return Err(CheckpointError::refused(&one.name, "it has ended"));
    }
    let outside = outside(one.init.pid, &one.spec)?;
    let images = folder.join(IMAGES);
    std::fs::DirBuilder::new()
        .mode(0o700)
        .create(folder)
        .and_then(|()| std::fs::DirBuilder::new().mode(0o700).create(&images))
        .map_err(|e| CheckpointError::file("make", &images, e))?;
    let saved = SavedContainer {
        version: VERSION,
        name: one.name.clone(),
        id: one.id.clone(),
        image_id: one.image_id.clone(),
        places: outside.places,
        pipes: outside.pipes,
    };
    Parts { saved: &saved, config: &one.config, spec: &one.spec }.write(folder)?;
    let (pid, cgroup) = (one.init.pid.to_string(), one.leaf.folder());
    let mut args: Vec<String> = [
        "dump",
        "--tree",
        &pid,
        "--images-dir",
        text(&images)?,
        "--work-dir",
        text(folder)?,
        "--log-file",
        LOG,
        "-v1",
        "--leave-running",
        "--manage-cgroups=ignore",
        "--freeze-cgroup",
        text(&cgroup)?,
        "--file-locks",
        "--ext-unix-sk",
        "--tcp-close",
    ]
    .map(str::to_owned)
    .into();
    let mut external = |name: String| args.extend(["--external".to_owned(), name]);
    if let Some(ino) = outside.net {
        external(format!("net[{ino}]:extRootNetNS"));
    }
    for place in &saved.places {
        external(format!("mnt[{0}]:{0}", place.at));
    }
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let output = way.criu.run(&words, way.left("all were dumped")?, &way.helpers)?;
    if output.ended != Ended::Code(0) {
        return Err(failed(&way.criu, "dump", &folder.join(LOG), &output));
    }
    // criu has found it frozen and leaves it so; else what it writes now would be in the one and not the other.
    if !one.leaf.frozen().unwrap_or(false) {
        let reason = "criu let it go on before its files were archived";
        return Err(CheckpointError::refused(&one.name, reason));
    }
    archive_diff(way, one, &folder.join(DIFF))?;
    Ok(())
}

fn archive_diff(way: &Way, one: &Subject, to: &Path) -> Result<(), CheckpointError> {
    let mut args = vec!["--create", "--file", text(to)?, "--numeric-owner", "--sparse"];
    args.extend(["--one-file-system", "--xattrs", "--xattrs-include=*"]);
    args.extend(NOT_KEPT);
    args.extend(["--directory", text(&one.upper)?, "."]);
    tar("archive what it has written", &args, way.left("all were dumped")?, &way.helpers)
}

pub(super) fn text(path: &Path) -> Result<&str, CheckpointError> {
    path.to_str().ok_or_else(|| CheckpointError::Format {
        path: path.to_owned(),
        reason: "its name is not UTF-8".to_owned(),
    })
}
