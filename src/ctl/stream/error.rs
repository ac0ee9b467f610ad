//! Why a stream could not be had, or ended without its end.

use std::io;
use tokio_tungstenite::tungstenite;

/// A stream that failed.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The daemon's answer is not to be understood. Its URL is not told: it holds a secret.
    #[error("the daemon's answer is no URL of a stream: {0}")]
    Url(&'static str),
    /// Nobody answers where the daemon said.
    #[error("connect to {address}")]
    Connect {
        /// Host and port.
        address: String,
        /// Why not.
        source: io::Error,
    },
    /// What answers is no such stream, or refuses.
    #[error("open a stream at {address}")]
    Open {
        /// Host and port.
        address: String,
        /// Why not.
        source: Box<tungstenite::Error>,
    },
    /// The answer to the request for a stream is none.
    #[error("open a stream at {address}: it is refused with {status}: {text}")]
    Refused {
        /// Host and port.
        address: String,
        /// The status of HTTP.
        status: u16,
        /// The first line of what came with it.
        text: String,
    },
    /// The connection broke.
    #[error("the connection to the daemon was lost")]
    Lost(#[source] Box<tungstenite::Error>),
    /// The connection was closed before it was told how it went.
    #[error("the daemon closed the connection without a word")]
    Silent,
    /// The daemon says that it failed.
    #[error("{0}")]
    Failed(String),
    /// This side's terminal, streams or signals.
    #[error("{operation}")]
    Local {
        /// What was attempted.
        operation: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The output cannot be written.
    #[error("write the output")]
    Output(#[source] io::Error),
}

impl StreamError {
    /// A failure of this side.
    pub(super) fn local(operation: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Local { operation, source }
    }

    /// A connection that broke.
    pub(super) fn lost(source: tungstenite::Error) -> Self {
        Self::Lost(Box::new(source))
    }

    /// Whether the daemon is not there, or no longer.
    pub(crate) fn is_of_the_connection(&self) -> bool {
        matches!(self, Self::Connect { .. } | Self::Lost(_) | Self::Silent)
    }
}
