//! Against a small server on loopback that agrees to an upgrade and says everything back, or refuses.

use super::*;
use crate::config;
use crate::kubelet::http::fixture::shown;
use hyper::server::conn::http1 as server;
use hyper::service::service_fn;
use std::convert::Infallible;
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;

/// Reads up to the empty line behind a head.
async fn head(io: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(io.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// A runtime that gets one request, gives `answer`, and then says back what it hears until its end. What it heard of the
/// request's head comes back.
async fn runtime(answer: &'static str) -> (String, tokio::sync::oneshot::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/exec/token?a=b", listener.local_addr().unwrap());
    let (told, heard) = tokio::sync::oneshot::channel();
    TaskTracker::new().spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        told.send(head(&mut stream).await).unwrap();
        stream.write_all(answer.as_bytes()).await.unwrap();
        let (mut from, mut to) = stream.split();
        tokio::io::copy(&mut from, &mut to).await.unwrap();
        to.write_all(b" that is all").await.unwrap();
        to.shutdown().await.unwrap();
    });
    (url, heard)
}

/// A client of a server that joins what it is asked to `url`.
async fn client(shown: Arc<Shown>, url: String) -> DuplexStream {
    let (near, far) = tokio::io::duplex(1 << 16);
    TaskTracker::new().spawn(async move {
        let answer = |request: Request<Incoming>| {
            let (shown, url) = (Arc::clone(&shown), url.clone());
            async move {
                let query = request.uri().query().map(str::to_owned);
                let to = Upgrade { url: &url, query: query.as_deref() };
                let answer = join(&shown, to, request).await;
                Ok::<_, Infallible>(answer.unwrap_or_else(Refusal::answer))
            }
        };
        let served = server::Builder::new().serve_connection(TokioIo::new(far), service_fn(answer));
        served.with_upgrades().await.unwrap();
    });
    near
}

const ASK: &[u8] = b"POST /exec/n/p/c?port=7 HTTP/1.1\r\nHost: node-1\r\nConnection: Upgrade\r\n\
    Upgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n\
    Authorization: Bearer s3cret\r\nContent-Length: 0\r\n\r\n";

#[tokio::test]
async fn bytes_go_both_ways_after_the_upgrade_and_each_side_may_end_first() {
    let dir = tempfile::tempdir().unwrap();
    let (shown, _runtime) = shown(dir.path(), config::Kubelet::default()).await;
    let agreed = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\
        X-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n";
    let (url, heard) = runtime(agreed).await;
    let mut client = client(Arc::new(shown), url).await;
    client.write_all(ASK).await.unwrap();
    let answer = head(&mut client).await.to_lowercase();
    assert!(answer.starts_with("http/1.1 101 "), "{answer}");
    for header in ["upgrade: spdy/3.1", "x-stream-protocol-version: v4.channel.k8s.io"] {
        assert!(answer.contains(header), "{answer}");
    }
    let asked = heard.await.unwrap();
    assert!(asked.starts_with("POST /exec/token?a=b&port=7 HTTP/1.1\r\n"), "{asked}");
    let lower = asked.to_lowercase();
    assert!(lower.contains("x-stream-protocol-version: v4.channel.k8s.io"), "{asked}");
    assert!(lower.contains("host: 127.0.0.1:"), "{asked}");
    assert!(!asked.contains("s3cret"), "{asked}");
    let long: String = "0123456789".repeat(50_000);
    let (mut from, mut to) = tokio::io::split(client);
    let mut told = String::new();
    let write = async {
        to.write_all(long.as_bytes()).await.unwrap();
        to.shutdown().await.unwrap();
    };
    let (_, read) = tokio::join!(write, from.read_to_string(&mut told));
    read.unwrap();
    // What was said after the client's end has come, too.
    assert!(told == long + " that is all");
}

#[tokio::test]
async fn a_refusal_of_the_runtimes_is_passed_on() {
    let dir = tempfile::tempdir().unwrap();
    let (shown, _runtime) = shown(dir.path(), config::Kubelet::default()).await;
    let refusal = "HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\nConnection: close\r\n\r\nused\n";
    let (url, _heard) = runtime(refusal).await;
    let mut client = client(Arc::new(shown), url).await;
    client.write_all(ASK).await.unwrap();
    let answer = head(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    let mut text = [0; 5];
    client.read_exact(&mut text).await.unwrap();
    assert_eq!(&text, b"used\n");
}

#[tokio::test]
async fn a_runtime_that_is_not_there_is_a_bad_gateway_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let (shown, _runtime) = shown(dir.path(), config::Kubelet::default()).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let mut client = client(Arc::new(shown), format!("http://{address}/exec/x")).await;
    client.write_all(ASK).await.unwrap();
    let answer = head(&mut client).await.to_lowercase();
    assert!(answer.starts_with("http/1.1 502 "), "{answer}");
    let length = answer.split_once("content-length: ").unwrap().1.split_once('\r').unwrap().0;
    let mut cause = vec![0; length.parse().unwrap()];
    client.read_exact(&mut cause).await.unwrap();
    let cause = String::from_utf8(cause).unwrap();
    assert!(cause.contains(&address), "{cause}");
}
