//! The service: check, call the engine, stream what comes.

use super::proto::{self, berth_server::Berth};
use crate::cri::gate::EngineGate;
use crate::cri::instrument::about;
use crate::engine::view::{EngineEvent, EventKind};
use crate::image::{ImageError, ImageInfo, Phase, Pretend, ProgressEvent};
use futures::future::{BoxFuture, FutureExt as _};
use futures::stream::{StreamExt as _, unfold};
use proto::event::Kind;
use proto::image_answer::Answer as ImageReply;
use std::future::Future;
use std::path::Path;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;
use tokio_util::sync::CancellationToken;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status};

type Answer<T> = Result<Response<T>, Status>;

/// The service. Streams end when `stop` is cancelled.
pub(in crate::cri) struct OwnService {
    gate: EngineGate,
    stop: CancellationToken,
}

impl OwnService {
    pub(in crate::cri) fn new(gate: EngineGate, stop: CancellationToken) -> Self {
        Self { gate, stop }
    }
}

#[tonic::async_trait]
impl Berth for OwnService {
    type ImportImageStream = BoxStream<proto::ImageAnswer>;

    async fn import_image(
        &self,
        request: Request<proto::ImportImageRequest>,
    ) -> Answer<Self::ImportImageStream> {
        let images = self.gate.engine()?.images().clone();
        let path = request.into_inner().path;
        about("image", &path);
        if !Path::new(&path).is_absolute() {
            return Err(Status::invalid_argument(format!("path {path:?} is not absolute")));
        }
        let (progress, steps) = unbounded_channel();
        let work = async move { images.import(Path::new(&path), Some(progress)).await };
        Ok(Response::new(image_answers(steps, work)))
    }

    type PullImageStream = BoxStream<proto::ImageAnswer>;

    async fn pull_image(
        &self,
        request: Request<proto::PullImageRequest>,
    ) -> Answer<Self::PullImageStream> {
        let images = self.gate.engine()?.images().clone();
        let reference = request.into_inner().reference;
        about("image", &reference);
        let (progress, steps) = unbounded_channel();
        let work = async move {
            let id = images.pull(&reference, None, Some(progress)).await?;
            Ok(images.find(id.as_str())?.into_iter().collect())
        };
        Ok(Response::new(image_answers(steps, work)))
    }

    async fn describe_image(
        &self,
        request: Request<proto::DescribeImageRequest>,
    ) -> Answer<proto::DescribeImageAnswer> {
        let name = request.into_inner().image;
        about("image", &name);
        let described = self.gate.engine()?.images().describe(&name).await?;
        Ok(Response::new(super::images::described(described)))
    }

    async fn verify_image(
        &self,
        request: Request<proto::VerifyImageRequest>,
    ) -> Answer<proto::VerifyImageAnswer> {
        let name = request.into_inner().image;
        about("image", &name);
        let verified = self.gate.engine()?.images().verify(&name).await?;
        Ok(Response::new(super::images::verified(verified)))
    }

    async fn export_image(
        &self,
        request: Request<proto::ExportImageRequest>,
    ) -> Answer<proto::ExportImageAnswer> {
        let proto::ExportImageRequest { image, path } = request.into_inner();
        about("image", &image);
        if !Path::new(&path).is_absolute() {
            return Err(Status::invalid_argument(format!("path {path:?} is not absolute")));
        }
        let done = self.gate.engine()?.images().export(&image, Path::new(&path)).await?;
        let id = crate::cri::to_proto::tagged_id(&done.id);
        Ok(Response::new(proto::ExportImageAnswer { id, manifest: done.manifest.to_string() }))
    }

    async fn prune_images(
        &self,
        request: Request<proto::PruneImagesRequest>,
    ) -> Answer<proto::PruneImagesAnswer> {
        let images = self.gate.engine()?.images().clone();
        let rule = super::images::prune_rule(request.get_ref())?;
        let pretend = if request.get_ref().pretend { Pretend::Yes } else { Pretend::No };
        let done = images.prune(rule, pretend).await?;
        Ok(Response::new(super::images::pruned(done)))
    }

    type EventsStream = BoxStream<proto::Event>;

    async fn events(&self, _: Request<proto::EventsRequest>) -> Answer<Self::EventsStream> {
        let events = BroadcastStream::new(self.gate.engine()?.subscribe());
        let told = events.map(|event| {
            Ok(match event {
                Ok(event) => told(&event),
                Err(BroadcastStreamRecvError::Lagged(count)) => {
                    proto::Event { kind: Kind::Lost.into(), count, ..Default::default() }
                }
            })
        });
        Ok(Response::new(told.take_until(self.stop.clone().cancelled_owned()).boxed()))
    }
}

/// Steps as they come, then the images. The work goes on only as long as somebody reads.
fn image_answers(
    steps: UnboundedReceiver<ProgressEvent>,
    work: impl Future<Output = Result<Vec<ImageInfo>, ImageError>> + Send + 'static,
) -> BoxStream<proto::ImageAnswer> {
    unfold((steps, Work::Going(work.boxed())), |(mut steps, work)| async move {
        let done = match work {
            Work::Going(mut going) => tokio::select! {
                biased;
                Some(step) = steps.recv() => {
                    return Some((Ok(reply(progress(step))), (steps, Work::Going(going))));
                }
                done = &mut going => done,
            },
            Work::Done(done) => done,
            Work::Told => return None,
        };
        // The last steps were told just before the end, and come before it.
        if let Ok(step) = steps.try_recv() {
            return Some((Ok(reply(progress(step))), (steps, Work::Done(done))));
        }
        let answer = done.map_err(Status::from).map(|images| {
            let images = images.into_iter().map(image_name).collect();
            reply(ImageReply::Images(proto::ImageList { images }))
        });
        Some((answer, (steps, Work::Told)))
    })
    .boxed()
}

/// How far a pull or an import is.
enum Work {
    Going(BoxFuture<'static, Result<Vec<ImageInfo>, ImageError>>),
    Done(Result<Vec<ImageInfo>, ImageError>),
    Told,
}

fn reply(answer: ImageReply) -> proto::ImageAnswer {
    proto::ImageAnswer { answer: Some(answer) }
}

fn progress(step: ProgressEvent) -> ImageReply {
    use proto::progress::Phase as Told;
    let phase = match step.phase {
        Phase::Resolving => Told::Resolving,
        Phase::Waiting => Told::Waiting,
        Phase::Unpacking => Told::Unpacking,
        Phase::Present => Told::Present,
        Phase::Done => Told::Done,
        Phase::Complete => Told::Complete,
    };
    ImageReply::Progress(proto::Progress {
        image: step.image,
        layer: step.layer.unwrap_or_default(),
        phase: phase.into(),
        current_bytes: step.current_bytes,
        total_bytes: step.total_bytes,
    })
}

fn image_name(image: ImageInfo) -> proto::ImageName {
    proto::ImageName {
        id: format!("sha256:{}", image.id),
        repo_tags: image.repo_tags,
        size: image.size,
    }
}

fn told(event: &EngineEvent) -> proto::Event {
    let kind = match event.kind {
        EventKind::Created => Kind::Created,
        EventKind::Started => Kind::Started,
        EventKind::Stopped => Kind::Stopped,
        EventKind::Deleted => Kind::Deleted,
        EventKind::Oom => Kind::Oom,
    };
    proto::Event {
        at: event.at_nanos,
        kind: kind.into(),
        sandbox_id: event.sandbox_id().to_string(),
        container_id: event.container_id().map(ToString::to_string).unwrap_or_default(),
        count: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn answers(
        result: Result<Vec<ImageInfo>, ImageError>,
    ) -> Vec<Result<proto::ImageAnswer, Status>> {
        let (sender, steps) = unbounded_channel();
        let work = async move {
            let step = ProgressEvent {
                image: "i".into(),
                layer: None,
                phase: Phase::Resolving,
                current_bytes: 0,
                total_bytes: 0,
            };
            sender.send(step).unwrap();
            tokio::task::yield_now().await;
            result
        };
        image_answers(steps, work).collect().await
    }

    #[tokio::test]
    async fn the_images_are_the_last_answer() {
        let all = answers(Ok(Vec::new())).await;
        assert_eq!(all.len(), 2);
        assert!(matches!(
            all.last().unwrap().as_ref().unwrap().answer,
            Some(ImageReply::Images(_))
        ));
    }

    #[tokio::test]
    async fn an_error_ends_the_answers() {
        let all = answers(Err(ImageError::NotFound { name: "x".into() })).await;
        assert_eq!(all.last().unwrap().as_ref().unwrap_err().code(), tonic::Code::NotFound);
    }
}
