//! postStart and preStop: what a manifest wants done when a container has started, and before it is stopped.
//!
//! | handler | succeeds when |
//! | --- | --- |
//! | exec | the command ends with 0; its words are taken as they are |
//! | httpGet | there is an answer, whatever its status; a server that answers https with http is asked again so, without `Authorization` |
//! | sleep | the time is over; 0 is |
//! | tcpSocket | never: it has never done anything, and is an error |
//!
//! postStart has no limit. preStop has what is left of the grace period and is cut there: the container is stopped
//! all the same. A command that is cut is ended by the runtime.

use super::check::Checker;
use super::exec;
use super::http::{self, HttpError};
use super::spec::{Agent, HttpGet, Scheme, SpecError};
use crate::cri::client::CriError;
use crate::error::{ErrorKind, kinded};
use k8s_openapi::api::core::v1;
use std::net::IpAddr;
use std::time::Duration;

/// A command without a limit: no runtime has a name for that which all of them understand. Ten years.
const NO_LIMIT: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// The container of a hook.
#[derive(Clone, Copy, Debug)]
pub struct HookTarget<'a> {
    /// As the manifest has it.
    pub container: &'a v1::Container,
    /// Its id.
    pub container_id: &'a str,
    /// The pod's first address; the node's for a pod in the node's network.
    pub address: Option<IpAddr>,
}

/// A hook that failed.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// The manifest asks for what cannot be.
    #[error("the hook cannot be run")]
    Spec(#[from] SpecError),
    /// tcpSocket.
    #[error("tcpSocket does nothing as a hook")]
    TcpSocket,
    /// The runtime did not run the command.
    #[error("run the hook's command in the container")]
    Exec(#[source] CriError),
    /// The command ended with something else than 0.
    #[error("the hook's command ended with {code}: {output}")]
    Exit {
        /// With what.
        code: i32,
        /// The beginning of what it wrote; at most 1 KiB.
        output: String,
    },
    /// There is no answer.
    #[error("ask for the hook")]
    Http {
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
        /// What that means.
        kind: ErrorKind,
    },
    /// It took longer than it may.
    #[error("the hook was cut after {} s", limit.as_secs_f32())]
    Cut {
        /// How long it could take.
        limit: Duration,
    },
}

impl HookError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Spec(e) => e.kind(),
            Self::TcpSocket => ErrorKind::InvalidArgument,
            Self::Exec(e) => e.kind(),
            Self::Exit { .. } => ErrorKind::FailedPrecondition,
            Self::Http { kind, .. } => *kind,
            Self::Cut { .. } => ErrorKind::DeadlineExceeded,
        }
    }
}
kinded!(HookError);

impl From<HttpError> for HookError {
    fn from(error: HttpError) -> Self {
        Self::Http { kind: error.kind(), source: Box::new(error) }
    }
}

/// Does what `handler` says and waits for it, no longer than `limit`.
///
/// # Errors
/// It failed, or is [cut](HookError::Cut).
pub async fn run_hook(
    checker: &Checker,
    handler: &v1::LifecycleHandler,
    target: HookTarget<'_>,
    limit: Option<Duration>,
) -> Result<(), HookError> {
    let work = run(checker, handler, target, limit);
    match limit {
        None => work.await,
        Some(limit) => match tokio::time::timeout(limit, work).await {
            Ok(done) => done,
            Err(_) => Err(HookError::Cut { limit }),
        },
    }
}

async fn run(
    checker: &Checker,
    handler: &v1::LifecycleHandler,
    target: HookTarget<'_>,
    limit: Option<Duration>,
) -> Result<(), HookError> {
    if let Some(action) = &handler.exec {
        let command = action.command.as_deref().unwrap_or_default();
        return command_hook(checker, command, target.container_id, limit).await;
    }
    if let Some(get) = &handler.http_get {
        let get = HttpGet::of(get, target.container, Agent::Lifecycle)?;
        return http_hook(checker, get, target.address).await;
    }
    if let Some(action) = &handler.sleep {
        let seconds = u64::try_from(action.seconds).unwrap_or(0);
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        return Ok(());
    }
    Err(match handler.tcp_socket {
        Some(_) => HookError::TcpSocket,
        None => SpecError::Nothing.into(),
    })
}

async fn command_hook(
    checker: &Checker,
    command: &[String],
    container_id: &str,
    limit: Option<Duration>,
) -> Result<(), HookError> {
    if command.is_empty() {
        return Err(SpecError::NoCommand.into());
    }
    let request = exec::request(container_id, command, limit.unwrap_or(NO_LIMIT));
    match (checker.cri().exec_sync(request).await, limit) {
        (Ok(response), _) if response.exit_code == 0 => Ok(()),
        (Ok(response), _) => {
            Err(HookError::Exit { code: response.exit_code, output: exec::output(&response) })
        }
        (Err(e), Some(limit)) if e.kind() == ErrorKind::DeadlineExceeded => {
            Err(HookError::Cut { limit })
        }
        (Err(e), _) => Err(HookError::Exec(e)),
    }
}

async fn http_hook(
    checker: &Checker,
    get: HttpGet,
    address: Option<IpAddr>,
) -> Result<(), HookError> {
    match http::ask(&get, address, checker.tls()).await {
        Err(e) if e.is_plain() => {
            let headers = get.headers.without_credentials();
            let plain = HttpGet { scheme: Scheme::Http, headers, ..get };
            http::ask(&plain, address, checker.tls()).await?;
        }
        answer => drop(answer?),
    }
    Ok(())
}

#[cfg(test)]
#[path = "hooks_tests.rs"]
mod tests;
