//! The kubelet half at work: what sources say becomes workers, what the runtime tells wakes them.

use super::admission::{Admitted, admit};
use super::eviction::{self, under_pressure};
use super::http::pulse::BEAT;
use super::objects::Objects;
use super::observed::POD_UID_LABEL;
use super::pleg::{self, Stir};
use super::pods::{Action, Pods};
use super::shutdown::{NOT_TAKEN, Order, TERMINATED, end_in_groups, ended_for_it};
use super::source::{Source, SourcePod, Update};
use super::spec::{full_name, uid};
use super::status::{Verdict, has_ended};
use super::worker::{Command, Ending, Handle, Host, orphan_pod, spawn};
use crate::blocking;
use crate::clock::ticks;
use crate::cri::proto;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// How often what nobody wants is looked for.
const HOUSEKEEPING: Duration = Duration::from_secs(2);
/// The annotation by which a pod of this kubelet, or of any other, is known: one without is somebody else's.
const SOURCE_ANNOTATION: &str = "kubernetes.io/config.source";

/// The pods of the node.
pub struct Kubelet {
    host: Arc<Host>,
    pods: Pods,
    workers: BTreeMap<String, (Handle, Arc<Pod>)>,
    objects: watch::Sender<Arc<Objects>>,
    by_source: BTreeMap<Source, Objects>,
    /// Pods that were let in before the shutdown that ended them: nothing keeps them out now.
    resumed: BTreeSet<String>,
    /// Orders for pods that no source has named yet in this run.
    early: BTreeMap<String, Ending>,
    ended: (mpsc::UnboundedSender<String>, mpsc::UnboundedReceiver<String>),
    /// The end of pods for a shutdown, while it is under way.
    ending: Option<CancellationToken>,
    stop: CancellationToken,
}

impl Kubelet {
    /// The pods of `sources`; `objects` is the other end of the host's.
    pub fn new(
        host: Arc<Host>,
        sources: impl IntoIterator<Item = Source>,
        objects: watch::Sender<Arc<Objects>>,
        stop: CancellationToken,
    ) -> Self {
        Self {
            host,
            pods: Pods::new(sources),
            workers: BTreeMap::new(),
            objects,
            by_source: BTreeMap::new(),
            resumed: BTreeSet::new(),
            early: BTreeMap::new(),
            ended: mpsc::unbounded_channel(),
            ending: None,
            stop,
        }
    }

    /// With pods that the last run had ordered to end, by uid: it goes on.
    pub fn with_endings(self, early: BTreeMap<String, Ending>) -> Self {
        Self { early, ..self }
    }

    /// Runs until `stop`. Pods are left as they are then. `evictions` and `shutdowns` are orders of those who end pods
    /// that sources want.
    pub async fn run(
        mut self,
        mut updates: mpsc::Receiver<Update>,
        mut evictions: mpsc::Receiver<eviction::Order>,
        mut shutdowns: mpsc::Receiver<Order>,
    ) {
        let (stirs, mut stirred) = mpsc::unbounded_channel();
        let watcher = pleg::watch(Arc::clone(&self.host.cri), stirs);
        tokio::pin!(watcher);
        let mut housekeeping = ticks(HOUSEKEEPING);
        let mut beat = ticks(BEAT);
        let stop = self.stop.clone();
        let mut cleaned = false;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = &mut watcher => {}
                Some(update) = updates.recv() => self.update(update),
                Some(order) = shutdowns.recv() => self.shutdown(order),
                Some(stir) = stirred.recv() => self.stir(&stir),
                Some(order) = evictions.recv() => self.evict(order),
                Some(uid) = self.ended.1.recv() => self.ended(&uid),
                _ = beat.tick() => self.host.pulse.beat(Instant::now()),
                _ = housekeeping.tick(), if !cleaned && self.pods.all_spoke() => {
                    cleaned = self.adopt_orphans().await;
                    self.early.clear();
                }
            }
        }
    }

    fn update(&mut self, update: Update) {
        for (origin, status) in &update.files {
            for problem in &status.problems {
                warn!(origin, problem, "a manifest is not taken");
            }
            for warning in &status.warnings {
                warn!(origin, warning, "a manifest says what nobody reads");
            }
        }
        self.host.board.set_manifests(update.source, update.files);
        self.by_source.insert(update.source, update.objects);
        let mut all = Objects::default();
        self.by_source.values().for_each(|objects| all.extend(objects));
        self.objects.send_if_modified(|known| {
            let other = **known != all;
            if other {
                *known = Arc::new(all);
            }
            other
        });
        info!(source = %update.source, pods = update.pods.len(), "a source has spoken");
        let actions = self.pods.set(update.source, update.pods);
        self.act(actions);
    }

    fn act(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Start(pod) => self.start(pod),
                Action::Update(pod) => {
                    if let Some((handle, known)) = self.workers.get_mut(uid(&pod)) {
                        known.clone_from(&pod);
                        handle.tell(Command::Update(pod));
                    }
                }
                Action::Terminate(uid) => {
                    self.end(&uid, Ending { deleted: true, ..Ending::default() })
                }
            }
        }
    }

    fn start(&mut self, SourcePod { pod, origin }: SourcePod) {
        // What has ended takes no room.
        let board = &self.host.board;
        let ended = |pod: &Pod| has_ended(&board.status(uid(pod)));
        let others: Vec<&Pod> =
            self.workers.values().map(|(_, pod)| &**pod).filter(|pod| !ended(pod)).collect();
        let before = board.status(uid(&pod));
        let late = *self.host.shutting_down.borrow();
        // What it had to end for is over: what is left of it is removed, and it begins anew.
        let again = !late && ended_for_it(&before);
        let was_in = self.resumed.remove(uid(&pod));
        let admitted = match before.phase {
            Some(_) => Admitted::Yes,
            None if late => Admitted::No(Verdict {
                reason: NOT_TAKEN.to_owned(),
                message: "Pod was rejected as the node is shutting down.".to_owned(),
            }),
            None => match under_pressure(&pod, *self.host.pressure.borrow()) {
                Some(verdict) if !was_in => Admitted::No(verdict),
                _ => admit(&pod, &others, &self.host.node, &self.host.settings.allowed_sysctls),
            },
        };
        let ending = match admitted {
            Admitted::Yes => {
                if let Some(cgroups) = &self.host.cgroups {
                    cgroups.count(&pod);
                }
                self.early.remove(uid(&pod))
            }
            Admitted::No(verdict) => {
                // At once: the next one finds its room free, and what happens to a pod that nobody has heard of
                // is kept by nobody.
                let failed = PodStatus {
                    phase: Some("Failed".to_owned()),
                    reason: Some(verdict.reason.clone()),
                    message: Some(verdict.message.clone()),
                    ..before
                };
                board.publish(&pod, &origin, failed);
                let reason = &*verdict.reason;
                let what = (super::board::EventKind::Warning, reason, verdict.message.clone());
                board.event(&pod, None, what);
                Some(Ending { verdict: Some(verdict), ..Ending::default() })
            }
        };
        let of = SourcePod { pod: Arc::clone(&pod), origin };
        let handle = spawn(&self.host, of, ending, self.ended.0.clone(), self.stop.clone());
        let uid = uid(&pod).to_owned();
        self.workers.insert(uid.clone(), (handle, pod));
        if again {
            self.begin_anew(&[uid]);
        }
    }

    /// Ends what is left of pods that ended for a shutdown, and starts them again.
    fn begin_anew(&mut self, uids: &[String]) {
        let mut again = Vec::new();
        for uid in uids {
            let Some(action) = self.pods.again(uid) else { continue };
            if self.host.board.status(uid).reason.as_deref() == Some(TERMINATED) {
                self.resumed.insert(uid.clone());
            }
            again.push(action);
        }
        self.act(again);
    }

    fn shutdown(&mut self, order: Order) {
        // What was begun for another shutdown is given up.
        self.ending.take().iter().for_each(CancellationToken::cancel);
        match order {
            Order::Begin(done) => {
                self.host.shutting_down.send_replace(true);
                let cut = self.stop.child_token();
                self.ending = Some(cut.clone());
                let groups = self.host.settings.shutdown.clone();
                let ending = end_in_groups(groups, self.workers.values().cloned().collect());
                self.host.tasks.spawn(async move {
                    cut.run_until_cancelled(ending).await;
                    // Nobody may wait any more.
                    done.send(()).ok();
                });
            }
            Order::Over => {
                self.host.shutting_down.send_replace(false);
                let board = &self.host.board;
                let uids = self.workers.keys();
                let ended: Vec<String> =
                    uids.filter(|uid| ended_for_it(&board.status(uid))).cloned().collect();
                self.begin_anew(&ended);
            }
        }
    }

    fn end(&self, uid: &str, ending: Ending) {
        if let Some((handle, _)) = self.workers.get(uid) {
            handle.tell(Command::End(ending));
        }
    }

    /// Ends a pod that a source wants. One of the last run that is ordered to end may not have been named again yet.
    fn evict(&mut self, (uid, ending): eviction::Order) {
        match self.workers.get(&uid) {
            Some((handle, _)) => handle.tell(Command::End(ending)),
            // Later it would be for another pod of the same manifest.
            None if self.pods.all_spoke() => {}
            None => drop(self.early.insert(uid, ending)),
        }
    }

    fn stir(&self, stir: &Stir) {
        match stir {
            Stir::Pod(uid) => {
                if let Some((handle, _)) = self.workers.get(uid) {
                    handle.tell(Command::Look);
                }
            }
            Stir::All => self.workers.values().for_each(|(handle, _)| handle.tell(Command::Look)),
        }
    }

    fn ended(&mut self, uid: &str) {
        self.workers.remove(uid);
        let actions = self.pods.ended(uid);
        self.act(actions);
    }

    /// Ends what the last run left behind and no source wants any more; whether it could be looked for.
    async fn adopt_orphans(&mut self) -> bool {
        let cri = Arc::clone(&self.host.cri);
        let sandboxes = cri.list_pod_sandbox(proto::ListPodSandboxRequest::default()).await;
        let containers = cri.list_containers(proto::ListContainersRequest::default()).await;
        let (Ok(sandboxes), Ok(containers)) = (sandboxes, containers) else { return false };
        let volumes = Arc::clone(&self.host.volumes);
        let known = blocking::run("list the folders of pods", move || volumes.known()).await;
        let known = known.map_err(|error| error.to_string());
        let folders = match known.and_then(|known| known.map_err(|error| error.to_string())) {
            Ok(folders) => folders,
            Err(error) => {
                warn!(error, "the folders of pods cannot be listed");
                return false;
            }
        };
        let mut seen = BTreeSet::new();
        for sandbox in sandboxes.items {
            let ours = sandbox.annotations.contains_key(SOURCE_ANNOTATION);
            let of = sandbox.labels.get(POD_UID_LABEL).cloned().unwrap_or_default();
            if !ours || self.pods.knows(&of) || !seen.insert(of) {
                continue;
            }
            if let Some(pod) = orphan_pod(&sandbox, &containers.containers) {
                self.adopt(pod);
            }
        }
        // A pod of which nothing but its files or its status is left.
        let mut left: Vec<Pod> =
            self.host.board.pods().into_values().map(|v| (*v.pod).clone()).collect();
        let nameless = |uid: String| {
            let mut pod = Pod::default();
            pod.metadata.uid = Some(uid);
            pod
        };
        left.extend(folders.into_iter().map(nameless));
        for pod in left {
            if !self.pods.knows(uid(&pod)) && !seen.contains(uid(&pod)) {
                self.adopt(pod);
            }
        }
        true
    }

    fn adopt(&mut self, pod: Pod) {
        info!(pod_uid = uid(&pod), pod = full_name(&pod), "no source wants the pod: it is ended");
        self.pods.adopt_orphan(uid(&pod), &full_name(&pod));
        let pod = Arc::new(pod);
        let ended = self.ended.0.clone();
        let of = SourcePod { pod: Arc::clone(&pod), origin: String::new() };
        let before = self.early.remove(uid(&pod)).unwrap_or_default();
        let ending = Some(Ending { deleted: true, ..before });
        let handle = spawn(&self.host, of, ending, ended, self.stop.clone());
        self.workers.insert(uid(&pod).to_owned(), (handle, pod));
    }
}
