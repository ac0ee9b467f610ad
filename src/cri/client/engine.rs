//! The engine in this process: the services of the socket, called without the wire.

use super::verbs::with_verbs;
use super::{Cri, CriError, Events};
use crate::cri::gate::EngineGate;
use crate::cri::image_service::ImageShell;
use crate::cri::proto::image_service_server::ImageService as _;
use crate::cri::proto::runtime_service_server::RuntimeService as _;
use crate::cri::proto::*;
use crate::cri::runtime_service::Runtime;
use crate::cri::streaming::Streaming;
use futures::StreamExt as _;
use tokio_util::sync::CancellationToken;
use tonic::Request;

/// The engine behind a gate, as [`Cri`].
pub struct EngineCri {
    runtime: Runtime,
    images: ImageShell,
}

impl EngineCri {
    /// As [`crate::cri::routes`], which serves the same on the socket.
    pub fn new(gate: &EngineGate, streaming: &Streaming, stop: &CancellationToken) -> Self {
        Self {
            runtime: Runtime::new(gate.clone(), streaming.clone(), stop.clone()),
            images: ImageShell::new(gate.clone()),
        }
    }
}

macro_rules! implement {
    ($($service:ident $verb:ident($request:ident) -> $answer:ident within $limit:literal;)*) => {
        #[tonic::async_trait]
        impl Cri for EngineCri {
            $(
                async fn $verb(&self, request: $request) -> Result<$answer, CriError> {
                    // The engine has a deadline for every wait of its own.
                    let answer = self.$service.$verb(Request::new(request)).await;
                    answer.map(tonic::Response::into_inner).map_err(|e| CriError::of(stringify!($verb), &e))
                }
            )*

            async fn events(&self) -> Result<Events, CriError> {
                let answer = self.runtime.get_container_events(Request::new(GetEventsRequest {})).await;
                let answer = answer.map_err(|e| CriError::of("get_container_events", &e))?;
                Ok(answer.into_inner().boxed())
            }
        }
    };
}
with_verbs!(implement);
