//! The verbs of sandboxes.

use super::info::{gone_is_fine, verbose};
use crate::clock;
use crate::cri::from_proto::{self, id, pod_resources, sandbox_config};
use crate::cri::instrument::about;
use crate::cri::{proto, to_proto};
use crate::engine::Engine;
use tonic::Status;

pub(in crate::cri) async fn run(
    engine: &Engine,
    request: proto::RunPodSandboxRequest,
) -> Result<proto::RunPodSandboxResponse, Status> {
    let handler = from_proto::handler("runtime_handler", &request.runtime_handler)?;
    let config = sandbox_config("config", request.config)?;
    about("pod", &config.metadata.name);
    about("namespace", &config.metadata.namespace);
    about("pod_uid", &config.metadata.uid);
    let id = engine.run_sandbox(config, handler).await?;
    about("sandbox_id", id.as_str());
    Ok(proto::RunPodSandboxResponse { pod_sandbox_id: id.to_string() })
}

pub(in crate::cri) async fn stop(
    engine: &Engine,
    request: proto::StopPodSandboxRequest,
) -> Result<proto::StopPodSandboxResponse, Status> {
    let id = id("pod_sandbox_id", &request.pod_sandbox_id)?;
    about("sandbox_id", id);
    gone_is_fine(engine.stop_sandbox(id).await)?;
    Ok(proto::StopPodSandboxResponse {})
}

pub(in crate::cri) async fn remove(
    engine: &Engine,
    request: proto::RemovePodSandboxRequest,
) -> Result<proto::RemovePodSandboxResponse, Status> {
    let id = id("pod_sandbox_id", &request.pod_sandbox_id)?;
    about("sandbox_id", id);
    gone_is_fine(engine.remove_sandbox(id).await)?;
    Ok(proto::RemovePodSandboxResponse {})
}

pub(in crate::cri) fn status(
    engine: &Engine,
    request: proto::PodSandboxStatusRequest,
) -> Result<proto::PodSandboxStatusResponse, Status> {
    let id = id("pod_sandbox_id", &request.pod_sandbox_id)?;
    about("sandbox_id", id);
    let view = engine.sandbox_status(id)?;
    let containers = engine.containers_of(&view.id);
    Ok(proto::PodSandboxStatusResponse {
        status: Some(to_proto::sandbox_status(&view)),
        info: verbose(request.verbose, || to_proto::sandbox_info(&view)),
        containers_statuses: containers.iter().map(to_proto::container_status).collect(),
        timestamp: clock::now_nanos(),
    })
}

pub(in crate::cri) async fn update(
    engine: &Engine,
    request: proto::UpdatePodSandboxResourcesRequest,
) -> Result<proto::UpdatePodSandboxResourcesResponse, Status> {
    let id = id("pod_sandbox_id", &request.pod_sandbox_id)?;
    about("sandbox_id", id);
    engine.update_sandbox(id, pod_resources(&request)?).await?;
    Ok(proto::UpdatePodSandboxResourcesResponse {})
}
