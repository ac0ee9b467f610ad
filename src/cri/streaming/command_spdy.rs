//! The streams of a command as streams of SPDY: the client opens each, with a header `streamtype`.

use super::channels::{Channels, End, Input, Output, Streams};
use super::spdy::{Session, Stream};
use futures::FutureExt as _;
use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;
use tracing::debug;

/// How long the client may take to open its streams.
const OPEN_WITHIN: Duration = Duration::from_secs(30);

/// The streams that `wanted` names, once the client has opened them all; `None` when it does not. `version` of
/// the protocol.
pub(super) async fn channels(
    mut session: Session,
    wanted: Streams,
    version: u8,
    tasks: &TaskTracker,
) -> Option<Channels> {
    let expected = [
        ("error", true),
        ("stdin", wanted.stdin),
        ("stdout", wanted.stdout),
        ("stderr", wanted.stderr),
        ("resize", wanted.tty && version >= 3),
    ];
    let mut missing: Vec<&str> = expected.iter().filter(|(_, w)| *w).map(|(n, _)| *n).collect();
    let mut open = HashMap::new();
    let opened = tokio::time::timeout(OPEN_WITHIN, async {
        while !missing.is_empty() {
            let stream: Stream = session.accept().await?;
            let Some(at) =
                missing.iter().position(|name| stream.header("streamtype") == Some(*name))
            else {
                // Not part of this session: reset by being dropped.
                debug!(kind = stream.header("streamtype"), "a stream that is not expected");
                continue;
            };
            open.insert(missing.swap_remove(at), stream);
        }
        Some(())
    });
    if opened.await.ok().flatten().is_none() {
        debug!(?missing, "a client did not open its streams");
        return None;
    }
    let gone = session.gone();
    let (say, said) = oneshot::channel::<()>();
    let rest = tasks.spawn(async move {
        // Streams that come later are reset.
        tokio::select! {
            () = async { while session.accept().await.is_some() {} } => {}
            // The end is also when nobody waits for it.
            _ = said => finish(session).await,
        }
    });
    let finish = async move {
        drop(say);
        rest.await.ok();
    };
    let error = writes(open.remove("error")?);
    Some(Channels {
        stdin: open.remove("stdin").map(reads),
        stdout: open.remove("stdout").map(writes),
        stderr: open.remove("stderr").map(writes),
        resize: open.remove("resize").map(reads),
        end: End { error, as_status: version >= 4, finish: finish.boxed() },
        gone,
    })
}

/// Says what remains to be said; a client that does not take it ends with its connection.
pub(super) async fn finish(session: Session) {
    let gone = session.gone();
    tokio::select! {
        () = session.finish() => {}
        () = gone.cancelled() => {}
    }
}

/// Both halves of a stream of which one is used. The other is kept: clients take the end of either for the end of
/// the whole stream.
struct Whole<Used, Other> {
    used: Used,
    _other: Other,
}

fn reads(stream: Stream) -> Input {
    let (used, other) = stream.split();
    Box::new(Whole { used, _other: other })
}

pub(super) fn writes(stream: Stream) -> Output {
    let (other, used) = stream.split();
    Box::new(Whole { used, _other: other })
}

impl<Used: AsyncRead + Unpin, Other: Unpin> AsyncRead for Whole<Used, Other> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.used).poll_read(cx, buf)
    }
}

impl<Used: AsyncWrite + Unpin, Other: Unpin> AsyncWrite for Whole<Used, Other> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.used).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.used).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.used).poll_shutdown(cx)
    }
}
