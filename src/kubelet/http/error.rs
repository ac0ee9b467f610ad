//! An HTTP API that cannot be served.

use super::user::BadLine;
use crate::blocking::BlockingError;
use crate::cri::ServerError;
use crate::error::ErrorKind;
use crate::store::StoreError;
use crate::tls::TlsError;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// An HTTP API that cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The address cannot be listened on.
    #[error("listen on kubelet.http_address {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The unix socket.
    #[error("serve the kubelet's HTTP API on its socket")]
    Socket(#[source] ServerError),
    /// The certificate, its key, or the authorities of clients.
    #[error("set up TLS of the kubelet's HTTP API")]
    Tls(#[from] TlsError),
    /// The own certificate cannot be made.
    #[error("make a certificate for {name}")]
    Certificate {
        /// The node's name.
        name: String,
        /// Why not.
        source: rcgen::Error,
    },
    /// A file of the own certificate.
    #[error("{operation} {path}")]
    File {
        /// What was attempted.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The own certificate or its key cannot be kept.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file of tokens.
    #[error("read kubelet.static_tokens {path}")]
    Tokens {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        source: BadLine,
    },
    /// Work of the start was cut off.
    #[error(transparent)]
    Blocking(#[from] BlockingError),
}

impl HttpError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Listen { source, .. } if source.kind() == io::ErrorKind::AddrInUse => {
                ErrorKind::AlreadyExists
            }
            Self::Listen { .. } | Self::Certificate { .. } | Self::File { .. } => {
                ErrorKind::Internal
            }
            Self::Socket(error) => error.kind(),
            Self::Tls(_) | Self::Tokens { .. } => ErrorKind::InvalidArgument,
            Self::Store(error) => error.kind(),
            Self::Blocking(error) => error.kind(),
        }
    }
}
