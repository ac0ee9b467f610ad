//! This process's streams, joined to those of a command or of a container.
//!
//! The first message is the terminal's size. Output, input, signals and stops are four futures that
//! never wait for each other: a full pipe behind our output leaves us able to end.

use super::channel::{self, Heard, parse_session};
use super::error::StreamError;
use super::keyboard;
use super::signals::Ends;
use super::socket::Socket;
use super::status::{Outcome, parse_status};
use super::terminal::{self, Sizes};
use crate::sys::tty::Size;
use futures::{Sink, SinkExt as _, Stream, StreamExt as _};
use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::{Error, Message};

/// How long a farewell may take; the daemon notices a closed connection without it, too.
const FAREWELL: Duration = Duration::from_secs(1);

/// What of this process takes part.
#[derive(Clone, Copy, Debug)]
pub(in crate::ctl) struct Wiring {
    /// Standard input is passed on.
    pub(in crate::ctl) stdin: bool,
    /// The other side has a terminal.
    pub(in crate::ctl) tty: bool,
    /// It has been there before: have its screen drawn anew.
    pub(in crate::ctl) redraw: bool,
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::ctl) enum End {
    /// As the daemon says.
    Told(Outcome),
    /// The daemon closed the connection and did not say why.
    Silent,
    /// By a signal to this process; its exit code by that.
    Signal(u8),
}

/// Runs a session to its end. The terminal is as it was before when this is over or dropped.
///
/// # Errors
/// A connection that broke, a terminal that cannot be set, output that cannot be written.
pub(in crate::ctl) async fn run(socket: Socket, wiring: Wiring) -> Result<End, StreamError> {
    let mut ends = Ends::watch().map_err(StreamError::local("wait for signals"))?;
    let sizes = wiring.tty.then(Sizes::watch).transpose()?;
    let (mut to, mut from) = socket.split();
    let first = wiring.tty.then(terminal::size).flatten();
    for size in first.iter().flat_map(|size| first_sizes(*size, wiring.redraw)) {
        to.send(channel::resize(size)).await.map_err(StreamError::lost)?;
    }
    // Only now: an error before it is better read on a sane terminal.
    let raw = if wiring.tty && wiring.stdin { terminal::raw()? } else { None };
    let typed = match wiring.stdin {
        true => Some(keyboard::listen().map_err(StreamError::local("read standard input"))?),
        false => None,
    };
    let (mut out, mut err) = (tokio::io::stdout(), tokio::io::stderr());
    let end = tokio::select! {
        end = pass_output(&mut from, &mut out, &mut err) => end,
        never = pass_input(&mut to, typed, sizes) => match never {},
        stopped = terminal::follow_stops(raw.as_ref()) => stopped.map(|never| match never {}),
        code = ends.next() => Ok(End::Signal(code)),
    };
    drop(raw);
    // What was not sent by now is not missed.
    tokio::time::timeout(FAREWELL, to.close()).await.ok();
    end
}

/// A program draws its screen when the size has changed: the first one is a wrong one then.
fn first_sizes(size: Size, redraw: bool) -> impl Iterator<Item = Size> {
    let wrong = Size { rows: size.rows.saturating_add(1), ..size };
    redraw.then_some(wrong).into_iter().chain([size])
}

/// Writes what comes until the last word.
async fn pass_output(
    from: &mut (impl Stream<Item = Result<Message, Error>> + Unpin),
    out: &mut (impl AsyncWrite + Unpin),
    err: &mut (impl AsyncWrite + Unpin),
) -> Result<End, StreamError> {
    while let Some(message) = from.next().await {
        match message.map_err(StreamError::lost)? {
            Message::Binary(bytes) => match parse_session(&bytes) {
                Heard::Stdout(bytes) => write(out, &bytes).await?,
                Heard::Stderr(bytes) => write(err, &bytes).await?,
                Heard::Status(status) => return Ok(End::Told(parse_status(&status))),
                Heard::Nothing => {}
            },
            Message::Close(_) => break,
            _ => {}
        }
    }
    Ok(End::Silent)
}

async fn write(to: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> Result<(), StreamError> {
    to.write_all(bytes).await.map_err(StreamError::Output)?;
    to.flush().await.map_err(StreamError::Output)
}

/// Passes on what is typed, and its end, and the terminal's sizes, for ever.
async fn pass_input(
    to: &mut (impl Sink<Message> + Unpin),
    mut typed: Option<mpsc::Receiver<Vec<u8>>>,
    mut sizes: Option<Sizes>,
) -> Infallible {
    loop {
        let message = tokio::select! {
            bytes = next_typed(&mut typed) => match bytes {
                Some(bytes) => channel::data(channel::STDIN, &bytes),
                None => {
                    typed = None;
                    channel::end(channel::STDIN)
                }
            },
            size = next_size(&mut sizes) => channel::resize(size),
        };
        if to.send(message).await.is_err() {
            // Whoever reads the connection finds out why.
            return pending().await;
        }
    }
}

async fn next_typed(typed: &mut Option<mpsc::Receiver<Vec<u8>>>) -> Option<Vec<u8>> {
    match typed {
        Some(typed) => typed.recv().await,
        None => pending().await,
    }
}

async fn next_size(sizes: &mut Option<Sizes>) -> Size {
    match sizes {
        Some(sizes) => sizes.next().await,
        None => pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::stream;

    fn binary(bytes: &'static [u8]) -> Result<Message, Error> {
        Ok(Message::Binary(bytes.into()))
    }

    async fn outputs(
        messages: Vec<Result<Message, Error>>,
    ) -> (Result<End, StreamError>, Vec<u8>, Vec<u8>) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let end = pass_output(&mut stream::iter(messages), &mut out, &mut err).await;
        (end, out, err)
    }

    #[tokio::test]
    async fn output_and_errors_stay_apart_until_the_last_word() {
        let (end, out, err) = outputs(vec![
            binary(b"\x01o1 "),
            binary(b"\x02e"),
            Ok(Message::Ping(Vec::new().into())),
            binary(b"\x01o2"),
            binary(b"\x03{\"status\":\"Success\"}"),
            binary(b"\x01never"),
        ])
        .await;
        assert_eq!(end.unwrap(), End::Told(Outcome::Code(0)));
        assert_eq!((out.as_slice(), err.as_slice()), (&b"o1 o2"[..], &b"e"[..]));
    }

    #[tokio::test]
    async fn an_end_without_a_status_is_told_from_a_break() {
        assert_eq!(outputs(vec![binary(b"\x01o")]).await.0.unwrap(), End::Silent);
        let closed = vec![Ok(Message::Close(None)), binary(b"\x01never")];
        let (end, out, _) = outputs(closed).await;
        assert_eq!((end.unwrap(), out.len()), (End::Silent, 0));
        let broken = outputs(vec![Err(Error::AlreadyClosed)]).await.0.unwrap_err();
        assert!(matches!(broken, StreamError::Lost(_)), "{broken}");
    }

    #[tokio::test]
    async fn what_is_typed_is_passed_on_and_its_end_is_told_once() {
        let (sender, typed) = mpsc::channel(4);
        sender.send(b"keys".to_vec()).await.unwrap();
        drop(sender);
        let (mut to, mut sent) = futures::channel::mpsc::unbounded();
        let passing = pass_input(&mut to, Some(typed), None);
        let received = async {
            let two = [sent.next().await.unwrap(), sent.next().await.unwrap()];
            let third = tokio::time::timeout(Duration::from_millis(50), sent.next()).await;
            assert!(third.is_err(), "{third:?}");
            two
        };
        let two = tokio::select! {
            never = passing => match never {},
            two = received => two,
        };
        assert_eq!(two, [channel::data(0, b"keys"), channel::end(0)]);
    }

    #[test]
    fn a_screen_is_drawn_anew_by_a_wrong_size_before_the_right_one() {
        let size = Size { columns: 80, rows: 24 };
        let sizes = |redraw| first_sizes(size, redraw).collect::<Vec<_>>();
        assert_eq!(sizes(false), [size]);
        assert_eq!(sizes(true), [Size { columns: 80, rows: 25 }, size]);
    }
}
