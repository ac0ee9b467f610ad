//! Building the engine, and ending it with the pods left running.

use super::error::EngineError;
use super::registry::Registry;
use super::{recover, shim_events};
use crate::bus::{Bus, EngineEvent};
use crate::cgroups::Cgroups;
use crate::cni::Network;
use crate::config::Config;
use crate::error::{AtStep, StepFailed, chain};
use crate::handlers::Handlers;
use crate::image::Images;
use crate::node::Node;
use crate::sandbox::userns;
use crate::selinux::Selinux;
use crate::shim::client::ShimBinaries;
use crate::store::{Durable, Layout, StoreError};
use crate::watch::Watcher;
use nix::fcntl::{Flock, FlockArg};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{broadcast, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long a stop waits for checkpoints at work.
const CHECKPOINTS_WITHIN: Duration = Duration::from_secs(60);
/// How long a stop waits for the engine's own tasks.
const END_WITHIN: Duration = Duration::from_secs(5);

/// The engine. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    pub(super) node: Arc<Node>,
    pub(super) registry: Arc<Registry>,
    recovered: Arc<AtomicBool>,
    // Held for the life of the process; the kernel lets go of it at the end.
    _lock: Arc<Flock<std::fs::File>>,
}

impl Engine {
    /// Opens the node's state and starts recovery in the background: until that ends, every verb
    /// answers [`EngineError::Recovering`]. `watcher` is that of the process. `stopping` is cancelled
    /// when the daemon is about to end.
    ///
    /// # Errors
    /// A folder, the cgroup hierarchy, the network's configuration or the shim's binaries cannot be
    /// used, or another daemon holds the same state.
    pub async fn open(
        config: Arc<Config>,
        watcher: &Watcher,
        stopping: CancellationToken,
    ) -> Result<Self, EngineError> {
        let built = Self::build(config, watcher, stopping).await;
        built.map_err(|failed| EngineError::step("open", "the node", failed))
    }

    async fn build(
        config: Arc<Config>,
        watcher: &Watcher,
        stopping: CancellationToken,
    ) -> Result<Self, StepFailed> {
        let layout = Layout::new(&config.paths.run, &config.paths.state);
        layout.create().at("create the state folders")?;
        let lock = take_lock(&layout.lock()).at("take the lock of the state folder")?;
        let cgroups = Cgroups::open(&config.cgroups).at("open the cgroup hierarchy")?;
        let prepared = cgroups.clone();
        crate::blocking::run("prepare the cgroup driver", move || prepared.prepare())
            .await
            .at("prepare the cgroup driver")?
            .at("prepare the cgroup driver")?;
        let network = Network::open(&config.network, &layout, &cgroups, watcher).await;
        let network = network.at("open the network")?;
        let images = Images::open(&config.image, &layout).at("open the image store")?;
        images.run_helpers_in(cgroups.clone());
        let libexec = libexec(&config);
        let shims = ShimBinaries::load(&libexec.join("berth-shim"), &libexec.join("berth-pause"))
            .at("load berth-shim and berth-pause")?;
        let selinux = Selinux::open(&config.selinux).at("look for SELinux")?;
        selinux.label_program(shims.pause().as_fd()).at("label berth-pause")?;
        let (configured, groups) = (config.runtimes.clone(), cgroups.clone());
        let handlers = crate::blocking::run("ask the runtime handlers", move || {
            Handlers::probe(&configured, &groups)
        })
        .await
        .at("ask the runtime handlers")?;
        let (programs, layers) = (shims.clone(), images.clone());
        let userns =
            crate::blocking::run("try a user namespace", move || userns::probe(&programs, &layers))
                .await
                .at("try a user namespace")?;
        if let Err(reason) = &userns {
            tracing::info!(cause = reason, "pods cannot have user namespaces on this node");
        }
        let (shim_events, inbox) = mpsc::unbounded_channel();
        let durable = Durable::start(layout.state()).at("start the record writer")?;
        let node = Arc::new(Node {
            config,
            layout,
            cgroups,
            network,
            handlers,
            selinux,
            images,
            shims,
            userns,
            shim_events,
            bus: Bus::default(),
            durable,
            checkpoints: Arc::default(),
            tasks: TaskTracker::new(),
            stopping,
        });
        let engine = Self {
            node,
            registry: Arc::default(),
            recovered: Arc::default(),
            _lock: Arc::new(lock),
        };
        engine.start(inbox).at("load the records")?;
        Ok(engine)
    }

    fn start(&self, inbox: shim_events::Inbox) -> Result<(), StoreError> {
        let all_read = recover::load(self)?;
        let engine = self.clone();
        // Shims tell again what was not acknowledged as soon as they are adopted, and recovery
        // itself waits for ends; so events are handled from the moment all records are known.
        self.node.tasks.spawn(async move { shim_events::handle(&engine, inbox).await });
        let engine = self.clone();
        self.node.tasks.spawn(async move {
            recover::recover(&engine, all_read).await;
            engine.recovered.store(true, Ordering::Release);
            tracing::info!(
                sandboxes = engine.registry.sandboxes().len(),
                containers = engine.registry.containers().len(),
                "state recovered"
            );
            // In its own time: what is fetched again nobody waits for.
            engine.node.images.mend().await;
        });
        Ok(())
    }

    /// Whether start-up has finished.
    ///
    /// # Errors
    /// [`EngineError::Recovering`] until then.
    pub fn ready(&self) -> Result<(), EngineError> {
        if self.recovered.load(Ordering::Acquire) { Ok(()) } else { Err(EngineError::Recovering) }
    }

    /// Waits a little for tasks at work, and writes back the durable records. Pods go on.
    pub async fn shutdown(&self) {
        self.node.tasks.close();
        // The event loop and stoppers never end by themselves; nothing they do needs an ending.
        tokio::time::timeout(END_WITHIN.min(Duration::from_millis(200)), self.node.tasks.wait())
            .await
            .ok();
        // A checkpoint has paused containers, and criu is in the middle of their processes.
        let checkpoints = self.node.checkpoints.write();
        if tokio::time::timeout(CHECKPOINTS_WITHIN, checkpoints).await.is_err() {
            tracing::warn!(
                "a checkpoint is still at work; the next start lets its containers go on"
            );
        }
        // The bridge and the rules stay for pods that run; without any, nothing does.
        if let Err(error) = self.node.network.close().await {
            tracing::warn!(error = chain(&error), "network not closed");
        }
        let durable = self.node.durable.clone();
        crate::blocking::run_within("write back the records", END_WITHIN, move |_| durable.flush())
            .await
            .ok();
    }

    /// Images.
    pub fn images(&self) -> &Images {
        &self.node.images
    }

    /// Every event from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<EngineEvent> {
        self.node.bus.subscribe()
    }
}

fn take_lock(path: &Path) -> std::io::Result<Flock<std::fs::File>> {
    let file = std::fs::OpenOptions::new().create(true).write(true).truncate(false).open(path)?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| {
        if errno == nix::errno::Errno::EWOULDBLOCK {
            std::io::Error::other(format!("another berth uses it: {} is locked", path.display()))
        } else {
            errno.into()
        }
    })
}

/// Where berth-shim and berth-pause are: as configured, beside berth, or in /usr/libexec/berth.
fn libexec(config: &Config) -> PathBuf {
    if let Some(path) = &config.paths.libexec {
        return path.clone();
    }
    let beside = std::env::current_exe().ok().and_then(|exe| exe.parent().map(Path::to_owned));
    match beside {
        Some(folder) if folder.join("berth-shim").exists() => folder,
        _ => "/usr/libexec/berth".into(),
    }
}
