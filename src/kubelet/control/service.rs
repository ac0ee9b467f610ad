//! The service: read the board, or hand what is applied to the local source.

use super::gate::{Control, KubeletGate};
use super::proto::{self, pods_server::Pods, pods_server::PodsServer};
use crate::cri::status_of;
use crate::kubelet::api::{Decoded, Object, decode};
use crate::kubelet::board::{Board, Change, Event, EventKind, PodView};
use crate::kubelet::source::{Existing, FileStatus, Kind};
use crate::kubelet::spec::full_name;
use futures::stream::StreamExt as _;
use tokio_stream::wrappers::BroadcastStream;
use tokio_util::sync::CancellationToken;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status};

type Answer<T> = Result<Response<T>, Status>;

/// The largest manifest, bytes, and something for the frame around it.
const MAX_REQUEST: usize = (10 << 20) + (64 << 10);

struct PodsService {
    gate: KubeletGate,
    stop: CancellationToken,
}

/// The service behind `gate`. Streams end when `stop` is cancelled.
pub fn service(gate: KubeletGate, stop: CancellationToken) -> PodsServer<impl Pods> {
    PodsServer::new(PodsService { gate, stop })
        .max_decoding_message_size(MAX_REQUEST)
        .max_encoding_message_size(usize::MAX)
}

fn json(object: &impl serde::Serialize) -> String {
    // An object of the API is text and numbers.
    serde_json::to_string(object).unwrap_or_default()
}

fn event(event: &Event) -> proto::Event {
    proto::Event {
        r#type: match event.kind {
            EventKind::Normal => "Normal".to_owned(),
            EventKind::Warning => "Warning".to_owned(),
        },
        reason: event.reason.clone(),
        message: event.message.clone(),
        pod: event.pod.clone(),
        container: event.container.clone().unwrap_or_default(),
        count: event.count,
        first: event.first_nanos,
        last: event.last_nanos,
        node: event.node.clone().unwrap_or_default(),
    }
}

fn pod(view: &PodView) -> proto::Pod {
    proto::Pod {
        json: json(&*view.pod),
        origin: view.origin.clone(),
        events: view.events.iter().map(event).collect(),
    }
}

fn manifest(source: String, origin: String, status: FileStatus) -> proto::Manifest {
    let FileStatus { problems, warnings, pods } = status;
    proto::Manifest { source, origin, problems, warnings, pods, ..proto::Manifest::default() }
}

/// A kind in the words that people have for it.
fn parse_kind(text: &str) -> Option<Kind> {
    match text.to_lowercase().as_str() {
        "pod" | "pods" | "po" => Some(Kind::Pod),
        "configmap" | "configmaps" | "cm" => Some(Kind::ConfigMap),
        "secret" | "secrets" => Some(Kind::Secret),
        "service" | "services" | "svc" => Some(Kind::Service),
        _ => None,
    }
}

fn change(change: &Change) -> proto::Change {
    use proto::change::What;
    proto::Change {
        what: Some(match change {
            Change::Pod(pod) => What::Pod(json(&**pod)),
            Change::Gone(pod) => What::Gone(json(&**pod)),
            Change::Event(of) => What::Event(event(of)),
        }),
    }
}

/// Refuses a pod of which there is one of the same name: of another source, or one that has not ended yet.
fn refuse_known(decoded: &Decoded, board: &Board) -> Result<(), Status> {
    let known = board.pods();
    let names = decoded.objects.iter().filter_map(|object| match object {
        Object::Pod(pod) => Some(full_name(pod)),
        _ => None,
    });
    let mut taken = names.filter(|name| known.values().any(|view| full_name(&view.pod) == *name));
    match taken.next() {
        Some(name) => Err(Status::already_exists(format!("pod {name} exists already"))),
        None => Ok(()),
    }
}

#[tonic::async_trait]
impl Pods for PodsService {
    async fn list_pods(&self, _: Request<proto::ListPodsRequest>) -> Answer<proto::ListPodsAnswer> {
        let pods = self.gate.control()?.board.pods();
        Ok(Response::new(proto::ListPodsAnswer { pods: pods.values().map(pod).collect() }))
    }

    type WatchPodsStream = BoxStream<proto::Change>;

    async fn watch_pods(
        &self,
        _: Request<proto::WatchPodsRequest>,
    ) -> Answer<Self::WatchPodsStream> {
        let changes = BroadcastStream::new(self.gate.control()?.board.subscribe());
        let changes = changes.map(|of| match of {
            Ok(of) => Ok(change(&of)),
            Err(missed) => Err(Status::data_loss(format!("{missed}: list, and ask again"))),
        });
        let stopped = self.stop.clone().cancelled_owned();
        Ok(Response::new(changes.take_until(stopped).boxed()))
    }

    async fn list_events(
        &self,
        _: Request<proto::ListEventsRequest>,
    ) -> Answer<proto::ListEventsAnswer> {
        let events = self.gate.control()?.board.events();
        Ok(Response::new(proto::ListEventsAnswer { events: events.iter().map(event).collect() }))
    }

    async fn get_node(&self, _: Request<proto::GetNodeRequest>) -> Answer<proto::GetNodeAnswer> {
        let board = &self.gate.control()?.board;
        let node = board.node();
        let node = node.ok_or_else(|| Status::unavailable("the node was not looked at yet"))?;
        let events = board.node_events().iter().map(event).collect();
        Ok(Response::new(proto::GetNodeAnswer { json: json(&*node), events }))
    }

    async fn list_manifests(
        &self,
        _: Request<proto::ListManifestsRequest>,
    ) -> Answer<proto::ListManifestsAnswer> {
        let all = self.gate.control()?.board.manifests();
        let manifests = all
            .into_iter()
            .map(|((source, origin), status)| manifest(source.to_string(), origin, status));
        Ok(Response::new(proto::ListManifestsAnswer { manifests: manifests.collect() }))
    }

    async fn apply(&self, request: Request<proto::ApplyRequest>) -> Answer<proto::ApplyAnswer> {
        let Control { local, board } = self.gate.control()?;
        let proto::ApplyRequest { manifest: text, only_new } = request.into_inner();
        let decoded = decode(&text).map_err(|error| status_of(error.kind(), &error))?;
        let existing = if only_new { Existing::Stays } else { Existing::Replaced };
        if only_new {
            refuse_known(&decoded, board)?;
        }
        let warnings = decoded.warnings.clone();
        let stored = local.apply(decoded, existing).await.map_err(|e| status_of(e.kind(), &e))?;
        let applied = stored.into_iter().map(|stored| proto::Manifest {
            outcome: stored.outcome.to_string(),
            uid: stored.uid.unwrap_or_default(),
            ..manifest("local".to_owned(), stored.origin, stored.status)
        });
        Ok(Response::new(proto::ApplyAnswer { applied: applied.collect(), warnings }))
    }

    async fn delete(&self, request: Request<proto::DeleteRequest>) -> Answer<proto::DeleteAnswer> {
        let local = &self.gate.control()?.local;
        let proto::DeleteRequest { kind, namespace, name, uid } = request.into_inner();
        let kind = parse_kind(&kind).ok_or_else(|| {
            let message = format!("kind {kind:?} is not Pod, ConfigMap, Secret or Service");
            Status::invalid_argument(message)
        })?;
        let namespace = if namespace.is_empty() { "default" } else { &namespace };
        let uid = Some(uid.as_str()).filter(|uid| !uid.is_empty());
        let deleted = local.delete(kind, (namespace, &name), uid).await;
        deleted.map_err(|e| status_of(e.kind(), &e))?;
        Ok(Response::new(proto::DeleteAnswer {}))
    }
}
