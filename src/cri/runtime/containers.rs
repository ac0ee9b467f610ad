//! The verbs of containers.

use super::info::{gone_is_fine, verbose};
use crate::container::create::IMAGE_VOLUME;
use crate::cri::from_proto::{self, container_config, fit, id, pod_again, update_resources};
use crate::cri::instrument::about;
use crate::cri::{proto, to_proto};
use crate::engine::{Engine, EngineError};
use tonic::Status;

/// The word for it in a message, as kubelets look for it.
const IMAGE_VOLUME_MOUNT_FAILED: &str = "ImageVolumeMountFailed";

pub(in crate::cri) async fn create(
    engine: &Engine,
    request: proto::CreateContainerRequest,
) -> Result<proto::CreateContainerResponse, Status> {
    let sandbox = id("pod_sandbox_id", &request.pod_sandbox_id)?;
    about("sandbox_id", sandbox);
    let handlers = request.config.as_ref().map(handlers_of).unwrap_or_default();
    let (mut config, asked) = container_config("config", request.config)?;
    for (field, handler) in &handlers {
        engine.knows_handler(field, handler)?;
    }
    about("container", &config.name);
    about("image", &config.image);
    let pod = engine.sandbox_status(sandbox)?.config;
    let pod = pod_again("sandbox_config", request.sandbox_config, &pod, &mut config)?;
    fit(&mut config, asked, &pod)?;
    let id = engine.create_container(sandbox, config).await.map_err(create_failed)?;
    about("container_id", id.as_str());
    Ok(proto::CreateContainerResponse { container_id: id.to_string() })
}

/// The runtime handlers that a container's images name, with the fields that do.
fn handlers_of(config: &proto::ContainerConfig) -> Vec<(String, String)> {
    let named = |field: String, image: &Option<proto::ImageSpec>| {
        Some((field, image.as_ref()?.runtime_handler.clone()))
    };
    let own = named("config.image.runtime_handler".to_owned(), &config.image);
    let mounts = config.mounts.iter().enumerate().filter_map(|(n, mount)| {
        named(format!("config.mounts[{n}].image.runtime_handler"), &mount.image)
    });
    own.into_iter().chain(mounts).collect()
}

/// An image volume that cannot be had gets the word by which a kubelet tells it from other causes.
fn create_failed(error: EngineError) -> Status {
    let of_volume = error.failed_step() == Some(IMAGE_VOLUME);
    let status = Status::from(error);
    if of_volume {
        let message = format!("{IMAGE_VOLUME_MOUNT_FAILED}: {}", status.message());
        Status::new(status.code(), message)
    } else {
        status
    }
}

pub(in crate::cri) async fn start(
    engine: &Engine,
    request: proto::StartContainerRequest,
) -> Result<proto::StartContainerResponse, Status> {
    let id = id("container_id", &request.container_id)?;
    about("container_id", id);
    engine.start_container(id).await?;
    Ok(proto::StartContainerResponse {})
}

pub(in crate::cri) async fn stop(
    engine: &Engine,
    request: proto::StopContainerRequest,
) -> Result<proto::StopContainerResponse, Status> {
    let id = id("container_id", &request.container_id)?;
    about("container_id", id);
    let grace = from_proto::grace("timeout", request.timeout)?;
    gone_is_fine(engine.stop_container(id, grace).await)?;
    Ok(proto::StopContainerResponse {})
}

pub(in crate::cri) async fn remove(
    engine: &Engine,
    request: proto::RemoveContainerRequest,
) -> Result<proto::RemoveContainerResponse, Status> {
    let id = id("container_id", &request.container_id)?;
    about("container_id", id);
    gone_is_fine(engine.remove_container(id).await)?;
    Ok(proto::RemoveContainerResponse {})
}

pub(in crate::cri) fn status(
    engine: &Engine,
    request: proto::ContainerStatusRequest,
) -> Result<proto::ContainerStatusResponse, Status> {
    let id = id("container_id", &request.container_id)?;
    about("container_id", id);
    let view = engine.container_status(id)?;
    Ok(proto::ContainerStatusResponse {
        status: Some(to_proto::container_status(&view)),
        info: verbose(request.verbose, || to_proto::container_info(&view)),
    })
}

pub(in crate::cri) async fn update(
    engine: &Engine,
    request: proto::UpdateContainerResourcesRequest,
) -> Result<proto::UpdateContainerResourcesResponse, Status> {
    let id = id("container_id", &request.container_id)?;
    about("container_id", id);
    engine.update_container(id, update_resources(&request)?).await?;
    Ok(proto::UpdateContainerResourcesResponse {})
}

pub(in crate::cri) async fn reopen_log(
    engine: &Engine,
    request: proto::ReopenContainerLogRequest,
) -> Result<proto::ReopenContainerLogResponse, Status> {
    let id = id("container_id", &request.container_id)?;
    about("container_id", id);
    engine.reopen_log(id).await?;
    Ok(proto::ReopenContainerLogResponse {})
}

pub(in crate::cri) async fn exec_sync(
    engine: &Engine,
    request: proto::ExecSyncRequest,
) -> Result<proto::ExecSyncResponse, Status> {
    let id = id("container_id", &request.container_id)?;
    about("container_id", id);
    let command = from_proto::command("cmd", request.cmd)?;
    let timeout = from_proto::timeout("timeout", request.timeout)?;
    let output = engine.exec_sync(id, command, timeout).await?;
    Ok(proto::ExecSyncResponse {
        stdout: output.stdout,
        stderr: output.stderr,
        exit_code: output.exit_code,
    })
}
