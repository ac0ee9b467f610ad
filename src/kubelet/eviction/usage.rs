//! What pods use, by what the runtime and the file system tell.
//!
//! Several pods are measured at once, each for no longer than a deadline, and those whose files hang keep no more than a
//! few threads: what cannot be measured delays nothing else for long.

use super::machine::{Measure, Resource};
use super::rank::Candidate;
use crate::blocking::Overdue;
use crate::cri::proto;
use crate::failpoint;
use crate::image::TreeUse;
use crate::kubelet::board::PodView;
use crate::kubelet::http::figures::logs;
use crate::kubelet::spec::{full_name, name, namespace, spec, uid};
use crate::kubelet::status::{container_id, containers, has_ended};
use crate::kubelet::volumes::MOST_COUNTED;
use crate::kubelet::wants::asked;
use crate::kubelet::worker::Host;
use crate::lock::lock;
use futures::StreamExt as _;
use futures::stream;
use k8s_openapi::api::core::v1::Pod;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::warn;

/// How long one pod is measured.
const WITHIN: Duration = Duration::from_secs(10);
/// How long all of them are, before one has to go.
const ALL_WITHIN: Duration = Duration::from_secs(30);
/// How many are measured at once.
pub(super) const AT_ONCE: usize = 8;

/// Bytes and inodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Space {
    pub(super) bytes: u64,
    pub(super) inodes: u64,
}

impl Space {
    fn plus(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_add(other.bytes),
            inodes: self.inodes.saturating_add(other.inodes),
        }
    }

    fn sum<'a>(all: impl IntoIterator<Item = &'a Self>) -> Self {
        all.into_iter().fold(Self::default(), |sum, one| sum.plus(*one))
    }
}

/// What a pod uses of the node's disks, by container and volume.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct LocalUse {
    /// The writable layers of containers that run.
    pub(super) layers: BTreeMap<String, Space>,
    /// Logs, rotated ones and those of earlier instances counted.
    pub(super) logs: BTreeMap<String, Space>,
    /// emptyDir volumes on disk.
    pub(super) volumes: BTreeMap<String, Space>,
    /// What of it is not known, or not all of it, a sentence each.
    pub(super) unknown: Vec<String>,
}

impl LocalUse {
    /// What of it is on the file system of images, and what on that of pods.
    fn on(&self, of_images: bool, apart: bool) -> Space {
        let layers = Space::sum(self.layers.values());
        let rest = Space::sum(self.logs.values()).plus(Space::sum(self.volumes.values()));
        match (apart, of_images) {
            (true, true) => layers,
            (true, false) => rest,
            (false, _) => layers.plus(rest),
        }
    }
}

/// Whether a pod is neither ended nor being ended.
pub(super) fn is_active(pod: &Pod) -> bool {
    !pod.status.as_ref().is_some_and(has_ended) && pod.metadata.deletion_timestamp.is_none()
}

/// The pods of a moment, by uid.
#[derive(Debug, Default)]
pub(super) struct Pods {
    /// Those that are to run.
    pub(super) active: BTreeMap<String, Arc<Pod>>,
    /// Those that have ended, or are being ended.
    pub(super) ended: BTreeMap<String, Arc<Pod>>,
}

impl Pods {
    pub(super) fn of(all: BTreeMap<String, PodView>) -> Self {
        let all = all.into_iter().map(|(uid, view)| (uid, view.pod));
        let (active, ended) = all.partition(|(_, pod)| is_active(pod));
        Self { active, ended }
    }

    pub(super) fn get(&self, uid: &str) -> Option<&Arc<Pod>> {
        self.active.get(uid).or_else(|| self.ended.get(uid))
    }
}

/// What measures pods. Cheap to clone.
#[derive(Clone)]
pub(super) struct Meter {
    host: Arc<Host>,
    /// What hangs of each pod's files.
    hanging: Arc<Mutex<BTreeMap<String, Overdue>>>,
}

impl Meter {
    pub(super) fn new(host: Arc<Host>) -> Self {
        Self { host, hanging: Arc::default() }
    }

    /// Forgets the pods of which there is nothing any more.
    pub(super) fn forget(&self, is_there: impl Fn(&str) -> bool) {
        lock(&self.hanging).retain(|uid, _| is_there(uid));
    }

    fn hanging(&self, uid: &str) -> Overdue {
        lock(&self.hanging).entry(uid.to_owned()).or_default().clone()
    }

    /// What the pods that may have to go use of a measure. `apart`: images are on a file system of their own. Those
    /// that could not be measured, or not in time, are left out, and for memory and process ids those without a sandbox:
    /// their end frees nothing.
    ///
    /// # Errors
    /// The runtime tells of no pod, or none could be measured.
    pub(super) async fn candidates(
        self,
        pods: Vec<Arc<Pod>>,
        of: (Measure, bool),
    ) -> Result<Vec<Candidate>, String> {
        let until = Instant::now() + ALL_WITHIN;
        let stats = stats(&self.host).await?;
        let all = pods.len();
        let measured = pods.into_iter().map(|pod| self.candidate(pod, &stats, of));
        let mut measured = stream::iter(measured).buffer_unordered(AT_ONCE);
        let (mut found, mut looked_at) = (Vec::new(), 0);
        while let Ok(Some(one)) = timeout_at(until, measured.next()).await {
            if let Ok(one) = one {
                found.extend(one);
                looked_at += 1;
            }
        }
        let missing = all - looked_at;
        if missing > 0 {
            warn!(missing, measured = looked_at, "pods were not measured, or not in time");
        }
        match looked_at == 0 && missing > 0 {
            true => Err(format!("no pod was measured within {} s", ALL_WITHIN.as_secs())),
            false => Ok(found),
        }
    }

    /// A pod with what it uses; none if its end would free nothing.
    async fn candidate(
        &self,
        pod: Arc<Pod>,
        told: &Told,
        (measure, apart): (Measure, bool),
    ) -> Result<Option<Candidate>, Unmeasured> {
        let stats = told.of(uid(&pod))?;
        let asked = asked(&pod);
        let (request, used) = match (measure.resource(), stats) {
            (Resource::Memory | Resource::Pids, None) => return Ok(None),
            (Resource::Memory, Some(stats)) => (asked.memory_bytes, working_set(stats)),
            (Resource::Pids, Some(stats)) => (0, processes(stats)),
            (Resource::Bytes | Resource::Inodes, stats) => {
                let files = self.files(Arc::clone(&pod)).await.map_err(|_| Unmeasured)?;
                // Without a sandbox it has files all the same.
                let layers = stats.map(layers).unwrap_or_default();
                let space = LocalUse { layers, ..files }.on(measure.of_images(), apart);
                match measure.resource() {
                    Resource::Bytes => (asked.ephemeral_storage_bytes, Some(space.bytes)),
                    _ => (0, Some(space.inodes)),
                }
            }
        };
        Ok(Some(Candidate {
            uid: uid(&pod).to_owned(),
            pod: full_name(&pod),
            priority: spec(&pod).priority.unwrap_or(0),
            request,
            used,
            critical: super::is_critical(&pod),
        }))
    }

    /// What a pod uses of the node's disks, as far as it is told in time.
    pub(super) async fn local(&self, pod: Arc<Pod>) -> LocalUse {
        let ((layers, mut unknown), files) =
            tokio::join!(self.layers(&pod), self.files(Arc::clone(&pod)));
        let files = files.unwrap_or_else(|error| {
            unknown.push(format!("what its files take is not known: {error}"));
            LocalUse::default()
        });
        unknown.extend(files.unknown);
        LocalUse { layers, unknown, ..files }
    }

    /// The writable layers of a pod's containers, and what is not known of them.
    async fn layers(&self, pod: &Pod) -> (BTreeMap<String, Space>, Vec<String>) {
        let told = running(pod).into_iter().map(|id| async move {
            let request = proto::ContainerStatsRequest { container_id: id.clone() };
            let unknown = |why: &str| format!("what container {id} wrote is not known: {why}");
            match timeout(WITHIN, self.host.cri.container_stats(request)).await {
                Ok(Ok(answer)) => Ok(answer.stats.as_ref().and_then(layer)),
                Ok(Err(error)) if error.is_not_found() => Ok(None),
                Ok(Err(error)) => Err(unknown(&error.to_string())),
                Err(_) => Err(unknown("the runtime does not answer")),
            }
        });
        let (mut layers, mut unknown) = (BTreeMap::new(), Vec::new());
        for told in futures::future::join_all(told).await {
            match told {
                Ok(layer) => layers.extend(layer),
                Err(why) => unknown.push(why),
            }
        }
        (layers, unknown)
    }

    /// What is read from the file system: logs and volumes; why not.
    async fn files(&self, of: Arc<Pod>) -> Result<LocalUse, String> {
        let (host, pod_uid) = (Arc::clone(&self.host), uid(&of).to_owned());
        let hanging = self.hanging(&pod_uid);
        let read = hanging.run_within("measure a pod's files", WITHIN, move |wanted| {
            failpoint::hold("measure a pod's files");
            let folder = host.log_dir(namespace(&of), name(&of), uid(&of));
            let logs = logs(&folder).into_iter();
            let logs = logs.map(|(name, (bytes, inodes))| (name, Space { bytes, inodes }));
            let wants = || wanted.still().is_ok();
            let (mut volumes, mut unknown) = (BTreeMap::new(), Vec::new());
            for (name, told) in host.volumes.empty_dirs(&of, wants) {
                match told {
                    Ok(TreeUse { bytes, inodes, whole }) => {
                        if !whole {
                            unknown.push(in_part(&name));
                        }
                        volumes.insert(name, Space { bytes, inodes });
                    }
                    Err(error) => unknown.push(format!("volume {name:?} is not counted: {error}")),
                }
            }
            LocalUse { logs: logs.collect(), volumes, unknown, ..LocalUse::default() }
        });
        read.await.map_err(|error| {
            warn!(pod_uid, %error, "what a pod's files take is not known");
            error.to_string()
        })
    }
}

fn in_part(volume: &str) -> String {
    format!(
        "volume {volume:?} is not counted in full: it has more than {MOST_COUNTED} files, is too deep, or has \
         folders that cannot be read"
    )
}

/// What the runtime tells of the pods that run.
#[derive(Debug, Default)]
struct Told {
    /// By uid.
    stats: BTreeMap<String, proto::LinuxPodSandboxStats>,
    /// The uids of those of which it could not tell.
    failed: BTreeSet<String>,
}

impl Told {
    /// What it tells of a pod: none of one without a sandbox that runs.
    fn of(&self, uid: &str) -> Result<Option<&proto::LinuxPodSandboxStats>, Unmeasured> {
        match self.failed.contains(uid) {
            true => Err(Unmeasured),
            false => Ok(self.stats.get(uid)),
        }
    }
}

/// A pod whose figures could not be had.
#[derive(Debug, PartialEq, Eq)]
struct Unmeasured;

/// What the runtime tells of every pod that runs. A runtime may tell of sandboxes that have ended, too, without figures:
/// they are none.
async fn stats(host: &Arc<Host>) -> Result<Told, String> {
    const SILENT: &str = "the runtime does not answer";
    let ready = timeout(WITHIN, ready_sandboxes(host)).await.map_err(|_| SILENT)??;
    let request = proto::ListPodSandboxStatsRequest::default();
    let told = timeout(WITHIN, host.cri.list_pod_sandbox_stats(request)).await;
    match told.map_err(|_| SILENT)? {
        Ok(answer) => {
            let ids: BTreeSet<&str> = ready.iter().map(|sandbox| sandbox.id.as_str()).collect();
            let told = answer.stats.into_iter().filter(|stats| {
                stats.attributes.as_ref().is_some_and(|of| ids.contains(of.id.as_str()))
            });
            Ok(Told { stats: told.filter_map(of_pod).collect(), ..Told::default() })
        }
        // containerd before 2.0 tells of none when there is one that has ended.
        Err(error) => {
            timeout(WITHIN, each_of(host, ready)).await.unwrap_or_else(|_| Err(error.to_string()))
        }
    }
}

async fn ready_sandboxes(host: &Arc<Host>) -> Result<Vec<proto::PodSandbox>, String> {
    let all = host.cri.list_pod_sandbox(proto::ListPodSandboxRequest::default()).await;
    let all = all.map_err(|error| error.to_string())?.items.into_iter();
    Ok(all.filter(|sandbox| sandbox.state() == proto::PodSandboxState::SandboxReady).collect())
}

/// What the runtime tells of sandboxes, asked one by one. Of one that ends meanwhile nothing is told.
async fn each_of(host: &Arc<Host>, ready: Vec<proto::PodSandbox>) -> Result<Told, String> {
    let told = ready.into_iter().map(|sandbox| async {
        let request = proto::PodSandboxStatsRequest { pod_sandbox_id: sandbox.id };
        (sandbox.metadata, host.cri.pod_sandbox_stats(request).await)
    });
    let (mut found, mut last) = (Told::default(), None);
    let mut told = stream::iter(told).buffer_unordered(AT_ONCE);
    while let Some((metadata, told)) = told.next().await {
        match told {
            Ok(answer) => found.stats.extend(answer.stats.and_then(of_pod)),
            Err(error) if error.is_not_found() => {}
            Err(error) => {
                let uid = metadata.map(|metadata| metadata.uid).unwrap_or_default();
                warn!(pod_uid = uid, %error, "the runtime does not tell what a pod uses");
                found.failed.insert(uid);
                last = Some(error.to_string());
            }
        }
    }
    match last {
        Some(error) if found.stats.is_empty() => Err(error),
        _ => Ok(found),
    }
}

fn of_pod(stats: proto::PodSandboxStats) -> Option<(String, proto::LinuxPodSandboxStats)> {
    Some((stats.attributes?.metadata?.uid, stats.linux?))
}

fn working_set(stats: &proto::LinuxPodSandboxStats) -> Option<u64> {
    Some(stats.memory.as_ref()?.working_set_bytes?.value)
}

fn processes(stats: &proto::LinuxPodSandboxStats) -> Option<u64> {
    Some(stats.process.as_ref()?.process_count?.value)
}

fn layers(stats: &proto::LinuxPodSandboxStats) -> BTreeMap<String, Space> {
    stats.containers.iter().filter_map(layer).collect()
}

/// The writable layer of a container.
fn layer(stats: &proto::ContainerStats) -> Option<(String, Space)> {
    let name = stats.attributes.as_ref()?.metadata.as_ref()?.name.clone();
    let used = stats.writable_layer.as_ref()?;
    let value = |of: Option<proto::UInt64Value>| of.map_or(0, |of| of.value);
    Some((name, Space { bytes: value(used.used_bytes), inodes: value(used.inodes_used) }))
}

/// The ids of a pod's containers that run, by the status that was last published.
pub(super) fn running(pod: &Pod) -> Vec<String> {
    let statuses = pod.status.iter().flat_map(containers);
    let running = statuses.filter(|s| s.state.as_ref().is_some_and(|s| s.running.is_some()));
    running.filter_map(|status| container_id(status).map(str::to_owned)).collect()
}

#[cfg(test)]
#[path = "usage_tests.rs"]
mod tests;
