use super::super::fixture::checker;
use super::*;
use k8s_openapi::api::core::v1::{
    Container, ExecAction, HTTPGetAction, HTTPHeader, LifecycleHandler, SleepAction,
    TCPSocketAction,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::net::Ipv4Addr;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const SOON: Option<Duration> = Some(Duration::from_secs(60));

async fn hook(handler: &LifecycleHandler, limit: Option<Duration>) -> Result<(), HookError> {
    let container = Container::default();
    let target = HookTarget { container: &container, container_id: "c", address: Some(HERE) };
    let (checker, _runtime) = checker().await;
    run_hook(&checker, handler, target, limit).await
}

fn sleep(seconds: i64) -> LifecycleHandler {
    LifecycleHandler { sleep: Some(SleepAction { seconds }), ..Default::default() }
}

#[tokio::test(start_paused = true)]
async fn a_sleep_takes_its_time_and_no_more_than_there_is() {
    for (row, seconds, limit, expected, cut) in [
        ("none", 0, None, 0, false),
        ("without limit", 30, None, 30, false),
        ("within", 5, Some(7), 5, false),
        ("cut", 30, Some(7), 7, true),
    ] {
        let handler = sleep(seconds);
        let begin = Instant::now();
        let done = hook(&handler, limit.map(Duration::from_secs)).await;
        assert_eq!(begin.elapsed().as_secs(), expected, "{row}");
        assert_eq!(matches!(done, Err(HookError::Cut { .. })), cut, "{row}: {done:?}");
        assert_eq!(done.is_ok(), !cut, "{row}");
    }
}

#[tokio::test]
async fn what_does_nothing_is_an_error() {
    let tcp_socket = Some(TCPSocketAction { host: None, port: IntOrString::Int(80) });
    let tcp = LifecycleHandler { tcp_socket, ..Default::default() };
    assert!(matches!(hook(&tcp, SOON).await, Err(HookError::TcpSocket)));
    let nothing = LifecycleHandler::default();
    let done = hook(&nothing, SOON).await;
    assert!(matches!(done, Err(HookError::Spec(SpecError::Nothing))), "{done:?}");
    let exec = Some(ExecAction::default());
    let done = hook(&LifecycleHandler { exec, ..Default::default() }, SOON).await;
    assert!(matches!(done, Err(HookError::Spec(SpecError::NoCommand))), "{done:?}");
}

#[tokio::test(start_paused = true)]
async fn a_command_that_does_not_end_is_cut() {
    let exec = Some(ExecAction { command: Some(vec!["true".into()]) });
    let handler = LifecycleHandler { exec, ..Default::default() };
    let limit = Duration::from_secs(2);
    // The runtime of the fixture never answers.
    let done = hook(&handler, Some(limit)).await;
    assert!(matches!(done, Err(HookError::Cut { .. })), "{done:?}");
}

/// A server of plain HTTP that answers everybody with the same, and what it was asked.
async fn server(answer: &'static str) -> (u16, mpsc::UnboundedReceiver<String>, impl Drop) {
    let listener = TcpListener::bind((HERE, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (seen, heads) = mpsc::unbounded_channel();
    let task = TaskTracker::new().spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut bytes = [0; 4096];
            let length = stream.read(&mut bytes).await.unwrap_or(0);
            stream.write_all(answer.as_bytes()).await.ok();
            seen.send(String::from_utf8_lossy(&bytes[..length]).to_lowercase()).ok();
        }
    });
    (port, heads, AbortOnDropHandle::new(task))
}

fn get(port: u16, scheme: &str) -> LifecycleHandler {
    let header = HTTPHeader { name: "Authorization".into(), value: "secret".into() };
    let http_get = Some(HTTPGetAction {
        port: IntOrString::Int(port.into()),
        path: Some("/stop".into()),
        scheme: Some(scheme.into()),
        http_headers: Some(vec![header]),
        ..Default::default()
    });
    LifecycleHandler { http_get, ..Default::default() }
}

const REFUSAL: &str = "HTTP/1.1 500 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

#[tokio::test]
async fn any_answer_will_do() {
    let (port, mut heads, _server) = server(REFUSAL).await;
    hook(&get(port, "HTTP"), SOON).await.unwrap();
    let head = heads.recv().await.unwrap();
    assert!(head.starts_with("get /stop http/1.1\r\n"), "{head}");
    assert!(head.contains("user-agent: kube-lifecycle/"), "{head}");
    assert!(head.contains("authorization: secret"), "{head}");
}

#[tokio::test]
async fn a_server_of_plain_http_is_asked_again_without_credentials() {
    let (port, mut heads, _server) = server(REFUSAL).await;
    hook(&get(port, "HTTPS"), SOON).await.unwrap();
    // The handshake.
    heads.recv().await.unwrap();
    let head = heads.recv().await.unwrap();
    assert!(head.starts_with("get /stop http/1.1\r\n"), "{head}");
    assert!(!head.contains("authorization"), "{head}");
}

#[tokio::test]
async fn no_answer_is_an_error() {
    let (_taken, port) = crate::testing::silent_port();
    let done = hook(&get(port, "HTTP"), SOON).await;
    assert!(matches!(done, Err(HookError::Http { .. })), "{done:?}");
}
