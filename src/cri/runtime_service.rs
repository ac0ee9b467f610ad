//! RuntimeService: convert, call the engine, convert.
//!
//! Methods of later versions answer UNIMPLEMENTED with their name; nothing pretends.

use super::events::{Changes, changes};
use super::from_proto::{self, check_fit, container_config, id, sandbox_config, update_resources};
use super::gate::EngineGate;
use super::instrument::about;
use super::list_filter::{ContainerFilter, SandboxFilter};
use super::proto;
use super::proto::runtime_service_server::RuntimeService;
use super::status::unimplemented;
use super::to_proto::{self, Figures};
use crate::engine::{ContainerStatsView, SandboxStatsView};
use crate::error::ErrorKind;
use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio_util::sync::CancellationToken;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status};

type Answer<T> = Result<Response<T>, Status>;

/// The service; a thin shell over the engine.
pub(super) struct Runtime {
    gate: EngineGate,
    stop: CancellationToken,
}

impl Runtime {
    pub(super) fn new(gate: EngineGate, stop: CancellationToken) -> Self {
        Self { gate, stop }
    }
}

#[tonic::async_trait]
impl RuntimeService for Runtime {
    async fn version(&self, _: Request<proto::VersionRequest>) -> Answer<proto::VersionResponse> {
        Ok(Response::new(proto::VersionResponse {
            version: "0.1.0".to_owned(),
            runtime_name: "berth".to_owned(),
            runtime_version: env!("CARGO_PKG_VERSION").to_owned(),
            runtime_api_version: "v1".to_owned(),
        }))
    }

    async fn status(
        &self,
        request: Request<proto::StatusRequest>,
    ) -> Answer<proto::StatusResponse> {
        let status = self.gate.engine()?.status();
        Ok(Response::new(to_proto::runtime_status(status, request.into_inner())))
    }

    async fn runtime_config(
        &self,
        _: Request<proto::RuntimeConfigRequest>,
    ) -> Answer<proto::RuntimeConfigResponse> {
        let driver = self.gate.engine()?.status().cgroup_driver;
        Ok(Response::new(to_proto::runtime_config(driver)))
    }

    async fn run_pod_sandbox(
        &self,
        request: Request<proto::RunPodSandboxRequest>,
    ) -> Answer<proto::RunPodSandboxResponse> {
        let engine = self.gate.engine()?;
        let request = request.into_inner();
        let handler = from_proto::handler("runtime_handler", &request.runtime_handler)?;
        let config = sandbox_config("config", request.config)?;
        about("pod", &config.metadata.name);
        about("namespace", &config.metadata.namespace);
        about("pod_uid", &config.metadata.uid);
        let id = engine.run_sandbox(config, handler).await?;
        about("sandbox_id", id.as_str());
        Ok(Response::new(proto::RunPodSandboxResponse { pod_sandbox_id: id.to_string() }))
    }

    async fn stop_pod_sandbox(
        &self,
        request: Request<proto::StopPodSandboxRequest>,
    ) -> Answer<proto::StopPodSandboxResponse> {
        let engine = self.gate.engine()?;
        let request = request.into_inner();
        let id = id("pod_sandbox_id", &request.pod_sandbox_id)?;
        about("sandbox_id", id);
        gone_is_fine(engine.stop_sandbox(id).await)?;
        Ok(Response::new(proto::StopPodSandboxResponse {}))
    }

    async fn remove_pod_sandbox(
        &self,
        request: Request<proto::RemovePodSandboxRequest>,
    ) -> Answer<proto::RemovePodSandboxResponse> {
        let engine = self.gate.engine()?;
        let request = request.into_inner();
        let id = id("pod_sandbox_id", &request.pod_sandbox_id)?;
        about("sandbox_id", id);
        gone_is_fine(engine.remove_sandbox(id).await)?;
        Ok(Response::new(proto::RemovePodSandboxResponse {}))
    }

    async fn pod_sandbox_status(
        &self,
        request: Request<proto::PodSandboxStatusRequest>,
    ) -> Answer<proto::PodSandboxStatusResponse> {
        let engine = self.gate.engine()?;
        let request = request.into_inner();
        let id = id("pod_sandbox_id", &request.pod_sandbox_id)?;
        about("sandbox_id", id);
        let view = engine.sandbox_status(id)?;
        let containers = engine.list_containers()?;
        let containers = containers.iter().filter(|c| c.sandbox == view.id);
        Ok(Response::new(proto::PodSandboxStatusResponse {
            status: Some(to_proto::sandbox_status(&view)),
            info: verbose(request.verbose, || to_proto::sandbox_info(&view)),
            containers_statuses: containers.map(to_proto::container_status).collect(),
            timestamp: now_nanos(),
        }))
    }

    async fn list_pod_sandbox(
        &self,
        request: Request<proto::ListPodSandboxRequest>,
    ) -> Answer<proto::ListPodSandboxResponse> {
        let filter = SandboxFilter::try_from(request.into_inner().filter)?;
        let views = self.gate.engine()?.list_sandboxes()?;
        let items = views.iter().filter(|v| filter.fits(v)).map(to_proto::sandbox).collect();
        Ok(Response::new(proto::ListPodSandboxResponse { items }))
    }

    async fn create_container(
        &self,
        request: Request<proto::CreateContainerRequest>,
    ) -> Answer<proto::CreateContainerResponse> {
        let engine = self.gate.engine()?;
        let request = request.into_inner();
        let sandbox = id("pod_sandbox_id", &request.pod_sandbox_id)?;
        about("sandbox_id", sandbox);
        let (config, asked) = container_config("config", request.config)?;
        about("container", &config.name);
        about("image", &config.image);
        check_fit(asked, &engine.sandbox_status(sandbox)?.config)?;
        let id = engine.create_container(sandbox, config).await?;
        about("container_id", id.as_str());
        Ok(Response::new(proto::CreateContainerResponse { container_id: id.to_string() }))
    }

    async fn start_container(
        &self,
        request: Request<proto::StartContainerRequest>,
    ) -> Answer<proto::StartContainerResponse> {
        let engine = self.gate.engine()?;
        let request = request.into_inner();
        let id = id("container_id", &request.container_id)?;
        about("container_id", id);
        engine.start_container(id).await?;
        Ok(Response::new(proto::StartContainerResponse {}))
    }

    async fn stop_container(
        &self,
        request: Request<proto::StopContainerRequest>,
    ) -> Answer<proto::StopContainerResponse> {
        let engine = self.gate.engine()?;
        let request = request.into_inner();
        let id = id("container_id", &request.container_id)?;
        about("container_id", id);
        let grace = from_proto::grace("timeout", request.timeout)?;
        gone_is_fine(engine.stop_container(id, grace).await)?;
        Ok(Response::new(proto::StopContainerResponse {}))
    }

    async fn remove_container(
        &self,
        request: Request<proto::RemoveContainerRequest>,
    ) -> Answer<proto::RemoveContainerResponse> {
        let engine = self.gate.engine()?;
        let request = request.into_inner();
        let id = id("container_id", &request.container_id)?;
        about("container_id", id);
        gone_is_fine(engine.remove_container(id).await)?;
        Ok(Response::new(proto::RemoveContainerResponse {}))
    }

    async fn list_containers(
        &self,
        request: Request<proto::ListContainersRequest>,
    ) -> Answer<proto::ListContainersResponse> {
        let filter = ContainerFilter::try_from(request.into_inner().filter)?;
        let views = self.gate.engine()?.list_containers()?;
        let containers = views.iter().filter(|v| filter.fits(v)).map(to_proto::container).collect();
        Ok(Response::new(proto::ListContainersResponse { containers }))
    }

    async fn container_status(
        &self,
        request: Request<proto::ContainerStatusRequest>,
    ) -> Answer<proto::ContainerStatusResponse> {
        let engine = self.gate.engine()?;
        let request = request.into_inner();
        let id = id("container_id", &request.container_id)?;
        about("container_id", id);
        let view = engine.container_status(id)?;
        Ok(Response::new(proto::ContainerStatusResponse {
            status: Some(to_proto::container_status(&view)),
            info: verbose(request.verbose, || to_proto::container_info(&view)),
        }))
    }

    async fn update_container_resources(
        &self,
        request: Request<proto::UpdateContainerResourcesRequest>,
    ) -> Answer<proto::UpdateContainerResourcesResponse> {
        let engine = self.gate.engine()?;
        let request = request.into_inner();
        let id = id("container_id", &request.container_id)?;
        about("container_id", id);
        engine.update_container(id, update_resources(&request)?).await?;
        Ok(Response::new(proto::UpdateContainerResourcesResponse {}))
    }

    async fn reopen_container_log(
        &self,
        request: Request<proto::ReopenContainerLogRequest>,
    ) -> Answer<proto::ReopenContainerLogResponse> {
        let engine = self.gate.engine()?;
        let request = request.into_inner();
        let id = id("container_id", &request.container_id)?;
        about("container_id", id);
        engine.reopen_log(id).await?;
        Ok(Response::new(proto::ReopenContainerLogResponse {}))
    }

    async fn exec_sync(
        &self,
        request: Request<proto::ExecSyncRequest>,
    ) -> Answer<proto::ExecSyncResponse> {
        let engine = self.gate.engine()?;
        let request = request.into_inner();
        let id = id("container_id", &request.container_id)?;
        about("container_id", id);
        let command = from_proto::command("cmd", request.cmd)?;
        let timeout = from_proto::timeout("timeout", request.timeout)?;
        let output = engine.exec_sync(id, command, timeout).await?;
        Ok(Response::new(proto::ExecSyncResponse {
            stdout: output.stdout,
            stderr: output.stderr,
            exit_code: output.exit_code,
        }))
    }

    async fn container_stats(
        &self,
        request: Request<proto::ContainerStatsRequest>,
    ) -> Answer<proto::ContainerStatsResponse> {
        let engine = self.gate.engine()?;
        let request = request.into_inner();
        let id = id("container_id", &request.container_id)?;
        about("container_id", id);
        let stats = Some(container_figures(&engine.container_stats(id).await?));
        Ok(Response::new(proto::ContainerStatsResponse { stats }))
    }

    async fn list_container_stats(
        &self,
        request: Request<proto::ListContainerStatsRequest>,
    ) -> Answer<proto::ListContainerStatsResponse> {
        let engine = self.gate.engine()?;
        let filter = ContainerFilter::from(request.into_inner().filter);
        let views = engine.list_containers()?.into_iter().filter(|v| filter.fits(v));
        let stats = engine.list_container_stats(views.map(|v| v.id).collect()).await?;
        let stats = stats.iter().map(container_figures).collect();
        Ok(Response::new(proto::ListContainerStatsResponse { stats }))
    }

    async fn pod_sandbox_stats(
        &self,
        request: Request<proto::PodSandboxStatsRequest>,
    ) -> Answer<proto::PodSandboxStatsResponse> {
        let engine = self.gate.engine()?;
        let request = request.into_inner();
        let id = id("pod_sandbox_id", &request.pod_sandbox_id)?;
        about("sandbox_id", id);
        let stats = Some(sandbox_figures(&engine.sandbox_stats(id).await?));
        Ok(Response::new(proto::PodSandboxStatsResponse { stats }))
    }

    async fn list_pod_sandbox_stats(
        &self,
        request: Request<proto::ListPodSandboxStatsRequest>,
    ) -> Answer<proto::ListPodSandboxStatsResponse> {
        let engine = self.gate.engine()?;
        let filter = SandboxFilter::from(request.into_inner().filter);
        let mut stats = Vec::new();
        for view in engine.list_sandboxes()?.iter().filter(|v| filter.fits(v)) {
            match engine.sandbox_stats(view.id.as_str()).await {
                Ok(figures) => stats.push(sandbox_figures(&figures)),
                // Removed since the list was made.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Response::new(proto::ListPodSandboxStatsResponse { stats }))
    }

    type GetContainerEventsStream = Changes;

    async fn get_container_events(
        &self,
        _: Request<proto::GetEventsRequest>,
    ) -> Answer<Self::GetContainerEventsStream> {
        Ok(Response::new(changes(self.gate.engine()?.clone(), self.stop.clone())))
    }

    async fn exec(&self, _: Request<proto::ExecRequest>) -> Answer<proto::ExecResponse> {
        Err(unimplemented("Exec"))
    }

    async fn attach(&self, _: Request<proto::AttachRequest>) -> Answer<proto::AttachResponse> {
        Err(unimplemented("Attach"))
    }

    async fn port_forward(
        &self,
        _: Request<proto::PortForwardRequest>,
    ) -> Answer<proto::PortForwardResponse> {
        Err(unimplemented("PortForward"))
    }

    async fn update_runtime_config(
        &self,
        _: Request<proto::UpdateRuntimeConfigRequest>,
    ) -> Answer<proto::UpdateRuntimeConfigResponse> {
        Err(unimplemented("UpdateRuntimeConfig"))
    }

    async fn checkpoint_container(
        &self,
        _: Request<proto::CheckpointContainerRequest>,
    ) -> Answer<proto::CheckpointContainerResponse> {
        Err(unimplemented("CheckpointContainer"))
    }

    async fn checkpoint_pod(
        &self,
        _: Request<proto::CheckpointPodRequest>,
    ) -> Answer<proto::CheckpointPodResponse> {
        Err(unimplemented("CheckpointPod"))
    }

    async fn restore_pod(
        &self,
        _: Request<proto::RestorePodRequest>,
    ) -> Answer<proto::RestorePodResponse> {
        Err(unimplemented("RestorePod"))
    }

    async fn list_metric_descriptors(
        &self,
        _: Request<proto::ListMetricDescriptorsRequest>,
    ) -> Answer<proto::ListMetricDescriptorsResponse> {
        Err(unimplemented("ListMetricDescriptors"))
    }

    async fn list_pod_sandbox_metrics(
        &self,
        _: Request<proto::ListPodSandboxMetricsRequest>,
    ) -> Answer<proto::ListPodSandboxMetricsResponse> {
        Err(unimplemented("ListPodSandboxMetrics"))
    }

    async fn update_pod_sandbox_resources(
        &self,
        _: Request<proto::UpdatePodSandboxResourcesRequest>,
    ) -> Answer<proto::UpdatePodSandboxResourcesResponse> {
        Err(unimplemented("UpdatePodSandboxResources"))
    }

    type StreamPodSandboxesStream = BoxStream<proto::StreamPodSandboxesResponse>;

    async fn stream_pod_sandboxes(
        &self,
        _: Request<proto::StreamPodSandboxesRequest>,
    ) -> Answer<Self::StreamPodSandboxesStream> {
        Err(unimplemented("StreamPodSandboxes"))
    }

    type StreamContainersStream = BoxStream<proto::StreamContainersResponse>;

    async fn stream_containers(
        &self,
        _: Request<proto::StreamContainersRequest>,
    ) -> Answer<Self::StreamContainersStream> {
        Err(unimplemented("StreamContainers"))
    }

    type StreamContainerStatsStream = BoxStream<proto::StreamContainerStatsResponse>;

    async fn stream_container_stats(
        &self,
        _: Request<proto::StreamContainerStatsRequest>,
    ) -> Answer<Self::StreamContainerStatsStream> {
        Err(unimplemented("StreamContainerStats"))
    }

    type StreamPodSandboxStatsStream = BoxStream<proto::StreamPodSandboxStatsResponse>;

    async fn stream_pod_sandbox_stats(
        &self,
        _: Request<proto::StreamPodSandboxStatsRequest>,
    ) -> Answer<Self::StreamPodSandboxStatsStream> {
        Err(unimplemented("StreamPodSandboxStats"))
    }

    type StreamPodSandboxMetricsStream = BoxStream<proto::StreamPodSandboxMetricsResponse>;

    async fn stream_pod_sandbox_metrics(
        &self,
        _: Request<proto::StreamPodSandboxMetricsRequest>,
    ) -> Answer<Self::StreamPodSandboxMetricsStream> {
        Err(unimplemented("StreamPodSandboxMetrics"))
    }
}

/// Stopping and removing what does not exist succeeds.
fn gone_is_fine(result: Result<(), crate::engine::EngineError>) -> Result<(), Status> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other.map_err(Status::from),
    }
}

fn verbose(
    wanted: bool,
    info: impl FnOnce() -> BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    if wanted { info() } else { BTreeMap::new() }
}

fn container_figures(figures: &ContainerStatsView) -> proto::ContainerStats {
    to_proto::container_stats(&Figures {
        view: &figures.view,
        stats: figures.stats.as_ref(),
        writable_layer: figures.writable_layer.as_ref(),
        nano_cores: figures.nano_cores,
    })
}

fn sandbox_figures(figures: &SandboxStatsView) -> proto::PodSandboxStats {
    let containers = figures.containers.iter().map(container_figures).collect();
    let SandboxStatsView { view, stats, network, process_count, .. } = figures;
    to_proto::sandbox_stats(view, stats.as_ref(), network, containers, *process_count)
}

/// The time of an answer, Unix nanoseconds.
fn now_nanos() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
