//! Connections to the daemon.

use super::error::CtlError;
use crate::cri::client;
use crate::cri::own::proto::berth_client::BerthClient;
use crate::cri::proto::image_service_client::ImageServiceClient;
use crate::cri::proto::runtime_service_client::RuntimeServiceClient;
use crate::kubelet::control::proto::pods_client::PodsClient;
use std::path::Path;
use tonic::transport::Channel;

/// One connection, seen as each of its services. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Daemon {
    /// Pods and containers.
    pub runtime: RuntimeServiceClient<Channel>,
    /// Images.
    pub images: ImageServiceClient<Channel>,
    /// What CRI does not have.
    pub own: BerthClient<Channel>,
    /// The pods of the kubelet half.
    pub pods: PodsClient<Channel>,
}

impl Daemon {
    /// Connects to the daemon's socket.
    ///
    /// # Errors
    /// [`CtlError::Connect`].
    pub async fn connect(socket: &Path) -> Result<Self, CtlError> {
        let refused = |source| CtlError::Connect { socket: socket.to_owned(), source };
        let channel = client::connect(socket).await.map_err(refused)?;
        Ok(Self {
            // Lists of many containers are long.
            runtime: RuntimeServiceClient::new(channel.clone())
                .max_decoding_message_size(usize::MAX),
            images: ImageServiceClient::new(channel.clone()).max_decoding_message_size(usize::MAX),
            own: BerthClient::new(channel.clone()).max_decoding_message_size(usize::MAX),
            pods: PodsClient::new(channel).max_decoding_message_size(usize::MAX),
        })
    }

    /// The same daemon, with the runtime of its kubelet half's pods in place of its own where that is another's.
    ///
    /// # Errors
    /// [`CtlError::Connect`]: nobody listens at `endpoint`.
    pub async fn with_runtime(&self, endpoint: Option<&Path>) -> Result<Self, CtlError> {
        let Some(socket) = endpoint else { return Ok(self.clone()) };
        let refused = |source| CtlError::Connect { socket: socket.to_owned(), source };
        let channel = client::connect(socket).await.map_err(refused)?;
        let runtime = RuntimeServiceClient::new(channel).max_decoding_message_size(usize::MAX);
        Ok(Self { runtime, ..self.clone() })
    }
}
