//! `berth pods` and `berth ps`.

use super::commands::{PodsArgs, PsArgs};
use super::connect::Daemon;
use super::console::{Console, Row};
use super::error::CtlError;
use super::format::{age, rfc3339, short_id};
use super::resolve::{Inventory, container_name, pod_name};
use crate::clock;
use crate::cri::proto as cri;
use futures::future::join_all;
use serde::Serialize;
use std::collections::BTreeMap;

/// A pod in the list.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PodRow {
    id: String,
    namespace: String,
    name: String,
    uid: String,
    attempt: u32,
    state: &'static str,
    ips: Vec<String>,
    created_at: String,
    #[serde(skip)]
    age: String,
    labels: BTreeMap<String, String>,
}

impl Row for PodRow {
    const HEADINGS: &'static [&'static str] =
        &["POD ID", "NAMESPACE", "NAME", "STATE", "IP", "AGE"];

    fn cells(&self) -> Vec<String> {
        vec![
            short_id(&self.id).to_owned(),
            self.namespace.clone(),
            self.name.clone(),
            self.state.to_owned(),
            self.ips.first().cloned().unwrap_or_else(|| "-".to_owned()),
            self.age.clone(),
        ]
    }
}

/// Lists pods.
pub(super) async fn pods(
    args: &PodsArgs,
    daemon: &Daemon,
    console: &mut Console,
) -> Result<(), CtlError> {
    let labels = args.labels.iter().map(|label| {
        let (key, value) = label.split_once('=').unwrap_or((label, ""));
        (key.to_owned(), value.to_owned())
    });
    let filter = cri::PodSandboxFilter { label_selector: labels.collect(), ..Default::default() };
    let request = cri::ListPodSandboxRequest { filter: Some(filter) };
    let answer = daemon.runtime.clone().list_pod_sandbox(request).await;
    let mut pods = answer.map_err(CtlError::rpc("list", "pods"))?.into_inner().items;
    pods.sort_by_key(|pod| std::cmp::Reverse(pod.created_at));
    let now = clock::now_nanos();
    let rows = join_all(pods.into_iter().map(|pod| async move {
        let ips = pod_ips(daemon, &pod.id).await?;
        Ok::<_, CtlError>(ips.map(|ips| pod_row(pod, ips, now)))
    }));
    let rows = rows.await.into_iter().collect::<Result<Vec<_>, _>>()?;
    let rows: Vec<PodRow> = rows.into_iter().flatten().collect();
    console.rows(args.output.output, &rows)
}

fn pod_row(pod: cri::PodSandbox, ips: Vec<String>, now: i64) -> PodRow {
    let state = match pod.state() {
        cri::PodSandboxState::SandboxReady => "Ready",
        cri::PodSandboxState::SandboxNotready => "NotReady",
    };
    let metadata = pod.metadata.unwrap_or_default();
    PodRow {
        id: pod.id,
        namespace: metadata.namespace,
        name: metadata.name,
        uid: metadata.uid,
        attempt: metadata.attempt,
        state,
        ips,
        created_at: rfc3339(pod.created_at),
        age: age(now, pod.created_at),
        labels: pod.labels,
    }
}

/// A pod's addresses; `None` when it has gone in the meantime.
pub(super) async fn pod_ips(daemon: &Daemon, id: &str) -> Result<Option<Vec<String>>, CtlError> {
    let request = cri::PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), verbose: false };
    let status = match daemon.runtime.clone().pod_sandbox_status(request).await {
        Ok(answer) => answer.into_inner().status.unwrap_or_default(),
        Err(status) if status.code() == tonic::Code::NotFound => return Ok(None),
        Err(status) => return Err(CtlError::rpc("ask for", format!("pod {id}"))(status)),
    };
    let network = status.network.unwrap_or_default();
    let further = network.additional_ips.into_iter().map(|ip| ip.ip);
    let all = std::iter::once(network.ip).chain(further).filter(|ip| !ip.is_empty());
    Ok(Some(all.collect()))
}

/// A container in the list.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ContainerRow {
    id: String,
    name: String,
    pod: String,
    pod_id: String,
    attempt: u32,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<i32>,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
    image: String,
    created_at: String,
    #[serde(skip)]
    age: String,
}

impl Row for ContainerRow {
    const HEADINGS: &'static [&'static str] =
        &["CONTAINER ID", "NAME", "POD", "STATE", "IMAGE", "AGE"];

    fn cells(&self) -> Vec<String> {
        let state = match (self.exit_code, self.reason.as_str()) {
            (None, _) => self.state.to_owned(),
            (Some(code), "") => format!("{} ({code})", self.state),
            (Some(code), reason) => format!("{} ({code}, {reason})", self.state),
        };
        vec![
            short_id(&self.id).to_owned(),
            self.name.clone(),
            self.pod.clone(),
            state,
            self.image.clone(),
            self.age.clone(),
        ]
    }
}

/// Lists containers.
pub(super) async fn ps(
    args: &PsArgs,
    daemon: &Daemon,
    console: &mut Console,
) -> Result<(), CtlError> {
    let all = Inventory::read(daemon).await?;
    let pod = args.pod.as_deref().map(|name| all.pod(name)).transpose()?;
    let mut containers: Vec<&cri::Container> = all
        .containers
        .iter()
        .filter(|c| args.all || c.state() == cri::ContainerState::ContainerRunning)
        .filter(|c| pod.is_none_or(|pod| pod.id == c.pod_sandbox_id))
        .collect();
    containers.sort_by_key(|container| std::cmp::Reverse(container.created_at));
    let now = clock::now_nanos();
    let rows = join_all(containers.iter().map(|container| async {
        let exit = exit_of(daemon, container).await?;
        Ok::<_, CtlError>(container_row(&all, container, exit, now))
    }));
    let rows = rows.await.into_iter().collect::<Result<Vec<_>, _>>()?;
    console.rows(args.output.output, &rows)
}

/// How a container ended, if it has.
async fn exit_of(
    daemon: &Daemon,
    container: &cri::Container,
) -> Result<Option<cri::ContainerStatus>, CtlError> {
    if container.state() != cri::ContainerState::ContainerExited {
        return Ok(None);
    }
    let request =
        cri::ContainerStatusRequest { container_id: container.id.clone(), verbose: false };
    match daemon.runtime.clone().container_status(request).await {
        Ok(answer) => Ok(answer.into_inner().status),
        Err(status) if status.code() == tonic::Code::NotFound => Ok(None),
        Err(status) => Err(CtlError::rpc("ask for", format!("container {}", container.id))(status)),
    }
}

fn container_row(
    all: &Inventory,
    container: &cri::Container,
    exit: Option<cri::ContainerStatus>,
    now: i64,
) -> ContainerRow {
    let image = container.image.as_ref();
    let named = image.map_or("", |image| image.user_specified_image.as_str());
    let image =
        if named.is_empty() { image.map_or("", |image| short_id(&image.image)) } else { named };
    ContainerRow {
        id: container.id.clone(),
        name: container_name(container).to_owned(),
        pod: all.pod_of(container).map_or_else(String::new, |pod| pod_name(pod).to_string()),
        pod_id: container.pod_sandbox_id.clone(),
        attempt: container.metadata.as_ref().map_or(0, |metadata| metadata.attempt),
        state: state_name(container.state()),
        exit_code: exit.as_ref().map(|status| status.exit_code),
        reason: exit.map(|status| status.reason).unwrap_or_default(),
        image: image.to_owned(),
        created_at: rfc3339(container.created_at),
        age: age(now, container.created_at),
    }
}

/// A state as people read it.
pub(super) fn state_name(state: cri::ContainerState) -> &'static str {
    match state {
        cri::ContainerState::ContainerCreated => "Created",
        cri::ContainerState::ContainerRunning => "Running",
        cri::ContainerState::ContainerExited => "Exited",
        cri::ContainerState::ContainerUnknown => "Unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::resolve::tests::{container, pod};

    #[test]
    fn a_row_tells_how_a_container_ended() {
        let all = Inventory { pods: vec![pod("p1", "ns", "web", true)], containers: Vec::new() };
        let mut ended = container("c1", "p1", "server", false);
        ended.image = Some(cri::ImageSpec {
            image: format!("sha256:{}", "a".repeat(64)),
            ..Default::default()
        });
        let status = cri::ContainerStatus {
            exit_code: 137,
            reason: "OOMKilled".into(),
            ..Default::default()
        };
        let row = container_row(&all, &ended, Some(status), 0);
        assert_eq!(
            row.cells(),
            ["c1", "server", "ns/web", "Exited (137, OOMKilled)", "aaaaaaaaaaaaa", "-"]
        );
        let running = container("c2", "p1", "server", true);
        assert_eq!(container_row(&all, &running, None, 0).cells()[3], "Running");
    }

    #[test]
    fn a_pod_without_an_address_has_a_dash() {
        let row = pod_row(pod("p1", "ns", "web", false), Vec::new(), 0);
        assert_eq!(row.cells(), ["p1", "ns", "web", "NotReady", "-", "-"]);
    }
}
