//! The board itself: who publishes writes to memory, and a task of its own writes behind.

use super::event::{Event, EventKind, Events};
use super::files::{self, BoardError, Record};
use super::starts::Starts;
use crate::histogram::Histogram;
use crate::kubelet::api::CONFIG_SOURCE;
use crate::kubelet::source::{FileStatus, Source, SourcePod};
use crate::kubelet::spec::{full_name, uid};
use crate::lock::lock;
use crate::{blocking, kubelet::spec};
use k8s_openapi::api::core::v1::{Node, Pod, PodStatus};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, broadcast};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// After how long what could not be written is tried again.
const AGAIN: Duration = Duration::from_secs(5);
/// How many changes a slow listener may lag before it is told that it missed some.
const BACKLOG: usize = 1024;

/// A pod as everybody may see it.
#[derive(Clone, Debug)]
pub struct PodView {
    /// The pod with its status.
    pub pod: Arc<Pod>,
    /// Where it comes from: a file, a URL, or nothing for the control socket.
    pub origin: String,
    /// What happened to it.
    pub events: Events,
}

/// What changed.
#[derive(Clone, Debug)]
pub enum Change {
    /// A pod is new or its status is another.
    Pod(Arc<Pod>),
    /// A pod is gone.
    Gone(Arc<Pod>),
    /// Something happened.
    Event(Event),
}

/// Statuses and events. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Board(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    folder: PathBuf,
    state: Mutex<State>,
    changed: Notify,
    changes: broadcast::Sender<Change>,
}

#[derive(Debug, Default)]
struct State {
    pods: BTreeMap<String, PodView>,
    /// Of all pods, also of those that are gone, and of the node.
    events: Events,
    /// What became of each manifest, by its source and origin.
    manifests: BTreeMap<(Source, String), FileStatus>,
    starts: Starts,
    /// The node, once it was looked at.
    node: Option<Arc<Node>>,
    /// What happened to it.
    node_events: Events,
    /// Whether the file of those is not as it should be.
    node_dirty: bool,
    /// The pods whose files are not as they should be.
    dirty: BTreeSet<String>,
}

impl Board {
    /// The board with what was known at the end of the last run. Blocking.
    ///
    /// # Errors
    /// The folder cannot be made or read.
    pub fn open(folder: PathBuf) -> Result<Self, BoardError> {
        let mut state = State::default();
        let records = files::read(&folder)?;
        state.node_events = files::read_node(&folder);
        for (uid, Record { pod, origin, events }) in records {
            state.pods.insert(uid, PodView { pod: Arc::new(pod), origin, events });
        }
        let changes = broadcast::channel(BACKLOG).0;
        let state = Mutex::new(state);
        Ok(Self(Arc::new(Inner { folder, state, changed: Notify::new(), changes })))
    }

    /// The status that was last published of a pod; an empty one if there is none.
    pub fn status(&self, uid: &str) -> PodStatus {
        let state = lock(&self.0.state);
        state.pods.get(uid).and_then(|view| view.pod.status.clone()).unwrap_or_default()
    }

    /// The pods of a source's origins as they were wanted last, without those that were ending because nobody did.
    pub fn last_of(&self, source: Source, is_its: impl Fn(&str) -> bool) -> Vec<SourcePod> {
        let said = |pod: &Pod| {
            let all = pod.metadata.annotations.as_ref();
            let name = all.and_then(|all| all.get(CONFIG_SOURCE));
            name.is_some_and(|name| name == source.name())
                && pod.metadata.deletion_timestamp.is_none()
        };
        let all = self.pods().into_values();
        let its = all.filter(|view| said(&view.pod) && is_its(&view.origin));
        let pod = |view: PodView| Arc::new(Pod { status: None, ..(*view.pod).clone() });
        its.map(|view| SourcePod { origin: view.origin.clone(), pod: pod(view) }).collect()
    }

    /// Shows a pod with its status.
    pub fn publish(&self, pod: &Pod, origin: &str, status: PodStatus) {
        let id = uid(pod).to_owned();
        let mut shown = pod.clone();
        shown.status = Some(status);
        let mut state = lock(&self.0.state);
        let known = state.pods.get(&id);
        if known.is_some_and(|known| *known.pod == shown) {
            return;
        }
        let is_new = known.is_none();
        let shown = Arc::new(shown);
        let events = known.map(|known| known.events.clone()).unwrap_or_default();
        let view = PodView { pod: Arc::clone(&shown), origin: origin.to_owned(), events };
        let phase = shown.status.as_ref().and_then(|status| status.phase.as_deref());
        state.starts.saw(&id, is_new, phase, Instant::now());
        state.pods.insert(id.clone(), view);
        state.dirty.insert(id);
        drop(state);
        self.told(Change::Pod(shown));
    }

    /// Notes what happened to a pod or one of its containers.
    pub fn event(&self, pod: &Pod, container: Option<&str>, what: (EventKind, &str, String)) {
        let container_name = container.map(str::to_owned);
        let event = Event { pod: full_name(pod), container: container_name, ..Event::now(what) };
        if event.kind == EventKind::Warning {
            warn!(
                pod = spec::name(pod), namespace = spec::namespace(pod), pod_uid = uid(pod),
                container, reason = event.reason, message = %event.message, "pod event"
            );
        }
        let mut state = lock(&self.0.state);
        state.events.add(&event);
        if let Some(view) = state.pods.get_mut(uid(pod)) {
            view.events.add(&event);
            state.dirty.insert(uid(pod).to_owned());
        }
        drop(state);
        self.told(Change::Event(event));
    }

    /// Notes what happened to the node.
    pub fn node_event(&self, node: &str, what: (EventKind, &str, String)) {
        let event = Event { node: Some(node.to_owned()), ..Event::now(what) };
        let Event { kind, reason, message, .. } = &event;
        match kind {
            EventKind::Warning => warn!(node, reason, message, "node event"),
            EventKind::Normal => info!(node, reason, message, "node event"),
        }
        let mut state = lock(&self.0.state);
        state.events.add(&event);
        state.node_events.add(&event);
        state.node_dirty = true;
        drop(state);
        self.told(Change::Event(event));
    }

    /// The newest events of the node.
    pub fn node_events(&self) -> Events {
        lock(&self.0.state).node_events.clone()
    }

    /// Forgets a pod.
    pub fn remove(&self, uid: &str) {
        let mut state = lock(&self.0.state);
        let gone = state.pods.remove(uid);
        state.starts.forget(uid);
        state.dirty.insert(uid.to_owned());
        drop(state);
        if let Some(view) = gone {
            self.told(Change::Gone(view.pod));
        }
    }

    /// All pods, by uid.
    pub fn pods(&self) -> BTreeMap<String, PodView> {
        lock(&self.0.state).pods.clone()
    }

    /// The newest events of all pods and of the node.
    pub fn events(&self) -> Events {
        lock(&self.0.state).events.clone()
    }

    /// How long pods took from when they were first seen until they ran, since the daemon began.
    pub fn starts(&self) -> Histogram {
        lock(&self.0.state).starts.times()
    }

    /// What became of the manifests of a source.
    pub fn set_manifests(&self, source: Source, files: BTreeMap<String, FileStatus>) {
        let mut state = lock(&self.0.state);
        state.manifests.retain(|(of, _), _| *of != source);
        let files = files.into_iter().map(|(origin, status)| ((source, origin), status));
        state.manifests.extend(files);
    }

    /// What became of every manifest.
    pub fn manifests(&self) -> BTreeMap<(Source, String), FileStatus> {
        lock(&self.0.state).manifests.clone()
    }

    /// Shows the node.
    pub fn set_node(&self, node: Node) {
        lock(&self.0.state).node = Some(Arc::new(node));
    }

    /// The node; none before it was looked at.
    pub fn node(&self) -> Option<Arc<Node>> {
        lock(&self.0.state).node.clone()
    }

    /// What changes from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Change> {
        self.0.changes.subscribe()
    }

    fn told(&self, change: Change) {
        // Nobody listening is fine.
        self.0.changes.send(change).ok();
        self.0.changed.notify_one();
    }

    /// Keeps the files as the board is, until `stop`, and a last time then. What could not be written, for want of room
    /// as likely as not, is tried again.
    pub async fn write_behind(self, stop: CancellationToken) {
        let mut whole = true;
        loop {
            tokio::select! {
                () = self.0.changed.notified() => {}
                () = tokio::time::sleep(AGAIN), if !whole => {}
                () = stop.cancelled() => break,
            }
            whole = self.write().await;
        }
        self.write().await;
    }

    /// Whether all is written.
    async fn write(&self) -> bool {
        let board = self.clone();
        let written = blocking::run("write the statuses of pods", move || board.write_dirty());
        written.await.unwrap_or_else(|error| {
            warn!(%error, "statuses of pods were not written");
            false
        })
    }

    fn write_node(&self) -> bool {
        let mut state = lock(&self.0.state);
        if !std::mem::take(&mut state.node_dirty) {
            return true;
        }
        let events = state.node_events.clone();
        drop(state);
        if let Err(error) = files::write_node(&self.0.folder, &events) {
            warn!(error = %crate::error::chain(&error), "the node's events were not written");
            lock(&self.0.state).node_dirty = true;
            return false;
        }
        true
    }

    /// Whether all could be written; what could not is as it was before.
    fn write_dirty(&self) -> bool {
        let mut whole = self.write_node();
        let dirty = std::mem::take(&mut lock(&self.0.state).dirty);
        for uid in dirty {
            let view = lock(&self.0.state).pods.get(&uid).cloned();
            let done = match view {
                Some(PodView { pod, origin, events }) => {
                    let record = Record { pod: Arc::unwrap_or_clone(pod), origin, events };
                    files::write(&self.0.folder, &uid, &record)
                }
                None => files::remove(&self.0.folder, &uid),
            };
            if let Err(error) = done {
                warn!(pod_uid = uid, error = %crate::error::chain(&error), "a pod's status was not written");
                lock(&self.0.state).dirty.insert(uid);
                whole = false;
            }
        }
        whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str) -> Pod {
        let text = serde_json::json!({"metadata": {"name": name, "uid": name, "namespace": "n"}});
        serde_json::from_value(text).unwrap()
    }

    fn phase(phase: &str) -> PodStatus {
        PodStatus { phase: Some(phase.to_owned()), ..PodStatus::default() }
    }

    #[test]
    fn what_could_not_be_written_is_written_when_it_can_be() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, aside) = (dir.path().join("status"), dir.path().join("aside"));
        let board = Board::open(folder.clone()).unwrap();
        std::fs::rename(&folder, &aside).unwrap();
        board.publish(&pod("a"), "f.yaml", phase("Failed"));
        board.node_event("node", (EventKind::Warning, "Short", "of room".into()));
        assert!(!board.write_dirty());
        std::fs::rename(&aside, &folder).unwrap();
        // Nothing is published meanwhile: it is the same.
        board.publish(&pod("a"), "f.yaml", phase("Failed"));
        assert!(board.write_dirty());
        let again = Board::open(folder).unwrap();
        assert_eq!(again.status("a").phase.as_deref(), Some("Failed"));
    }

    #[test]
    fn what_was_published_is_there_at_the_next_start() {
        let dir = tempfile::tempdir().unwrap();
        let board = Board::open(dir.path().join("status")).unwrap();
        board.publish(&pod("a"), "f.yaml", phase("Running"));
        board.publish(&pod("b"), "", phase("Pending"));
        board.event(&pod("a"), Some("c"), (EventKind::Normal, "Started", "it runs".into()));
        board.remove("b");
        assert!(board.write_dirty());
        let again = Board::open(dir.path().join("status")).unwrap();
        assert_eq!(again.status("a").phase.as_deref(), Some("Running"));
        assert_eq!(again.pods().keys().collect::<Vec<_>>(), ["a"]);
        let view = &again.pods()["a"];
        assert_eq!((view.origin.as_str(), view.events.iter().count()), ("f.yaml", 1));
    }

    #[test]
    fn the_nodes_events_are_counted_and_outlive_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let board = Board::open(dir.path().join("status")).unwrap();
        for reason in ["Starting", "NodeReady", "Starting"] {
            board.node_event("n", (EventKind::Normal, reason, "m".into()));
        }
        board.event(&pod("a"), None, (EventKind::Normal, "Started", "it runs".into()));
        assert_eq!(board.events().iter().count(), 3, "those of pods are there, too");
        board.write_dirty();
        let again = Board::open(dir.path().join("status")).unwrap();
        let rows: Vec<_> =
            again.node_events().iter().map(|e| (e.reason.clone(), e.count)).collect();
        assert_eq!(rows, [("NodeReady".to_owned(), 1), ("Starting".to_owned(), 2)]);
    }

    #[tokio::test]
    async fn a_status_that_did_not_change_is_no_news() {
        let dir = tempfile::tempdir().unwrap();
        let board = Board::open(dir.path().into()).unwrap();
        let mut news = board.subscribe();
        board.publish(&pod("a"), "", phase("Pending"));
        board.publish(&pod("a"), "", phase("Pending"));
        board.publish(&pod("a"), "", phase("Running"));
        let phases = [news.recv().await.unwrap(), news.recv().await.unwrap()].map(|c| match c {
            Change::Pod(pod) => pod.status.clone().unwrap().phase.unwrap(),
            other => panic!("{other:?}"),
        });
        assert_eq!(phases, ["Pending", "Running"]);
        assert!(news.try_recv().is_err());
    }

    #[test]
    fn a_file_that_cannot_be_read_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("x.json"), "{").unwrap();
        let board = Board::open(dir.path().into()).unwrap();
        assert!(board.pods().is_empty());
    }
}
