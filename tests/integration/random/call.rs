//! Calls by a method's descriptor: bytes there, bytes back.

use prost_reflect::prost::Message as _;
use prost_reflect::prost::bytes::{Buf as _, BufMut as _, Bytes};
use prost_reflect::{DynamicMessage, MethodDescriptor};
use std::time::Duration;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Request, Status};

/// How long an answer may take; work goes on without its client.
const PATIENCE: Duration = Duration::from_secs(5);

/// Messages as they are on the wire.
#[derive(Clone, Copy, Debug, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

/// A client of every method.
pub(crate) struct Caller(Grpc<Channel>);

impl Caller {
    pub(crate) fn new(channel: Channel) -> Self {
        Self(Grpc::new(channel))
    }

    /// The answer; of a stream, its last message.
    ///
    /// # Errors
    /// The call's status.
    pub(crate) async fn call(
        &mut self,
        method: &MethodDescriptor,
        request: &DynamicMessage,
    ) -> Result<Bytes, Status> {
        let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
        let path = PathAndQuery::try_from(path).map_err(|e| Status::unknown(e.to_string()))?;
        let mut request = Request::new(request.encode_to_vec());
        request.set_timeout(PATIENCE);
        self.0.ready().await.map_err(|e| Status::unknown(format!("the connection: {e}")))?;
        if !method.is_server_streaming() {
            return Ok(self.0.unary(request, path, Raw).await?.into_inner());
        }
        let mut stream = self.0.server_streaming(request, path, Raw).await?.into_inner();
        let mut last = Bytes::new();
        while let Some(message) = stream.message().await? {
            last = message;
        }
        Ok(last)
    }
}
