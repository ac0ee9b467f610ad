//! What can go wrong with a registry, by host and cause.

use super::super::digest::Digest;
use crate::cni::HelperError;
use crate::error::{ErrorKind, chain};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why a registry did not give what was asked of it.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// A `hosts.toml` that says what cannot be meant.
    #[error("{}: {key}: {reason}", .path.display())]
    HostsFile {
        /// The file.
        path: PathBuf,
        /// The key, with its tables.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file that belongs to a registry cannot be read.
    #[error("read {}", .path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// The errno.
        source: io::Error,
    },
    /// Credentials that cannot be used. They are never quoted.
    #[error("credentials for {host}: {reason}")]
    Credentials {
        /// For whom.
        host: String,
        /// What is wrong with them.
        reason: String,
        /// Whose mistake it is: the caller's or the node's.
        kind: ErrorKind,
    },
    /// A credential helper gave no answer.
    #[error("ask docker-credential-{helper} for the credentials of {host}")]
    Helper {
        /// The helper.
        helper: String,
        /// For whom.
        host: String,
        /// Why.
        source: HelperError,
    },
    /// No connection, no TLS, or the connection broke.
    #[error("talk to {host}")]
    Connection {
        /// With whom.
        host: String,
        /// The library's account, without the address: that may hold a signature.
        source: reqwest::Error,
    },
    /// Not a byte for too long.
    #[error("{host} sent nothing for {limit:?}")]
    Silent {
        /// Who.
        host: String,
        /// How long it was waited for.
        limit: Duration,
    },
    /// An answer that is no success.
    #[error("{host} answered {status}{detail}")]
    Status {
        /// Who.
        host: String,
        /// The HTTP status.
        status: u16,
        /// The error codes of the distribution specification in the answer.
        codes: Vec<String>,
        /// What the answer says, after a colon; may be empty.
        detail: String,
        /// How long the host wants to be left alone.
        retry_after: Option<Duration>,
    },
    /// The host wants other credentials, or some.
    #[error("{host} refuses: {reason}")]
    Denied {
        /// Who.
        host: String,
        /// What it wants.
        reason: String,
    },
    /// An answer that the protocol does not know, or that cannot be followed safely.
    #[error("{host}: {reason}")]
    Protocol {
        /// Who.
        host: String,
        /// What is wrong with the answer.
        reason: String,
    },
    /// A document that is not what its digest says.
    #[error("{host}: {subject} is damaged: expected {expected}, found {found}")]
    Damaged {
        /// Who sent it.
        host: String,
        /// Which document.
        subject: String,
        /// What was asked for.
        expected: Digest,
        /// What came.
        found: Digest,
    },
    /// Every host failed; the last one is the registry's own.
    #[error("{}", every(.0))]
    All(Vec<RegistryError>),
}

impl RegistryError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::HostsFile { .. } | Self::File { .. } | Self::Damaged { .. } => {
                ErrorKind::FailedPrecondition
            }
            Self::Credentials { kind, .. } => *kind,
            Self::Helper { source, .. } => source.kind(),
            Self::Connection { .. } | Self::Silent { .. } | Self::Protocol { .. } => {
                ErrorKind::Unavailable
            }
            Self::Status { status, codes, .. } => status_kind(*status, codes),
            Self::Denied { .. } => ErrorKind::PermissionDenied,
            Self::All(errors) => errors.last().map_or(ErrorKind::Unavailable, Self::kind),
        }
    }

    /// The host itself is out of order, not only what was asked of it: others are asked first from now on.
    pub(super) fn host_is_down(&self) -> bool {
        match self {
            Self::Connection { .. } | Self::Silent { .. } | Self::Denied { .. } => true,
            Self::Status { status, .. } => *status >= 500 || *status == 429,
            _ => false,
        }
    }

    pub(super) fn protocol(host: &str, reason: impl Into<String>) -> Self {
        Self::Protocol { host: host.to_owned(), reason: reason.into() }
    }

    pub(super) fn connection(host: &str, source: reqwest::Error) -> Self {
        Self::Connection { host: host.to_owned(), source: source.without_url() }
    }
}

fn every(errors: &[RegistryError]) -> String {
    let texts: Vec<String> = errors.iter().map(|error| chain(error)).collect();
    texts.join("; then ")
}

/// Some registries answer 401 or 400 with a code that says more.
fn status_kind(status: u16, codes: &[String]) -> ErrorKind {
    let code = |wanted: &[&str]| codes.iter().any(|code| wanted.contains(&code.as_str()));
    if status == 404 || code(&["MANIFEST_UNKNOWN", "NAME_UNKNOWN", "BLOB_UNKNOWN", "NOT_FOUND"]) {
        ErrorKind::NotFound
    } else if matches!(status, 401 | 403) || code(&["DENIED", "UNAUTHORIZED"]) {
        ErrorKind::PermissionDenied
    } else {
        ErrorKind::Unavailable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(host: &str, status: u16, codes: &[&str]) -> RegistryError {
        RegistryError::Status {
            host: host.into(),
            status,
            codes: codes.iter().map(|&code| code.to_owned()).collect(),
            detail: String::new(),
            retry_after: None,
        }
    }

    #[test]
    fn the_kind_follows_the_status_and_the_codes() {
        for (number, codes, kind) in [
            (404, &[][..], ErrorKind::NotFound),
            (400, &["NAME_UNKNOWN"], ErrorKind::NotFound),
            (401, &["MANIFEST_UNKNOWN"], ErrorKind::NotFound),
            (401, &[], ErrorKind::PermissionDenied),
            (403, &["DENIED"], ErrorKind::PermissionDenied),
            (400, &["DENIED"], ErrorKind::PermissionDenied),
            (429, &["TOOMANYREQUESTS"], ErrorKind::Unavailable),
            (500, &[], ErrorKind::Unavailable),
        ] {
            assert_eq!(status("r.test", number, codes).kind(), kind, "{number} {codes:?}");
        }
    }

    #[test]
    fn when_all_hosts_fail_each_is_named_and_the_last_decides() {
        let all = RegistryError::All(vec![status("m.test", 503, &[]), status("r.test", 404, &[])]);
        assert_eq!(all.to_string(), "m.test answered 503; then r.test answered 404");
        assert_eq!(all.kind(), ErrorKind::NotFound);
    }
}
