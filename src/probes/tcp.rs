//! tcpSocket: whoever accepts a connection is well.

use super::connect;
use super::outcome::Verdict;
use std::time::Duration;

/// Connects and closes.
pub(super) async fn attempt(host: &str, port: u16, limit: Duration) -> Verdict {
    match tokio::time::timeout(limit, connect::connect(host, port)).await {
        Ok(Ok(stream)) => {
            drop(stream);
            Verdict::Success(format!("port {port} accepts connections"))
        }
        Ok(Err(e)) => Verdict::Failure(format!("connect to {host} port {port}: {e}")),
        Err(_) => {
            let limit = limit.as_secs();
            Verdict::Failure(format!("connect to {host} port {port}: timed out after {limit} s"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    const LIMIT: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_port_that_accepts_is_well() {
        for host in ["127.0.0.1", "::1"] {
            let Ok(listener) = TcpListener::bind((host, 0)) else { continue };
            let port = listener.local_addr().unwrap().port();
            let verdict = attempt(host, port, LIMIT).await;
            assert_eq!(verdict, Verdict::Success(format!("port {port} accepts connections")));
        }
    }

    #[tokio::test]
    async fn a_server_sees_an_orderly_connection() {
        use std::io::Read as _;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        attempt("localhost", port, LIMIT).await;
        let (mut accepted, _) = listener.accept().unwrap();
        accepted.peer_addr().unwrap();
        assert_eq!(accepted.read(&mut [0; 1]).unwrap(), 0);
    }

    #[tokio::test]
    async fn a_port_that_nobody_listens_on_is_a_failure() {
        let (_taken, port) = crate::testing::silent_port();
        let verdict = attempt("127.0.0.1", port, LIMIT).await;
        let Verdict::Failure(message) = verdict else { panic!("{verdict:?}") };
        assert!(message.contains("refused"), "{message}");
    }

    #[tokio::test]
    async fn who_does_not_answer_in_time_has_failed() {
        // A backlog that is full: what comes then is not answered.
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(0).unwrap();
        let port = listener.local_addr().unwrap().port();
        // Closed ones are in the backlog, too, until they are accepted.
        for _ in 0..64 {
            if let Verdict::Failure(message) =
                attempt("127.0.0.1", port, Duration::from_secs(1)).await
            {
                assert!(message.ends_with("timed out after 1 s"), "{message}");
                return;
            }
        }
        panic!("the backlog takes everybody");
    }
}
