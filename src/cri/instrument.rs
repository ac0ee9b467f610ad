//! One layer around every RPC: a span, its time, and the one log line.
//!
//! Methods that change something are logged at info, those that a kubelet repeats every few seconds
//! at debug, and failures at warn when the node is at fault. Services record the ids into the span.

use std::task::{Context, Poll};
use std::time::Instant;
use tonic::codegen::BoxFuture;
use tonic::codegen::http::{Request, Response};
use tonic::{Code, Status};
use tower::{Layer, Service};
use tracing::{Instrument as _, Span, debug, info, info_span, warn};

/// Makes [`Instrumented`] services.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct InstrumentLayer;

impl<S> Layer<S> for InstrumentLayer {
    type Service = Instrumented<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Instrumented { inner }
    }
}

/// A service whose calls are told in the log.
#[derive(Clone, Debug)]
pub(crate) struct Instrumented<S> {
    inner: S,
}

impl<S, B, R> Service<Request<B>> for Instrumented<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    R: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let method = method(request.uri().path()).to_owned();
        let span = info_span!(
            "rpc",
            method,
            pod = tracing::field::Empty,
            namespace = tracing::field::Empty,
            pod_uid = tracing::field::Empty,
            sandbox_id = tracing::field::Empty,
            container = tracing::field::Empty,
            container_id = tracing::field::Empty,
            image = tracing::field::Empty,
        );
        let began = Instant::now();
        let call = span.in_scope(|| self.inner.call(request));
        Box::pin(
            async move {
                let result = call.await;
                if let Ok(response) = &result {
                    // A failed call answers with headers alone; a good one ends in trailers.
                    let status = Status::from_header_map(response.headers());
                    tell(&method, status.as_ref(), began);
                }
                result
            }
            .instrument(span),
        )
    }
}

/// Records what the request is about into the span of its RPC.
pub(crate) fn about(field: &'static str, value: &str) {
    Span::current().record(field, value);
}

fn tell(method: &str, status: Option<&Status>, began: Instant) {
    // Whole microseconds.
    let elapsed_ms = (began.elapsed().as_secs_f64() * 1e6).round() / 1e3;
    let code = status.map_or(Code::Ok, Status::code);
    let error = status.map_or("", Status::message);
    match weight(method, code) {
        Weight::Warn => warn!(?code, error, elapsed_ms, "rpc failed"),
        Weight::Info if error.is_empty() => info!(?code, elapsed_ms, "rpc"),
        Weight::Info => info!(?code, error, elapsed_ms, "rpc refused"),
        Weight::Debug => debug!(?code, error, elapsed_ms, "rpc"),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weight {
    Warn,
    Info,
    Debug,
}

fn weight(method: &str, code: Code) -> Weight {
    match code {
        Code::Internal | Code::Unknown | Code::ResourceExhausted | Code::PermissionDenied => {
            Weight::Warn
        }
        // Kubelets probe for methods once at start.
        Code::Unimplemented => Weight::Debug,
        // Asked again and again: also about objects that have just gone, and while berth recovers.
        Code::Ok | Code::NotFound | Code::Unavailable if reads(method) => Weight::Debug,
        _ => Weight::Info,
    }
}

/// Whether a method changes nothing and may come often.
fn reads(method: &str) -> bool {
    method.starts_with("List")
        || method.starts_with("Stream")
        || method.ends_with("Status")
        || method.ends_with("Stats")
        || matches!(method, "Version" | "RuntimeConfig" | "ImageFsInfo" | "ExecSync")
}

/// `ListImages` of `/runtime.v1.ImageService/ListImages`.
fn method(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polls_are_quiet_and_changes_and_faults_are_not() {
        for (path, code, expected) in [
            ("/runtime.v1.RuntimeService/ListContainers", Code::Ok, Weight::Debug),
            ("/runtime.v1.RuntimeService/ContainerStatus", Code::NotFound, Weight::Debug),
            ("/runtime.v1.RuntimeService/ContainerStatus", Code::Internal, Weight::Warn),
            ("/runtime.v1.RuntimeService/StartContainer", Code::Ok, Weight::Info),
            ("/runtime.v1.ImageService/PullImage", Code::Unavailable, Weight::Info),
            ("/runtime.v1.RuntimeService/StopContainer", Code::DeadlineExceeded, Weight::Info),
        ] {
            assert_eq!(weight(method(path), code), expected, "{path} {code:?}");
        }
    }
}
