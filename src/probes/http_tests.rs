use super::*;
use crate::probes::spec::{Agent, Scheme};
use k8s_openapi::api::core::v1::{Container, HTTPGetAction, HTTPHeader};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::Command;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const LIMIT: Duration = Duration::from_secs(60);

/// A server of the test: what it answers to a request's head, and what it does then.
struct Server {
    port: u16,
    _task: AbortOnDropHandle<()>,
}

#[derive(Clone, Copy, PartialEq)]
enum Then {
    Close,
    Hold,
}

async fn head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).await.is_ok_and(|n| n > 0) {
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

impl Server {
    async fn on(
        address: IpAddr,
        tls: Option<TlsAcceptor>,
        then: Then,
        answer: impl Fn(&str) -> String + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((address, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let task = TaskTracker::new().spawn(async move {
            let mut held: Vec<Box<dyn Send>> = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                match &tls {
                    None => held.push(Box::new(serve(stream, &answer, then).await)),
                    Some(tls) => match tls.accept(stream).await {
                        Ok(stream) => held.push(Box::new(serve(stream, &answer, then).await)),
                        Err(_) => continue,
                    },
                }
            }
        });
        Self { port, _task: AbortOnDropHandle::new(task) }
    }

    async fn new(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        Self::on(HERE, None, Then::Close, answer).await
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    answer: &(impl Fn(&str) -> String + Sync),
    then: Then,
) -> Option<S> {
    let text = answer(&head(&mut stream).await);
    stream.write_all(text.as_bytes()).await.ok();
    stream.flush().await.ok();
    if then == Then::Hold {
        return Some(stream);
    }
    stream.shutdown().await.ok();
    None
}

fn status(line: &str) -> String {
    format!("HTTP/1.1 {line}\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
}

fn to(location: &str) -> String {
    format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n")
}

fn get(port: u16, path: &str, headers: &[(&str, &str)]) -> HttpGet {
    let header = |(name, value): &(&str, &str)| HTTPHeader {
        name: (*name).to_owned(),
        value: (*value).to_owned(),
    };
    let action = HTTPGetAction {
        port: IntOrString::Int(port.into()),
        path: Some(path.to_owned()),
        http_headers: Some(headers.iter().map(header).collect()),
        ..Default::default()
    };
    HttpGet::of(&action, &Container::default(), Agent::Probe).unwrap()
}

async fn verdict(get: &HttpGet, address: IpAddr, limit: Duration) -> Verdict {
    attempt(get, Some(address), &super::super::tls::connector().unwrap(), limit).await.unwrap()
}

async fn of(server: &Server, path: &str) -> Verdict {
    verdict(&get(server.port, path, &[]), HERE, LIMIT).await
}

#[tokio::test]
async fn the_status_decides_and_the_body_is_not_told() {
    let server = Server::new(|head| status(&head[5..8])).await;
    for (path, expected) in [
        ("/200", Verdict::Success("status 200".into())),
        ("/204", Verdict::Success("status 204".into())),
        ("/399", Verdict::Warning("status 399 leads nowhere".into())),
        ("/304", Verdict::Warning("status 304 leads nowhere".into())),
        ("/400", Verdict::Failure("HTTP status 400".into())),
        ("/503", Verdict::Failure("HTTP status 503".into())),
    ] {
        assert_eq!(of(&server, path).await, expected, "{path}");
    }
}

#[tokio::test]
async fn the_request_is_a_get_of_path_and_query_for_the_address() {
    let (seen, mut heads) = tokio::sync::mpsc::unbounded_channel();
    let server = Server::new(move |head| {
        seen.send(head.to_owned()).unwrap();
        status("200 OK")
    });
    let server = server.await;
    of(&server, "/a/b?c=d").await;
    let head = heads.recv().await.unwrap().to_lowercase();
    assert!(head.starts_with("get /a/b?c=d http/1.1\r\n"), "{head}");
    assert!(head.contains(&format!("\r\nhost: 127.0.0.1:{}\r\n", server.port)), "{head}");
    assert!(head.contains("\r\nuser-agent: kube-probe/"), "{head}");
    assert!(head.contains("\r\nconnection: close\r\n"), "{head}");
}

#[tokio::test]
async fn a_host_of_the_manifest_goes_on_until_a_redirect_names_one() {
    let (seen, mut heads) = tokio::sync::mpsc::unbounded_channel();
    let server = Server::new(move |head| {
        seen.send(head.to_lowercase()).unwrap();
        match head.split(' ').nth(1) {
            Some("/relative") => to("/absolute"),
            Some("/absolute") => {
                let port = head.split("port-is: ").nth(1).unwrap().split('\r').next().unwrap();
                to(&format!("http://127.0.0.1:{port}/end"))
            }
            _ => status("200 OK"),
        }
    });
    let server = server.await;
    let port = server.port.to_string();
    let get = get(server.port, "/relative", &[("Host", "a.example"), ("port-is", &port)]);
    assert_eq!(verdict(&get, HERE, LIMIT).await, Verdict::Success("status 200".into()));
    let mut hosts = Vec::new();
    while let Ok(head) = heads.try_recv() {
        let host = head.lines().find(|line| line.starts_with("host: ")).unwrap();
        hosts.push(host.to_owned());
    }
    let last = format!("host: 127.0.0.1:{port}");
    assert_eq!(hosts, ["host: a.example", "host: a.example", &last]);
}

#[tokio::test]
async fn a_redirect_to_another_host_is_a_warning() {
    let server = Server::new(|_| to("http://a.example/x")).await;
    let expected = "status 302 leads to another host, not followed: http://a.example/x";
    assert_eq!(of(&server, "/").await, Verdict::Warning(expected.into()));
}

#[tokio::test]
async fn ten_redirects_are_followed_and_no_more() {
    let server = Server::new(|head| {
        let left: u8 = head[5..].split(' ').next().unwrap().parse().unwrap();
        match left {
            0 => status("200 OK"),
            left => to(&format!("/{}", left - 1)),
        }
    });
    let server = server.await;
    assert_eq!(of(&server, "/10").await, Verdict::Success("status 200".into()));
    let Verdict::Failure(message) = of(&server, "/11").await else { panic!() };
    assert!(message.contains("after 10 redirects"), "{message}");
}

#[tokio::test]
async fn an_answer_without_end_counts_by_its_status() {
    // Its length is a lie, and it is longer than what is read.
    let body = "x".repeat(READ_BYTES + 1);
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n{body}");
    let server = Server::on(HERE, None, Then::Hold, move |_| answer.clone()).await;
    assert_eq!(of(&server, "/").await, Verdict::Success("status 200".into()));
}

#[tokio::test]
async fn a_server_that_does_not_close_has_answered_all_the_same() {
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let server = Server::on(HERE, None, Then::Hold, move |_| answer.to_owned()).await;
    assert_eq!(of(&server, "/").await, Verdict::Success("status 200".into()));
}

#[tokio::test]
async fn an_answer_that_ends_too_early_is_a_failure() {
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nno";
    let server = Server::new(move |_| answer.to_owned()).await;
    let Verdict::Failure(message) = of(&server, "/a").await else { panic!() };
    assert!(message.starts_with("get http://127.0.0.1:"), "{message}");
}

#[tokio::test]
async fn what_is_no_http_is_a_failure() {
    let server = Server::new(|_| "220 mail.example ESMTP\r\n".to_owned()).await;
    assert!(matches!(of(&server, "/").await, Verdict::Failure(_)));
}

#[tokio::test]
async fn who_is_silent_has_until_the_timeout() {
    let server = Server::on(HERE, None, Then::Hold, |_| String::new()).await;
    let get = get(server.port, "/x", &[]);
    let expected = format!("get http://127.0.0.1:{}/x: timed out after 1 s", server.port);
    assert_eq!(verdict(&get, HERE, Duration::from_secs(1)).await, Verdict::Failure(expected),);
}

#[tokio::test]
async fn nobody_listening_is_a_failure() {
    let (_taken, port) = crate::testing::silent_port();
    let Verdict::Failure(message) = verdict(&get(port, "/", &[]), HERE, LIMIT).await else {
        panic!()
    };
    assert!(message.starts_with("connect to http://127.0.0.1:"), "{message}");
}

#[tokio::test]
async fn without_an_address_nothing_can_be_tried() {
    let tls = super::super::tls::connector().unwrap();
    let answer = attempt(&get(80, "/", &[]), None, &tls, LIMIT).await;
    assert!(matches!(answer, Err(CheckError::NoAddress)), "{answer:?}");
}

#[tokio::test]
async fn a_host_of_the_manifest_is_asked_in_place_of_the_pod() {
    let server = Server::new(|_| status("200 OK")).await;
    let get = HttpGet { host: Some("localhost".into()), ..get(server.port, "/", &[]) };
    let elsewhere = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 99));
    assert_eq!(verdict(&get, elsewhere, LIMIT).await, Verdict::Success("status 200".into()));
}

#[tokio::test]
async fn an_address_of_version_6_is_asked() {
    let address = IpAddr::V6(Ipv6Addr::LOCALHOST);
    let server = Server::on(address, None, Then::Close, |head| {
        match head.contains("Host: [::1]:") || head.contains("host: [::1]:") {
            true => status("200 OK"),
            false => status("400 Bad Request"),
        }
    });
    let server = server.await;
    let verdict = verdict(&get(server.port, "/", &[]), address, LIMIT).await;
    assert_eq!(verdict, Verdict::Success("status 200".into()));
}

/// A server's side of TLS, by a certificate that nobody else has signed, for nobody's name.
fn acceptor() -> TlsAcceptor {
    use rustls_pki_types::pem::PemObject as _;
    use rustls_pki_types::{CertificateDer, PrivateKeyDer};
    let folder = tempfile::tempdir().unwrap();
    let (key, certificate) = (folder.path().join("key"), folder.path().join("certificate"));
    let done = Command::new("openssl")
        .args("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=x".split(' '))
        .args(["-days", "1", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let chain = vec![CertificateDer::from_pem_file(&certificate).unwrap()];
    let key = PrivateKeyDer::from_pem_file(&key).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

fn over_tls(port: u16) -> HttpGet {
    HttpGet { scheme: Scheme::Https, ..get(port, "/", &[]) }
}

#[tokio::test]
async fn anybody_s_certificate_will_do() {
    let server = Server::on(HERE, Some(acceptor()), Then::Close, |_| status("200 OK")).await;
    let verdict = verdict(&over_tls(server.port), HERE, LIMIT).await;
    assert_eq!(verdict, Verdict::Success("status 200".into()));
}

#[tokio::test]
async fn a_server_of_plain_http_is_told_from_one_that_fails() {
    let tls = super::super::tls::connector().unwrap();
    let listener = TcpListener::bind((HERE, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let plain = TaskTracker::new().spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(status("400 Bad Request").as_bytes()).await.unwrap();
        // The second one is closed without an answer.
        drop(listener.accept().await.unwrap());
        stream.shutdown().await.ok();
    });
    let _server = AbortOnDropHandle::new(plain);
    assert!(ask(&over_tls(port), Some(HERE), &tls).await.unwrap_err().is_plain());
    assert!(!ask(&over_tls(port), Some(HERE), &tls).await.unwrap_err().is_plain());
}

/// How many connections from or to a port are in TIME_WAIT, on either side.
fn waiting(port: u16) -> usize {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let of = format!(":{port:04X}");
    let rows = table.lines().skip(1).map(|row| row.split_whitespace().collect::<Vec<_>>());
    rows.filter(|row| row[3] == "06" && (row[1].ends_with(&of) || row[2].ends_with(&of))).count()
}

#[tokio::test]
async fn many_probes_leave_no_connection_in_time_wait() {
    // Servers that close as they are asked to, and that keep the connection all the same.
    for (then, probes) in [(Then::Close, 200), (Then::Hold, 20)] {
        let server = Server::on(HERE, None, then, |_| status("200 OK")).await;
        for _ in 0..probes {
            assert!(matches!(of(&server, "/").await, Verdict::Success(_)));
        }
        assert_eq!(waiting(server.port), 0);
    }
    // The control: who just closes waits.
    let server = Server::on(HERE, None, Then::Close, |_| status("200 OK")).await;
    let mut stream = tokio::net::TcpStream::connect((HERE, server.port)).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    while stream.read(&mut [0; 64]).await.is_ok_and(|n| n > 0) {}
    drop(stream);
    assert_eq!(waiting(server.port), 1);
}
