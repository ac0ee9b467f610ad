//! The pods: those that are wanted, with their statuses, and those that the runtime runs.

use super::answer::Refusal;
use super::route::{ContainerPath, PodPath};
use super::shown::Shown;
use crate::cri::proto;
use crate::kubelet::observed::POD_UID_LABEL;
use crate::kubelet::spec::{members, name, namespace, uid};
use k8s_openapi::List;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::BTreeMap;
use std::sync::Arc;

/// `/pods`.
pub(super) fn pods(shown: &Shown) -> List<Pod> {
    let items = shown.board.pods().into_values().map(|view| Arc::unwrap_or_clone(view.pod));
    List { items: items.collect(), ..List::default() }
}

/// `/runningpods/`: what the runtime runs, as far as it tells.
pub(super) fn running_pods(
    sandboxes: Vec<proto::PodSandbox>,
    containers: Vec<proto::Container>,
) -> List<Pod> {
    let mut by_sandbox: BTreeMap<String, Vec<Container>> = BTreeMap::new();
    for container in containers {
        let image = container.image.map(|image| image.image);
        let name = container.metadata.unwrap_or_default().name;
        let shown = Container { name, image, ..Container::default() };
        by_sandbox.entry(container.pod_sandbox_id).or_default().push(shown);
    }
    let mut pods: BTreeMap<String, Pod> = BTreeMap::new();
    for sandbox in sandboxes {
        let metadata = sandbox.metadata.unwrap_or_default();
        let pod = pods.entry(metadata.uid.clone()).or_insert_with(|| Pod {
            metadata: ObjectMeta {
                name: Some(metadata.name),
                namespace: Some(metadata.namespace),
                uid: Some(metadata.uid),
                ..ObjectMeta::default()
            },
            spec: Some(PodSpec::default()),
            status: None,
        });
        let containers = by_sandbox.remove(&sandbox.id).unwrap_or_default();
        pod.spec.get_or_insert_default().containers.extend(containers);
    }
    List { items: pods.into_values().collect(), ..List::default() }
}

/// Asks the runtime what it runs.
pub(super) async fn ask_running(shown: &Shown) -> Result<List<Pod>, Refusal> {
    let ready = proto::PodSandboxState::SandboxReady.into();
    let filter = proto::PodSandboxFilter {
        state: Some(proto::PodSandboxStateValue { state: ready }),
        ..proto::PodSandboxFilter::default()
    };
    let request = proto::ListPodSandboxRequest { filter: Some(filter) };
    let sandboxes = shown.cri.list_pod_sandbox(request).await?.items;
    let running = proto::ContainerState::ContainerRunning.into();
    let filter = proto::ContainerFilter {
        state: Some(proto::ContainerStateValue { state: running }),
        ..proto::ContainerFilter::default()
    };
    let request = proto::ListContainersRequest { filter: Some(filter) };
    let containers = shown.cri.list_containers(request).await?.containers;
    Ok(running_pods(sandboxes, containers))
}

/// The pod of a path.
///
/// # Errors
/// 404: there is none of that name, or it has another uid.
pub(super) fn find_pod(shown: &Shown, path: &PodPath) -> Result<Arc<Pod>, Refusal> {
    let named = |pod: &Pod| {
        namespace(pod) == path.namespace
            && name(pod) == path.name
            && path.uid.as_deref().is_none_or(|wanted| uid(pod) == wanted)
    };
    let found = shown.board.pods().into_values().map(|view| view.pod).find(|pod| named(pod));
    found.ok_or_else(|| {
        Refusal::not_found(format!("pod {}/{} does not exist", path.namespace, path.name))
    })
}

/// The instances of a container of a pod that exists, the newest first.
///
/// # Errors
/// 404: the pod has no such container; or the runtime does not tell.
pub(super) async fn instances(
    shown: &Shown,
    path: &ContainerPath,
) -> Result<(Arc<Pod>, Vec<proto::Container>), Refusal> {
    let pod = find_pod(shown, &path.pod)?;
    let ephemeral = pod.spec.iter().flat_map(|spec| spec.ephemeral_containers.iter().flatten());
    let known = members(&pod).iter().any(|member| member.name() == path.name)
        || ephemeral.into_iter().any(|container| container.name == path.name);
    if !known {
        let cause = format!(
            "pod {}/{} has no container {:?}",
            path.pod.namespace, path.pod.name, path.name
        );
        return Err(Refusal::not_found(cause));
    }
    let label_selector = BTreeMap::from([(POD_UID_LABEL.to_owned(), uid(&pod).to_owned())]);
    let filter = proto::ContainerFilter {
        label_selector: label_selector.into_iter().collect(),
        ..proto::ContainerFilter::default()
    };
    let request = proto::ListContainersRequest { filter: Some(filter) };
    let mut all = shown.cri.list_containers(request).await?.containers;
    all.retain(|c| c.metadata.as_ref().is_some_and(|metadata| metadata.name == path.name));
    all.sort_by_key(|container| std::cmp::Reverse(container.created_at));
    Ok((pod, all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn running_pods_are_put_together_from_sandboxes_and_containers() {
        let sandbox = |id: &str, uid: &str| proto::PodSandbox {
            id: id.into(),
            metadata: Some(proto::PodSandboxMetadata {
                name: format!("p-{uid}"),
                namespace: "n".into(),
                uid: uid.into(),
                attempt: 0,
            }),
            ..proto::PodSandbox::default()
        };
        let container = |sandbox: &str, name: &str| proto::Container {
            pod_sandbox_id: sandbox.into(),
            metadata: Some(proto::ContainerMetadata { name: name.into(), attempt: 0 }),
            image: Some(proto::ImageSpec { image: "i".into(), ..proto::ImageSpec::default() }),
            ..proto::Container::default()
        };
        let list = running_pods(
            vec![sandbox("1", "a"), sandbox("2", "b")],
            vec![container("2", "x"), container("2", "y"), container("gone", "z")],
        );
        let text = serde_json::to_value(&list).unwrap();
        assert_eq!((&text["kind"], &text["apiVersion"]), (&"PodList".into(), &"v1".into()));
        let again: List<Pod> = serde_json::from_value(text).unwrap();
        let names = |pod: &Pod| {
            let containers = &pod.spec.as_ref().unwrap().containers;
            let containers: Vec<String> = containers.iter().map(|c| c.name.clone()).collect();
            (name(pod).to_owned(), containers)
        };
        let all: Vec<_> = again.items.iter().map(names).collect();
        assert_eq!(all, [("p-a".into(), vec![]), ("p-b".into(), vec!["x".into(), "y".into()])]);
    }
}
