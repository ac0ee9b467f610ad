//! The container verbs.

use super::blockio;
use super::error::EngineError;
use super::open::Engine;
use super::registry::{Flight, Holder};
use super::repeat;
use super::sandboxes::{absent_is_none, refused_label, settled, subject};
use super::view::ExecOutput;
use crate::cgroups::Resources;
use crate::clock;
use crate::container::config::ContainerConfig;
use crate::container::create::Settled;
use crate::container::object::{Container, ContainerRecord, Volume};
use crate::container::state::State;
use crate::container::{create, exec_sync, log, remove, start, stop, update};
use crate::error::{AtStep as _, ErrorKind, StepFailed, chain};
use crate::ids::{ContainerId, random_hex};
use crate::image::{ImageError, ImageInfo};
use crate::sandbox::config::PidNamespace;
use crate::sandbox::object::Sandbox;
use crate::selinux::Labels;
use crate::store;
use crate::sys::process::InitPid;
use futures::FutureExt as _;
use std::sync::Arc;
use std::time::Duration;

/// What CreateContainer has settled before anything is made.
struct Admitted {
    sandbox: Arc<Sandbox>,
    image: ImageInfo,
    volumes: Vec<Volume>,
    target: Option<InitPid>,
    labels: Option<Labels>,
    resources: Resources,
}

impl Engine {
    /// CreateContainer. A repeat in flight joins; a finished one whose container is CREATED returns
    /// its id.
    ///
    /// # Errors
    /// NotFound for the sandbox or the image; Precondition when the sandbox is not READY; NameTaken;
    /// Invalid; the step that failed, and then nothing is left.
    pub async fn create_container(
        &self,
        sandbox: &str,
        config: ContainerConfig,
    ) -> Result<ContainerId, EngineError> {
        self.ready()?;
        let sandbox = self.registry.find_sandbox(sandbox)?;
        settled(&sandbox)?;
        let flight = {
            let name = format!("{}_{}_{}", config.name, config.attempt, sandbox.id);
            let request_hash = repeat::request_hash(&config);
            let mut names = self.registry.names();
            match names.get(&name) {
                Some(holder) => {
                    match self.repeat_container(holder, &name, &request_hash, &config)? {
                        Reserved::Finished(id) => return Ok(id),
                        Reserved::Flight(flight) => flight,
                    }
                }
                None => {
                    let admitted = self.admit_container(sandbox, &config)?;
                    let container =
                        Arc::new(self.new_container(&admitted, config, &request_hash)?);
                    let flight = self.launch_container(Arc::clone(&container), admitted);
                    let id = container.id.to_string();
                    names.insert(name, Holder { id, request_hash, flight: Some(flight.clone()) });
                    flight
                }
            }
        };
        let id = flight.await?;
        ContainerId::parse(&id).map_err(|e| EngineError::Invalid(e.to_string()))
    }

    fn repeat_container(
        &self,
        holder: &Holder,
        name: &str,
        request_hash: &str,
        config: &ContainerConfig,
    ) -> Result<Reserved, EngineError> {
        let same = holder.request_hash == request_hash;
        if same && let Some(flight) = &holder.flight {
            return Ok(Reserved::Flight(flight.clone()));
        }
        let existing = self.registry.find_container(&holder.id).ok();
        if let Some(made) = existing
            .as_ref()
            .filter(|c| same && c.state() == State::Created && c.sandbox.is_ready())
        {
            return Ok(Reserved::Finished(made.id.clone()));
        }
        let differs = match &existing {
            Some(_) if same => {
                "it, or its pod, is not in the state that the request made".to_owned()
            }
            Some(made) => {
                format!("the requests differ in {}", repeat::differing(&*made.config(), config))
            }
            None => "it is being made from another request".to_owned(),
        };
        let (name, id) = (name.to_owned(), holder.id.clone());
        Err(EngineError::NameTaken { what: "container", name, id, differs })
    }

    fn admit_container(
        &self,
        sandbox: Arc<Sandbox>,
        config: &ContainerConfig,
    ) -> Result<Admitted, EngineError> {
        if !sandbox.is_ready() {
            return Err(EngineError::Precondition(format!("sandbox {} is not ready", sandbox.id)));
        }
        self.admit_handled(&sandbox, config)?;
        let (asked, privileged) = (config.security.selinux.as_ref(), config.security.privileged);
        let labels = self
            .node
            .selinux
            .of_container(sandbox.record().labels.as_ref(), asked, privileged)
            .map_err(refused_label)?;
        let image = self
            .node
            .images
            .find(&config.image)
            .map_err(|e| EngineError::Invalid(chain(&e)))?
            .ok_or_else(|| EngineError::NotFound { what: "image", id: config.image.clone() })?;
        let volumes = self.volumes(&sandbox, config)?;
        let target = self.target_of(&sandbox, config)?;
        let mut resources = config.resources.clone();
        let classes = &self.node.config.blockio;
        blockio::add_class(classes, config, &sandbox.config(), &mut resources)?;
        Ok(Admitted { sandbox, image, volumes, target, labels, resources })
    }

    /// What a container of another runtime cannot have.
    fn admit_handled(
        &self,
        sandbox: &Sandbox,
        config: &ContainerConfig,
    ) -> Result<(), EngineError> {
        let record = sandbox.record();
        if record.runtime.is_none() {
            return Ok(());
        }
        let handler = &record.handler;
        let features = self.node.handlers.features_of(handler);
        let asked = config.mounts.iter().find(|m| m.recursive_read_only);
        if let Some(mount) = asked.filter(|_| !features.recursive_read_only_mounts) {
            let path = mount.container_path.display();
            return Err(EngineError::Precondition(format!(
                "RROUnsupported: runtime handler {handler:?} cannot make the mount at {path} \
                 recursively read-only"
            )));
        }
        Ok(())
    }

    /// What the names of image volumes stand for.
    fn volumes(
        &self,
        sandbox: &Sandbox,
        config: &ContainerConfig,
    ) -> Result<Vec<Volume>, EngineError> {
        let asked = config.mounts.iter().enumerate();
        let asked = asked.filter_map(|(mount, m)| Some((mount, &m.image.as_ref()?.image)));
        let settle = |(mount, name): (usize, &String)| {
            let found = self.node.images.find(name).at(create::IMAGE_VOLUME)?;
            let missing = || ImageError::NotFound { name: name.clone() };
            let image = found.ok_or_else(missing).at(create::IMAGE_VOLUME)?;
            Ok(Volume { mount, image_ref: reference(&image), image_id: image.id })
        };
        asked.map(settle).collect::<Result<_, _>>().map_err(|failed| {
            EngineError::step("CreateContainer", &subject(&sandbox.config()), failed)
        })
    }

    /// The process whose pid namespace the container shares, when it names another container.
    fn target_of(
        &self,
        sandbox: &Sandbox,
        config: &ContainerConfig,
    ) -> Result<Option<InitPid>, EngineError> {
        let PidNamespace::Target(id) = &config.security.pid else { return Ok(None) };
        let target = self.registry.find_container(id)?;
        match target.state() {
            State::Running { init, .. } if target.sandbox.id == sandbox.id => Ok(Some(init)),
            State::Running { .. } => {
                Err(EngineError::Invalid(format!("target container {id} is in another pod")))
            }
            _ => Err(EngineError::Precondition(format!("target container {id} is not running"))),
        }
    }

    /// The object and its intent on disk.
    fn new_container(
        &self,
        admitted: &Admitted,
        config: ContainerConfig,
        request_hash: &str,
    ) -> Result<Container, EngineError> {
        let sandbox_config = admitted.sandbox.config();
        let failed = |step, source: Box<dyn std::error::Error + Send + Sync>| {
            let what = format!("{}, container {}", subject(&sandbox_config), config.name);
            let failed = StepFailed { step, kind: ErrorKind::Internal, source };
            EngineError::step("CreateContainer", &what, failed)
        };
        let hex = random_hex().map_err(|e| failed("name the container", e.into()))?;
        let id = ContainerId::parse(&hex).map_err(|e| failed("name the container", e.into()))?;
        let log_path = config
            .log_directory
            .as_ref()
            .or(sandbox_config.log_directory.as_ref())
            .filter(|_| !config.log_path.as_os_str().is_empty())
            .map(|directory| directory.join(&config.log_path));
        let image = &admitted.image;
        let stop_signal = [config.stop_signal.as_deref(), image.config.stop_signal.as_deref()]
            .into_iter()
            .flatten()
            .find(|s| !s.is_empty())
            .unwrap_or("SIGTERM")
            .to_owned();
        let record = ContainerRecord {
            id: id.clone(),
            sandbox: admitted.sandbox.id.clone(),
            request_hash: request_hash.to_owned(),
            image_id: image.id.clone(),
            image_ref: reference(image),
            volumes: admitted.volumes.clone(),
            user: None,
            stop_signal,
            log_path,
            resources: admitted.resources.clone(),
            created_at_nanos: clock::now_nanos(),
            state: State::Creating,
            kill_at_nanos: None,
            poststop: false,
            restored: false,
            left_out: Vec::new(),
            config: Arc::new(config.clone()),
        };
        std::fs::create_dir_all(self.node.layout.container(&id))
            .map_err(|e| failed("create the container's folder", e.into()))?;
        store::save(&self.node.layout.container_record(&id), &record)
            .inspect_err(|_| drop(std::fs::remove_dir_all(self.node.layout.container(&id))))
            .map_err(|e| failed("record the container", e.into()))?;
        Ok(Container::new(Arc::clone(&admitted.sandbox), record))
    }

    fn launch_container(&self, container: Arc<Container>, admitted: Admitted) -> Flight {
        let engine = self.clone();
        let task = self.node.tasks.spawn(async move {
            let sandbox = Arc::clone(&container.sandbox);
            let _order = sandbox.lane.lock().await;
            let id = container.id.to_string();
            engine.registry.add_container(Arc::clone(&container));
            let made = if sandbox.is_ready() {
                let Admitted { image, target, labels, .. } = admitted;
                let target = target.map(|t| t.pid);
                create::create(&engine.node, &container, Settled { image, target, labels }).await
            } else {
                Err(StepFailed {
                    step: "create the container",
                    kind: ErrorKind::FailedPrecondition,
                    source: "the sandbox was stopped meanwhile".into(),
                })
            };
            match made {
                Ok(()) => {
                    engine.registry.landed(&id);
                    Ok(id)
                }
                Err(failed) => {
                    match remove::forget(&engine.node, &container).await {
                        Ok(()) => engine.registry.drop_container(&container.id),
                        Err(left) => {
                            // Kept, so that its removal, or its pod's, tries again.
                            let error = chain(&left);
                            tracing::error!(
                                container_id = id,
                                error,
                                "failed container not undone"
                            );
                            container.keep_failed(
                                &engine.node,
                                format!("{}; not undone: {error}", chain(&failed)),
                            );
                            engine.registry.landed(&id);
                        }
                    }
                    Err(Arc::new(container_error("CreateContainer", &container, failed)))
                }
            }
        });
        async move {
            task.await.unwrap_or_else(|_| Err(Arc::new(EngineError::CutOff("CreateContainer"))))
        }
        .boxed()
        .shared()
    }

    /// StartContainer.
    ///
    /// # Errors
    /// NotFound; Precondition unless CREATED; the step that failed, which is also in the status:
    /// EXITED, 128, StartError.
    pub async fn start_container(&self, id: &str) -> Result<(), EngineError> {
        self.ready()?;
        let container = self.settled_container(id)?;
        let target = self.target_of(&container.sandbox, &container.config())?;
        let node = Arc::clone(&self.node);
        self.owned("StartContainer", async move {
            let _order = container.lane.lock().await;
            start::start(&node, &container, target)
                .await
                .map_err(|f| container_error("StartContainer", &container, f))
        })
        .await
    }

    /// StopContainer. An unknown one, and one that does not run, is stopped already.
    ///
    /// # Errors
    /// DeadlineExceeded when the kernel cannot end its processes.
    pub async fn stop_container(&self, id: &str, grace: Duration) -> Result<(), EngineError> {
        self.ready()?;
        let Some(container) = absent_is_none(self.registry.find_container(id))? else {
            return Ok(());
        };
        settled(&container.sandbox)?;
        let node = Arc::clone(&self.node);
        self.owned("StopContainer", async move {
            // A start in flight ends first, so that what it starts is stopped.
            drop(container.lane.lock().await);
            stop::stop(&node, &container, grace)
                .await
                .map_err(|f| container_error("StopContainer", &container, f))
        })
        .await
    }

    /// RemoveContainer: a running one is killed first. An unknown one is removed already.
    ///
    /// # Errors
    /// The step that failed.
    pub async fn remove_container(&self, id: &str) -> Result<(), EngineError> {
        self.ready()?;
        let Some(container) = absent_is_none(self.registry.find_container(id))? else {
            return Ok(());
        };
        settled(&container.sandbox)?;
        let engine = self.clone();
        self.owned("RemoveContainer", async move {
            let sandbox = Arc::clone(&container.sandbox);
            let _order = sandbox.lane.lock().await;
            if engine.registry.container(&container.id).is_none() {
                return Ok(());
            }
            remove::remove(&engine.node, &container)
                .await
                .map_err(|f| container_error("RemoveContainer", &container, f))?;
            engine.registry.drop_container(&container.id);
            Ok(())
        })
        .await
    }

    /// UpdateContainerResources: what is not set stays.
    ///
    /// # Errors
    /// NotFound; Precondition when it has ended; a refused value changes nothing.
    pub async fn update_container(&self, id: &str, wanted: Resources) -> Result<(), EngineError> {
        self.ready()?;
        let container = self.settled_container(id)?;
        let node = Arc::clone(&self.node);
        self.owned("UpdateContainerResources", async move {
            update::update(&node, &container, wanted)
                .await
                .map_err(|f| container_error("UpdateContainerResources", &container, f))
        })
        .await
    }

    /// ReopenContainerLog.
    ///
    /// # Errors
    /// NotFound; Precondition when it does not run, and then no file is made.
    pub async fn reopen_log(&self, id: &str) -> Result<(), EngineError> {
        self.ready()?;
        let container = self.settled_container(id)?;
        self.owned("ReopenContainerLog", async move {
            log::reopen(&container)
                .await
                .map_err(|f| container_error("ReopenContainerLog", &container, f))
        })
        .await
    }

    /// ExecSync. A caller that goes away takes the command with it.
    ///
    /// # Errors
    /// NotFound; Precondition; DeadlineExceeded when `limit` passed and the command was killed.
    pub async fn exec_sync(
        &self,
        id: &str,
        command: Vec<String>,
        limit: Option<Duration>,
    ) -> Result<ExecOutput, EngineError> {
        self.ready()?;
        let container = self.settled_container(id)?;
        if command.is_empty() {
            return Err(EngineError::Invalid("the command is empty".into()));
        }
        exec_sync::exec_sync(&self.node, &container, command, limit)
            .await
            .map_err(|f| container_error("ExecSync", &container, f))
    }

    /// A container whose id has been told, of a pod that verbs can go on from.
    pub(super) fn settled_container(&self, id: &str) -> Result<Arc<Container>, EngineError> {
        let container = self.known_container(id)?;
        settled(&container.sandbox)?;
        Ok(container)
    }

    /// A container whose id has been told.
    pub(super) fn known_container(&self, id: &str) -> Result<Arc<Container>, EngineError> {
        let container = self.registry.find_container(id)?;
        if container.state() == State::Creating {
            return Err(EngineError::NotFound { what: "container", id: id.to_owned() });
        }
        Ok(container)
    }
}

/// An image as a digest reference, else its id.
fn reference(image: &ImageInfo) -> String {
    image.repo_digests.first().cloned().unwrap_or_else(|| image.id.to_string())
}

enum Reserved {
    Finished(ContainerId),
    Flight(Flight),
}

/// The error of a verb, with pod and container in it.
pub(super) fn container_error(
    verb: &'static str,
    container: &Container,
    failed: StepFailed,
) -> EngineError {
    let pod = subject(&container.sandbox.config());
    let what = format!("{pod}, container {} ({})", container.config().name, container.id.short());
    EngineError::step(verb, &what, failed)
}
