//! The network of this node's pods, whichever mode is configured.
//!
//! Every verb is blocking work on one blocking thread: netlink, files, and plugins with a deadline.
//! Verbs on one sandbox do not run beside each other (the engine's lane sees to that); verbs on
//! different sandboxes do.

use super::builtin::Builtin;
use super::error::NetworkError;
use super::helper;
use super::invoke::Invoker;
use super::journal::{self, Journal, Work};
use super::plugins;
use super::range::{PodRanges, RangeError};
use super::request::{AttachRequest, Attachment, NotReady};
use super::template;
use super::watch::ConfWatch;
use crate::blocking;
use crate::cgroups::{Cgroups, Leaf};
use crate::config::{self, NetworkMode};
use crate::error::chain as explain;
use crate::ids::{InvalidId, SandboxId};
use crate::store::{self, Layout, StoreError};
use crate::watch::Watcher;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The network. Cheap to clone.
#[derive(Clone)]
pub struct Network {
    inner: Arc<Inner>,
}

pub(super) struct Inner {
    mode: NetworkMode,
    layout: Layout,
    cgroups: Cgroups,
    invoker: Invoker,
    /// Watches in the mode `cni` alone.
    watch: Option<ConfWatch>,
    /// Where CNI configurations are, and what one is made of in the mode `cni`.
    conf_dir: PathBuf,
    template: Option<PathBuf>,
    builtin: Builtin,
    attached: Mutex<BTreeMap<SandboxId, Attachment>>,
    /// The sandbox id that stands for the node: for helpers that belong to no pod.
    node: SandboxId,
}

impl Network {
    /// Opens the network of the configured mode. Attaches nothing, and is no error where the network
    /// is not ready yet.
    ///
    /// # Errors
    /// [`NetworkError::Kernel`] when the configuration folder cannot be watched.
    pub async fn open(
        config: &config::Network,
        layout: &Layout,
        cgroups: &Cgroups,
        watcher: &Watcher,
    ) -> Result<Self, NetworkError> {
        let (config, layout, cgroups) = (config.clone(), layout.clone(), cgroups.clone());
        let watcher = watcher.clone();
        let inner = blocking::run("open the network", move || {
            Inner::open(&config, layout, cgroups, &watcher)
        });
        Ok(Self { inner: Arc::new(inner.await??) })
    }

    /// Whether pods with a network of their own can run. Never waits.
    ///
    /// # Errors
    /// [`NotReady`]: what is missing.
    pub fn ready(&self) -> Result<(), NotReady> {
        self.inner.ready()
    }

    /// Attaches a pod. A pod that is attached stays as it is; a half-made attachment is undone first.
    /// A failure is undone; what cannot be is left for [`Network::detach`].
    ///
    /// # Errors
    /// [`NetworkError`].
    pub async fn attach(&self, request: &AttachRequest) -> Result<Attachment, NetworkError> {
        let (inner, request) = (Arc::clone(&self.inner), request.clone());
        blocking::run("attach a pod", move || inner.attach(&request)).await?
    }

    /// Detaches a pod by its journal, in whichever mode it was attached. A pod that was never
    /// attached, or is detached, is success. Kills what still runs for it first. The host's end of
    /// a built-in cable goes a moment later (`close` and `recover` wait for it).
    ///
    /// # Errors
    /// [`NetworkError::Undo`] with everything that is left; the next call tries again.
    pub async fn detach(&self, id: &SandboxId) -> Result<(), NetworkError> {
        let (inner, id) = (Arc::clone(&self.inner), id.clone());
        blocking::run("detach a pod", move || inner.detach(&id)).await?
    }

    /// Whether what a pod was attached with is still there.
    ///
    /// # Errors
    /// [`NetworkError`]: what is gone.
    pub async fn check(&self, id: &SandboxId) -> Result<(), NetworkError> {
        let (inner, id) = (Arc::clone(&self.inner), id.clone());
        blocking::run("check a pod's network", move || inner.check(&id)).await?
    }

    /// Takes over after a start: the sandboxes in `live` keep their network, and everything that
    /// belongs to none of them goes. To be called once, before the first attach.
    ///
    /// A live sandbox whose attachment is half-made is left for [`Network::attach`] or
    /// [`Network::detach`]. Returns what was done and what could not be, a sentence each.
    ///
    /// # Errors
    /// [`NetworkError::Blocking`] alone.
    pub async fn recover(&self, live: &[SandboxId]) -> Result<Vec<String>, NetworkError> {
        let (inner, live) = (Arc::clone(&self.inner), live.to_vec());
        Ok(blocking::run("recover the network", move || inner.recover(&live)).await?)
    }

    /// What a sandbox was attached with; `None` when it is not attached.
    pub fn attachment(&self, id: &SandboxId) -> Option<Attachment> {
        self.inner.attached().get(id).cloned()
    }

    /// Takes over the range of pod addresses that the cluster gives to this node, for pods that are
    /// attached from now on and also after a restart: the built-in network gets it; in the mode `cni`
    /// a configuration is made of the template, if there is one and no other configuration.
    ///
    /// # Errors
    /// [`RangeError`]: nothing changed.
    pub async fn set_ranges(&self, ranges: PodRanges) -> Result<(), RangeError> {
        let inner = Arc::clone(&self.inner);
        blocking::run("take over the pod range", move || inner.set_ranges(&ranges)).await?
    }

    /// Removes the bridge and the rules of the built-in network if no pod is on them. For the end of
    /// the process.
    ///
    /// # Errors
    /// [`NetworkError`].
    pub async fn close(&self) -> Result<(), NetworkError> {
        let inner = Arc::clone(&self.inner);
        blocking::run("close the network", move || inner.close()).await?
    }

    /// Whether this id is the network's own, for helpers of no pod.
    pub fn owns(&self, id: &SandboxId) -> bool {
        self.inner.node == *id
    }
}

impl Inner {
    pub(super) fn open(
        config: &config::Network,
        layout: Layout,
        cgroups: Cgroups,
        watcher: &Watcher,
    ) -> Result<Self, NetworkError> {
        let node = node_id(&layout)
            .map_err(|e| NetworkError::kernel("name", "the node", std::io::Error::other(e)))?;
        let invoker = Invoker {
            bin_dirs: config.cni_bin_dirs.clone(),
            limit: Duration::from_secs(config.cni_timeout_seconds.max(1)),
        };
        let watch = match config.mode {
            NetworkMode::Builtin => None,
            NetworkMode::Cni => {
                let dir = config.cni_conf_dir.clone();
                let subject = dir.display().to_string();
                let watch = ConfWatch::open(dir, watcher, invoker.clone(), cgroups.helpers(&node));
                Some(watch.map_err(|e| NetworkError::kernel("watch", subject, e))?)
            }
        };
        let builtin = Builtin::new(config, &layout);
        if config.mode == NetworkMode::Builtin {
            take_up_ranges(&builtin, &layout);
        }
        Ok(Self {
            mode: config.mode,
            conf_dir: config.cni_conf_dir.clone(),
            template: config.cni_conf_template.clone(),
            builtin,
            layout,
            cgroups,
            invoker,
            watch,
            attached: Mutex::new(BTreeMap::new()),
            node,
        })
    }

    pub(super) fn ready(&self) -> Result<(), NotReady> {
        match &self.watch {
            Some(watch) => watch.ready(),
            None => self.builtin.ready(),
        }
    }

    pub(super) fn attach(&self, request: &AttachRequest) -> Result<Attachment, NetworkError> {
        let id = &request.sandbox;
        if let Some(journal) = Journal::load(&self.layout, id)? {
            match journal.attachment {
                Some(attachment) if journal.netns == request.netns => return Ok(attachment),
                _ => {
                    self.detach(id)?;
                    // The new cable has the old one's name.
                    self.builtin.settle();
                }
            }
        }
        let group = self.cgroups.helpers(id);
        let attached = match (self.mode, &self.watch) {
            (NetworkMode::Builtin, _) | (NetworkMode::Cni, None) => {
                self.builtin.attach(request, &group)
            }
            (NetworkMode::Cni, Some(watch)) => {
                watch.conf().map_err(NetworkError::NotReady).and_then(|conf| {
                    plugins::attach(request, &conf, &self.invoker, &group, &self.layout)
                })
            }
        };
        match attached {
            Ok(attachment) => {
                self.attached().insert(id.clone(), attachment.clone());
                Ok(attachment)
            }
            Err(error) => {
                if let Err(left) = self.detach(id) {
                    tracing::error!(sandbox_id = %id, error = explain(&left), "attach not undone");
                }
                Err(error)
            }
        }
    }

    pub(super) fn detach(&self, id: &SandboxId) -> Result<(), NetworkError> {
        let group = self.cgroups.helpers(id);
        helper::kill_group(&group)?;
        let journal = match Journal::load(&self.layout, id) {
            Ok(journal) => journal,
            Err(e) => return self.detach_blindly(id, &group, &e),
        };
        if let Some(journal) = journal {
            let errors: Vec<String> = match &journal.work {
                Work::Cni(work) => plugins::detach(&journal, work, &self.invoker, &group)
                    .iter()
                    .map(|e| explain(e))
                    .collect(),
                Work::Builtin(work) => {
                    let errors = self.builtin.detach(id, work, &group);
                    errors.iter().map(|e| explain(e)).collect()
                }
            };
            if !errors.is_empty() {
                let subject = format!("network of pod {}", journal.pod);
                return Err(NetworkError::Undo { subject, errors: errors.join("; ") });
            }
            store::remove(&self.layout.network_journal(id))?;
        }
        self.attached().remove(id);
        helper::kill_group(&group)?;
        Ok(())
    }

    /// Detaches by what the kernel and the leases tell, when the journal cannot be read. What plugins
    /// made is not known then, and said so; a pod that could never be stopped would be worse.
    fn detach_blindly(
        &self,
        id: &SandboxId,
        group: &Leaf,
        why: &StoreError,
    ) -> Result<(), NetworkError> {
        let error = explain(why);
        tracing::error!(sandbox_id = %id, error, "network is undone without its journal");
        let work = self.builtin.unknown(id);
        if let Some(error) = self.builtin.detach(id, &work, group).into_iter().next() {
            return Err(error);
        }
        store::remove(&self.layout.network_journal(id))?;
        self.attached().remove(id);
        Ok(())
    }

    pub(super) fn check(&self, id: &SandboxId) -> Result<(), NetworkError> {
        let Some(journal) = Journal::load(&self.layout, id)? else { return Ok(()) };
        match &journal.work {
            Work::Cni(work) => {
                plugins::check(&journal, work, &self.invoker, &self.cgroups.helpers(id))
            }
            Work::Builtin(work) => self.builtin.check(work),
        }
    }

    pub(super) fn recover(&self, live: &[SandboxId]) -> Vec<String> {
        let live: BTreeSet<&SandboxId> = live.iter().collect();
        let (journals, damaged) = journal::load_all(&self.layout);
        let mut notes: Vec<String> = damaged.iter().map(|e| explain(e)).collect();
        for (id, journal) in &journals {
            if live.contains(id) {
                if let Some(attachment) = &journal.attachment {
                    self.attached().insert(id.clone(), attachment.clone());
                }
                continue;
            }
            notes.push(match self.detach(id) {
                Ok(()) => format!("detached pod {} ({})", journal.pod, id.short()),
                Err(e) => explain(&e),
            });
        }
        // What could not be detached keeps its addresses and cables: they still lead somewhere.
        let kept: Vec<&Journal> = journals
            .values()
            .filter(|j| {
                live.contains(&j.sandbox) || self.layout.network_journal(&j.sandbox).exists()
            })
            .collect();
        let group = self.cgroups.helpers(&self.node);
        // What ran for the node when the last process ended has no one to answer to.
        notes.extend(helper::kill_group(&group).err().map(|e| explain(&e)));
        notes.extend(self.builtin.recover(&kept, &group));
        if let Some(conf) = self.watch.as_ref().and_then(|watch| watch.conf().ok()) {
            let errors = plugins::collect_garbage(&conf, &kept, &self.invoker, &group);
            notes.extend(errors.iter().map(|e| explain(e)));
        }
        notes
    }

    pub(super) fn set_ranges(&self, ranges: &PodRanges) -> Result<(), RangeError> {
        match (self.mode, &self.template) {
            (NetworkMode::Builtin, _) => {
                self.builtin.check_ranges(ranges)?;
                store::save(&self.layout.pod_ranges(), ranges)?;
                self.builtin.set_ranges(ranges)?;
                self.builtin.drop_idle_bridge();
                tracing::info!(?ranges, "pods get addresses of this range");
            }
            (NetworkMode::Cni, Some(template)) => {
                match template::install(template, &self.conf_dir, ranges)? {
                    Some(path) => tracing::info!(path = %path.display(), "CNI configuration made"),
                    None => tracing::info!("CNI configuration is there; the template is not used"),
                }
            }
            (NetworkMode::Cni, None) => {
                tracing::debug!("the pod range is for the CNI configuration to know");
            }
        }
        Ok(())
    }

    pub(super) fn close(&self) -> Result<(), NetworkError> {
        let group = self.cgroups.helpers(&self.node);
        let closed = self.builtin.close(&group);
        helper::tidy_group(&group);
        closed
    }

    fn attached(&self) -> MutexGuard<'_, BTreeMap<SandboxId, Attachment>> {
        self.attached.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Goes on with the range that an earlier process was told: a kubelet tells it once. One that cannot be
/// read, or that does not fit any more, is reported, and the configured range counts.
fn take_up_ranges(builtin: &Builtin, layout: &Layout) {
    let kept = match store::load::<PodRanges>(&layout.pod_ranges()) {
        Ok(kept) => kept.map(|kept| builtin.set_ranges(&kept.value)),
        Err(error) => Some(Err(error.into())),
    };
    if let Some(Err(error)) = kept {
        tracing::error!(error = explain(&error), "the node's pod range is not known any more");
    }
}

/// The id that stands for the node: the digest of the live folder's path, which is one daemon's
/// alone. No sandbox has it: theirs are random.
fn node_id(layout: &Layout) -> Result<SandboxId, InvalidId> {
    use sha2::{Digest as _, Sha256};
    let digest = Sha256::digest(layout.run().as_os_str().as_encoded_bytes());
    SandboxId::parse(&digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}
