//! A container in memory: its record, who waits for it, and the order of its verbs.

use super::config::ContainerConfig;
use super::state::{self, Event, Exit, Refused, State};
use crate::bus::EventKind;
use crate::cgroups::{Leaf, Resources};
use crate::clock;
use crate::engine::view::{ContainerState, ContainerView};
use crate::error::chain;
use crate::ids::{ContainerId, ImageId, SandboxId};
use crate::lock::lock;
use crate::node::Node;
use crate::sandbox::object::Sandbox;
use crate::store::{self, StoreError};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use tokio::sync::watch;
use tokio::time::Instant;

/// An image volume of a container, settled when it was made: a tag may move later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Which of the request's mounts it is.
    pub mount: usize,
    /// The image.
    pub image_id: ImageId,
    /// The image as a digest reference, else its id.
    pub image_ref: String,
}

/// What is known of a container, as it is written to disk.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ContainerRecord {
    /// Its id.
    pub id: ContainerId,
    /// Its pod.
    pub sandbox: SandboxId,
    /// The request.
    pub config: Arc<ContainerConfig>,
    /// A hash of the whole request.
    pub request_hash: String,
    /// Its image.
    pub image_id: ImageId,
    /// The image as a digest reference, else its id.
    pub image_ref: String,
    /// Its image volumes.
    #[serde(default)]
    pub volumes: Vec<Volume>,
    /// uid, gid and supplementary groups of its first process, once resolved.
    pub user: Option<(u32, u32, Vec<u32>)>,
    /// The signal that asks it to end.
    pub stop_signal: String,
    /// The whole path of its log.
    pub log_path: Option<PathBuf>,
    /// The resources now in force.
    pub resources: Resources,
    /// When it was asked for, Unix nanoseconds.
    pub created_at_nanos: i64,
    /// Where it is in its life.
    pub state: State,
    /// When a stop in progress turns to SIGKILL, Unix nanoseconds.
    pub kill_at_nanos: Option<i64>,
    /// Hooks of its configuration are to be run after its end.
    #[serde(default)]
    pub poststop: bool,
    /// It goes on where a checkpoint was made: its start is a restore.
    #[serde(default)]
    pub restored: bool,
    /// What the best-effort switch for privileges passed over when it started, in words.
    #[serde(default)]
    pub left_out: Vec<String>,
}

/// CPU time at one moment, and the rate up to it.
#[derive(Clone, Copy, Debug)]
pub struct CpuSample {
    /// When, Unix nanoseconds.
    pub at_nanos: i64,
    /// CPU time used since the start, nanoseconds.
    pub used_nanos: u64,
    /// Nanoseconds a second since the sample before.
    pub rate: Option<u64>,
}

/// A container.
pub struct Container {
    /// Its id.
    pub id: ContainerId,
    /// Its pod.
    pub sandbox: Arc<Sandbox>,
    /// Orders start, update, exit and removal.
    pub lane: tokio::sync::Mutex<()>,
    /// The stopper's deadline, while one is at work.
    pub stopper: Mutex<Option<watch::Sender<Instant>>>,
    /// The last CPU sample.
    pub sample: Mutex<Option<CpuSample>>,
    record: Mutex<ContainerRecord>,
    changed: watch::Sender<()>,
}

impl Container {
    /// A container from its record.
    pub fn new(sandbox: Arc<Sandbox>, record: ContainerRecord) -> Self {
        Self {
            id: record.id.clone(),
            sandbox,
            lane: tokio::sync::Mutex::new(()),
            stopper: Mutex::new(None),
            sample: Mutex::new(None),
            record: Mutex::new(record),
            changed: watch::channel(()).0,
        }
    }

    /// A copy of the record.
    pub fn record(&self) -> ContainerRecord {
        lock(&self.record).clone()
    }

    /// The state.
    pub fn state(&self) -> State {
        lock(&self.record).state.clone()
    }

    /// The request.
    pub fn config(&self) -> Arc<ContainerConfig> {
        Arc::clone(&lock(&self.record).config)
    }

    /// Its cgroup: a leaf of its pod's.
    pub fn leaf(&self, node: &Node) -> Leaf {
        node.cgroups.pod(&self.sandbox.record().cgroup).leaf(self.id.as_str())
    }

    /// Changes the record, on disk first. The copy that outlives the boot follows once it is made.
    ///
    /// # Errors
    /// [`StoreError`]: nothing changed.
    pub fn change(
        &self,
        node: &Node,
        change: impl FnOnce(&mut ContainerRecord),
    ) -> Result<(), StoreError> {
        self.replace(node, |record| {
            change(record);
            Ok(None)
        })
        .map(drop)
    }

    /// Moves it to the next state, on disk first. `Ok(Err(_))`: the event does not move it.
    ///
    /// # Errors
    /// [`StoreError`]: nothing changed.
    pub fn step(&self, node: &Node, event: Event) -> Result<Result<(), Refused>, StoreError> {
        self.replace(node, |record| {
            record.state = state::next(&record.state, event)?;
            if matches!(record.state, State::Exited(_)) {
                record.kill_at_nanos = None;
            }
            Ok(match &record.state {
                State::Created => Some(EventKind::Created),
                State::Running { .. } => Some(EventKind::Started),
                State::Exited(_) => Some(EventKind::Stopped),
                _ => None,
            })
        })
    }

    /// Tells everyone who listens what happened to it.
    pub fn tell(&self, node: &Node, kind: EventKind) {
        self.tell_of(node, &lock(&self.record), kind);
    }

    fn tell_of(&self, node: &Node, record: &ContainerRecord, kind: EventKind) {
        if node.bus.is_heard() {
            let sandbox = Arc::new(self.sandbox.view(node));
            node.bus.tell(kind, sandbox, Some(Arc::new(view_of(node, record))));
        }
    }

    /// Keeps a container that could not be undone, so that it is listed and its removal, or its
    /// pod's, tries again. When the disk refuses this, too, it is so in memory alone: there it stays
    /// `Creating`, which the next start of the daemon forgets.
    pub fn keep_failed(&self, node: &Node, why: String) {
        let failed = Event::Failed(Exit::not_begun(clock::now_nanos(), why));
        if let Err(error) = self.step(node, failed.clone()) {
            tracing::error!(container_id = %self.id, error = chain(&error), "failure not recorded");
            let mut record = lock(&self.record);
            if let Ok(state) = state::next(&record.state, failed) {
                record.state = state;
            }
            drop(record);
            self.changed.send_replace(());
        }
    }

    /// Reads, decides, writes and tells under one lock: two changes never start from the same record,
    /// and whoever sees a change, or waits for it, comes after its event.
    fn replace(
        &self,
        node: &Node,
        change: impl FnOnce(&mut ContainerRecord) -> Result<Option<EventKind>, Refused>,
    ) -> Result<Result<(), Refused>, StoreError> {
        let mut record = lock(&self.record);
        let mut next = record.clone();
        let kind = match change(&mut next) {
            Ok(kind) => kind,
            Err(refused) => return Ok(Err(refused)),
        };
        store::save(&node.layout.container_record(&self.id), &next)?;
        if !matches!(next.state, State::Creating | State::Starting { .. }) {
            node.durable.save(node.layout.durable_container(&self.id), &next)?;
        }
        *record = next;
        if let Some(kind) = kind {
            self.tell_of(node, &record, kind);
        }
        drop(record);
        self.changed.send_replace(());
        Ok(Ok(()))
    }

    /// Waits until it neither starts nor runs.
    pub async fn ended(&self) {
        let mut changed = self.changed.subscribe();
        while matches!(self.state(), State::Starting { .. } | State::Running { .. }) {
            if changed.changed().await.is_err() {
                return;
            }
        }
    }

    /// What the engine tells of it.
    pub fn view(&self, node: &Node) -> ContainerView {
        view_of(node, &lock(&self.record))
    }
}

fn view_of(node: &Node, record: &ContainerRecord) -> ContainerView {
    // Never an exit code 0 that no process returned.
    let never = || Exit::not_begun(record.created_at_nanos, "it was removed before it began");
    let exit = match &record.state {
        State::Exited(exit) | State::Removing(Some(exit)) => Some(exit.clone()),
        State::Removing(None) => Some(never()),
        _ => None,
    };
    ContainerView {
        id: record.id.clone(),
        sandbox: record.sandbox.clone(),
        config: Arc::clone(&record.config),
        image_id: record.image_id.clone(),
        image_ref: record.image_ref.clone(),
        volumes: record.volumes.clone(),
        state: match &record.state {
            State::Creating | State::Created | State::Starting { .. } => ContainerState::Created,
            State::Running { .. } => ContainerState::Running,
            State::Exited(_) | State::Removing(_) => ContainerState::Exited,
        },
        pid: match &record.state {
            State::Running { init, .. } => Some(init.pid),
            _ => None,
        },
        created_at_nanos: record.created_at_nanos,
        // A start in flight has a time of its own, which is not the process's.
        started_at_nanos: match &record.state {
            State::Starting { .. } => 0,
            state => state.started_at_nanos(),
        },
        finished_at_nanos: exit.as_ref().map_or(0, |e| e.finished_at_nanos),
        exit_code: exit.as_ref().map_or(0, |e| e.code),
        reason: exit.as_ref().map_or_else(String::new, |e| e.reason.as_str().to_owned()),
        message: exit.map_or_else(String::new, |e| e.message),
        log_path: record.log_path.clone(),
        user: record.user.clone(),
        resources: record.resources.clone(),
        stop_signal: record.stop_signal.clone(),
        left_out: [node.cgroups.left_out(&record.resources), record.left_out.clone()].concat(),
        bundle: node.layout.container(&record.id),
    }
}
