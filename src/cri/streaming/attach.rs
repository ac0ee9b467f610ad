//! An attach session: a client at the streams of a running container, beside others.
//!
//! It ends with the container, with the client's input, with the keys to leave by, with the client, or when the client
//! falls behind. None of these but the first ends the container; the client's leaving closes the container's
//! input only where `stdin_once` asks for it.

use super::channels::{Channels, Input, Streams};
use super::detach::{DetachKeys, Watch};
use super::outcome::Outcome;
use super::pump::{BLOCK, Sink, Source};
use super::resize::Sizes;
use crate::engine::view::ContainerState;
use crate::engine::{AttachEnd, AttachSession, AttachWants, Engine};
use crate::error::chain;
use std::future::pending;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

/// How long the end of a container, with which all that it left behind is killed, may take to be recorded.
const RECORDED_WITHIN: Duration = Duration::from_secs(10);

/// At what.
#[derive(Clone, Debug)]
pub(in crate::cri) struct Target {
    pub(in crate::cri) container: String,
    pub(in crate::cri) streams: Streams,
}

impl From<Streams> for AttachWants {
    fn from(streams: Streams) -> Self {
        let Streams { stdin, stdout, stderr, tty } = streams;
        Self { stdin, stdout, stderr, tty }
    }
}

/// Runs the session to its end.
pub(super) async fn run(engine: &Engine, target: Target, keys: &DetachKeys, channels: Channels) {
    let Channels { stdin, stdout, stderr, resize, end, gone } = channels;
    let outcome = tokio::select! {
        biased;
        () = gone.cancelled() => return,
        outcome = async {
            let mut session = match engine.attach_open(&target.container, target.streams.into()).await {
                Ok(session) => session,
                Err(error) => return Outcome::Failed(chain(&error)),
            };
            let streams = (|| {
                let input = session.stdin.take().map(Sink::new).transpose()?;
                let output = session.stdout.take().map(Source::pipe).transpose()?;
                let errors = session.stderr.take().map(Source::pipe).transpose()?;
                Ok::<_, std::io::Error>((input, output, errors))
            })();
            let (input, output, errors) = match streams {
                Ok(streams) => streams,
                Err(error) => return Outcome::Failed(format!("watch the streams of a container: {error}")),
            };
            // The shim closes them when it is over; what is in them is passed on before.
            let open = CancellationToken::new();
            let output = async {
                if let Some(output) = &output {
                    output.pass(stdout, &open).await;
                }
            };
            let errors = async {
                if let Some(errors) = &errors {
                    errors.pass(stderr, &open).await;
                }
            };
            let watch = target.streams.tty.then(|| Watch::new(keys));
            let left = feed(&session, input, stdin, watch);
            let ended = async { tokio::join!(session.wait(), output, errors).0 };
            tokio::select! {
                ended = ended => {
                    if matches!(ended, AttachEnd::Exited { .. }) {
                        recorded(engine, &target.container).await;
                    }
                    outcome_of(ended)
                }
                () = left => Outcome::Success,
                () = follow(&session, resize) => Outcome::Success,
            }
        } => outcome,
    };
    end.tell(&outcome).await;
}

/// Waits until ContainerStatus tells the end, too: a client that has been told that the session is over asks there
/// for the exit code.
async fn recorded(engine: &Engine, container: &str) {
    let mut events = engine.subscribe();
    let runs = || {
        let status = engine.container_status(container);
        status.is_ok_and(|view| view.state == ContainerState::Running)
    };
    let recorded = async {
        while runs() {
            // One that missed some looks again.
            if let Err(RecvError::Closed) = events.recv().await {
                return;
            }
        }
    };
    tokio::time::timeout(RECORDED_WITHIN, recorded).await.ok();
}

fn outcome_of(end: AttachEnd) -> Outcome {
    match end {
        // Its exit code is what ContainerStatus tells; containerd and CRI-O, too, end here with success.
        AttachEnd::Exited { .. } | AttachEnd::InputEnded => Outcome::Success,
        AttachEnd::Behind { bytes } => Outcome::Failed(format!(
            "detached: {bytes} bytes of output waited for this client, and there was more"
        )),
        AttachEnd::Lost => Outcome::Failed("the pod's shim is gone".into()),
    }
}

/// Passes input on; ends only when the client leaves by the keys.
async fn feed(
    session: &AttachSession,
    input: Option<Sink>,
    stdin: Option<Input>,
    watch: Option<Watch>,
) {
    if let (Some(sink), Some(mut stdin)) = (input, stdin) {
        let reads = match watch {
            None => sink.fill(&mut stdin).await,
            Some(watch) => match typed(&sink, &mut stdin, watch).await {
                Typed::Left => return,
                Typed::Ended => true,
                Typed::Refused => false,
            },
        };
        drop(sink);
        if reads {
            session.end_input();
        }
    }
    pending().await
}

enum Typed {
    /// The keys to leave by.
    Left,
    /// The client's input has ended.
    Ended,
    /// The container reads no more.
    Refused,
}

async fn typed(sink: &Sink, stdin: &mut Input, mut watch: Watch) -> Typed {
    let mut block = vec![0; BLOCK];
    while let Ok(count @ 1..) = stdin.read(&mut block).await {
        let (through, left) = watch.pass(block.get(..count).unwrap_or_default());
        if sink.write_all(&through).await.is_err() {
            return Typed::Refused;
        }
        if left {
            return Typed::Left;
        }
    }
    match sink.write_all(watch.rest()).await {
        Ok(()) => Typed::Ended,
        Err(_) => Typed::Refused,
    }
}

/// Follows the client's window; never ends.
async fn follow(session: &AttachSession, resize: Option<Input>) {
    if let Some(mut sizes) = resize.map(Sizes::new) {
        while let Some(size) = sizes.next().await {
            // A container that ends at this moment has no size; its end is told by itself.
            session.resize(size.columns, size.rows).await.ok();
        }
    }
    pending().await
}
