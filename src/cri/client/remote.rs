//! Any CRI socket.

use super::verbs::{OwnTime as _, with_verbs};
use super::{Cri, CriError, Events};
use crate::cri::proto::image_service_client::ImageServiceClient;
use crate::cri::proto::runtime_service_client::RuntimeServiceClient;
use crate::cri::proto::*;
use futures::{StreamExt as _, TryStreamExt as _};
use hyper_util::rt::TokioIo;
use std::future::Future;
use std::io;
use std::path::Path;
use std::time::Duration;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Response, Status};
use tower::service_fn;

/// A connection to a CRI socket; made again when it breaks.
pub struct RemoteCri {
    runtime: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
}

impl RemoteCri {
    /// Connects to the runtime that listens on `socket`, for images, too.
    ///
    /// # Errors
    /// Nobody listens there.
    pub async fn connect(socket: &Path) -> io::Result<Self> {
        let channel = connect(socket).await?;
        Ok(Self {
            // Lists of many containers are long.
            runtime: RuntimeServiceClient::new(channel.clone())
                .max_decoding_message_size(usize::MAX),
            images: ImageServiceClient::new(channel).max_decoding_message_size(usize::MAX),
        })
    }
}

/// A gRPC channel over a unix socket.
///
/// # Errors
/// Nobody listens there.
pub async fn connect(socket: &Path) -> io::Result<Channel> {
    // The transport hides why it cannot connect, so the first connection is made here.
    let mut first = Some(UnixStream::connect(socket).await?);
    let path = socket.to_owned();
    let connector = service_fn(move |_| {
        let (ready, path) = (first.take(), path.clone());
        async move {
            let stream = match ready {
                Some(stream) => stream,
                None => UnixStream::connect(path).await?,
            };
            Ok::<_, io::Error>(TokioIo::new(stream))
        }
    });
    let endpoint = Endpoint::from_static("http://localhost");
    endpoint.connect_with_connector(connector).await.map_err(io::Error::other)
}

/// Waits for an answer no longer than `limit`; for ever when that is zero.
async fn within<T>(
    verb: &'static str,
    limit: Duration,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, CriError> {
    let answer = if limit.is_zero() {
        call.await
    } else {
        tokio::time::timeout(limit, call).await.map_err(|_| CriError::late(verb, limit))?
    };
    answer.map(Response::into_inner).map_err(|e| CriError::of(verb, &e))
}

macro_rules! implement {
    ($($service:ident $verb:ident($request:ident) -> $answer:ident within $limit:literal;)*) => {
        #[tonic::async_trait]
        impl Cri for RemoteCri {
            $(
                async fn $verb(&self, request: $request) -> Result<$answer, CriError> {
                    let limit = match $limit {
                        0 => Duration::ZERO,
                        limit => Duration::from_secs(limit) + request.own_time(),
                    };
                    within(stringify!($verb), limit, self.$service.clone().$verb(request)).await
                }
            )*

            async fn events(&self) -> Result<Events, CriError> {
                let mut runtime = self.runtime.clone();
                // containerd sends nothing, not even headers, before the first event.
                let begun = async move {
                    runtime.get_container_events(GetEventsRequest {}).await.map(Response::into_inner)
                };
                Ok(futures::stream::once(begun).try_flatten().boxed())
            }
        }
    };
}
with_verbs!(implement);
