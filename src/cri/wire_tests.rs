//! The socket as clients see it: a real server, a real client, and raw frames.

use super::proto::runtime_service_client::RuntimeServiceClient;
use super::proto::*;
use super::streaming::StreamingServer;
use super::{EngineGate, Socket, routes};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

/// A server without an engine on a socket in a folder of its own.
struct Served {
    path: PathBuf,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<Result<(), super::ServerError>>,
    _folder: tempfile::TempDir,
}

impl Served {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("berth.sock");
        let socket = Socket::bind(&path, None).await.unwrap();
        let stop = CancellationToken::new();
        let gate = EngineGate::pending();
        let config = crate::config::Streaming::default();
        let streaming = StreamingServer::bind(&config, gate.clone(), stop.clone()).await.unwrap();
        let routes = routes(&gate, &streaming.urls(), &stop);
        let stopped = stop.clone().cancelled_owned();
        let drain = Duration::from_secs(5);
        #[expect(clippy::disallowed_methods, reason = "a test owns its task by the handle")]
        let task = tokio::spawn(socket.serve(routes, stopped, drain));
        Self { path, stop, task, _folder: folder }
    }

    async fn client(&self) -> RuntimeServiceClient<Channel> {
        RuntimeServiceClient::new(connect(&self.path).await).max_encoding_message_size(usize::MAX)
    }

    async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
        assert!(!self.path.exists(), "the socket is still there");
    }
}

async fn connect(path: &Path) -> Channel {
    let path = path.to_owned();
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(hyper_util::rt::TokioIo::new) }
    });
    Endpoint::from_static("http://localhost").connect_with_connector(connector).await.unwrap()
}

#[tokio::test]
async fn version_answers_before_there_is_an_engine() {
    let served = Served::start().await;
    let mut client = served.client().await;
    let answer = client.version(VersionRequest::default()).await.unwrap().into_inner();
    assert_eq!(answer.version, "0.1.0");
    assert_eq!(answer.runtime_name, "berth");
    assert_eq!(answer.runtime_api_version, "v1");
    served.end().await;
}

// An empty list would make a kubelet start every pod again.
#[tokio::test]
async fn lists_are_unavailable_before_there_is_an_engine() {
    let served = Served::start().await;
    let mut client = served.client().await;
    let list = client.list_pod_sandbox(ListPodSandboxRequest::default()).await.unwrap_err();
    assert_eq!(list.code(), Code::Unavailable);
    let list = client.list_containers(ListContainersRequest::default()).await.unwrap_err();
    assert_eq!(list.code(), Code::Unavailable);
    let list = client.stream_containers(StreamContainersRequest::default()).await;
    assert_eq!(list.map(|_| ()).unwrap_err().code(), Code::Unavailable);
    served.end().await;
}

fn exec_of(bytes: usize) -> ExecSyncRequest {
    ExecSyncRequest { cmd: vec!["x".repeat(bytes)], ..ExecSyncRequest::default() }
}

#[tokio::test]
async fn fifteen_mebibytes_get_through_and_twenty_are_refused_cleanly() {
    let served = Served::start().await;
    let mut client = served.client().await;
    let large = client.exec_sync(exec_of(15 << 20)).await.unwrap_err();
    assert_eq!(large.code(), Code::Unavailable, "decoded, and then there is no engine: {large}");
    let larger = client.exec_sync(exec_of(20 << 20)).await.unwrap_err();
    assert_eq!(larger.code(), Code::OutOfRange, "{larger}");
    // The connection is as good as before.
    client.version(VersionRequest::default()).await.unwrap();
    served.end().await;
}

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags, 0, 0, 0, stream]);
    frame.extend(payload);
    frame
}

/// A request for Version with this authority, as a client writes it: literal fields, no Huffman.
fn version_request(authority: &str) -> Vec<u8> {
    let mut block = vec![0x83, 0x86];
    for (name, value) in
        [(1u8, authority), (4, "/runtime.v1.RuntimeService/Version"), (31, "application/grpc")]
    {
        // With incremental indexing, the name by its place in the static table.
        block.extend([0x40 | name, u8::try_from(value.len()).unwrap()]);
        block.extend(value.as_bytes());
    }
    block.extend(b"\x40\x02te\x08trailers");
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(4, 0, 0, &[]));
    bytes.extend(frame(1, 4, 1, &block));
    bytes.extend(frame(0, 1, 1, &[0; 5]));
    bytes
}

/// The types of the frames that answer on stream 1, or that end the connection.
async fn answer_to(path: &Path, bytes: &[u8]) -> Vec<u8> {
    let mut stream = UnixStream::connect(path).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut kinds = Vec::new();
    loop {
        let mut header = [0; 9];
        if stream.read_exact(&mut header).await.is_err() {
            return kinds;
        }
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        stream.read_exact(&mut payload).await.unwrap();
        if header[8] == 1 || header[3] == 7 {
            kinds.push(header[3]);
            let ends = header[3] == 3 || header[3] == 7 || header[4] & 1 == 1;
            if ends {
                return kinds;
            }
        }
    }
}

// Kubelets up to 1.30.
#[tokio::test]
async fn a_socket_path_is_a_good_authority() {
    let served = Served::start().await;
    for authority in
        ["localhost", "/run/berth/berth.sock", "%2Frun%2Fberth%2Fberth.sock", "[::1]:80"]
    {
        let kinds = answer_to(&served.path, &version_request(authority)).await;
        assert_eq!(kinds, [1, 0, 1], "{authority}: not headers, data, trailers");
    }
    // The control: what the filter does not touch is refused as ever, on its stream alone.
    assert_eq!(answer_to(&served.path, &version_request("a b")).await, [3]);
    served.end().await;
}
