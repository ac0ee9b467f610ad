//! CheckpointContainer and CheckpointPod: who is dumped, where to, and in which order.

use super::error::EngineError;
use super::open::Engine;
use super::sandboxes::{settled, subject};
use crate::blocking;
use crate::checkpoint::{self, Archive, CheckpointError, Criu, Folder, Subject, Way};
use crate::clock;
use crate::container::create::HOST_PATH_WITHIN;
use crate::container::object::Container;
use crate::container::start;
use crate::container::state::State;
use crate::error::{AtStep, ErrorKind, chain};
use crate::ids::SandboxId;
use crate::node::Node;
use crate::sandbox::config::PidNamespace;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a checkpoint may take when its caller does not say.
const NO_LIMIT: Duration = Duration::from_secs(600);
/// No limit of a caller's is longer: it has to fit the clock.
const MAX_LIMIT: Duration = Duration::from_secs(86_400);

/// CheckpointContainer, checked as far as the request alone tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerCheckpoint {
    /// The id as given.
    pub container: String,
    /// The file; `None`: one in berth's own folder.
    pub location: Option<PathBuf>,
    /// How long it may take.
    pub limit: Option<Duration>,
}

/// CheckpointPod, checked likewise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodCheckpoint {
    /// The sandbox.
    pub sandbox: String,
    /// Where its state goes.
    pub output: PathBuf,
    /// The ids of its containers as given.
    pub containers: BTreeSet<String>,
    /// How long the caller waits.
    pub limit: Duration,
}

impl Engine {
    /// CheckpointContainer: the container runs on.
    ///
    /// # Errors
    /// NotFound; Precondition when it does not run, has what cannot be dumped, its file cannot be made, or criu is
    /// missing, too old, or does not work here; DeadlineExceeded; what criu says.
    pub async fn checkpoint_container(
        &self,
        request: ContainerCheckpoint,
    ) -> Result<(), EngineError> {
        const VERB: &str = "CheckpointContainer";
        self.ready()?;
        let container = self.settled_container(&request.container)?;
        let until = until(request.limit.unwrap_or(NO_LIMIT));
        dumpable(&container)?;
        if let Some(file) = request.location.clone() {
            host_path("look at location", move || new_file(&file)).await?;
        }
        let criu = self.criu().await?;
        let name =
            format!("{}-{:.12}-{}.tar", container.config().name, container.id, clock::now_nanos());
        let own = self.node.layout.checkpoints();
        let file = request.location.unwrap_or_else(|| own.join(&name));
        let staging = own.join(format!("{}.part", container.id));
        let node = Arc::clone(&self.node);
        let what = format!("container {} ({})", container.config().name, container.id);
        self.owned(VERB, async move {
            let _at_work = Arc::clone(&node.checkpoints).read_owned().await;
            // No other checkpoint in the pod meanwhile, and none of its plugins: they share a journal and a cgroup.
            let _pod = container.sandbox.lane.lock().await;
            // No start or update of it; a stop begins afterwards.
            let _order = container.lane.lock().await;
            dumpable(&container)?;
            let way = way(&node, &container.sandbox.id, criu, until);
            let work = Arc::clone(&container);
            blocking::run("checkpoint a container", move || {
                let container = subject_of(&node, &work)?;
                checkpoint::to_archive(&way, &Archive { file, staging, container })
                    .at("checkpoint the container")
            })
            .await
            .at("checkpoint the container")
            .and_then(|done| done)
            .map_err(|f| EngineError::step(VERB, &what, f))
        })
        .await
    }

    /// CheckpointPod: all its containers are paused, dumped, and go on.
    ///
    /// # Errors
    /// NotFound; Invalid for a container of another pod; Precondition when the sandbox is not READY, when other
    /// containers run than those named, when the folder is none or not empty, and as for one container; then
    /// nothing is left in the folder.
    pub async fn checkpoint_pod(&self, request: PodCheckpoint) -> Result<(), EngineError> {
        const VERB: &str = "CheckpointPod";
        self.ready()?;
        let sandbox = self.known_sandbox(&request.sandbox)?;
        settled(&sandbox)?;
        let until = until(request.limit);
        self.exactly_running(&sandbox, &request.containers)?;
        let output = request.output.clone();
        host_path("look at output_path", move || empty_folder(&output)).await?;
        let criu = self.criu().await?;
        let engine = self.clone();
        self.owned(VERB, async move {
            let node = Arc::clone(&engine.node);
            let _at_work = Arc::clone(&node.checkpoints).read_owned().await;
            // Nothing is created or removed meanwhile, and nothing of it starts: always in the order of ids.
            let _pod = sandbox.lane.lock().await;
            let containers = engine.registry.containers_of(&sandbox.id);
            let mut orders = Vec::with_capacity(containers.len());
            for container in &containers {
                orders.push(container.lane.lock().await);
            }
            let running = engine.exactly_running(&sandbox, &request.containers)?;
            let (way, config) = (way(&node, &sandbox.id, criu, until), sandbox.config());
            let (pod, what) = (Arc::clone(&config), subject(&config));
            let done = blocking::run("checkpoint a pod", move || {
                let containers = running
                    .iter()
                    .map(|container| subject_of(&node, container))
                    .collect::<Result<_, _>>()?;
                let folder = Folder { output: request.output, pod, containers };
                checkpoint::to_folder(&way, &folder).at("checkpoint the pod")
            });
            let done = done.await.at("checkpoint the pod").and_then(|done| done);
            drop(orders);
            done.map_err(|f| EngineError::step(VERB, &what, f))
        })
        .await
    }

    /// The containers named, when they are exactly those that run.
    fn exactly_running(
        &self,
        sandbox: &crate::sandbox::object::Sandbox,
        names: &BTreeSet<String>,
    ) -> Result<Vec<Arc<Container>>, EngineError> {
        if !sandbox.is_ready() {
            return Err(EngineError::Precondition(format!("sandbox {} is not ready", sandbox.id)));
        }
        let mut named = BTreeSet::new();
        for id in names {
            let container = self.known_container(id)?;
            if container.sandbox.id != sandbox.id {
                let why = format!("container_ids: container {id} is in another pod");
                return Err(EngineError::Invalid(why));
            }
            if !named.insert(container.id.clone()) {
                let why = format!("container_ids: {id} is given twice, as a prefix");
                return Err(EngineError::Invalid(why));
            }
        }
        let mut running = self.registry.containers_of(&sandbox.id);
        running.retain(|c| matches!(c.state(), State::Starting { .. } | State::Running { .. }));
        let ids: BTreeSet<_> = running.iter().map(|c| c.id.clone()).collect();
        if let Some(id) = ids.symmetric_difference(&named).next() {
            let why = if named.contains(id) { "is not running" } else { "runs and is not named" };
            return Err(EngineError::Precondition(format!("container_ids: container {id} {why}")));
        }
        running.iter().try_for_each(|container| dumpable(container))?;
        Ok(running)
    }

    /// criu, when it is there and this kernel has what it needs, by its own check.
    pub(super) async fn criu(&self) -> Result<Criu, EngineError> {
        const STEP: &str = "find criu";
        let configured = self.node.config.checkpoint.criu.clone();
        let cgroups = self.node.cgroups.clone();
        let found =
            blocking::run(STEP, move || Criu::working(configured.as_deref(), &cgroups)).await;
        let failed = |f| EngineError::step("checkpoint", "the node", f);
        match found.at(STEP).map_err(failed)? {
            Err(why) if why.kind() == ErrorKind::FailedPrecondition => {
                Err(EngineError::Precondition(chain(&why)))
            }
            other => other.at(STEP).map_err(failed),
        }
    }
}

fn until(limit: Duration) -> Instant {
    Instant::now() + limit.min(MAX_LIMIT)
}

fn way(node: &Node, sandbox: &SandboxId, criu: Criu, until: Instant) -> Way {
    let (helpers, journal) =
        (node.cgroups.helpers(sandbox), node.layout.checkpoint_journal(sandbox));
    Way { criu, helpers, journal, until }
}

/// Whether a container runs and is one that criu can dump.
fn dumpable(container: &Container) -> Result<(), EngineError> {
    let (id, config) = (&container.id, container.config());
    let refused = |why: &str| Err(EngineError::Precondition(format!("container {id} {why}")));
    match container.state() {
        State::Running { .. } => {}
        _ => return refused("is not running"),
    }
    let sandbox = container.sandbox.record();
    if sandbox.runtime.is_some() {
        let why = "is made by the runtime handler";
        let more = "whose own checkpoint knows none of its namespaces, mounts and streams";
        return refused(&format!("{why} {:?}, {more}", sandbox.handler));
    }
    if sandbox.config.userns.is_some() {
        return refused("is in a user namespace, whose mapped mounts no checkpoint can hold");
    }
    if sandbox.labels.is_some() {
        return refused("has an SELinux label, which is its pod's and cannot be another pod's");
    }
    if config.tty {
        return refused("has a terminal, whose other end no checkpoint can hold");
    }
    match config.security.pid {
        PidNamespace::Container => Ok(()),
        _ => refused("is in a pid namespace that is not its own, where its pids may be taken"),
    }
}

fn subject_of(node: &Node, container: &Container) -> Result<Subject, crate::error::StepFailed> {
    let record = container.record();
    let State::Running { init, .. } = record.state else {
        let ended = CheckpointError::refused(&record.config.name, "it has ended");
        return Err(ended).at("checkpoint the container");
    };
    Ok(Subject {
        name: record.config.name.clone(),
        id: record.id.to_string(),
        init,
        leaf: container.leaf(node),
        spec: start::load_spec(node, container)?,
        config: record.config,
        image_id: record.image_id,
        upper: node.images.writable_layer(&record.id),
    })
}

pub(super) async fn host_path(
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
    let failed = |e| format!("output_path: {}: {e}", path.display());
    let mut entries = std::fs::read_dir(path).map_err(failed)?;
    match entries.next() {
        None => Ok(()),
        Some(_) => Err(format!("output_path: {} is not empty", path.display())),
    }
}

fn new_file(path: &Path) -> Result<(), String> {
    let shown = path.display();
    if std::fs::symlink_metadata(path).is_ok() {
        return Err(format!("location: {shown} exists already"));
    }
    match path.parent() {
        Some(folder) if folder.is_dir() => Ok(()),
        _ => Err(format!("location: {shown} is in no folder that exists")),
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

    #[test]
    fn an_archive_is_a_new_file_in_a_folder_that_exists() {
        let temp = tempfile::tempdir().unwrap();
        new_file(&temp.path().join("new.tar")).unwrap();
        std::fs::write(temp.path().join("old.tar"), "").unwrap();
        assert!(new_file(&temp.path().join("old.tar")).unwrap_err().contains("exists already"));
        assert!(new_file(&temp.path().join("none/new.tar")).is_err());
    }
}
