//! What pods use, by what the runtime and the file system tell.

use super::machine::{Measure, Resource};
use super::rank::Candidate;
use crate::blocking;
use crate::cri::proto;
use crate::kubelet::http::figures::logs;
use crate::kubelet::spec::{full_name, name, namespace, spec, uid};
use crate::kubelet::status::{container_id, containers, has_ended};
use crate::kubelet::wants::asked;
use crate::kubelet::worker::Host;
use k8s_openapi::api::core::v1::Pod;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use tracing::warn;

/// How long one answer is waited for: what hangs must not keep the node from looking at its memory.
const WITHIN: Duration = Duration::from_secs(10);

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

/// What the pods that may have to go use of a measure. `apart`: images are on a file system of their own.
///
/// # Errors
/// The runtime tells of no pod.
pub(super) async fn candidates(
    host: &Arc<Host>,
    pods: Vec<Arc<Pod>>,
    (measure, apart): (Measure, bool),
) -> Result<Vec<Candidate>, String> {
    let stats = stats(host).await?;
    let mut all = Vec::new();
    for pod in pods {
        let stats = stats.get(uid(&pod));
        let asked = asked(&pod);
        let (request, used) = match measure.resource() {
            Resource::Memory => (asked.memory_bytes, stats.and_then(working_set)),
            Resource::Pids => (0, stats.and_then(processes)),
            Resource::Bytes | Resource::Inodes => {
                let files = match stats {
                    Some(_) => files(host, Arc::clone(&pod)).await,
                    None => None,
                };
                let space = stats.map(layers).zip(files).map(|(layers, (logs, volumes))| {
                    LocalUse { layers, logs, volumes }.on(measure.of_images(), apart)
                });
                match measure.resource() {
                    Resource::Bytes => (asked.ephemeral_storage_bytes, space.map(|s| s.bytes)),
                    _ => (0, space.map(|s| s.inodes)),
                }
            }
        };
        all.push(Candidate {
            uid: uid(&pod).to_owned(),
            pod: full_name(&pod),
            priority: spec(&pod).priority.unwrap_or(0),
            request,
            used,
            critical: super::is_critical(&pod),
        });
    }
    Ok(all)
}

/// What the runtime tells of every pod, by uid.
async fn stats(host: &Arc<Host>) -> Result<BTreeMap<String, proto::LinuxPodSandboxStats>, String> {
    let request = proto::ListPodSandboxStatsRequest::default();
    match timeout(WITHIN, host.cri.list_pod_sandbox_stats(request)).await {
        Ok(Ok(answer)) => Ok(answer.stats.into_iter().filter_map(of_pod).collect()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the runtime does not answer".to_owned()),
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

/// What a pod uses of the node's disks.
pub(super) async fn local(host: &Arc<Host>, pod: Arc<Pod>) -> LocalUse {
    let mut layers = BTreeMap::new();
    for id in running(&pod) {
        let request = proto::ContainerStatsRequest { container_id: id.clone() };
        let pod_uid = uid(&pod);
        match timeout(WITHIN, host.cri.container_stats(request)).await {
            Ok(Ok(answer)) => layers.extend(answer.stats.as_ref().and_then(layer)),
            Ok(Err(error)) if error.is_not_found() => {}
            Ok(Err(error)) => {
                warn!(pod_uid, container_id = id, %error, "what a container wrote is not known");
            }
            Err(_) => {
                warn!(pod_uid, container_id = id, "the runtime does not tell what it wrote");
            }
        }
    }
    let (logs, volumes) = files(host, pod).await.unwrap_or_default();
    LocalUse { layers, logs, volumes }
}

/// What is read from the file system, logs and volumes by their names; `None` when that takes too long.
async fn files(
    host: &Arc<Host>,
    of: Arc<Pod>,
) -> Option<(BTreeMap<String, Space>, BTreeMap<String, Space>)> {
    let (worker, pod_uid) = (Arc::clone(host), uid(&of).to_owned());
    let read = blocking::run_within("measure a pod's files", WITHIN, move |_| {
        let folder = worker.log_dir(namespace(&of), name(&of), uid(&of));
        let logs = logs(&folder).into_iter();
        let logs = logs.map(|(name, (bytes, inodes))| (name, Space { bytes, inodes }));
        let volumes = worker.volumes.empty_dirs(&of).into_iter();
        let volumes = volumes.map(|(name, (bytes, inodes))| (name, Space { bytes, inodes }));
        (logs.collect(), volumes.collect())
    });
    match read.await {
        Ok(read) => Some(read),
        Err(error) => {
            warn!(pod_uid, %error, "what a pod's files take is not known");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_counts_for_a_file_system_is_what_is_on_it() {
        let space = |bytes, inodes| Space { bytes, inodes };
        let of = |name: &str, used| BTreeMap::from([(name.to_owned(), used)]);
        let local = LocalUse {
            layers: of("c", space(100, 10)),
            logs: of("c", space(20, 2)),
            volumes: of("v", space(3, 1)),
        };
        assert_eq!(local.on(false, false), space(123, 13));
        assert_eq!(local.on(true, false), space(123, 13));
        assert_eq!(local.on(false, true), space(23, 3));
        assert_eq!(local.on(true, true), space(100, 10));
    }

    #[test]
    fn who_has_ended_or_is_ending_is_no_candidate() {
        let pod = |text: serde_json::Value| serde_json::from_value::<Pod>(text).unwrap();
        use serde_json::json;
        assert!(is_active(&pod(json!({"status": {"phase": "Running"}}))));
        assert!(is_active(&pod(json!({}))));
        assert!(!is_active(&pod(json!({"status": {"phase": "Failed"}}))));
        let ending = json!({"metadata": {"deletionTimestamp": "2020-01-01T00:00:00Z"}});
        assert!(!is_active(&pod(ending)));
    }
}
