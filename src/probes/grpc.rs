//! grpc: who answers `grpc.health.v1.Health/Check` with SERVING is well.
//!
//! Without TLS, to the pod's address.

use super::connect;
use super::header::PROBE_AGENT;
use super::outcome::{Verdict, excerpt};
use hyper_util::rt::TokioIo;
use std::io;
use std::net::IpAddr;
use std::time::Duration;
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tower::service_fn;

/// What is wrong with a server.
enum Wrong {
    Connect(io::Error),
    Transport(tonic::transport::Error),
    Refused(Status),
}

/// Asks after `service`, or after the server as a whole when that is empty.
pub(super) async fn attempt(address: IpAddr, port: u16, service: &str, limit: Duration) -> Verdict {
    let answer = match tokio::time::timeout(limit, ask(address, port, service)).await {
        Ok(answer) => answer,
        Err(_) => {
            let limit = limit.as_secs();
            let message = format!("gRPC health check on port {port}: timed out after {limit} s");
            return Verdict::Failure(message);
        }
    };
    match answer {
        Ok(ServingStatus::Serving) => Verdict::Success("SERVING".to_owned()),
        Ok(status) => {
            let status = status.as_str_name();
            Verdict::Failure(format!("gRPC health check on port {port}: the answer is {status}"))
        }
        Err(wrong) => Verdict::Failure(tell(&wrong, port, service)),
    }
}

fn tell(wrong: &Wrong, port: u16, service: &str) -> String {
    match wrong {
        Wrong::Connect(e) => format!("connect to gRPC port {port}: {e}"),
        Wrong::Transport(e) => {
            format!("speak gRPC on port {port}: {}", crate::error::chain(e))
        }
        Wrong::Refused(status) => match status.code() {
            Code::Unimplemented => {
                format!("the server on port {port} does not have the gRPC health service")
            }
            Code::NotFound => {
                format!("the gRPC health service on port {port} does not know {service:?}")
            }
            code => {
                let said = excerpt(status.message());
                format!("gRPC health check on port {port}: {code:?}: {said}")
            }
        },
    }
}

async fn ask(address: IpAddr, port: u16, service: &str) -> Result<ServingStatus, Wrong> {
    let stream = connect::connect(&address.to_string(), port).await.map_err(Wrong::Connect)?;
    let channel = channel(stream).await.map_err(Wrong::Transport)?;
    let request = HealthCheckRequest { service: service.to_owned() };
    let answer = HealthClient::new(channel).check(request).await.map_err(Wrong::Refused)?;
    Ok(answer.into_inner().status())
}

/// gRPC on a connection that is there, and on no other after it.
async fn channel(stream: TcpStream) -> Result<Channel, tonic::transport::Error> {
    let authority = stream.peer_addr().map(|peer| format!("http://{peer}"));
    let endpoint = Endpoint::from_shared(authority.unwrap_or_default())?.user_agent(PROBE_AGENT)?;
    let mut only = Some(stream);
    let connector = service_fn(move |_| {
        let stream = only.take().map(TokioIo::new);
        async move { stream.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected)) }
    });
    endpoint.connect_with_connector(connector).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;
    use std::net::Ipv4Addr;
    use tokio::net::TcpListener;
    use tokio_stream::wrappers::TcpListenerStream;
    use tokio_util::task::AbortOnDropHandle;
    use tonic::transport::Server;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const LIMIT: Duration = Duration::from_secs(60);

    async fn listen() -> (TcpListener, u16) {
        let listener = TcpListener::bind((HERE, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, port)
    }

    /// A server whose service "good" serves and whose service "bad" does not.
    async fn health() -> (u16, AbortOnDropHandle<()>) {
        let (listener, port) = listen().await;
        let (reporter, service) = tonic_health::server::health_reporter();
        reporter.set_service_status("good", tonic_health::ServingStatus::Serving).await;
        reporter.set_service_status("bad", tonic_health::ServingStatus::NotServing).await;
        let server = Server::builder().add_service(service);
        let task = tokio_util::task::TaskTracker::new().spawn(async move {
            server.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
        });
        (port, AbortOnDropHandle::new(task))
    }

    #[tokio::test]
    async fn the_answer_of_the_health_service_decides() {
        let (port, _server) = health().await;
        for (row, service, expected) in [
            ("the server", "", Verdict::Success("SERVING".into())),
            ("a service that serves", "good", Verdict::Success("SERVING".into())),
            (
                "one that does not",
                "bad",
                Verdict::Failure(format!(
                    "gRPC health check on port {port}: the answer is NOT_SERVING"
                )),
            ),
            (
                "an unknown one",
                "none",
                Verdict::Failure(format!(
                    "the gRPC health service on port {port} does not know \"none\""
                )),
            ),
        ] {
            assert_eq!(attempt(HERE, port, service, LIMIT).await, expected, "{row}");
        }
    }

    async fn failure(port: u16, limit: Duration) -> String {
        match attempt(HERE, port, "", limit).await {
            Verdict::Failure(message) => message,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_server_without_the_service_is_told_as_one() {
        let (listener, port) = listen().await;
        let mut routes = tonic::service::Routes::builder();
        let server = Server::builder().add_routes(std::mem::take(&mut routes).routes());
        let task = tokio_util::task::TaskTracker::new().spawn(async move {
            server.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
        });
        let _server = AbortOnDropHandle::new(task);
        let message = failure(port, LIMIT).await;
        assert!(message.ends_with("does not have the gRPC health service"), "{message}");
    }

    #[tokio::test]
    async fn who_does_not_listen_is_told_as_such() {
        let (_taken, port) = crate::testing::silent_port();
        let message = failure(port, LIMIT).await;
        assert!(message.starts_with("connect to gRPC port"), "{message}");
    }

    #[tokio::test]
    async fn who_listens_and_is_silent_has_until_the_timeout() {
        let (listener, port) = listen().await;
        let silent = tokio_util::task::TaskTracker::new().spawn(async move {
            let _held = listener.accept().await.unwrap();
            pending::<()>().await;
        });
        let _server = AbortOnDropHandle::new(silent);
        let message = failure(port, Duration::from_secs(1)).await;
        assert!(message.ends_with("timed out after 1 s"), "{message}");
    }

    #[tokio::test]
    async fn who_does_not_speak_grpc_is_a_failure() {
        let (listener, port) = listen().await;
        let rude = tokio_util::task::TaskTracker::new().spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                stream.try_write(b"HTTP/1.1 400 Bad Request\r\n\r\n").ok();
            }
        });
        let _server = AbortOnDropHandle::new(rude);
        let message = failure(port, LIMIT).await;
        assert!(message.contains(&format!("port {port}")), "{message}");
    }
}
