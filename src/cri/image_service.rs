//! ImageService: convert, ask the image store, convert.

use super::from_proto::{RequestError, image_name, pull_credentials};
use super::gate::EngineGate;
use super::instrument::about;
use super::proto;
use super::proto::image_service_server::ImageService;
use super::runtime::stream::chunks;
use super::to_proto;
use crate::blocking;
use crate::error::ErrorKind;
use crate::image::{ImageError, ImageInfo, Images};
use std::collections::BTreeMap;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status};

type Answer<T> = Result<Response<T>, Status>;

/// What a kubelet looks for at the beginning of a message (`ErrRegistryUnavailable`).
const REGISTRY_UNAVAILABLE: &str = "RegistryUnavailable";
/// The same of a signature (`ErrSignatureValidationFailed`).
const SIGNATURE_INVALID: &str = "SignatureValidationFailed";

/// The service; a thin shell over the image store.
pub(super) struct ImageShell {
    gate: EngineGate,
}

impl ImageShell {
    pub(super) fn new(gate: EngineGate) -> Self {
        Self { gate }
    }

    fn named(&self, image: Option<proto::ImageSpec>) -> Result<String, Status> {
        let image = image.unwrap_or_default();
        let name = named(&image)?;
        self.gate.engine()?.knows_handler("image.runtime_handler", &image.runtime_handler)?;
        Ok(name)
    }

    fn images(&self) -> Result<&Images, Status> {
        Ok(self.gate.engine()?.images())
    }
}

#[tonic::async_trait]
impl ImageService for ImageShell {
    async fn list_images(
        &self,
        request: Request<proto::ListImagesRequest>,
    ) -> Answer<proto::ListImagesResponse> {
        let found = fitting(self.images()?, request.into_inner().filter)?;
        let images = found.iter().map(to_proto::image).collect();
        Ok(Response::new(proto::ListImagesResponse { images }))
    }

    async fn image_status(
        &self,
        request: Request<proto::ImageStatusRequest>,
    ) -> Answer<proto::ImageStatusResponse> {
        let images = self.images()?;
        let request = request.into_inner();
        let name = self.named(request.image)?;
        // A corrupt image that a registry has is as good as absent: a kubelet pulls it again.
        let image = images.find(&name)?.filter(|i| i.corrupt.is_none() || !i.pulled);
        let info = match &image {
            Some(image) if request.verbose => to_proto::image_info(image),
            _ => BTreeMap::new(),
        };
        let image = image.as_ref().map(to_proto::image);
        Ok(Response::new(proto::ImageStatusResponse { image, info }))
    }

    async fn pull_image(
        &self,
        request: Request<proto::PullImageRequest>,
    ) -> Answer<proto::PullImageResponse> {
        let images = self.images()?;
        let request = request.into_inner();
        let name = self.named(request.image)?;
        let auth = pull_credentials("auth", request.auth)?;
        let id = images.pull(&name, auth, None).await.map_err(pull_failed)?;
        Ok(Response::new(proto::PullImageResponse { image_ref: to_proto::tagged_id(&id) }))
    }

    async fn remove_image(
        &self,
        request: Request<proto::RemoveImageRequest>,
    ) -> Answer<proto::RemoveImageResponse> {
        let images = self.images()?;
        let name = self.named(request.into_inner().image)?;
        match images.remove(&name).await {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
            _ => Ok(Response::new(proto::RemoveImageResponse {})),
        }
    }

    async fn image_fs_info(
        &self,
        _: Request<proto::ImageFsInfoRequest>,
    ) -> Answer<proto::ImageFsInfoResponse> {
        let images = self.images()?.clone();
        let measure = move || Ok::<_, ImageError>((images.fs_info()?, images.container_fs_info()?));
        let (images, containers) =
            blocking::run("measure the image store", measure).await.map_err(ImageError::from)??;
        Ok(Response::new(proto::ImageFsInfoResponse {
            container_filesystems: vec![to_proto::filesystem(&containers)],
            image_filesystems: vec![to_proto::filesystem(&images)],
        }))
    }

    type StreamImagesStream = BoxStream<proto::StreamImagesResponse>;

    async fn stream_images(
        &self,
        request: Request<proto::StreamImagesRequest>,
    ) -> Answer<Self::StreamImagesStream> {
        let found = fitting(self.images()?, request.into_inner().filter)?;
        let images = found.into_iter().map(|image| to_proto::image(&image));
        Ok(Response::new(chunks(images, |images| proto::StreamImagesResponse { images })))
    }
}

/// The images that a list is reduced to: all, or the one of a name.
fn fitting(images: &Images, filter: Option<proto::ImageFilter>) -> Result<Vec<ImageInfo>, Status> {
    let wanted = filter.and_then(|f| f.image).unwrap_or_default().image;
    match wanted.as_str() {
        "" => Ok(images.list()),
        name => Ok(images.find(name)?.into_iter().collect()),
    }
}

fn named(image: &proto::ImageSpec) -> Result<String, RequestError> {
    let name = image_name("image", image)?;
    about("image", &name);
    Ok(name)
}

/// A registry that cannot be reached gets the words by which a kubelet tells it from other causes.
fn pull_failed(error: ImageError) -> Status {
    let prefix = match error.kind() {
        _ if error.is_of_policy() => SIGNATURE_INVALID,
        ErrorKind::Unavailable => REGISTRY_UNAVAILABLE,
        _ => return error.into(),
    };
    let status = Status::from(error);
    Status::new(status.code(), format!("{prefix}: {}", status.message()))
}
