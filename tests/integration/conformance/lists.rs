//! Filters of lists and of streams.

use super::target::{Peer, Target, cases};
use crate::harness::machine::Need::PodNetwork;
use anyhow::{Result, ensure};
use berth::cri::proto;
use proto::ContainerState::ContainerExited;
use proto::PodSandboxState::SandboxNotready;
use std::collections::{BTreeMap, BTreeSet};

cases! {
    "lists_of_sandboxes_are_filtered", &[PodNetwork], Peer::Agrees, sandboxes;
    "lists_of_containers_are_filtered", &[PodNetwork], Peer::Agrees, containers;
    // Figures of a pod are those of its cgroup parent there, and one without a parent has none:
    // "cgroupPath is empty".
    "lists_of_statistics_are_filtered", &[PodNetwork],
        Peer::Differs("no figures without a parent"), statistics;
    // The methods are younger than Debian's containerd: UNIMPLEMENTED.
    "streams_are_filtered_as_lists_are", &[PodNetwork], Peer::Differs("streams came after 1.6"),
        streams;
}

type Labels = BTreeMap<String, String>;

fn labels(value: &str) -> Labels {
    [("app".to_owned(), value.to_owned())].into()
}

/// The ids that a filter leaves.
type Ids = BTreeSet<String>;

fn set(ids: impl IntoIterator<Item = impl Into<String>>) -> Ids {
    ids.into_iter().map(Into::into).collect()
}

fn same(what: &str, got: Ids, expected: Ids) -> Result<()> {
    ensure!(got == expected, "{what}: {got:?} instead of {expected:?}");
    Ok(())
}

/// Filters by each field, and by two: with the sandboxes that they leave of a running one and of one
/// that was stopped.
fn sandbox_rows(target: &Target<'_>) -> Result<Vec<(proto::PodSandboxFilter, Ids)>> {
    let runs = target.pod("runs", |c| c.labels = labels("web"))?.id;
    let ended = target.pod("ended", |c| c.labels = labels("db"))?.id;
    let request = proto::StopPodSandboxRequest { pod_sandbox_id: ended.clone() };
    target.cri.stop_pod_sandbox(request)?;
    let filter = proto::PodSandboxFilter::default;
    let not_ready = Some(proto::PodSandboxStateValue { state: SandboxNotready.into() });
    Ok(vec![
        (filter(), set([&runs, &ended])),
        (proto::PodSandboxFilter { id: runs.clone(), ..filter() }, set([&runs])),
        (proto::PodSandboxFilter { state: not_ready, ..filter() }, set([&ended])),
        (proto::PodSandboxFilter { label_selector: labels("web"), ..filter() }, set([&runs])),
        (
            proto::PodSandboxFilter { state: not_ready, label_selector: labels("web"), ..filter() },
            Ids::new(),
        ),
    ])
}

fn sandboxes(target: &Target<'_>) -> Result<()> {
    for (filter, expected) in sandbox_rows(target)? {
        let request = proto::ListPodSandboxRequest { filter: Some(filter.clone()) };
        let items = target.cri.list_pod_sandbox(request)?.items;
        same(&format!("{filter:?}"), set(items.into_iter().map(|pod| pod.id)), expected)?;
    }
    Ok(())
}

fn container_rows(target: &Target<'_>) -> Result<Vec<(proto::ContainerFilter, Ids)>> {
    let (one, two) = (target.pod("one", |_| {})?, target.pod("two", |_| {})?);
    let runs = one.start("runs", |c| c.labels = labels("web"))?.id;
    let ended = one.start("ended", |c| {
        c.labels = labels("db");
        c.command = vec!["true".into()];
    })?;
    ended.ended()?;
    let (ended, other) = (ended.id, two.start("other", |c| c.labels = labels("web"))?.id);
    let filter = proto::ContainerFilter::default;
    let exited = Some(proto::ContainerStateValue { state: ContainerExited.into() });
    let (in_one, web) = (one.id.clone(), labels("web"));
    Ok(vec![
        (filter(), set([&runs, &ended, &other])),
        (proto::ContainerFilter { id: runs.clone(), ..filter() }, set([&runs])),
        (proto::ContainerFilter { state: exited, ..filter() }, set([&ended])),
        (
            proto::ContainerFilter { pod_sandbox_id: in_one.clone(), ..filter() },
            set([&runs, &ended]),
        ),
        (proto::ContainerFilter { label_selector: web.clone(), ..filter() }, set([&runs, &other])),
        (
            proto::ContainerFilter { pod_sandbox_id: in_one, label_selector: web, ..filter() },
            set([&runs]),
        ),
    ])
}

fn containers(target: &Target<'_>) -> Result<()> {
    for (filter, expected) in container_rows(target)? {
        let request = proto::ListContainersRequest { filter: Some(filter.clone()) };
        let listed = target.cri.list_containers(request)?.containers;
        same(&format!("{filter:?}"), set(listed.into_iter().map(|c| c.id)), expected)?;
    }
    Ok(())
}

/// Filters for figures of containers and of pods, with what they leave of two pods with one container
/// each.
type StatsRows =
    (Vec<(proto::ContainerStatsFilter, Ids)>, Vec<(proto::PodSandboxStatsFilter, Ids)>);

fn stats_rows(target: &Target<'_>) -> Result<StatsRows> {
    let one = target.pod("one", |c| c.labels = labels("web"))?;
    let two = target.pod("two", |c| c.labels = labels("db"))?;
    let web = one.start("main", |c| c.labels = labels("web"))?.id;
    let db = two.start("main", |c| c.labels = labels("db"))?.id;
    let filter = proto::ContainerStatsFilter::default;
    let of_containers = vec![
        (filter(), set([&web, &db])),
        (proto::ContainerStatsFilter { id: web.clone(), ..filter() }, set([&web])),
        (proto::ContainerStatsFilter { pod_sandbox_id: two.id.clone(), ..filter() }, set([&db])),
        (proto::ContainerStatsFilter { label_selector: labels("web"), ..filter() }, set([&web])),
    ];
    let filter = proto::PodSandboxStatsFilter::default;
    let of_pods = vec![
        (filter(), set([&one.id, &two.id])),
        (proto::PodSandboxStatsFilter { id: two.id.clone(), ..filter() }, set([&two.id])),
        (
            proto::PodSandboxStatsFilter { label_selector: labels("web"), ..filter() },
            set([&one.id]),
        ),
    ];
    Ok((of_containers, of_pods))
}

fn container_id(stats: proto::ContainerStats) -> String {
    stats.attributes.unwrap_or_default().id
}

fn pod_id(stats: proto::PodSandboxStats) -> String {
    stats.attributes.unwrap_or_default().id
}

fn statistics(target: &Target<'_>) -> Result<()> {
    let (of_containers, of_pods) = stats_rows(target)?;
    for (filter, expected) in of_containers {
        let request = proto::ListContainerStatsRequest { filter: Some(filter.clone()) };
        let stats = target.cri.list_container_stats(request)?.stats;
        same(&format!("{filter:?}"), set(stats.into_iter().map(container_id)), expected)?;
    }
    for (filter, expected) in of_pods {
        let request = proto::ListPodSandboxStatsRequest { filter: Some(filter.clone()) };
        let stats = target.cri.list_pod_sandbox_stats(request)?.stats;
        same(&format!("{filter:?}"), set(stats.into_iter().map(pod_id)), expected)?;
    }
    Ok(())
}

fn streams(target: &Target<'_>) -> Result<()> {
    for (filter, expected) in sandbox_rows(target)? {
        let request = proto::StreamPodSandboxesRequest { filter: Some(filter.clone()) };
        let messages = target.cri.stream_pod_sandboxes(request)?;
        let ids = messages.into_iter().flat_map(|m| m.pod_sandboxes).map(|pod| pod.id);
        same(&format!("{filter:?}"), set(ids), expected)?;
    }
    remove_all(target)?;
    for (filter, expected) in container_rows(target)? {
        let request = proto::StreamContainersRequest { filter: Some(filter.clone()) };
        let messages = target.cri.stream_containers(request)?;
        let ids = messages.into_iter().flat_map(|m| m.containers).map(|c| c.id);
        same(&format!("{filter:?}"), set(ids), expected)?;
    }
    remove_all(target)?;
    let (of_containers, of_pods) = stats_rows(target)?;
    for (filter, expected) in of_containers {
        let request = proto::StreamContainerStatsRequest { filter: Some(filter.clone()) };
        let messages = target.cri.stream_container_stats(request)?;
        let ids = messages.into_iter().flat_map(|m| m.container_stats).map(container_id);
        same(&format!("{filter:?}"), set(ids), expected)?;
    }
    for (filter, expected) in of_pods {
        let request = proto::StreamPodSandboxStatsRequest { filter: Some(filter.clone()) };
        let messages = target.cri.stream_pod_sandbox_stats(request)?;
        let ids = messages.into_iter().flat_map(|m| m.pod_sandbox_stats).map(pod_id);
        same(&format!("{filter:?}"), set(ids), expected)?;
    }
    Ok(())
}

/// Removes every pod.
pub(super) fn remove_all(target: &Target<'_>) -> Result<()> {
    let request = proto::ListPodSandboxRequest::default();
    for pod in target.cri.list_pod_sandbox(request)?.items {
        let id = || pod.id.clone();
        target.cri.stop_pod_sandbox(proto::StopPodSandboxRequest { pod_sandbox_id: id() })?;
        target.cri.remove_pod_sandbox(proto::RemovePodSandboxRequest { pod_sandbox_id: id() })?;
    }
    Ok(())
}
