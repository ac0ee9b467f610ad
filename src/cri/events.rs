//! GetContainerEvents: the engine's events in their order, each with the pod as it was.

use super::proto::ContainerEventResponse;
use super::to_proto;
use crate::engine::view::{ContainerView, EngineEvent, EventKind};
use crate::ids::SandboxId;
use futures::stream::{StreamExt as _, unfold};
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::codegen::BoxStream;
use tracing::warn;

/// A stream of changes.
pub(super) type Changes = BoxStream<ContainerEventResponse>;

/// All of `events`, until the caller leaves or berth stops. `containers` tells what is in a pod.
///
/// A caller that does not keep up is told so by the end of the stream: it then lists everything and
/// asks again, instead of missing events without knowing.
pub(super) fn changes<F>(
    events: Receiver<EngineEvent>,
    containers: F,
    stop: CancellationToken,
) -> Changes
where
    F: Fn(&SandboxId) -> Vec<ContainerView> + Send + Sync + 'static,
{
    let stopped = stop.cancelled_owned();
    let stream = unfold(Some((events, containers)), |state| async move {
        let (mut events, containers) = state?;
        match next(&mut events, &containers).await {
            Some(Ok(event)) => Some((Ok(event), Some((events, containers)))),
            Some(Err(status)) => Some((Err(status), None)),
            None => None,
        }
    });
    stream.take_until(stopped).boxed()
}

async fn next(
    events: &mut Receiver<EngineEvent>,
    containers: &impl Fn(&SandboxId) -> Vec<ContainerView>,
) -> Option<Result<ContainerEventResponse, Status>> {
    loop {
        match events.recv().await {
            Ok(event) => {
                if let Some(response) = response(&event, containers) {
                    return Some(Ok(response));
                }
            }
            Err(RecvError::Lagged(missed)) => {
                warn!(missed, "an event stream was too slow and was ended");
                let message = format!("{missed} events were missed: list, and ask again");
                return Some(Err(Status::data_loss(message)));
            }
            Err(RecvError::Closed) => return None,
        }
    }
}

/// The event with its pod and container as they were then, and the pod's other containers as they
/// are. A container that was removed is not among them.
fn response(
    event: &EngineEvent,
    containers: &impl Fn(&SandboxId) -> Vec<ContainerView>,
) -> Option<ContainerEventResponse> {
    let kind = to_proto::event_type(event.kind)?;
    let own = event.container_id();
    let others = containers(event.sandbox_id());
    let mut statuses: Vec<_> = others
        .iter()
        .filter(|other| Some(&other.id) != own)
        .map(to_proto::container_status)
        .collect();
    if let Some(container) = event.container.as_ref().filter(|_| event.kind != EventKind::Deleted) {
        statuses.push(to_proto::container_status(container));
    }
    Some(ContainerEventResponse {
        container_id: own.map_or_else(|| event.sandbox_id().to_string(), ToString::to_string),
        container_event_type: kind.into(),
        created_at: event.at_nanos,
        pod_sandbox_status: Some(to_proto::sandbox_status(&event.sandbox)),
        containers_statuses: statuses,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::Bus;
    use crate::cri::proto::ContainerEventType;
    use crate::cri::view_fixture::{container, sandbox};
    use std::sync::Arc;

    fn told(bus: &Bus, count: usize) {
        for _ in 0..count {
            bus.tell(EventKind::Started, Arc::new(sandbox()), Some(Arc::new(container())));
        }
    }

    #[tokio::test]
    async fn a_reader_that_keeps_up_gets_everything_in_order_and_no_time_goes_back() {
        let bus = Bus::with_backlog(4);
        let mut stream = changes(bus.subscribe(), |_| vec![], CancellationToken::new());
        let mut last = 0;
        for _ in 0..20 {
            told(&bus, 3);
            for _ in 0..3 {
                let event = stream.next().await.unwrap().unwrap();
                assert!(event.created_at >= last);
                last = event.created_at;
            }
        }
    }

    // The control of the next one: as many as it may lag.
    #[tokio::test]
    async fn a_reader_may_lag_by_the_backlog() {
        let bus = Bus::with_backlog(4);
        let mut stream = changes(bus.subscribe(), |_| vec![], CancellationToken::new());
        told(&bus, 4);
        for _ in 0..4 {
            stream.next().await.unwrap().unwrap();
        }
    }

    #[tokio::test]
    async fn a_reader_that_is_too_slow_is_told_how_many_it_missed_and_that_is_the_end() {
        let bus = Bus::with_backlog(4);
        let mut stream = changes(bus.subscribe(), |_| vec![], CancellationToken::new());
        told(&bus, 7);
        let status = stream.next().await.unwrap().unwrap_err();
        assert_eq!(status.code(), tonic::Code::DataLoss);
        assert!(status.message().starts_with("3 events were missed"), "{status}");
        assert!(stream.next().await.is_none());
    }

    #[tokio::test]
    async fn an_event_has_its_own_container_as_it_was_and_a_removed_one_not_at_all() {
        let bus = Bus::default();
        let now = ContainerView { exit_code: 9, ..container() };
        let stop = CancellationToken::new();
        let mut stream = changes(bus.subscribe(), move |_| vec![now.clone()], stop.clone());
        let then = Arc::new(ContainerView { exit_code: 3, ..container() });
        bus.tell(EventKind::Oom, Arc::new(sandbox()), Some(Arc::clone(&then)));
        bus.tell(EventKind::Stopped, Arc::new(sandbox()), Some(Arc::clone(&then)));
        bus.tell(EventKind::Deleted, Arc::new(sandbox()), Some(then));
        bus.tell(EventKind::Deleted, Arc::new(sandbox()), None);
        let stopped = stream.next().await.unwrap().unwrap();
        assert_eq!(stopped.container_event_type(), ContainerEventType::ContainerStoppedEvent);
        assert_eq!(stopped.containers_statuses.first().unwrap().exit_code, 3);
        let deleted = stream.next().await.unwrap().unwrap();
        assert_eq!(deleted.container_id, container().id.to_string());
        assert!(deleted.containers_statuses.is_empty());
        let of_pod = stream.next().await.unwrap().unwrap();
        assert_eq!(of_pod.container_id, sandbox().id.to_string());
        assert!(of_pod.pod_sandbox_status.is_some());
        stop.cancel();
        assert!(stream.next().await.is_none(), "a stop ends it");
    }
}
