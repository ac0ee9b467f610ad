//! Gathers what `/stats/summary` and `/metrics` are made of.

use super::answer::{self, Answer, Refusal};
use super::metrics::process::ProcessUsage;
use super::metrics::{cadvisor, own, probes, resource};
use super::node_usage::{FileSystem, NodeUsage};
use super::shown::Shown;
use super::summary::{Input, summary};
use crate::blocking;
use crate::cri::client::CriError;
use crate::cri::proto;
use crate::kubelet::spec::log_folder;
use crate::lock::lock;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

/// How old an earlier look at the node must be for a rate.
const RATE_OVER: Duration = Duration::from_secs(1);

/// The looks at the node between which a rate is told.
#[derive(Default)]
pub(super) struct Looks(Mutex<Option<(NodeUsage, Option<u64>)>>);

impl Looks {
    /// The rate as of `now`: since the last look, if that is not too young; else the one that was told then.
    fn rate(&self, now: NodeUsage) -> Option<u64> {
        let mut last = lock(&self.0);
        match &*last {
            Some((before, rate)) => {
                let passed = now.at_nanos.saturating_sub(before.at_nanos);
                let young = Duration::from_nanos(u64::try_from(passed).unwrap_or(0)) < RATE_OVER;
                if young {
                    return *rate;
                }
                let rate = now.nano_cores_since(before);
                *last = Some((now, rate));
                rate
            }
            None => {
                *last = Some((now, None));
                None
            }
        }
    }
}

async fn node_usage() -> Result<NodeUsage, Refusal> {
    Ok(blocking::run("read the node's figures", NodeUsage::read).await??)
}

async fn pod_stats(shown: &Shown) -> Result<Vec<proto::PodSandboxStats>, CriError> {
    let request = proto::ListPodSandboxStatsRequest::default();
    Ok(shown.cri.list_pod_sandbox_stats(request).await?.stats)
}

async fn sandboxes(shown: &Shown) -> Result<Vec<proto::PodSandbox>, CriError> {
    Ok(shown.cri.list_pod_sandbox(proto::ListPodSandboxRequest::default()).await?.items)
}

async fn containers(shown: &Shown) -> Result<Vec<proto::Container>, CriError> {
    Ok(shown.cri.list_containers(proto::ListContainersRequest::default()).await?.containers)
}

/// `/stats/summary`.
pub(super) async fn stats(shown: &Shown, looks: &Looks) -> Result<Answer, Refusal> {
    let pods = pod_stats(shown).await?;
    let (sandboxes, containers) = (sandboxes(shown).await?, containers(shown).await?);
    let images = shown.cri.image_fs_info(proto::ImageFsInfoRequest {}).await?;
    let images = images.image_filesystems.into_iter().next();
    let usage = node_usage().await?;
    let mut input = Input {
        node: shown.node.name.clone(),
        usage,
        nano_cores: looks.rate(usage),
        pods,
        sandboxes,
        containers,
        ..Input::default()
    };
    let (state, folders) = (shown.state.clone(), shown.kubelet.pod_logs_dir.clone());
    let input = blocking::run("read file systems", move || {
        input.fs = FileSystem::read(&state);
        input.images = images.map(|used| {
            let place = used.fs_id.as_ref().map(|id| PathBuf::from(&id.mountpoint));
            (place.and_then(|place| FileSystem::read(&place)), used)
        });
        input.logs = input.pods.iter().flat_map(|pod| logs_of(&folders, pod)).collect();
        input
    })
    .await?;
    answer::json(&summary(&input))
}

type Logs = ((String, String), (u64, u64));

/// The bytes and files of a pod's logs, by uid and container, in its folder `<namespace>_<name>_<uid>`.
fn logs_of(folder: &Path, pod: &proto::PodSandboxStats) -> Vec<Logs> {
    let Some(of) = pod.attributes.as_ref().and_then(|a| a.metadata.as_ref()) else {
        return Vec::new();
    };
    let all = logs(&folder.join(log_folder(&of.namespace, &of.name, &of.uid)));
    all.into_iter().map(|(name, sum)| ((of.uid.clone(), name), sum)).collect()
}

/// The bytes and files of logs by container, in the folder of a pod's: `<container>/<file>`. Blocking.
pub(in crate::kubelet) fn logs(folder: &Path) -> Vec<(String, (u64, u64))> {
    let entries = |folder: &Path| std::fs::read_dir(folder).into_iter().flatten().flatten();
    let container = |entry: std::fs::DirEntry| {
        let name = entry.file_name().into_string().ok()?;
        let files = entries(&entry.path()).filter_map(|file| file.metadata().ok());
        let sizes = files.filter(|about| about.is_file()).map(|about| about.len());
        let sum = sizes.fold((0, 0), |(bytes, files), size| (bytes + size, files + 1));
        Some((name, sum))
    };
    entries(folder).filter_map(container).collect()
}

/// `/metrics`.
pub(super) async fn metrics(shown: &Shown) -> Answer {
    let runtime = async { Ok::<_, CriError>((sandboxes(shown).await?, containers(shown).await?)) };
    let runtime = runtime.await.ok();
    let usage = blocking::run("read what the daemon uses", ProcessUsage::read).await;
    let of = own::Own {
        node: &shown.node.name,
        pods: &shown.board.pods(),
        calls: shown.operations.read(),
        starts: shown.board.starts(),
        usage: usage.ok().and_then(Result::ok),
        evictions: &shown.evictions.read(),
        runtime: runtime.as_ref().map(|(sandboxes, all)| (sandboxes.as_slice(), all.as_slice())),
    };
    answer::metrics(own::own(&of))
}

/// `/metrics/probes`.
pub(super) fn probe_metrics(shown: &Shown) -> Answer {
    answer::metrics(probes::probes(&shown.tallies.read()))
}

/// `/metrics/resource`.
pub(super) async fn resource_metrics(shown: &Shown) -> Result<Answer, Refusal> {
    let told = async {
        let (pods, containers) = (pod_stats(shown).await?, containers(shown).await?);
        Ok::<_, CriError>(resource::Told { pods, containers })
    };
    let told = told.await.ok();
    Ok(answer::metrics(resource::resource(&node_usage().await?, told.as_ref())))
}

/// `/metrics/cadvisor`.
pub(super) async fn cadvisor_metrics(shown: &Shown) -> Result<Answer, Refusal> {
    let request = proto::ListMetricDescriptorsRequest {};
    let descriptors = shown.cri.list_metric_descriptors(request).await?.descriptors;
    let request = proto::ListPodSandboxMetricsRequest {};
    let pods = shown.cri.list_pod_sandbox_metrics(request).await?.pod_metrics;
    let told: BTreeMap<_, _> =
        pods.into_iter().map(|pod| (pod.pod_sandbox_id.clone(), pod)).collect();
    let pods: Vec<_> = told.into_values().collect();
    Ok(answer::metrics(cadvisor::cadvisor(&descriptors, &pods)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_told_until_the_next_is_known() {
        let looks = Looks::default();
        let at = |seconds: i64, cpu_nanos| NodeUsage {
            at_nanos: seconds * 1_000_000_000,
            cpu_nanos,
            ..NodeUsage::default()
        };
        assert_eq!(looks.rate(at(10, 0)), None);
        assert_eq!(looks.rate(at(12, 1000)), Some(500));
        let soon = NodeUsage { at_nanos: 12_000_000_001, ..at(12, 9000) };
        assert_eq!(looks.rate(soon), Some(500));
        assert_eq!(looks.rate(at(14, 1000)), Some(0));
    }

    #[test]
    fn logs_are_summed_up_by_container() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("n_p_u/c");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("0.log"), "12345").unwrap();
        std::fs::write(folder.join("0.log.1"), "678").unwrap();
        let pod = proto::PodSandboxStats {
            attributes: Some(proto::PodSandboxAttributes {
                metadata: Some(proto::PodSandboxMetadata {
                    name: "p".into(),
                    namespace: "n".into(),
                    uid: "u".into(),
                    attempt: 0,
                }),
                ..proto::PodSandboxAttributes::default()
            }),
            ..proto::PodSandboxStats::default()
        };
        assert_eq!(logs_of(dir.path(), &pod), [(("u".into(), "c".into()), (8, 2))]);
    }
}
