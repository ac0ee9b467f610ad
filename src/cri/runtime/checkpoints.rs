//! Checkpoints of containers and pods.

use crate::cri::from_proto::{checkpoint_container, checkpoint_pod, restore_pod};
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
    let id = checkpoint_container(&request)?;
    about("container_id", id);
    engine.checkpoint_container(id).await?;
    Ok(proto::CheckpointContainerResponse {})
}

pub(in crate::cri) async fn pod(
    engine: &Engine,
    request: Request<proto::CheckpointPodRequest>,
) -> Result<proto::CheckpointPodResponse, Status> {
    let deadline = request.metadata().contains_key(DEADLINE);
    let request = request.into_inner();
    about("sandbox_id", &request.pod_sandbox_id);
    engine.checkpoint_pod(checkpoint_pod(&request, deadline)?).await?;
    Ok(proto::CheckpointPodResponse {})
}

pub(in crate::cri) async fn restore(
    engine: &Engine,
    request: proto::RestorePodRequest,
) -> Result<proto::RestorePodResponse, Status> {
    engine.restore_pod(restore_pod(request)?).await?;
    Ok(proto::RestorePodResponse::default())
}
