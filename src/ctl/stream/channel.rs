//! Messages: the number of a channel and what is said on it.

use crate::sys::tty::Size;
use tokio_tungstenite::tungstenite::{Bytes, Message};

/// What is typed.
pub(super) const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
/// Ends another channel.
const CLOSE: u8 = 255;

/// Data of a forwarded connection.
pub(super) const DATA: u8 = 0;
/// What went wrong with a forwarded connection.
const DATA_ERROR: u8 = 1;

/// What the daemon says to a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Stdout(Bytes),
    Stderr(Bytes),
    /// A status, the last word.
    Status(Bytes),
    /// Nothing that needs an answer.
    Nothing,
}

/// What the daemon says to a forwarded connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Forwarded {
    Data(Bytes),
    /// There will be no more data.
    End,
    Error(Bytes),
    Nothing,
}

/// A message of a session.
pub(super) fn parse_session(message: &Bytes) -> Heard {
    match message.first() {
        Some(&STDOUT) => Heard::Stdout(message.slice(1..)),
        Some(&STDERR) => Heard::Stderr(message.slice(1..)),
        Some(&ERROR) if message.len() > 1 => Heard::Status(message.slice(1..)),
        _ => Heard::Nothing,
    }
}

/// The messages of one forwarded connection. The first one of each channel holds the port alone.
#[derive(Debug, Default)]
pub(super) struct Forwarding {
    data_is_open: bool,
    error_is_open: bool,
}

impl Forwarding {
    /// The next one.
    pub(super) fn parse(&mut self, message: &Bytes) -> Forwarded {
        let opens = |is_open: &mut bool| !std::mem::replace(is_open, true);
        match message.first() {
            Some(&DATA) if opens(&mut self.data_is_open) => Forwarded::Nothing,
            Some(&DATA_ERROR) if opens(&mut self.error_is_open) => Forwarded::Nothing,
            Some(&DATA) => Forwarded::Data(message.slice(1..)),
            Some(&DATA_ERROR) if message.len() > 1 => Forwarded::Error(message.slice(1..)),
            Some(&CLOSE) if message.get(1) == Some(&DATA) => Forwarded::End,
            _ => Forwarded::Nothing,
        }
    }
}

/// Bytes on a channel.
pub(super) fn data(channel: u8, bytes: &[u8]) -> Message {
    let mut message = Vec::with_capacity(bytes.len() + 1);
    message.push(channel);
    message.extend_from_slice(bytes);
    Message::Binary(message.into())
}

/// The end of a channel.
pub(super) fn end(channel: u8) -> Message {
    data(CLOSE, &[channel])
}

/// The size of the terminal here.
pub(super) fn resize(size: Size) -> Message {
    let json = format!("{{\"Width\":{},\"Height\":{}}}", size.columns, size.rows);
    data(RESIZE, json.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(bytes: &'static [u8]) -> Bytes {
        Bytes::from_static(bytes)
    }

    #[test]
    fn what_a_session_hears_is_told_by_the_first_byte() {
        for (message, heard) in [
            (&b"\x01out"[..], Heard::Stdout(bytes(b"out"))),
            (b"\x01", Heard::Stdout(bytes(b""))),
            (b"\x02err", Heard::Stderr(bytes(b"err"))),
            (b"\x03{}", Heard::Status(bytes(b"{}"))),
            // Servers open each channel with an empty message.
            (b"\x03", Heard::Nothing),
            (b"\xff\x01", Heard::Nothing),
            (b"\x09?", Heard::Nothing),
            (b"", Heard::Nothing),
        ] {
            assert_eq!(parse_session(&bytes(message)), heard, "{message:?}");
        }
    }

    #[test]
    fn a_port_comes_before_the_data_of_each_channel() {
        let mut forwarding = Forwarding::default();
        for (message, forwarded) in [
            (&b"\x00\x50\x00"[..], Forwarded::Nothing),
            (b"\x01\x50\x00", Forwarded::Nothing),
            (b"\x00\x50\x00", Forwarded::Data(bytes(b"\x50\x00"))),
            (b"\x01no", Forwarded::Error(bytes(b"no"))),
            (b"\xff\x01", Forwarded::Nothing),
            (b"\xff\x00", Forwarded::End),
            (b"\x02?", Forwarded::Nothing),
            (b"\xff", Forwarded::Nothing),
            (b"", Forwarded::Nothing),
        ] {
            assert_eq!(forwarding.parse(&bytes(message)), forwarded, "{message:?}");
        }
    }

    #[test]
    fn messages_begin_with_their_channel() {
        assert_eq!(data(STDIN, b"keys"), Message::Binary(bytes(b"\x00keys")));
        assert_eq!(end(STDIN), Message::Binary(bytes(b"\xff\x00")));
        let size = Size { columns: 80, rows: 24 };
        assert_eq!(resize(size), Message::Binary(bytes(b"\x04{\"Width\":80,\"Height\":24}")));
    }
}
