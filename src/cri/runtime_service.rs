//! RuntimeService: the methods by name; what each of them does is in [`super::runtime`].
//!
//! Every method passes the gate: until the engine knows its state, all but Version are UNAVAILABLE.

use super::events::{Changes, changes};
use super::gate::EngineGate;
use super::proto;
use super::proto::runtime_service_server::RuntimeService;
use super::runtime::{checkpoints, containers, lists, metrics, node, sandboxes, stats, streaming};
use super::streaming::Streaming;
use crate::ids::SandboxId;
use tokio_util::sync::CancellationToken;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status};

type Answer<T> = Result<Response<T>, Status>;

/// The service; a thin shell over the engine.
pub(super) struct Runtime {
    gate: EngineGate,
    streaming: Streaming,
    stop: CancellationToken,
}

impl Runtime {
    pub(super) fn new(gate: EngineGate, streaming: Streaming, stop: CancellationToken) -> Self {
        Self { gate, streaming, stop }
    }
}

#[tonic::async_trait]
impl RuntimeService for Runtime {
    async fn version(&self, _: Request<proto::VersionRequest>) -> Answer<proto::VersionResponse> {
        Ok(Response::new(node::version()))
    }

    async fn status(
        &self,
        request: Request<proto::StatusRequest>,
    ) -> Answer<proto::StatusResponse> {
        Ok(Response::new(node::status(self.gate.engine()?, request.into_inner())))
    }

    async fn runtime_config(
        &self,
        _: Request<proto::RuntimeConfigRequest>,
    ) -> Answer<proto::RuntimeConfigResponse> {
        Ok(Response::new(node::runtime_config(self.gate.engine()?)))
    }

    type GetContainerEventsStream = Changes;

    async fn get_container_events(
        &self,
        _: Request<proto::GetEventsRequest>,
    ) -> Answer<Self::GetContainerEventsStream> {
        let engine = self.gate.engine()?.clone();
        let events = engine.subscribe();
        let containers = move |sandbox: &SandboxId| engine.containers_of(sandbox);
        Ok(Response::new(changes(events, containers, self.stop.clone())))
    }

    async fn run_pod_sandbox(
        &self,
        request: Request<proto::RunPodSandboxRequest>,
    ) -> Answer<proto::RunPodSandboxResponse> {
        sandboxes::run(self.gate.engine()?, request.into_inner()).await.map(Response::new)
    }

    async fn stop_pod_sandbox(
        &self,
        request: Request<proto::StopPodSandboxRequest>,
    ) -> Answer<proto::StopPodSandboxResponse> {
        sandboxes::stop(self.gate.engine()?, request.into_inner()).await.map(Response::new)
    }

    async fn remove_pod_sandbox(
        &self,
        request: Request<proto::RemovePodSandboxRequest>,
    ) -> Answer<proto::RemovePodSandboxResponse> {
        sandboxes::remove(self.gate.engine()?, request.into_inner()).await.map(Response::new)
    }

    async fn pod_sandbox_status(
        &self,
        request: Request<proto::PodSandboxStatusRequest>,
    ) -> Answer<proto::PodSandboxStatusResponse> {
        sandboxes::status(self.gate.engine()?, request.into_inner()).map(Response::new)
    }

    async fn list_pod_sandbox(
        &self,
        request: Request<proto::ListPodSandboxRequest>,
    ) -> Answer<proto::ListPodSandboxResponse> {
        lists::list_sandboxes(self.gate.engine()?, request.into_inner()).map(Response::new)
    }

    type StreamPodSandboxesStream = BoxStream<proto::StreamPodSandboxesResponse>;

    async fn stream_pod_sandboxes(
        &self,
        request: Request<proto::StreamPodSandboxesRequest>,
    ) -> Answer<Self::StreamPodSandboxesStream> {
        lists::stream_sandboxes(self.gate.engine()?, request.into_inner()).map(Response::new)
    }

    async fn create_container(
        &self,
        request: Request<proto::CreateContainerRequest>,
    ) -> Answer<proto::CreateContainerResponse> {
        containers::create(self.gate.engine()?, request.into_inner()).await.map(Response::new)
    }

    async fn start_container(
        &self,
        request: Request<proto::StartContainerRequest>,
    ) -> Answer<proto::StartContainerResponse> {
        containers::start(self.gate.engine()?, request.into_inner()).await.map(Response::new)
    }

    async fn stop_container(
        &self,
        request: Request<proto::StopContainerRequest>,
    ) -> Answer<proto::StopContainerResponse> {
        containers::stop(self.gate.engine()?, request.into_inner()).await.map(Response::new)
    }

    async fn remove_container(
        &self,
        request: Request<proto::RemoveContainerRequest>,
    ) -> Answer<proto::RemoveContainerResponse> {
        containers::remove(self.gate.engine()?, request.into_inner()).await.map(Response::new)
    }

    async fn container_status(
        &self,
        request: Request<proto::ContainerStatusRequest>,
    ) -> Answer<proto::ContainerStatusResponse> {
        containers::status(self.gate.engine()?, request.into_inner()).map(Response::new)
    }

    async fn list_containers(
        &self,
        request: Request<proto::ListContainersRequest>,
    ) -> Answer<proto::ListContainersResponse> {
        lists::list_containers(self.gate.engine()?, request.into_inner()).map(Response::new)
    }

    type StreamContainersStream = BoxStream<proto::StreamContainersResponse>;

    async fn stream_containers(
        &self,
        request: Request<proto::StreamContainersRequest>,
    ) -> Answer<Self::StreamContainersStream> {
        lists::stream_containers(self.gate.engine()?, request.into_inner()).map(Response::new)
    }

    async fn update_container_resources(
        &self,
        request: Request<proto::UpdateContainerResourcesRequest>,
    ) -> Answer<proto::UpdateContainerResourcesResponse> {
        containers::update(self.gate.engine()?, request.into_inner()).await.map(Response::new)
    }

    async fn reopen_container_log(
        &self,
        request: Request<proto::ReopenContainerLogRequest>,
    ) -> Answer<proto::ReopenContainerLogResponse> {
        containers::reopen_log(self.gate.engine()?, request.into_inner()).await.map(Response::new)
    }

    async fn exec_sync(
        &self,
        request: Request<proto::ExecSyncRequest>,
    ) -> Answer<proto::ExecSyncResponse> {
        containers::exec_sync(self.gate.engine()?, request.into_inner()).await.map(Response::new)
    }

    async fn container_stats(
        &self,
        request: Request<proto::ContainerStatsRequest>,
    ) -> Answer<proto::ContainerStatsResponse> {
        stats::container(self.gate.engine()?, request.into_inner()).await.map(Response::new)
    }

    async fn list_container_stats(
        &self,
        request: Request<proto::ListContainerStatsRequest>,
    ) -> Answer<proto::ListContainerStatsResponse> {
        stats::list_containers(self.gate.engine()?, request.into_inner()).await.map(Response::new)
    }

    type StreamContainerStatsStream = BoxStream<proto::StreamContainerStatsResponse>;

    async fn stream_container_stats(
        &self,
        request: Request<proto::StreamContainerStatsRequest>,
    ) -> Answer<Self::StreamContainerStatsStream> {
        stats::stream_containers(self.gate.engine()?, request.into_inner()).map(Response::new)
    }

    async fn pod_sandbox_stats(
        &self,
        request: Request<proto::PodSandboxStatsRequest>,
    ) -> Answer<proto::PodSandboxStatsResponse> {
        stats::sandbox(self.gate.engine()?, request.into_inner()).await.map(Response::new)
    }

    async fn list_pod_sandbox_stats(
        &self,
        request: Request<proto::ListPodSandboxStatsRequest>,
    ) -> Answer<proto::ListPodSandboxStatsResponse> {
        stats::list_sandboxes(self.gate.engine()?, request.into_inner()).await.map(Response::new)
    }

    type StreamPodSandboxStatsStream = BoxStream<proto::StreamPodSandboxStatsResponse>;

    async fn stream_pod_sandbox_stats(
        &self,
        request: Request<proto::StreamPodSandboxStatsRequest>,
    ) -> Answer<Self::StreamPodSandboxStatsStream> {
        stats::stream_sandboxes(self.gate.engine()?, request.into_inner()).map(Response::new)
    }

    async fn exec(&self, request: Request<proto::ExecRequest>) -> Answer<proto::ExecResponse> {
        let answer = streaming::exec(self.gate.engine()?, &self.streaming, request.into_inner());
        answer.map(Response::new)
    }

    async fn attach(
        &self,
        request: Request<proto::AttachRequest>,
    ) -> Answer<proto::AttachResponse> {
        let answer = streaming::attach(self.gate.engine()?, &self.streaming, request.into_inner());
        answer.map(Response::new)
    }

    async fn port_forward(
        &self,
        request: Request<proto::PortForwardRequest>,
    ) -> Answer<proto::PortForwardResponse> {
        let engine = self.gate.engine()?;
        let answer = streaming::port_forward(engine, &self.streaming, request.into_inner());
        answer.map(Response::new)
    }

    async fn update_runtime_config(
        &self,
        request: Request<proto::UpdateRuntimeConfigRequest>,
    ) -> Answer<proto::UpdateRuntimeConfigResponse> {
        node::update_runtime_config(self.gate.engine()?, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn checkpoint_container(
        &self,
        request: Request<proto::CheckpointContainerRequest>,
    ) -> Answer<proto::CheckpointContainerResponse> {
        checkpoints::container(self.gate.engine()?, request.into_inner()).await.map(Response::new)
    }

    async fn checkpoint_pod(
        &self,
        request: Request<proto::CheckpointPodRequest>,
    ) -> Answer<proto::CheckpointPodResponse> {
        checkpoints::pod(self.gate.engine()?, request).await.map(Response::new)
    }

    async fn restore_pod(
        &self,
        request: Request<proto::RestorePodRequest>,
    ) -> Answer<proto::RestorePodResponse> {
        checkpoints::restore(self.gate.engine()?, request.into_inner()).await.map(Response::new)
    }

    async fn list_metric_descriptors(
        &self,
        _: Request<proto::ListMetricDescriptorsRequest>,
    ) -> Answer<proto::ListMetricDescriptorsResponse> {
        self.gate.engine()?;
        Ok(Response::new(metrics::descriptors()))
    }

    async fn list_pod_sandbox_metrics(
        &self,
        _: Request<proto::ListPodSandboxMetricsRequest>,
    ) -> Answer<proto::ListPodSandboxMetricsResponse> {
        metrics::list(self.gate.engine()?).await.map(Response::new)
    }

    async fn update_pod_sandbox_resources(
        &self,
        request: Request<proto::UpdatePodSandboxResourcesRequest>,
    ) -> Answer<proto::UpdatePodSandboxResourcesResponse> {
        sandboxes::update(self.gate.engine()?, request.into_inner()).await.map(Response::new)
    }

    type StreamPodSandboxMetricsStream = BoxStream<proto::StreamPodSandboxMetricsResponse>;

    async fn stream_pod_sandbox_metrics(
        &self,
        _: Request<proto::StreamPodSandboxMetricsRequest>,
    ) -> Answer<Self::StreamPodSandboxMetricsStream> {
        metrics::stream(self.gate.engine()?).map(Response::new)
    }
}
