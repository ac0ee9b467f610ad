//! exec: a command in the container that ends with 0 says that all is well.
//!
//! The runtime keeps the time and leaves no process of a command that does not (CRI, ExecSync).

use super::outcome::{Answer, CheckError, READ_BYTES, Verdict, excerpt};
use crate::cri::client::{Cri, CriError};
use crate::cri::proto::{ExecSyncRequest, ExecSyncResponse};
use crate::error::ErrorKind;
use std::time::Duration;

/// Runs `command` in the container, no longer than `limit`: whole seconds, at least one.
pub(super) async fn attempt(
    cri: &dyn Cri,
    container_id: &str,
    command: &[String],
    limit: Duration,
) -> Answer {
    judge(cri.exec_sync(request(container_id, command, limit)).await, limit)
}

/// The request for a command that may take `limit`.
pub(super) fn request(container_id: &str, command: &[String], limit: Duration) -> ExecSyncRequest {
    let whole = limit.as_secs() + u64::from(limit.subsec_nanos() > 0);
    ExecSyncRequest {
        container_id: container_id.to_owned(),
        cmd: command.to_vec(),
        // 0 would be for ever.
        timeout: i64::try_from(whole.max(1)).unwrap_or(i64::MAX),
    }
}

/// What the runtime's answer says of the container.
///
/// # Errors
/// The command was not run, or nobody knows how it ended: no container, no runtime.
pub(super) fn judge(answer: Result<ExecSyncResponse, CriError>, limit: Duration) -> Answer {
    let response = match answer {
        Ok(response) => response,
        Err(e) if e.kind() == ErrorKind::DeadlineExceeded => {
            let message = format!("the command timed out after {} s", limit.as_secs());
            return Ok(Verdict::Failure(message));
        }
        Err(e) => return Err(CheckError::Exec(e)),
    };
    let told = output(&response);
    Ok(match response.exit_code {
        0 => Verdict::Success(told),
        code if told.is_empty() => {
            Verdict::Failure(format!("the command ended with {code} and said nothing"))
        }
        code => Verdict::Failure(format!("the command ended with {code}: {told}")),
    })
}

/// The beginning of what a command has written, to its output first.
pub(super) fn output(response: &ExecSyncResponse) -> String {
    let both = response.stdout.iter().chain(&response.stderr);
    let bytes: Vec<u8> = both.take(READ_BYTES).copied().collect();
    excerpt(&String::from_utf8_lossy(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(3);

    fn ended(exit_code: i32, stdout: &str, stderr: &str) -> Result<ExecSyncResponse, CriError> {
        let (stdout, stderr) = (stdout.as_bytes().to_vec(), stderr.as_bytes().to_vec());
        Ok(ExecSyncResponse { stdout, stderr, exit_code })
    }

    #[test]
    fn the_code_of_a_command_decides() {
        for (row, answer, expected) in [
            ("well", ended(0, "ok\n", ""), Verdict::Success("ok".into())),
            (
                "output and errors",
                ended(1, "a", "b"),
                Verdict::Failure("the command ended with 1: ab".into()),
            ),
            (
                "silent",
                ended(137, "", "\n"),
                Verdict::Failure("the command ended with 137 and said nothing".into()),
            ),
        ] {
            assert_eq!(judge(answer, LIMIT).unwrap(), expected, "{row}");
        }
    }

    #[test]
    fn of_much_output_only_the_beginning_is_told() {
        let verdict = judge(ended(1, &"x".repeat(1 << 20), ""), LIMIT).unwrap();
        let Verdict::Failure(message) = verdict else { panic!("{verdict:?}") };
        assert!(message.len() < 1100, "{}", message.len());
    }

    #[test]
    fn bytes_that_are_no_text_are_told_as_well_as_they_can_be() {
        let response = ExecSyncResponse { stdout: vec![0xff, b'a'], stderr: vec![], exit_code: 1 };
        assert_eq!(output(&response), "\u{fffd}a");
    }

    #[test]
    fn a_command_has_whole_seconds_and_at_least_one() {
        let timeout = |limit| request("c", &["true".to_owned()], limit).timeout;
        assert_eq!(timeout(Duration::ZERO), 1);
        assert_eq!(timeout(Duration::from_millis(1500)), 2);
        assert_eq!(timeout(LIMIT), 3);
    }

    /// Answers every verb with the same status; a runtime on a socket as far as a client can tell.
    #[derive(Clone)]
    struct Refusing(tonic::Code);

    impl tonic::server::NamedService for Refusing {
        const NAME: &'static str = "runtime.v1.RuntimeService";
    }

    impl tower::Service<hyper::Request<tonic::body::Body>> for Refusing {
        type Response = hyper::Response<tonic::body::Body>;
        type Error = std::convert::Infallible;
        type Future = std::future::Ready<Result<Self::Response, Self::Error>>;

        fn poll_ready(
            &mut self,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Result<(), Self::Error>> {
            std::task::Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: hyper::Request<tonic::body::Body>) -> Self::Future {
            std::future::ready(Ok(tonic::Status::new(self.0, "so it is").into_http()))
        }
    }

    async fn refused(code: tonic::Code) -> Answer {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let listener = tokio::net::UnixListener::bind(&socket).unwrap();
        let incoming = tokio_stream::wrappers::UnixListenerStream::new(listener);
        let server = tonic::transport::Server::builder().add_service(Refusing(code));
        let task = tokio_util::task::TaskTracker::new().spawn(async move {
            server.serve_with_incoming(incoming).await.unwrap();
        });
        let _server = tokio_util::task::AbortOnDropHandle::new(task);
        let cri = crate::cri::client::RemoteCri::connect(&socket).await.unwrap();
        attempt(&cri, "c", &["true".to_owned()], LIMIT).await
    }

    #[tokio::test]
    async fn a_command_that_takes_too_long_is_a_failure() {
        let verdict = refused(tonic::Code::DeadlineExceeded).await.unwrap();
        assert_eq!(verdict, Verdict::Failure("the command timed out after 3 s".into()));
    }

    #[tokio::test]
    async fn a_command_that_is_not_run_is_no_result() {
        for code in [
            tonic::Code::NotFound,
            tonic::Code::FailedPrecondition,
            tonic::Code::Unavailable,
            tonic::Code::Unknown,
        ] {
            let answer = refused(code).await;
            assert!(matches!(answer, Err(CheckError::Exec(_))), "{code:?}: {answer:?}");
        }
    }
}
