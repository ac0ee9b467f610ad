//! GetContainerEvents: the engine's events as they happen, each with the pod as it is then.

use super::proto::ContainerEventResponse;
use super::to_proto;
use crate::engine::Engine;
use crate::engine::view::EngineEvent;
use futures::stream::{StreamExt as _, unfold};
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::codegen::BoxStream;
use tracing::warn;

/// A stream of changes.
pub(super) type Changes = BoxStream<ContainerEventResponse>;

/// All changes from now on, until the caller leaves or berth stops.
///
/// A caller that does not keep up is told so by the end of the stream: it then lists everything and
/// asks again, instead of missing events without knowing.
pub(super) fn changes(engine: Engine, stop: CancellationToken) -> Changes {
    let events = engine.subscribe();
    let stopped = stop.cancelled_owned();
    let stream = unfold(Some((engine, events)), |state| async move {
        let (engine, mut events) = state?;
        match next(&engine, &mut events).await {
            Some(Ok(event)) => Some((Ok(event), Some((engine, events)))),
            Some(Err(status)) => Some((Err(status), None)),
            None => None,
        }
    });
    stream.take_until(stopped).boxed()
}

async fn next(
    engine: &Engine,
    events: &mut Receiver<EngineEvent>,
) -> Option<Result<ContainerEventResponse, Status>> {
    loop {
        match events.recv().await {
            Ok(event) => {
                if let Some(response) = response(engine, &event) {
                    return Some(Ok(response));
                }
            }
            Err(RecvError::Lagged(missed)) => {
                warn!(missed, "an event stream was too slow and was ended");
                let message = format!("{missed} events were missed");
                return Some(Err(Status::data_loss(message)));
            }
            Err(RecvError::Closed) => return None,
        }
    }
}

/// The event with what is known of its pod; a pod that has gone by now is absent.
fn response(engine: &Engine, event: &EngineEvent) -> Option<ContainerEventResponse> {
    let kind = to_proto::event_type(event.kind)?;
    let containers = engine.list_containers().unwrap_or_default();
    let of_pod = containers.iter().filter(|c| c.sandbox == event.sandbox);
    let sandbox = engine.sandbox_status(event.sandbox.as_str()).ok();
    Some(ContainerEventResponse {
        container_id: match &event.container {
            Some(id) => id.to_string(),
            None => event.sandbox.to_string(),
        },
        container_event_type: kind.into(),
        created_at: event.at_nanos,
        pod_sandbox_status: sandbox.as_ref().map(to_proto::sandbox_status),
        containers_statuses: of_pod.map(to_proto::container_status).collect(),
    })
}
