//! Checkpoints of containers and pods.

use crate::cri::from_proto::{checkpoint_container, checkpoint_pod, deadline, restore_pod};
use crate::cri::instrument::about;
use crate::cri::proto;
use crate::engine::Engine;
use tonic::{Request, Status};

/// The header of a call's deadline (gRPC over HTTP/2, "Requests").
const DEADLINE: &str = "grpc-timeout";

pub(in crate::cri) async fn container(
    engine: &Engine,
    request: proto::CheckpointContainerRequest,
) -> Result<proto::CheckpointContainerResponse, Status> {
    let request = checkpoint_container(&request)?;
    about("container_id", &request.container);
    engine.checkpoint_container(request).await?;
    Ok(proto::CheckpointContainerResponse {})
}

pub(in crate::cri) async fn pod(
    engine: &Engine,
    request: Request<proto::CheckpointPodRequest>,
) -> Result<proto::CheckpointPodResponse, Status> {
    let header = request.metadata().get(DEADLINE).and_then(|value| value.to_str().ok());
    let limit = header.and_then(deadline);
    let request = request.into_inner();
    about("sandbox_id", &request.pod_sandbox_id);
    engine.checkpoint_pod(checkpoint_pod(&request, limit)?).await?;
    Ok(proto::CheckpointPodResponse {})
}

pub(in crate::cri) async fn restore(
    engine: &Engine,
    request: proto::RestorePodRequest,
) -> Result<proto::RestorePodResponse, Status> {
    let made = engine.restore_pod(restore_pod(request)?).await?;
    about("sandbox_id", made.sandbox.as_str());
    let restored = |(name, id): (String, crate::ids::ContainerId)| proto::RestoredContainer {
        name,
        container_id: id.to_string(),
    };
    Ok(proto::RestorePodResponse {
        pod_sandbox_id: made.sandbox.to_string(),
        restored_containers: made.containers.into_iter().map(restored).collect(),
    })
}
