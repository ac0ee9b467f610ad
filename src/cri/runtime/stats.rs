//! Usage figures, of one object, of all in one answer, and in several.

use super::stream::read_chunks;
use crate::cri::from_proto::id;
use crate::cri::instrument::about;
use crate::cri::list_filter::{ContainerFilter, SandboxFilter};
use crate::cri::proto;
use crate::cri::to_proto::{self, Figures};
use crate::engine::{ContainerStatsView, Engine, SandboxStatsView};
use crate::error::ErrorKind;
use crate::ids::{ContainerId, SandboxId};
use tonic::Status;
use tonic::codegen::BoxStream;

/// How many containers, or pods, are read for one message of a stream.
const GROUP: usize = 32;

pub(in crate::cri) async fn container(
    engine: &Engine,
    request: proto::ContainerStatsRequest,
) -> Result<proto::ContainerStatsResponse, Status> {
    let id = id("container_id", &request.container_id)?;
    about("container_id", id);
    let stats = Some(container_figures(&engine.container_stats(id).await?));
    Ok(proto::ContainerStatsResponse { stats })
}

pub(in crate::cri) async fn list_containers(
    engine: &Engine,
    request: proto::ListContainerStatsRequest,
) -> Result<proto::ListContainerStatsResponse, Status> {
    let stats = read_containers(engine, containers(engine, request.filter)?).await?;
    Ok(proto::ListContainerStatsResponse { stats })
}

pub(in crate::cri) fn stream_containers(
    engine: &Engine,
    request: proto::StreamContainerStatsRequest,
) -> Result<BoxStream<proto::StreamContainerStatsResponse>, Status> {
    let ids = containers(engine, request.filter)?;
    let engine = engine.clone();
    let read = move |ids| {
        let engine = engine.clone();
        async move { read_containers(&engine, ids).await }
    };
    let wrap = |container_stats| proto::StreamContainerStatsResponse { container_stats };
    Ok(read_chunks(ids, GROUP, read, wrap))
}

pub(in crate::cri) async fn sandbox(
    engine: &Engine,
    request: proto::PodSandboxStatsRequest,
) -> Result<proto::PodSandboxStatsResponse, Status> {
    let id = id("pod_sandbox_id", &request.pod_sandbox_id)?;
    about("sandbox_id", id);
    let stats = Some(sandbox_figures(&engine.sandbox_stats(id).await?));
    Ok(proto::PodSandboxStatsResponse { stats })
}

pub(in crate::cri) async fn list_sandboxes(
    engine: &Engine,
    request: proto::ListPodSandboxStatsRequest,
) -> Result<proto::ListPodSandboxStatsResponse, Status> {
    let stats = read_sandboxes(engine, sandboxes(engine, request.filter)?).await?;
    Ok(proto::ListPodSandboxStatsResponse { stats })
}

pub(in crate::cri) fn stream_sandboxes(
    engine: &Engine,
    request: proto::StreamPodSandboxStatsRequest,
) -> Result<BoxStream<proto::StreamPodSandboxStatsResponse>, Status> {
    let ids = sandboxes(engine, request.filter)?;
    let engine = engine.clone();
    let read = move |ids| {
        let engine = engine.clone();
        async move { read_sandboxes(&engine, ids).await }
    };
    let wrap = |pod_sandbox_stats| proto::StreamPodSandboxStatsResponse { pod_sandbox_stats };
    Ok(read_chunks(ids, GROUP, read, wrap))
}

fn containers(
    engine: &Engine,
    filter: Option<proto::ContainerStatsFilter>,
) -> Result<Vec<ContainerId>, Status> {
    let filter = ContainerFilter::from(filter);
    let views = engine.list_containers()?.into_iter().filter(|v| filter.fits(v));
    Ok(views.map(|v| v.id).collect())
}

fn sandboxes(
    engine: &Engine,
    filter: Option<proto::PodSandboxStatsFilter>,
) -> Result<Vec<SandboxId>, Status> {
    let filter = SandboxFilter::from(filter);
    let views = engine.list_sandboxes()?.into_iter().filter(|v| filter.fits(v));
    Ok(views.map(|v| v.id).collect())
}

async fn read_containers(
    engine: &Engine,
    ids: Vec<ContainerId>,
) -> Result<Vec<proto::ContainerStats>, Status> {
    let stats = engine.list_container_stats(ids).await?;
    Ok(stats.iter().map(container_figures).collect())
}

/// Those that were removed since the list was made are left out.
async fn read_sandboxes(
    engine: &Engine,
    ids: Vec<SandboxId>,
) -> Result<Vec<proto::PodSandboxStats>, Status> {
    let mut stats = Vec::new();
    for id in ids {
        match engine.sandbox_stats(id.as_str()).await {
            Ok(figures) => stats.push(sandbox_figures(&figures)),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(stats)
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
