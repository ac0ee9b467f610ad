//! The streams of a command as channels of a WebSocket: 0 stdin, 1 stdout, 2 stderr, 3 error, 4 resize.

use super::channels::{Channels, End, Streams};
use super::websocket::Mux;
use futures::FutureExt as _;

pub(super) const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
pub(super) const RESIZE: u8 = 4;

/// The streams that `wanted` names; `version` of the protocol.
pub(super) async fn channels(mut mux: Mux, wanted: Streams, version: u8) -> Channels {
    let first = match wanted {
        Streams { stdout: true, .. } => STDOUT,
        Streams { stderr: true, .. } => STDERR,
        _ => ERROR,
    };
    // What clients of Kubernetes take for the sign that they are connected.
    mux.greet(first).await;
    let gone = mux.gone();
    let finished = gone.clone().cancelled_owned();
    Channels {
        stdin: mux.input(STDIN).filter(|_| wanted.stdin),
        stdout: wanted.stdout.then(|| mux.output(STDOUT)),
        stderr: wanted.stderr.then(|| mux.output(STDERR)),
        resize: mux.input(RESIZE).filter(|_| wanted.tty),
        end: End {
            error: mux.output(ERROR),
            as_status: version >= 4,
            // The connection ends by itself when the last of its channels is dropped.
            finish: finished.boxed(),
        },
        gone,
    }
}
