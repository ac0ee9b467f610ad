//! Lists of sandboxes and containers, in one answer or in several.
//!
//! Both kinds are made from one snapshot of the registry: an object is in it once, or not at all.

use super::stream::chunks;
use crate::cri::list_filter::{ContainerFilter, SandboxFilter};
use crate::cri::{proto, to_proto};
use crate::engine::Engine;
use crate::engine::view::{ContainerView, SandboxView};
use tonic::Status;
use tonic::codegen::BoxStream;

pub(in crate::cri) fn list_sandboxes(
    engine: &Engine,
    request: proto::ListPodSandboxRequest,
) -> Result<proto::ListPodSandboxResponse, Status> {
    let items = sandboxes(engine, request.filter)?.map(|v| to_proto::sandbox(&v)).collect();
    Ok(proto::ListPodSandboxResponse { items })
}

pub(in crate::cri) fn stream_sandboxes(
    engine: &Engine,
    request: proto::StreamPodSandboxesRequest,
) -> Result<BoxStream<proto::StreamPodSandboxesResponse>, Status> {
    let items = sandboxes(engine, request.filter)?.map(|v| to_proto::sandbox(&v));
    Ok(chunks(items, |pod_sandboxes| proto::StreamPodSandboxesResponse { pod_sandboxes }))
}

pub(in crate::cri) fn list_containers(
    engine: &Engine,
    request: proto::ListContainersRequest,
) -> Result<proto::ListContainersResponse, Status> {
    let items = containers(engine, request.filter)?.map(|v| to_proto::container(&v)).collect();
    Ok(proto::ListContainersResponse { containers: items })
}

pub(in crate::cri) fn stream_containers(
    engine: &Engine,
    request: proto::StreamContainersRequest,
) -> Result<BoxStream<proto::StreamContainersResponse>, Status> {
    let items = containers(engine, request.filter)?.map(|v| to_proto::container(&v));
    Ok(chunks(items, |containers| proto::StreamContainersResponse { containers }))
}

fn sandboxes(
    engine: &Engine,
    filter: Option<proto::PodSandboxFilter>,
) -> Result<impl Iterator<Item = SandboxView> + Send + use<>, Status> {
    let filter = SandboxFilter::try_from(filter)?;
    Ok(engine.list_sandboxes()?.into_iter().filter(move |v| filter.fits(v)))
}

fn containers(
    engine: &Engine,
    filter: Option<proto::ContainerFilter>,
) -> Result<impl Iterator<Item = ContainerView> + Send + use<>, Status> {
    let filter = ContainerFilter::try_from(filter)?;
    Ok(engine.list_containers()?.into_iter().filter(move |v| filter.fits(v)))
}
