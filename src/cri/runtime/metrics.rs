//! Metrics of all ready pods, in one answer and in several.

use super::stream::read_chunks;
use crate::cri::list_filter::SandboxFilter;
use crate::cri::{proto, to_proto};
use crate::engine::Engine;
use crate::error::ErrorKind;
use crate::ids::SandboxId;
use tonic::Status;
use tonic::codegen::BoxStream;

/// How many pods are read for one message of a stream.
const GROUP: usize = 16;

pub(in crate::cri) fn descriptors() -> proto::ListMetricDescriptorsResponse {
    proto::ListMetricDescriptorsResponse { descriptors: to_proto::metric_descriptors() }
}

pub(in crate::cri) async fn list(
    engine: &Engine,
) -> Result<proto::ListPodSandboxMetricsResponse, Status> {
    let pod_metrics = read(engine, ready(engine)?).await?;
    Ok(proto::ListPodSandboxMetricsResponse { pod_metrics })
}

pub(in crate::cri) fn stream(
    engine: &Engine,
) -> Result<BoxStream<proto::StreamPodSandboxMetricsResponse>, Status> {
    let ids = ready(engine)?;
    let engine = engine.clone();
    let read = move |ids| {
        let engine = engine.clone();
        async move { read(&engine, ids).await }
    };
    let wrap = |pod_sandbox_metrics| proto::StreamPodSandboxMetricsResponse { pod_sandbox_metrics };
    Ok(read_chunks(ids, GROUP, read, wrap))
}

fn ready(engine: &Engine) -> Result<Vec<SandboxId>, Status> {
    let filter = SandboxFilter::from(None::<proto::PodSandboxStatsFilter>);
    let views = engine.list_sandboxes()?.into_iter().filter(|v| filter.fits(v));
    Ok(views.map(|v| v.id).collect())
}

/// Those that were stopped or removed since the list was made are left out.
async fn read(
    engine: &Engine,
    ids: Vec<SandboxId>,
) -> Result<Vec<proto::PodSandboxMetrics>, Status> {
    let mut metrics = Vec::new();
    for id in ids {
        match engine.sandbox_metrics(id.as_str()).await {
            Ok(pod) => metrics.extend(pod.as_ref().map(to_proto::pod_metrics)),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(metrics)
}
