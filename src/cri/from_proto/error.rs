//! Why a request is refused.

use crate::error::ErrorKind;

/// A request that is refused because of one of its fields.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RequestError {
    /// The field is missing.
    #[error("{field}: required")]
    Missing {
        /// The field's path in the request.
        field: String,
    },
    /// No version could honour the value.
    #[error("{field}: {reason}")]
    Invalid {
        /// The field's path in the request.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// This version cannot honour the field.
    #[error("{field}: {what} not implemented")]
    Unimplemented {
        /// The field's path in the request.
        field: String,
        /// The feature, with its verb.
        what: &'static str,
    },
}

impl RequestError {
    pub(super) fn missing(field: impl Into<String>) -> Self {
        Self::Missing { field: field.into() }
    }

    pub(super) fn invalid(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Invalid { field: field.into(), reason: reason.into() }
    }

    pub(super) fn unimplemented(field: impl Into<String>, what: &'static str) -> Self {
        Self::Unimplemented { field: field.into(), what }
    }

    /// A number of an enumeration that the interface does not have.
    pub(crate) fn unknown(field: impl Into<String>, value: i32) -> Self {
        Self::invalid(field, format!("{value} is not a value of the enumeration"))
    }

    /// What the caller can do about it.
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::Missing { .. } | Self::Invalid { .. } => ErrorKind::InvalidArgument,
            Self::Unimplemented { .. } => ErrorKind::Unimplemented,
        }
    }
}

impl From<RequestError> for tonic::Status {
    fn from(error: RequestError) -> Self {
        crate::cri::status::to_status(error.kind(), &error)
    }
}
