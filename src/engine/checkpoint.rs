//! Checkpoints: what can be refused before criu would be run, and whether criu could be.
//!
//! Writing and restoring process images is not part of this version. A node that could not do it at
//! all is told so by FAILED_PRECONDITION with the cause, before UNIMPLEMENTED says that berth cannot.

use super::error::EngineError;
use super::open::Engine;
use crate::blocking;
use crate::cni::helper::{self, Helper};
use crate::container::create::HOST_PATH_WITHIN;
use crate::container::state::State;
use crate::error::{AtStep, chain};
use crate::ids::{SandboxId, random_hex};
use crate::node::Node;
use crate::sys::process::Ended;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Where criu is looked for.
const PLACES: [&str; 4] =
    ["/usr/sbin/criu", "/usr/local/sbin/criu", "/usr/bin/criu", "/usr/local/bin/criu"];
/// How long `criu check` may take.
const CHECK_WITHIN: Duration = Duration::from_secs(30);

/// CheckpointPod, checked as far as the request alone tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodCheckpoint {
    /// The sandbox.
    pub sandbox: String,
    /// Where its state goes.
    pub output: PathBuf,
    /// The ids of its containers as given.
    pub containers: BTreeSet<String>,
}

/// RestorePod, checked likewise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodRestore {
    /// Where the state is.
    pub checkpoint: PathBuf,
}

impl Engine {
    /// CheckpointContainer.
    ///
    /// # Errors
    /// NotFound; Precondition when it does not run, or criu is missing or does not work here;
    /// Unimplemented otherwise.
    pub async fn checkpoint_container(&self, id: &str) -> Result<(), EngineError> {
        self.ready()?;
        let container = self.known_container(id)?;
        if !matches!(container.state(), State::Running { .. }) {
            return Err(EngineError::Precondition(format!("container {id} is not running")));
        }
        self.criu_works(&container.sandbox.id).await?;
        Err(EngineError::Unimplemented("CheckpointContainer"))
    }

    /// CheckpointPod.
    ///
    /// # Errors
    /// NotFound; Invalid for a container of another pod; Precondition when the sandbox is not READY,
    /// when other containers run than those named, when the folder is none or not empty, or when
    /// criu is missing or does not work here; Unimplemented otherwise.
    pub async fn checkpoint_pod(&self, request: PodCheckpoint) -> Result<(), EngineError> {
        self.ready()?;
        let sandbox = self.known_sandbox(&request.sandbox)?;
        if !sandbox.is_ready() {
            return Err(EngineError::Precondition(format!("sandbox {} is not ready", sandbox.id)));
        }
        let mut named = BTreeSet::new();
        for id in &request.containers {
            let container = self.known_container(id)?;
            if container.sandbox.id != sandbox.id {
                return Err(EngineError::Invalid(format!("container {id} is in another pod")));
            }
            named.insert(container.id.clone());
        }
        let running: BTreeSet<_> = self
            .registry
            .containers_of(&sandbox.id)
            .iter()
            .filter(|c| matches!(c.state(), State::Running { .. }))
            .map(|c| c.id.clone())
            .collect();
        if let Some(id) = running.symmetric_difference(&named).next() {
            let why = if named.contains(id) { "is not running" } else { "runs and is not named" };
            return Err(EngineError::Precondition(format!("container {id} {why}")));
        }
        let output = request.output;
        host_path("look at the output folder", move || empty_folder(&output)).await?;
        self.criu_works(&sandbox.id).await?;
        Err(EngineError::Unimplemented("CheckpointPod"))
    }

    /// RestorePod.
    ///
    /// # Errors
    /// Precondition when there is no such folder, or criu is missing or does not work here;
    /// Unimplemented otherwise.
    pub async fn restore_pod(&self, request: PodRestore) -> Result<(), EngineError> {
        self.ready()?;
        let path = request.checkpoint;
        host_path("look at the checkpoint", move || {
            if path.is_dir() { Ok(()) } else { Err(format!("{} is no folder", path.display())) }
        })
        .await?;
        // For a sandbox that does not exist yet: its helper has a cgroup of its own.
        let hex = random_hex().map_err(|e| EngineError::Precondition(e.to_string()))?;
        let id = SandboxId::parse(&hex).map_err(|e| EngineError::Invalid(e.to_string()))?;
        self.criu_works(&id).await?;
        Err(EngineError::Unimplemented("RestorePod"))
    }

    /// Whether criu is there and this kernel has what it needs, by its own check.
    async fn criu_works(&self, sandbox: &SandboxId) -> Result<(), EngineError> {
        let (node, sandbox) = (Arc::clone(&self.node), sandbox.clone());
        let checked = blocking::run("check criu", move || check(&node, &sandbox)).await;
        let failed = |f| EngineError::step("check criu", "the node", f);
        checked.at("check criu").map_err(failed)?.map_err(EngineError::Precondition)
    }
}

fn check(node: &Node, sandbox: &SandboxId) -> Result<(), String> {
    let found = PLACES.iter().map(Path::new).find(|path| path.is_file());
    let Some(program) = found else {
        return Err(format!("criu is not installed: it is at none of {}", PLACES.join(", ")));
    };
    let args = &["check"];
    let helper = Helper { program, args, env: &[], stdin: &[], limit: CHECK_WITHIN };
    let group = node.cgroups.helpers(sandbox);
    let output = helper::run(&helper, &group);
    helper::tidy_group(&group);
    let output = output.map_err(|e| format!("criu could not be checked: {}", chain(&e)))?;
    if output.ended == Ended::Code(0) {
        return Ok(());
    }
    let said = output.stderr.lines().map(str::trim).find(|line| !line.is_empty());
    let said = said.unwrap_or("it said nothing");
    Err(format!("{} does not work on this kernel: {said}", program.display()))
}

async fn host_path(
    what: &'static str,
    look: impl FnOnce() -> Result<(), String> + Send + 'static,
) -> Result<(), EngineError> {
    blocking::run_within(what, HOST_PATH_WITHIN, |_| look())
        .await
        .at(what)
        .map_err(|f| EngineError::step("checkpoint", "the node", f))?
        .map_err(EngineError::Precondition)
}

fn empty_folder(path: &Path) -> Result<(), String> {
    let mut entries =
        std::fs::read_dir(path).map_err(|e| format!("output folder {}: {e}", path.display()))?;
    match entries.next() {
        None => Ok(()),
        Some(_) => Err(format!("output folder {} is not empty", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_folder_exists_and_is_empty() {
        let temp = tempfile::tempdir().unwrap();
        empty_folder(temp.path()).unwrap();
        std::fs::write(temp.path().join("old"), "").unwrap();
        assert!(empty_folder(temp.path()).unwrap_err().contains("not empty"));
        assert!(empty_folder(&temp.path().join("old")).is_err(), "a file");
        assert!(empty_folder(&temp.path().join("none")).is_err());
    }
}
