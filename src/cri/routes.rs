//! The services of the socket, with their message limits.

use super::gate::EngineGate;
use super::image_service::ImageShell;
use super::own::OwnService;
use super::own::proto::berth_server::BerthServer;
use super::proto::image_service_server::ImageServiceServer;
use super::proto::runtime_service_server::RuntimeServiceServer;
use super::runtime_service::Runtime;
use super::server::MAX_REQUEST_BYTES;
use super::streaming::Streaming;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

/// RuntimeService, ImageService, and berth's own service. `streaming` hands out URLs. Streams end when
/// `stop` is cancelled.
///
/// Requests are bounded. Answers are not: a list of ten thousand containers must get through to a
/// client that takes it.
pub fn routes(gate: &EngineGate, streaming: &Streaming, stop: &CancellationToken) -> Routes {
    let runtime =
        RuntimeServiceServer::new(Runtime::new(gate.clone(), streaming.clone(), stop.clone()))
            .max_decoding_message_size(MAX_REQUEST_BYTES)
            .max_encoding_message_size(usize::MAX);
    let image = ImageServiceServer::new(ImageShell::new(gate.clone()))
        .max_decoding_message_size(MAX_REQUEST_BYTES)
        .max_encoding_message_size(usize::MAX);
    let own = BerthServer::new(OwnService::new(gate.clone(), stop.clone()))
        .max_decoding_message_size(MAX_REQUEST_BYTES)
        .max_encoding_message_size(usize::MAX);
    Routes::new(runtime).add_service(image).add_service(own)
}
