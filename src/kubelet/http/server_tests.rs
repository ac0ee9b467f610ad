//! Over loopback and the unix socket: whom the server lets in, and what it answers. The runtime listens and never answers.

use super::*;
use crate::kubelet::board::Board;
use crate::kubelet::http::Pulse;
use crate::kubelet::http::fixture::shown;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use k8s_openapi::List;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use rcgen::{CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Instant;
use tokio::net::{UnixListener, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

type Ca = CertifiedIssuer<'static, KeyPair>;

fn ca(name: &str) -> Ca {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A client's chain and key, PEM.
fn client(ca: &Ca, name: &str, organisation: &str) -> (String, String) {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.distinguished_name.push(DnType::OrganizationName, organisation);
    let key = KeyPair::generate().unwrap();
    (params.signed_by(&key, ca).unwrap().pem(), key.serialize_pem())
}

/// A server at work, and what it needs to be there.
struct Scene {
    dir: tempfile::TempDir,
    address: SocketAddr,
    board: Board,
    pulse: Pulse,
    stop: CancellationToken,
    tasks: TaskTracker,
    _runtime: UnixListener,
}

impl Scene {
    async fn start(shape: impl FnOnce(&mut config::Kubelet, &Path)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut kubelet = config::Kubelet {
            http_address: Some("127.0.0.1:0".parse().unwrap()),
            ..config::Kubelet::default()
        };
        shape(&mut kubelet, dir.path());
        let (shown, runtime) = shown(dir.path(), kubelet.clone()).await;
        let (board, pulse) = (shown.board.clone(), shown.pulse.clone());
        let (stop, tasks) = (shown.stop.clone(), shown.tasks.clone());
        let place = Place {
            kubelet,
            socket: dir.path().join("kubelet.sock"),
            pki: dir.path().join("kubelet/pki"),
            watcher: Watcher::default(),
        };
        let server = HttpServer::bind(place, shown).await.unwrap();
        let address = server.address().unwrap();
        tasks.spawn(server.serve());
        Self { dir, address, board, pulse, stop, tasks, _runtime: runtime }
    }

    /// Asks over TLS, with the certificate of a client and a header, if there are any.
    async fn ask(&self, client: Option<&(String, String)>, of: Asked<'_>) -> io::Result<Told> {
        let mut roots = RootCertStore::empty();
        let own = self.dir.path().join("kubelet/pki/kubelet.crt");
        roots.add(CertificateDer::from_pem_file(own).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match client {
            None => config.with_no_client_auth(),
            Some((chain, key)) => {
                let chain = vec![CertificateDer::from_pem_slice(chain.as_bytes()).unwrap()];
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                config.with_client_auth_cert(chain, key).unwrap()
            }
        };
        let stream = TcpStream::connect(self.address).await?;
        let name = ServerName::try_from("node-1").unwrap();
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
        ask(stream, of).await
    }

    async fn ask_as_root(&self, method: &str, path: &str) -> Told {
        let stream = UnixStream::connect(self.dir.path().join("kubelet.sock")).await.unwrap();
        ask(stream, Asked { method, path, authorization: None }).await.unwrap()
    }
}

#[derive(Clone, Copy)]
struct Asked<'a> {
    method: &'a str,
    path: &'a str,
    authorization: Option<&'a str>,
}

fn get(path: &str) -> Asked<'_> {
    Asked { method: "GET", path, authorization: None }
}

#[derive(Debug)]
struct Told {
    code: u16,
    kind: String,
    allow: Option<String>,
    text: String,
}

async fn ask(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    of: Asked<'_>,
) -> io::Result<Told> {
    let (mut send, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(io)).await.map_err(io::Error::other)?;
    TaskTracker::new().spawn(connection);
    let mut request = Request::builder().method(of.method).uri(of.path).header("host", "node-1");
    if let Some(value) = of.authorization {
        request = request.header("authorization", value);
    }
    let request = request.body(Empty::<Bytes>::new()).unwrap();
    let answer = send.send_request(request).await.map_err(io::Error::other)?;
    let header = |name| answer.headers().get(name).map(|v| v.to_str().unwrap().to_owned());
    let (code, kind, allow) =
        (answer.status().as_u16(), header("content-type").unwrap_or_default(), header("allow"));
    let body = answer.into_body().collect().await.map_err(io::Error::other)?.to_bytes();
    Ok(Told { code, kind, allow, text: String::from_utf8(body.to_vec()).unwrap() })
}

#[tokio::test]
async fn a_client_is_let_in_by_its_certificate_and_does_what_its_groups_may() {
    let (good, other) = (ca("good"), ca("other"));
    let pem = good.pem();
    let scene = Scene::start(|kubelet, dir| {
        std::fs::write(dir.join("ca.crt"), pem).unwrap();
        kubelet.client_ca = Some(dir.join("ca.crt"));
        kubelet.readers = vec!["user:ann".into(), "group:ops".into()];
        kubelet.executors = vec!["group:ops".into()];
    })
    .await;
    let rows = [
        ("a reader reads", Some(client(&good, "ann", "people")), "/pods", 200),
        ("a reader runs nothing", Some(client(&good, "ann", "people")), "/exec/n/p/c", 403),
        ("by a group", Some(client(&good, "bob", "ops")), "/pods", 200),
        (
            "an executor, of a pod that is not there",
            Some(client(&good, "bob", "ops")),
            "/exec/n/p/c?command=a&stdout=1",
            404,
        ),
        ("neither", Some(client(&good, "eve", "people")), "/pods", 403),
        ("neither, at a path that is not there", Some(client(&good, "eve", "people")), "/x", 403),
        ("no certificate", None, "/pods", 401),
        ("no certificate, at a path that is not there", None, "/x", 401),
    ];
    for (row, client, path, code) in rows {
        let told = scene.ask(client.as_ref(), get(path)).await.unwrap();
        assert_eq!(told.code, code, "{row}: {}", told.text);
    }
    // One that another authority has signed is no certificate less: the connection is cut off.
    scene.ask(Some(&client(&other, "ann", "ops")), get("/pods")).await.unwrap_err();
}

#[tokio::test]
async fn a_client_is_let_in_by_its_token() {
    let scene = Scene::start(|kubelet, dir| {
        std::fs::write(dir.join("tokens"), "s3cret,ann\n").unwrap();
        kubelet.static_tokens = Some(dir.join("tokens"));
        kubelet.readers = vec!["user:ann".into()];
    })
    .await;
    for (authorization, code) in
        [(Some("Bearer s3cret"), 200), (Some("Bearer other"), 401), (None, 401)]
    {
        let told = scene.ask(None, Asked { authorization, ..get("/healthz") }).await.unwrap();
        assert_eq!(told.code, code, "{authorization:?}: {}", told.text);
    }
}

#[tokio::test]
async fn the_socket_is_for_root_and_asks_for_nothing_more() {
    let scene = Scene::start(|_, _| {}).await;
    let mode = std::fs::metadata(scene.dir.path().join("kubelet.sock")).unwrap().permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);
    let told = scene.ask_as_root("GET", "/healthz").await;
    assert_eq!((told.code, told.text.as_str()), (200, "ok"));
    let told = scene.ask_as_root("GET", "/nothing").await;
    assert_eq!((told.code, told.text.contains("/nothing")), (404, true), "{told:?}");
    let told = scene.ask_as_root("DELETE", "/pods").await;
    assert_eq!((told.code, told.allow.as_deref()), (405, Some("GET, HEAD")));
}

#[tokio::test]
async fn health_is_that_the_loop_turns() {
    let scene = Scene::start(|_, _| {}).await;
    let Some(long_ago) = Instant::now().checked_sub(Duration::from_secs(3600)) else { return };
    scene.pulse.beat(long_ago);
    let told = scene.ask_as_root("GET", "/healthz/syncloop").await;
    assert_eq!(told.code, 500, "{}", told.text);
    assert_eq!(scene.ask_as_root("GET", "/healthz/ping").await.code, 200);
    scene.pulse.beat(Instant::now());
    assert_eq!(scene.ask_as_root("GET", "/healthz/syncloop").await.code, 200);
}

#[tokio::test]
async fn pods_are_told_with_their_statuses() {
    let scene = Scene::start(|_, _| {}).await;
    let pod: Pod = serde_json::from_value(serde_json::json!({
        "metadata": {"name": "p", "namespace": "n", "uid": "u"},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    }))
    .unwrap();
    let status = PodStatus { phase: Some("Running".into()), ..PodStatus::default() };
    scene.board.publish(&pod, "", status);
    let told = scene.ask_as_root("GET", "/pods").await;
    assert_eq!((told.code, told.kind.as_str()), (200, "application/json"));
    let list: List<Pod> = serde_json::from_str(&told.text).unwrap();
    let phases: Vec<_> =
        list.items.iter().map(|p| p.status.clone().unwrap().phase.unwrap()).collect();
    assert_eq!(phases, ["Running"]);
}

#[tokio::test]
async fn what_cannot_be_listened_on_is_named() {
    let scene = Scene::start(|_, _| {}).await;
    let taken = scene.address;
    let dir = tempfile::tempdir().unwrap();
    let kubelet = config::Kubelet { http_address: Some(taken), ..config::Kubelet::default() };
    let (shown, _runtime) = shown(dir.path(), kubelet.clone()).await;
    let (socket, pki) = (dir.path().join("s"), dir.path().join("pki"));
    let place = Place { kubelet, socket, pki, watcher: Watcher::default() };
    let error = HttpServer::bind(place, shown).await.err().unwrap();
    assert_eq!(error.kind(), crate::error::ErrorKind::AlreadyExists);
    assert!(error.to_string().contains(&taken.to_string()), "{error}");
}

#[tokio::test]
async fn a_stop_ends_everything() {
    let scene = Scene::start(|_, _| {}).await;
    // A client that holds its connection and says nothing, and one that does not even shake hands.
    let _silent = UnixStream::connect(scene.dir.path().join("kubelet.sock")).await.unwrap();
    let _mute = TcpStream::connect(scene.address).await.unwrap();
    assert_eq!(scene.ask_as_root("GET", "/healthz").await.code, 200);
    scene.stop.cancel();
    scene.tasks.close();
    tokio::time::timeout(Duration::from_secs(30), scene.tasks.wait()).await.unwrap();
    assert!(!scene.dir.path().join("kubelet.sock").exists());
}
