//! The sandbox verbs.

use super::error::EngineError;
use super::open::Engine;
use super::registry::{Flight, Holder};
use super::repeat;
use crate::clock;
use crate::error::{AtStep as _, ErrorKind, StepFailed, chain};
use crate::ids::{SandboxId, random_hex};
use crate::sandbox::config::{PodNamespace, SandboxConfig};
use crate::sandbox::object::{Origin, Sandbox, SandboxRecord};
use crate::sandbox::state::Phase;
use crate::sandbox::update::{self, PodResources};
use crate::sandbox::{files, remove, run, stop, sysctl, teardown};
use crate::selinux::SelinuxError;
use crate::{container, store};
use futures::FutureExt as _;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

/// The name that a request asks for, and what tells it from other requests.
struct Asked {
    name: String,
    request_hash: String,
    origin: Origin,
}

impl Asked {
    fn of(config: &SandboxConfig, handler: &str, origin: Origin) -> Self {
        let name = config.metadata.reservation();
        // No request is a repeat of another verb's.
        let request_hash = match origin {
            Origin::Run => repeat::request_hash(&(config, handler)),
            Origin::Restoring | Origin::Restored => format!("restored-{name}"),
        };
        Self { name, request_hash, origin }
    }
}

impl Engine {
    /// RunPodSandbox. A repeat in flight joins; a finished one whose sandbox is READY returns its id.
    ///
    /// # Errors
    /// NameTaken for the same name with another request or in another state; Invalid; the step that
    /// failed.
    pub async fn run_sandbox(
        &self,
        config: SandboxConfig,
        handler: &str,
    ) -> Result<SandboxId, EngineError> {
        self.run_sandbox_as(config, handler, Origin::Run).await
    }

    /// The sandbox of a RestorePod. It is half-made until its record says otherwise, and never one that is there.
    pub(super) async fn run_restored(
        &self,
        config: SandboxConfig,
    ) -> Result<SandboxId, EngineError> {
        self.run_sandbox_as(config, "", Origin::Restoring).await
    }

    async fn run_sandbox_as(
        &self,
        config: SandboxConfig,
        handler: &str,
        origin: Origin,
    ) -> Result<SandboxId, EngineError> {
        self.ready()?;
        let asked = Asked::of(&config, handler, origin);
        // What must hold of a new one need not hold of one that is there.
        let held = self.held(&self.registry.names(), &asked, &config)?;
        let reserved = match held {
            Some(held) => held,
            None => {
                self.admit(&config, handler)?;
                self.reserve_sandbox(config, handler, asked)?
            }
        };
        let flight = match reserved {
            Reserved::Finished(id) => return Ok(id),
            Reserved::Flight(flight) => flight,
        };
        let id = flight.await?;
        SandboxId::parse(&id).map_err(|e| EngineError::Invalid(e.to_string()))
    }

    /// What can be refused before anything is made.
    fn admit(&self, config: &SandboxConfig, handler: &str) -> Result<(), EngineError> {
        let program = self.program_of(handler)?;
        if config.userns.is_some() {
            self.admit_userns(handler, program.is_some())?;
        }
        sysctl::validate_sysctls(config).map_err(|e| EngineError::Invalid(chain(&e)))?;
        files::validate_files(config).map_err(|e| EngineError::Invalid(chain(&e)))?;
        self.node.selinux.admit(config.selinux.as_ref()).map_err(refused_label)?;
        self.node
            .cgroups
            .parent_path(config.cgroup_parent.as_deref())
            .map_err(|e| EngineError::Invalid(chain(&e)))?;
        if config.namespaces.network == PodNamespace::Pod
            && let Err(not_ready) = self.node.network.ready()
        {
            return Err(EngineError::Precondition(format!(
                "the network is not ready: {}: {}",
                not_ready.reason, not_ready.message
            )));
        }
        Ok(())
    }

    /// Whether the node, and the handler's program if it has one, can run a pod in a user namespace.
    fn admit_userns(&self, handler: &str, program: bool) -> Result<(), EngineError> {
        if program {
            return Err(EngineError::Precondition(format!(
                "linux.security_context.namespace_options.userns_options: the runtime handler \
                 {handler:?} runs no pods in user namespaces, only the native one does"
            )));
        }
        self.node.userns.as_ref().map(drop).map_err(|reason| {
            EngineError::Precondition(format!(
                "this node cannot run pods in user namespaces: {reason}"
            ))
        })
    }

    /// The program of a runtime handler; `None` for the native executor.
    fn program_of(&self, handler: &str) -> Result<Option<PathBuf>, EngineError> {
        self.node.handlers.find(handler).map_err(|e| match e.kind() {
            ErrorKind::InvalidArgument => EngineError::Invalid(format!("runtime_handler: {e}")),
            _ => EngineError::Precondition(chain(&e)),
        })
    }

    /// Whether a runtime handler is configured.
    ///
    /// # Errors
    /// Invalid, with the field of the request and its name.
    pub fn knows_handler(&self, field: &str, handler: &str) -> Result<(), EngineError> {
        let unknown = |e| EngineError::Invalid(format!("{field}: {e}"));
        self.node.handlers.known(handler).map_err(unknown)
    }

    /// What holds the name already.
    fn held(
        &self,
        names: &HashMap<String, Holder>,
        asked: &Asked,
        config: &SandboxConfig,
    ) -> Result<Option<Reserved>, EngineError> {
        let Some(holder) = names.get(&asked.name) else { return Ok(None) };
        match asked.origin {
            Origin::Run => self.repeat_of(holder, asked, config).map(Some),
            Origin::Restoring | Origin::Restored => Err(EngineError::NameTaken {
                what: "sandbox",
                name: asked.name.clone(),
                id: holder.id.clone(),
                differs: "a restored pod is a new one".into(),
            }),
        }
    }

    fn reserve_sandbox(
        &self,
        config: SandboxConfig,
        handler: &str,
        asked: Asked,
    ) -> Result<Reserved, EngineError> {
        let mut names = self.registry.names();
        if let Some(held) = self.held(&names, &asked, &config)? {
            return Ok(held);
        }
        let Asked { name, request_hash, origin } = asked;
        let sandbox = Arc::new(self.new_sandbox(config, handler, (origin, &request_hash))?);
        let flight = self.launch_sandbox(Arc::clone(&sandbox));
        names.insert(
            name,
            Holder { id: sandbox.id.to_string(), request_hash, flight: Some(flight.clone()) },
        );
        Ok(Reserved::Flight(flight))
    }

    fn repeat_of(
        &self,
        holder: &Holder,
        asked: &Asked,
        config: &SandboxConfig,
    ) -> Result<Reserved, EngineError> {
        let existing = self.registry.find_sandbox(&holder.id).ok();
        let same = holder.request_hash == asked.request_hash;
        if same && let Some(flight) = &holder.flight {
            return Ok(Reserved::Flight(flight.clone()));
        }
        if let Some(sandbox) = existing.as_ref().filter(|s| same && s.is_ready()) {
            return Ok(Reserved::Finished(sandbox.id.clone()));
        }
        let differs = match &existing {
            Some(_) if same => "it is not ready any more; remove it first".to_owned(),
            Some(sandbox) if sandbox.record().origin != Origin::Run => {
                "it comes from a checkpoint".to_owned()
            }
            Some(sandbox) => {
                format!("the requests differ in {}", repeat::differing(&*sandbox.config(), config))
            }
            None => "it is being made from another request".to_owned(),
        };
        Err(EngineError::NameTaken {
            what: "sandbox",
            name: asked.name.clone(),
            id: holder.id.clone(),
            differs,
        })
    }

    /// The object and its intent on disk. Nothing else exists yet.
    fn new_sandbox(
        &self,
        config: SandboxConfig,
        handler: &str,
        (origin, request_hash): (Origin, &str),
    ) -> Result<Sandbox, EngineError> {
        let subject = subject(&config);
        let failed = |step, source: Box<dyn std::error::Error + Send + Sync>| {
            EngineError::step(
                "RunPodSandbox",
                &subject,
                StepFailed { step, kind: ErrorKind::Internal, source },
            )
        };
        let hex = random_hex().map_err(|e| failed("name the sandbox", e.into()))?;
        let id = SandboxId::parse(&hex).map_err(|e| failed("name the sandbox", e.into()))?;
        let cgroup = self
            .node
            .cgroups
            .parent_path(config.cgroup_parent.as_deref())
            .map(|parent| self.node.cgroups.pod_path(&parent, &id))
            .map_err(|e| EngineError::Invalid(chain(&e)))?;
        let runtime = self.program_of(handler)?;
        // From here on the pair of categories is the sandbox's: each way out gives it back.
        let labels = self
            .node
            .selinux
            .of_pod(&id, config.selinux.as_ref())
            .at("choose the pod's SELinux label")
            .map_err(|f| EngineError::step("RunPodSandbox", &subject, f))?;
        let record = SandboxRecord {
            id: id.clone(),
            config: Arc::new(config),
            handler: handler.to_owned(),
            runtime,
            request_hash: request_hash.to_owned(),
            origin,
            created_at_nanos: clock::now_nanos(),
            phase: Phase::Creating,
            cgroup,
            shim: None,
            pause: None,
            ips: Vec::new(),
            pinned: false,
            labels,
            left_out: Vec::new(),
        };
        std::fs::create_dir_all(self.node.layout.exits(&id))
            .inspect_err(|_| self.node.selinux.release(&id))
            .map_err(|e| failed("create the sandbox's folder", e.into()))?;
        store::save(&self.node.layout.sandbox_record(&id), &record)
            .inspect_err(|_| drop(std::fs::remove_dir_all(self.node.layout.sandbox(&id))))
            .inspect_err(|_| self.node.selinux.release(&id))
            .map_err(|e| failed("record the sandbox", e.into()))?;
        Ok(Sandbox::new(record))
    }

    fn launch_sandbox(&self, sandbox: Arc<Sandbox>) -> Flight {
        let engine = self.clone();
        let task = self.node.tasks.spawn(async move {
            let _order = sandbox.lane.lock().await;
            engine.registry.add_sandbox(Arc::clone(&sandbox));
            let id = sandbox.id.to_string();
            let outcome = run::run(&engine.node, &sandbox).await;
            match outcome {
                Ok(()) => {
                    engine.registry.landed(&id);
                    Ok(id)
                }
                Err(failed) => Err(Arc::new(engine.undo_sandbox(&sandbox, failed).await)),
            }
        });
        async move { task.await.unwrap_or_else(|_| Err(Arc::new(EngineError::CutOff("RunPodSandbox")))) }
            .boxed()
            .shared()
    }

    /// Undoes a failed run. What cannot be undone keeps the sandbox, NOTREADY, for a later removal.
    async fn undo_sandbox(&self, sandbox: &Sandbox, failed: StepFailed) -> EngineError {
        let config = sandbox.config();
        let left = teardown::tear_down(&self.node, sandbox).await;
        if left.is_empty() && remove::forget(&self.node, sandbox).await.is_ok() {
            self.registry.drop_sandbox(&sandbox.id);
        } else {
            let why = format!("{}; not undone: {}", chain(&failed), left.text());
            sandbox.keep_failed(&self.node, why);
            self.registry.landed(sandbox.id.as_str());
        }
        EngineError::step("RunPodSandbox", &subject(&config), failed)
    }

    /// StopPodSandbox. An unknown one is stopped already.
    ///
    /// # Errors
    /// Recovering, Ambiguous, or what could not be undone.
    pub async fn stop_sandbox(&self, id: &str) -> Result<(), EngineError> {
        self.ready()?;
        let Some(sandbox) = absent_is_none(self.registry.find_sandbox(id))? else { return Ok(()) };
        settled(&sandbox)?;
        let engine = self.clone();
        self.owned("StopPodSandbox", async move {
            let _order = sandbox.lane.lock().await;
            engine.stop_in_lane(&sandbox).await
        })
        .await
    }

    pub(super) async fn stop_in_lane(&self, sandbox: &Arc<Sandbox>) -> Result<(), EngineError> {
        let containers = self.registry.containers_of(&sandbox.id);
        stop::stop(&self.node, sandbox, &containers)
            .await
            .map_err(|f| EngineError::step("StopPodSandbox", &subject(&sandbox.config()), f))
    }

    /// RemovePodSandbox: stops it first when needed. An unknown one is removed already.
    ///
    /// # Errors
    /// Recovering, Ambiguous, or the step that failed.
    pub async fn remove_sandbox(&self, id: &str) -> Result<(), EngineError> {
        self.ready()?;
        let Some(sandbox) = absent_is_none(self.registry.find_sandbox(id))? else { return Ok(()) };
        settled(&sandbox)?;
        let engine = self.clone();
        self.owned("RemovePodSandbox", async move {
            let _order = sandbox.lane.lock().await;
            engine.remove_in_lane(&sandbox).await
        })
        .await
    }

    pub(super) async fn remove_in_lane(&self, sandbox: &Arc<Sandbox>) -> Result<(), EngineError> {
        if self.registry.sandbox(&sandbox.id).is_none() {
            return Ok(());
        }
        if !matches!(sandbox.phase(), Phase::Removing) {
            self.stop_in_lane(sandbox).await?;
        }
        let failed = |f| EngineError::step("RemovePodSandbox", &subject(&sandbox.config()), f);
        for container in self.registry.containers_of(&sandbox.id) {
            container::remove::remove(&self.node, &container).await.map_err(failed)?;
            self.registry.drop_container(&container.id);
        }
        remove::remove(&self.node, sandbox).await.map_err(failed)?;
        self.registry.drop_sandbox(&sandbox.id);
        Ok(())
    }

    /// UpdatePodSandboxResources: a part that is not given stays.
    ///
    /// # Errors
    /// NotFound; Precondition when the sandbox is not READY; a refused value changes nothing.
    pub async fn update_sandbox(&self, id: &str, change: PodResources) -> Result<(), EngineError> {
        self.ready()?;
        let sandbox = self.known_sandbox(id)?;
        settled(&sandbox)?;
        let node = Arc::clone(&self.node);
        self.owned("UpdatePodSandboxResources", async move {
            let _order = sandbox.lane.lock().await;
            update::update(&node, &sandbox, change).await.map_err(|f| {
                EngineError::step("UpdatePodSandboxResources", &subject(&sandbox.config()), f)
            })
        })
        .await
    }

    /// A sandbox whose id has been told.
    pub(super) fn known_sandbox(&self, id: &str) -> Result<Arc<Sandbox>, EngineError> {
        let sandbox = self.registry.find_sandbox(id)?;
        if sandbox.phase() == Phase::Creating {
            return Err(EngineError::NotFound { what: "sandbox", id: id.to_owned() });
        }
        Ok(sandbox)
    }

    /// Runs a verb in a task of its own, so that it ends also when the caller goes away.
    pub(super) async fn owned<T: Send + 'static>(
        &self,
        verb: &'static str,
        work: impl Future<Output = Result<T, EngineError>> + Send + 'static,
    ) -> Result<T, EngineError> {
        use tracing::Instrument as _;
        let task = self.node.tasks.spawn(work.in_current_span());
        task.await.unwrap_or(Err(EngineError::CutOff(verb)))
    }
}

/// A label that a request asks for and cannot have.
pub(super) fn refused_label(error: SelinuxError) -> EngineError {
    match error.kind() {
        ErrorKind::InvalidArgument => EngineError::Invalid(chain(&error)),
        _ => EngineError::Precondition(chain(&error)),
    }
}

enum Reserved {
    Finished(SandboxId),
    Flight(Flight),
}

/// Whether verbs can go on from where an earlier daemon left the sandbox.
pub(super) fn settled(sandbox: &Sandbox) -> Result<(), EngineError> {
    match sandbox.recovering() {
        true => Err(EngineError::PodRecovering(sandbox.id.to_string())),
        false => Ok(()),
    }
}

/// "Does not exist" is success for stops and removals.
pub(super) fn absent_is_none<T>(found: Result<T, EngineError>) -> Result<Option<T>, EngineError> {
    match found {
        Ok(object) => Ok(Some(object)),
        Err(EngineError::NotFound { .. }) => Ok(None),
        Err(other) => Err(other),
    }
}

/// The pod as people know it.
pub(super) fn subject(config: &SandboxConfig) -> String {
    format!("pod {}/{}", config.metadata.namespace, config.metadata.name)
}
