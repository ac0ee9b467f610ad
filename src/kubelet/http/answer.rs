//! Answers, and why there is none.

use crate::blocking::BlockingError;
use crate::cri::client::CriError;
use crate::error::{ErrorKind, chain};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};
use procfs::ProcError;
use serde::Serialize;
use std::io;

/// A body: whole, or as it comes.
pub(super) type Body = UnsyncBoxBody<Bytes, io::Error>;
/// What a client gets.
pub(super) type Answer = Response<Body>;

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
/// The text format of Prometheus.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

fn whole(content: impl Into<Bytes>, kind: &'static str) -> Answer {
    with_body(Full::new(content.into()).map_err(|never| match never {}).boxed_unsync(), kind)
}

fn with_body(body: Body, kind: &'static str) -> Answer {
    let mut answer = Response::new(body);
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}

/// Text.
pub(super) fn text(content: impl Into<Bytes>) -> Answer {
    whole(content, TEXT)
}

/// Text that goes on.
pub(super) fn text_as_it_comes(body: Body) -> Answer {
    with_body(body, TEXT)
}

/// Metrics of Prometheus.
pub(super) fn metrics(content: String) -> Answer {
    whole(content, METRICS)
}

/// JSON.
pub(super) fn json(content: &impl Serialize) -> Result<Answer, Refusal> {
    let content = serde_json::to_vec(content);
    content.map(|content| whole(content, JSON)).map_err(|error| {
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, format!("write the answer: {error}"))
    })
}

/// Why there is no answer: a code and a cause.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) code: StatusCode,
    pub(super) cause: String,
    allow: Option<&'static str>,
}

impl Refusal {
    pub(super) fn new(code: StatusCode, cause: impl Into<String>) -> Self {
        Self { code, cause: cause.into(), allow: None }
    }

    /// The request itself is wrong.
    pub(super) fn bad(cause: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, cause)
    }

    /// What is named is not there.
    pub(super) fn not_found(cause: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, cause)
    }

    /// Another method is meant.
    pub(super) fn method(allowed: &'static str) -> Self {
        let cause = format!("the method must be one of {allowed}");
        Self { code: StatusCode::METHOD_NOT_ALLOWED, cause, allow: Some(allowed) }
    }

    /// As an answer.
    pub(super) fn answer(self) -> Answer {
        let mut answer = text(self.cause + "\n");
        *answer.status_mut() = self.code;
        let headers = answer.headers_mut();
        if let Some(allowed) = self.allow {
            headers.insert(ALLOW, HeaderValue::from_static(allowed));
        }
        if self.code == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        answer
    }
}

impl From<CriError> for Refusal {
    fn from(error: CriError) -> Self {
        let code = match error.kind() {
            ErrorKind::NotFound => StatusCode::NOT_FOUND,
            ErrorKind::InvalidArgument => StatusCode::BAD_REQUEST,
            ErrorKind::AlreadyExists | ErrorKind::FailedPrecondition => StatusCode::CONFLICT,
            ErrorKind::Unavailable | ErrorKind::ResourceExhausted => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            ErrorKind::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
            ErrorKind::Unimplemented => StatusCode::NOT_IMPLEMENTED,
            ErrorKind::PermissionDenied | ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(code, chain(&error))
    }
}

impl From<ProcError> for Refusal {
    fn from(error: ProcError) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    }
}

impl From<BlockingError> for Refusal {
    fn from(error: BlockingError) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, chain(&error))
    }
}
