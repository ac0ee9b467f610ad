//! Connections to the daemon.

use super::error::CtlError;
use crate::cri::own::proto::berth_client::BerthClient;
use crate::cri::proto::image_service_client::ImageServiceClient;
use crate::cri::proto::runtime_service_client::RuntimeServiceClient;
use hyper_util::rt::TokioIo;
use std::path::Path;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

/// One connection, seen as each of the three services. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Daemon {
    /// Pods and containers.
    pub runtime: RuntimeServiceClient<Channel>,
    /// Images.
    pub images: ImageServiceClient<Channel>,
    /// What CRI does not have.
    pub own: BerthClient<Channel>,
}

impl Daemon {
    /// Connects to the daemon's socket.
    ///
    /// # Errors
    /// [`CtlError::Connect`].
    pub async fn connect(socket: &Path) -> Result<Self, CtlError> {
        let refused = |source| CtlError::Connect { socket: socket.to_owned(), source };
        // The transport hides why it cannot connect, so the first connection is made here.
        let first = UnixStream::connect(socket).await.map_err(refused)?;
        let mut first = Some(first);
        let path = socket.to_owned();
        let connector = service_fn(move |_| {
            let (ready, path) = (first.take(), path.clone());
            async move {
                let stream = match ready {
                    Some(stream) => stream,
                    None => UnixStream::connect(path).await?,
                };
                Ok::<_, std::io::Error>(TokioIo::new(stream))
            }
        });
        let channel = Endpoint::from_static("http://localhost")
            .connect_with_connector(connector)
            .await
            .map_err(|error| refused(std::io::Error::other(error)))?;
        Ok(Self {
            // Lists of many containers are long.
            runtime: RuntimeServiceClient::new(channel.clone())
                .max_decoding_message_size(usize::MAX),
            images: ImageServiceClient::new(channel.clone()).max_decoding_message_size(usize::MAX),
            own: BerthClient::new(channel).max_decoding_message_size(usize::MAX),
        })
    }
}
