use crate::cri::client::FakeCri;
use crate::cri::proto;
use crate::kubelet::source::SourcePod;
use crate::kubelet::worker::fixture::host;
use crate::kubelet::worker::{Command, Ending, spawn};
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

fn pod() -> Arc<Pod> {
    let pod = json!({
        "metadata": {"name": "p", "namespace": "n", "uid": "u"},
        "spec": {"containers": [{"name": "c", "image": "example.com/i:1"}]},
    });
    Arc::new(serde_json::from_value(pod).unwrap())
}

/// Has the runtime know one sandbox.
fn sandbox(cri: &FakeCri, state: proto::PodSandboxState) {
    let item = proto::PodSandbox { id: "s".into(), ..proto::PodSandbox::default() };
    cri.answers("list_pod_sandbox", proto::ListPodSandboxResponse { items: vec![item] });
    let network = proto::PodSandboxNetworkStatus { ip: "192.0.2.9".into(), additional_ips: vec![] };
    let status = proto::PodSandboxStatus {
        id: "s".into(),
        state: state.into(),
        network: Some(network),
        created_at: 1,
        ..proto::PodSandboxStatus::default()
    };
    let status = Some(status);
    let answer = proto::PodSandboxStatusResponse { status, ..Default::default() };
    cri.answers("pod_sandbox_status", answer);
}

/// Has the runtime know one container.
fn container(cri: &FakeCri, state: proto::ContainerState) {
    let item = proto::Container {
        id: "i".into(),
        pod_sandbox_id: "s".into(),
        ..proto::Container::default()
    };
    cri.answers("list_containers", proto::ListContainersResponse { containers: vec![item] });
    let status = proto::ContainerStatus {
        id: "i".into(),
        metadata: Some(proto::ContainerMetadata { name: "c".into(), attempt: 0 }),
        state: state.into(),
        created_at: 2,
        started_at: 3,
        ..proto::ContainerStatus::default()
    };
    let answer = proto::ContainerStatusResponse { status: Some(status), ..Default::default() };
    cri.answers("container_status", answer);
}

/// Waits until the runtime was called so, that many times.
async fn called(cri: &FakeCri, call: &str, times: usize) {
    let wait = async {
        while cri.calls().iter().filter(|found| *found == call).count() < times {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(30), wait).await;
    assert!(waited.is_ok(), "{times} of {call}: {:?}", cri.calls());
}

/// Ends a pod while a call of its start is under way, which then makes a container that runs.
async fn ends_while(verb: &'static str) {
    let dir = tempfile::tempdir().unwrap();
    let cri = Arc::new(FakeCri::default());
    let (host, _objects) = host(dir.path(), cri.clone());
    sandbox(&cri, proto::PodSandboxState::SandboxReady);
    let image = proto::Image { id: "image".into(), ..proto::Image::default() };
    let image = proto::ImageStatusResponse { image: Some(image), ..Default::default() };
    cri.answers("image_status", image);
    let made = proto::CreateContainerResponse { container_id: "i".into() };
    cri.answers("create_container", made);
    let held = cri.hold(verb);
    let (ended, mut has_ended) = mpsc::unbounded_channel();
    let of = SourcePod { pod: pod(), origin: String::new() };
    let worker = spawn(&host, of, None, ended, CancellationToken::new());
    called(&cri, verb, 1).await;

    worker.tell(Command::End(Ending { deleted: true, ..Ending::default() }));
    // What there is ends at once.
    called(&cri, "stop_pod_sandbox.", 1).await;
    sandbox(&cri, proto::PodSandboxState::SandboxNotready);
    let waits = tokio::time::timeout(Duration::from_millis(300), worker.ended()).await;
    assert!(waits.is_err(), "it ended before {verb}: {:?}", cri.calls());
    let calls = cri.calls();
    assert!(!calls.iter().any(|call| call == "remove_pod_sandbox"), "{calls:?}");

    // The runtime did not mind that the sandbox was stopped.
    container(&cri, proto::ContainerState::ContainerRunning);
    held.cancel();
    called(&cri, "stop_container.", 1).await;
    container(&cri, proto::ContainerState::ContainerExited);
    called(&cri, "stop_pod_sandbox.", 2).await;
    let gone = tokio::time::timeout(Duration::from_secs(30), has_ended.recv()).await;
    assert_eq!(gone.unwrap().as_deref(), Some("u"), "{:?}", cri.calls());
    let calls = cri.calls();
    let last = |of: &str| calls.iter().rposition(|call| call == of);
    assert!(last("stop_pod_sandbox") > last(&format!("{verb}.")), "{calls:?}");
    assert!(last("remove_container") > last("stop_container"), "{calls:?}");
    assert!(verb != "create_container" || last("start_container").is_none(), "{calls:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_waits_for_a_container_that_is_being_created() {
    ends_while("create_container").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_waits_for_a_container_that_is_being_started() {
    ends_while("start_container").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_waits_for_a_sandbox_that_is_being_made() {
    let dir = tempfile::tempdir().unwrap();
    let cri = Arc::new(FakeCri::default());
    let (host, _objects) = host(dir.path(), cri.clone());
    let held = cri.hold("run_pod_sandbox");
    let (ended, mut has_ended) = mpsc::unbounded_channel();
    let of = SourcePod { pod: pod(), origin: String::new() };
    let worker = spawn(&host, of, None, ended, CancellationToken::new());
    called(&cri, "run_pod_sandbox", 1).await;
    worker.tell(Command::End(Ending { deleted: true, ..Ending::default() }));
    let waits = tokio::time::timeout(Duration::from_millis(300), worker.ended()).await;
    assert!(waits.is_err(), "{:?}", cri.calls());
    sandbox(&cri, proto::PodSandboxState::SandboxReady);
    held.cancel();
    called(&cri, "stop_pod_sandbox.", 1).await;
    sandbox(&cri, proto::PodSandboxState::SandboxNotready);
    let gone = tokio::time::timeout(Duration::from_secs(30), has_ended.recv()).await;
    assert_eq!(gone.unwrap().as_deref(), Some("u"), "{:?}", cri.calls());
    assert!(cri.calls().iter().any(|call| call == "remove_pod_sandbox."), "{:?}", cri.calls());
}
