//! RestorePod: a new pod whose containers go on where a checkpoint was made, all or none.

use super::checkpoint::host_path;
use super::error::EngineError;
use super::open::Engine;
use super::sandboxes::subject;
use crate::blocking;
use crate::checkpoint::{self, RestoreFrom, SavedContainer, SavedPod};
use crate::container::config::ContainerConfig;
use crate::container::start;
use crate::error::{AtStep, StepFailed, chain};
use crate::ids::{ContainerId, SandboxId};
use crate::sandbox::config::{PidNamespace, SandboxConfig};
use crate::sandbox::object::Origin;
use crate::sandbox::pod_files;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const VERB: &str = "RestorePod";

/// RestorePod, checked as far as the request alone tells.
#[derive(Clone, Debug)]
pub struct PodRestore {
    /// Where the state is.
    pub checkpoint: PathBuf,
    /// The new pod.
    pub config: SandboxConfig,
    /// Its containers, of different names.
    pub containers: Vec<ContainerConfig>,
}

/// What RestorePod made.
#[derive(Clone, Debug)]
pub struct RestoredPod {
    /// The sandbox.
    pub sandbox: SandboxId,
    /// Its containers by name, in the request's order.
    pub containers: Vec<(String, ContainerId)>,
}

/// A checkpoint that was found.
struct Found {
    pod: SavedPod,
    /// In the order of the request.
    containers: Vec<(PathBuf, SavedContainer)>,
}

impl Engine {
    /// RestorePod. The containers are CREATED; their start brings them back.
    ///
    /// # Errors
    /// Precondition when there is no checkpoint, when names, images or configurations are not those of it, or when
    /// criu is missing or does not work here; NameTaken; the step that failed. Nothing is left then.
    pub async fn restore_pod(&self, request: PodRestore) -> Result<RestoredPod, EngineError> {
        self.ready()?;
        if self.node.selinux.is_on() {
            let why =
                "config: pods have SELinux labels on this node, and nothing comes back with one";
            return Err(EngineError::Precondition(why.to_owned()));
        }
        let (path, names) = (request.checkpoint.clone(), names(&request.containers));
        let shown = path.clone();
        host_path("look at checkpoint_path", move || {
            let path = shown.display();
            if shown.is_dir() {
                Ok(())
            } else {
                Err(format!("checkpoint_path: {path} is no folder"))
            }
        })
        .await?;
        let read = blocking::run("read the checkpoint", move || read(&path, &names)).await;
        let found = read.at("read the checkpoint").map_err(|f| failed(&request.config, f))??;
        if request.config.userns.is_some() {
            let why = "config.linux.security_context.namespace_options.userns_options: \
                nothing comes back in a user namespace";
            return Err(EngineError::Precondition(why.to_owned()));
        }
        self.same_images(&request, &found)?;
        same_sysctls(&request.config, &found.pod.config)?;
        if let Some(one) = request
            .containers
            .iter()
            .find(|c| c.tty || !matches!(c.security.pid, PidNamespace::Container))
        {
            let why = "a terminal, or a pid namespace that is not its own, cannot come back";
            return Err(EngineError::Precondition(format!("container {}: {why}", one.name)));
        }
        self.criu().await?;
        let engine = self.clone();
        self.owned(VERB, async move { engine.make_restored(request, found).await }).await
    }

    fn same_images(&self, request: &PodRestore, found: &Found) -> Result<(), EngineError> {
        for (config, (_, saved)) in request.containers.iter().zip(&found.containers) {
            let image = self.node.images.find(&config.image);
            let image = image
                .map_err(|e| EngineError::Invalid(chain(&e)))?
                .ok_or_else(|| EngineError::NotFound { what: "image", id: config.image.clone() })?;
            if image.id != saved.image_id {
                let why =
                    format!("is of image {}, {} is {}", saved.image_id, config.image, image.id);
                let name = &config.name;
                return Err(EngineError::Precondition(format!(
                    "container {name}: the checkpoint {why}"
                )));
            }
        }
        Ok(())
    }

    async fn make_restored(
        &self,
        request: PodRestore,
        found: Found,
    ) -> Result<RestoredPod, EngineError> {
        let config = request.config.clone();
        let sandbox = self.run_restored(request.config).await?;
        let made = self.fill_pod(&sandbox, request.containers, &found).await;
        let made = made.and_then(|containers| {
            // From here on it is whole.
            let found = self.known_sandbox(sandbox.as_str())?;
            found
                .change(&self.node, |record| record.origin = Origin::Restored)
                .at("record the restore")
                .map_err(|f| failed(&config, f))?;
            Ok(RestoredPod { sandbox: sandbox.clone(), containers })
        });
        if made.is_err()
            && let Err(error) = self.remove_sandbox(sandbox.as_str()).await
        {
            tracing::error!(sandbox_id = %sandbox, error = chain(&error), "restore not undone");
        }
        made
    }

    async fn fill_pod(
        &self,
        sandbox: &SandboxId,
        configs: Vec<ContainerConfig>,
        found: &Found,
    ) -> Result<Vec<(String, ContainerId)>, EngineError> {
        let mut made = Vec::with_capacity(configs.len());
        for (config, (source, _)) in configs.into_iter().zip(&found.containers) {
            let name = config.name.clone();
            let id = self.create_container(sandbox.as_str(), config).await?;
            let container = self.registry.container(&id).ok_or(EngineError::CutOff(VERB))?;
            let _order = container.lane.lock().await;
            let (node, work, source) = (self.node.clone(), container.clone(), source.clone());
            let filled = blocking::run("copy the checkpoint", move || {
                let from = RestoreFrom {
                    source: &source,
                    images: &node.layout.restore(&work.id),
                    upper: &node.images.writable_layer(&work.id),
                    spec: &start::load_spec(&node, &work)?,
                    hostname: &pod_files::hostname(&work.sandbox.config()),
                    helpers: &node.cgroups.helpers(&work.sandbox.id),
                };
                checkpoint::fill(&from).at("copy the checkpoint")?;
                work.change(&node, |record| record.restored = true).at("record the restore")
            });
            let filled = filled.await.at("copy the checkpoint").and_then(|done| done);
            filled.map_err(|f| failed(&container.sandbox.config(), f))?;
            made.push((name, id));
        }
        Ok(made)
    }
}

/// criu gives the parameters in its image to the IPC namespace that it joins.
fn same_sysctls(new: &SandboxConfig, old: &SandboxConfig) -> Result<(), EngineError> {
    let of_ipc = |config: &SandboxConfig| -> Vec<(String, String)> {
        let dotted =
            config.sysctls.iter().map(|(name, value)| (name.replace('/', "."), value.clone()));
        let ipc = |(name, _): &(String, String)| {
            name.starts_with("kernel.") || name.starts_with("fs.mqueue.")
        };
        dotted.filter(ipc).collect()
    };
    if of_ipc(new) == of_ipc(old) {
        return Ok(());
    }
    let why = "config.linux.sysctls: those of IPC differ from the checkpoint's";
    Err(EngineError::Precondition(why.to_owned()))
}

fn failed(config: &SandboxConfig, failed: StepFailed) -> EngineError {
    EngineError::step(VERB, &subject(config), failed)
}

fn names(containers: &[ContainerConfig]) -> Vec<String> {
    containers.iter().map(|c| c.name.clone()).collect()
}

/// The checkpoint in a folder, when it is of exactly these containers.
fn read(folder: &Path, names: &[String]) -> Result<Found, EngineError> {
    let refused = |why: String| EngineError::Precondition(format!("checkpoint_path: {why}"));
    let pod = checkpoint::read_pod(folder).map_err(|e| refused(chain(&e)))?;
    let (saved, asked): (BTreeSet<_>, BTreeSet<_>) =
        (pod.containers.iter().collect(), names.iter().collect());
    if let Some(name) = saved.symmetric_difference(&asked).next() {
        let why = match asked.contains(name) {
            true => "is not in the checkpoint",
            false => "is in the checkpoint and not among the containers",
        };
        let why = format!("container_configs: {name:?} {why}");
        return Err(EngineError::Precondition(why));
    }
    let one = |name: &String| {
        let at = pod.containers.iter().position(|n| n == name);
        let at = at.ok_or_else(|| refused(format!("{name:?} is missing")))?;
        let folder = folder.join(at.to_string());
        let (saved, _) = checkpoint::read_container(&folder).map_err(|e| refused(chain(&e)))?;
        Ok((folder, saved))
    };
    let containers = names.iter().map(one).collect::<Result<_, EngineError>>()?;
    Ok(Found { pod, containers })
}
