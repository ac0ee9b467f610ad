//! What a framing gives to a session: the streams of one command, whichever protocol carries them.

use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;

use super::outcome::Outcome;

/// Bytes of the client, to the end that it has told.
pub(super) type Input = Box<dyn AsyncRead + Send + Unpin>;
/// Bytes for the client; shutting it down tells their end where the protocol has a word for it.
pub(super) type Output = Box<dyn AsyncWrite + Send + Unpin>;

/// Which streams a session has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "the fields of the request")]
pub(in crate::cri) struct Streams {
    pub(in crate::cri) stdin: bool,
    pub(in crate::cri) stdout: bool,
    pub(in crate::cri) stderr: bool,
    pub(in crate::cri) tty: bool,
}

/// The streams of an exec or attach session. Dropping it unfinished cuts the client off.
pub(super) struct Channels {
    pub(super) stdin: Option<Input>,
    pub(super) stdout: Option<Output>,
    pub(super) stderr: Option<Output>,
    /// JSON objects with `Width` and `Height`, one after another; with a terminal alone.
    pub(super) resize: Option<Input>,
    pub(super) end: End,
    /// The client is gone, or has broken the protocol.
    pub(super) gone: CancellationToken,
}

/// How a session is ended.
pub(super) struct End {
    pub(super) error: Output,
    /// From version 4 on a `metav1.Status`, before it plain text, nothing on success.
    pub(super) as_status: bool,
    /// What remains to be said when all was said: ends when the client has taken it, or is gone.
    pub(super) finish: BoxFuture<'static, ()>,
}

impl End {
    /// Tells the outcome. All output must have been written, and its streams dropped.
    pub(super) async fn tell(self, outcome: &Outcome) {
        let Self { mut error, as_status, finish } = self;
        let text = if as_status { outcome.status() } else { outcome.text().unwrap_or_default() };
        // A client that is gone by now wants no outcome.
        if error.write_all(text.as_bytes()).await.is_ok() {
            error.shutdown().await.ok();
        }
        drop(error);
        finish.await;
    }
}
