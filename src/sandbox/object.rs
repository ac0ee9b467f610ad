//! A sandbox in memory: its record, its shim, and the order of its verbs.

use super::config::{PodNamespace, SandboxConfig};
use super::resources::pod_limits;
use super::state::{self, Event, Phase, Refused};
use crate::blocking::Overdue;
use crate::bus::EventKind;
use crate::cgroups::CgroupPath;
use crate::engine::view::SandboxView;
use crate::error::chain;
use crate::ids::SandboxId;
use crate::lock::lock;
use crate::node::Node;
use crate::selinux::Labels;
use crate::shim::client::Shim;
use crate::store::{self, StoreError};
use crate::sys::process::InitPid;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::{oneshot, watch};

/// What a sandbox was made by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// RunPodSandbox.
    #[default]
    Run,
    /// A RestorePod that is at work: a sandbox that is half-made, also when it is READY.
    Restoring,
    /// A RestorePod that is done.
    Restored,
}

/// What is known of a sandbox, as it is written to disk.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SandboxRecord {
    /// Its id.
    pub id: SandboxId,
    /// The request.
    pub config: Arc<SandboxConfig>,
    /// The runtime handler; empty: the native executor.
    pub handler: String,
    /// The handler's program, as it was configured when the sandbox was made; none: the native executor.
    #[serde(default)]
    pub runtime: Option<PathBuf>,
    /// A hash of the whole request, to tell a repeat from a clash.
    pub request_hash: String,
    /// What it was made by.
    #[serde(default)]
    pub origin: Origin,
    /// When it was asked for, Unix nanoseconds.
    pub created_at_nanos: i64,
    /// Where it is in its life.
    pub phase: Phase,
    /// Its cgroup.
    pub cgroup: CgroupPath,
    /// Its shim, once it runs.
    pub shim: Option<InitPid>,
    /// Its pause, once it runs.
    pub pause: Option<InitPid>,
    /// Its addresses.
    pub ips: Vec<IpAddr>,
    /// Whether its network namespace is pinned below `run/netns`.
    pub pinned: bool,
    /// Its SELinux labels; none: it was made where labels are off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Labels>,
    /// What the best-effort switch for privileges passed over for its shim and pause, in words.
    #[serde(default)]
    pub left_out: Vec<String>,
}

/// A sandbox.
pub struct Sandbox {
    /// Its id.
    pub id: SandboxId,
    /// Orders the verbs that change it; held for the whole of RunPodSandbox, CreateContainer,
    /// StopPodSandbox and RemovePodSandbox. Never held while waiting for another sandbox's.
    pub lane: tokio::sync::Mutex<()>,
    record: Mutex<SandboxRecord>,
    link: watch::Sender<Link>,
    /// Not brought to a state yet that verbs can go on from.
    recovering: AtomicBool,
    /// Work on host paths for it that hangs.
    pub overdue: Overdue,
    execs: Mutex<HashMap<String, oneshot::Sender<i32>>>,
    events: Mutex<EventsAtWork>,
}

/// The connection to a sandbox's shim.
#[derive(Clone, Default)]
enum Link {
    /// None yet, and the shim may run.
    #[default]
    Unknown,
    Up(Shim),
    /// None, and there will be none: nobody tells how containers end.
    Gone,
}

/// Events of the shim that are being handled. They are acknowledged in order, handled side by side.
#[derive(Debug, Default)]
struct EventsAtWork {
    open: BTreeSet<u64>,
    newest_done: u64,
}

impl Sandbox {
    /// A sandbox from its record, without a connection to its shim.
    pub fn new(record: SandboxRecord) -> Self {
        Self {
            id: record.id.clone(),
            lane: tokio::sync::Mutex::new(()),
            overdue: Overdue::of_pod(&record.config.metadata.uid),
            record: Mutex::new(record),
            link: watch::channel(Link::default()).0,
            recovering: AtomicBool::new(false),
            execs: Mutex::new(HashMap::new()),
            events: Mutex::default(),
        }
    }

    /// A copy of the record.
    pub fn record(&self) -> SandboxRecord {
        lock(&self.record).clone()
    }

    /// The phase.
    pub fn phase(&self) -> Phase {
        lock(&self.record).phase.clone()
    }

    /// Whether containers may be made and started.
    pub fn is_ready(&self) -> bool {
        lock(&self.record).phase == Phase::Ready
    }

    /// The request.
    pub fn config(&self) -> Arc<SandboxConfig> {
        Arc::clone(&lock(&self.record).config)
    }

    /// Changes the record, on disk first. The copy that outlives the boot follows once the sandbox
    /// has been ready.
    ///
    /// # Errors
    /// [`StoreError`]: nothing changed.
    pub fn change(
        &self,
        node: &Node,
        change: impl FnOnce(&mut SandboxRecord),
    ) -> Result<(), StoreError> {
        self.replace(node, |record| {
            change(record);
            Ok(&[])
        })
        .map(drop)
    }

    /// Moves it to the next phase, on disk first. `Ok(Err(_))`: the event does not move it.
    ///
    /// # Errors
    /// [`StoreError`]: nothing changed.
    pub fn step(&self, node: &Node, event: Event) -> Result<Result<(), Refused>, StoreError> {
        self.replace(node, |record| {
            let was_ready = record.phase == Phase::Ready;
            record.phase = state::next(&record.phase, event)?;
            // A stop in progress is not told, its end is: by then the containers' ends are, too.
            Ok(match &record.phase {
                Phase::Ready => &[EventKind::Created, EventKind::Started],
                Phase::Stopped => &[EventKind::Stopped],
                Phase::NotReady(_) if was_ready => &[EventKind::Stopped],
                _ => &[],
            })
        })
    }

    /// Tells everyone who listens what happened to it.
    pub fn tell(&self, node: &Node, kind: EventKind) {
        tell_of(node, &lock(&self.record), &[kind]);
    }

    /// Keeps a sandbox that could not be undone, NotReady with the reason, so that it is listed and
    /// its removal can try again. When the disk refuses this, too, it is so in memory alone: there
    /// it stays `Creating`, which the next start of the daemon undoes.
    pub fn keep_failed(&self, node: &Node, why: String) {
        tracing::error!(sandbox_id = %self.id, why, "failed sandbox kept");
        let event = Event::Failed(why);
        if let Err(error) = self.step(node, event.clone()) {
            tracing::error!(sandbox_id = %self.id, error = chain(&error), "failure not recorded");
            let mut record = lock(&self.record);
            if let Ok(phase) = state::next(&record.phase, event) {
                record.phase = phase;
            }
        }
    }

    /// Reads, decides, writes and tells under one lock: two changes never start from the same record,
    /// and whoever sees a change comes after its event.
    fn replace(
        &self,
        node: &Node,
        change: impl FnOnce(&mut SandboxRecord) -> Result<&'static [EventKind], Refused>,
    ) -> Result<Result<(), Refused>, StoreError> {
        let mut record = lock(&self.record);
        let mut next = record.clone();
        let kinds = match change(&mut next) {
            Ok(kinds) => kinds,
            Err(refused) => return Ok(Err(refused)),
        };
        store::save(&node.layout.sandbox_record(&self.id), &next)?;
        if next.phase != Phase::Creating {
            node.durable.save(node.layout.durable_sandbox(&self.id), &next)?;
        }
        *record = next;
        tell_of(node, &record, kinds);
        Ok(Ok(()))
    }

    /// The connection to its shim, while there is one.
    pub fn shim(&self) -> Option<Shim> {
        match &*self.link.borrow() {
            Link::Up(shim) => Some(shim.clone()),
            Link::Unknown | Link::Gone => None,
        }
    }

    /// Waits until there is no shim. One that runs, and whose connection broke, is not gone.
    pub async fn shim_gone(&self) {
        // The sender is in self, so the wait ends only by what it waits for.
        self.link.subscribe().wait_for(|link| matches!(link, Link::Gone)).await.ok();
    }

    /// Sets the connection; `None`: the shim is gone.
    pub fn set_shim(&self, shim: Option<Shim>) {
        self.link.send_replace(shim.map_or(Link::Gone, Link::Up));
    }

    /// Whether what an earlier daemon left of it is still being looked at.
    pub fn recovering(&self) -> bool {
        self.recovering.load(Ordering::Acquire)
    }

    /// Says so.
    pub fn set_recovering(&self, recovering: bool) {
        self.recovering.store(recovering, Ordering::Release);
    }

    /// An event arrived and will be handled.
    pub fn event_begun(&self, seq: u64) {
        lock(&self.events).open.insert(seq);
    }

    /// An event's effect is on disk. Answers up to which one all are: what can be acknowledged.
    pub fn event_done(&self, seq: u64) -> u64 {
        let mut events = lock(&self.events);
        events.open.remove(&seq);
        events.newest_done = events.newest_done.max(seq);
        events.open.first().map_or(events.newest_done, |first| first.saturating_sub(1))
    }

    /// Waits for the exit code of an exec that is about to be started.
    pub fn expect_exec(&self, exec_id: &str) -> oneshot::Receiver<i32> {
        let (tell, wait) = oneshot::channel();
        lock(&self.execs).insert(exec_id.to_owned(), tell);
        wait
    }

    /// Tells the exit code of an exec to whoever waits for it.
    pub fn exec_ended(&self, exec_id: &str, code: i32) {
        if let Some(tell) = lock(&self.execs).remove(exec_id) {
            // A caller that went away does not want it any more.
            tell.send(code).ok();
        }
    }

    /// Drops everyone who waits for an exec: the shim is gone.
    pub fn forget_execs(&self) {
        lock(&self.execs).clear();
    }

    /// What the engine tells of it.
    pub fn view(&self, node: &Node) -> SandboxView {
        view_of(node, &lock(&self.record))
    }
}

fn tell_of(node: &Node, record: &SandboxRecord, kinds: &[EventKind]) {
    if !kinds.is_empty() && node.bus.is_heard() {
        let view = Arc::new(view_of(node, record));
        for kind in kinds {
            node.bus.tell(*kind, Arc::clone(&view), None);
        }
    }
}

fn view_of(node: &Node, record: &SandboxRecord) -> SandboxView {
    let ready = record.phase == Phase::Ready;
    SandboxView {
        id: record.id.clone(),
        config: Arc::clone(&record.config),
        handler: record.handler.clone(),
        ready,
        created_at_nanos: record.created_at_nanos,
        ips: record.ips.clone(),
        netns: record.pinned.then(|| node.layout.netns(&record.id)).or_else(|| {
            let own = record.config.namespaces.network == PodNamespace::Pod;
            let pause = record.pause.as_ref().filter(|_| ready && own)?;
            Some(format!("/proc/{}/ns/net", pause.pid).into())
        }),
        pause_pid: record.pause.as_ref().filter(|_| ready).map(|p| p.pid),
        shim_pid: record.shim.as_ref().filter(|_| ready).map(|p| p.pid),
        cgroup: record.cgroup.to_string(),
        message: match &record.phase {
            Phase::NotReady(why) => why.clone(),
            _ => String::new(),
        },
        left_out: {
            let config = &record.config;
            let asked = pod_limits(config.resources.as_ref(), config.overhead.as_ref());
            [node.cgroups.left_out(&asked), record.left_out.clone()].concat()
        },
    }
}
