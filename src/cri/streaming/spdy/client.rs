//! A peer for tests: frames written by hand, and what comes back taken apart without the codec.

use super::headers::DICTIONARY;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use std::future::Future;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::time::timeout;

/// A bound against hanging, on a machine of any speed.
pub(super) const SOON: Duration = Duration::from_secs(60);

/// Waits for what must come.
pub(super) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(SOON, future).await.unwrap_or_else(|_| panic!("{what} does not come"))
}

pub(super) const FIN: u8 = 1;

/// A frame of the session's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Got {
    Data(u32, Vec<u8>),
    Fin(u32),
    /// The stream, and the inflated block.
    Reply(u32, Vec<u8>),
    Reset(u32, u32),
    Ping(u32),
    Goaway(u32, u32),
    Window(u32, u32),
    /// The end of the connection.
    End,
}

pub(super) struct Peer {
    pub(super) io: DuplexStream,
    deflate: Compress,
    inflate: Decompress,
    /// A FIN that came with data.
    pending: Option<Got>,
}

/// The bytes of a frame with a 4-byte beginning.
fn frame(start: [u8; 4], flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = count(payload.len());
    [&start[..], &[flags], &length[1..], payload].concat()
}

fn count(n: usize) -> [u8; 4] {
    u32::try_from(n).unwrap().to_be_bytes()
}

/// The bytes of a control frame.
pub(super) fn control(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    frame([0x80, 3, 0, kind], flags, payload)
}

/// The bytes of a data frame.
pub(super) fn data(stream: u32, flags: u8, bytes: &[u8]) -> Vec<u8> {
    frame(stream.to_be_bytes(), flags, bytes)
}

/// A payload of two numbers.
pub(super) fn pair(a: u32, b: u32) -> Vec<u8> {
    [a.to_be_bytes(), b.to_be_bytes()].concat()
}

/// A SETTINGS frame with an initial window, and another setting before.
pub(super) fn initial_window(bytes: u32) -> Vec<u8> {
    let settings = [[0, 0, 0, 4, 0, 0, 0, 9], [0, 0, 0, 7, 0, 0, 0, 0]].concat();
    let payload = [&[0, 0, 0, 2][..], &settings[..12], &bytes.to_be_bytes()].concat();
    control(4, 0, &payload)
}

impl Peer {
    pub(super) fn new(io: DuplexStream) -> Self {
        let mut deflate = Compress::new(Compression::best(), true);
        deflate.set_dictionary(DICTIONARY).unwrap();
        Self { io, deflate, inflate: Decompress::new(true), pending: None }
    }

    pub(super) fn block(&mut self, plain: &[u8]) -> Vec<u8> {
        let mut block = Vec::with_capacity(plain.len() + 1024);
        self.deflate.compress_vec(plain, &mut block, FlushCompress::Sync).unwrap();
        block
    }

    /// The bytes of a SYN_STREAM.
    pub(super) fn syn(&mut self, stream: u32, flags: u8, headers: &[(&str, &str)]) -> Vec<u8> {
        let mut plain = count(headers.len()).to_vec();
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            plain.extend(count(text.len()));
            plain.extend(text.as_bytes());
        }
        let block = self.block(&plain);
        control(1, flags, &[&pair(stream, 0)[..], &[0, 0], &block].concat())
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) {
        soon("room for a frame", self.io.write_all(bytes)).await.unwrap();
    }

    pub(super) async fn open(&mut self, stream: u32) {
        let syn = self.syn(stream, 0, &[("streamtype", "data")]);
        self.send(&syn).await;
    }

    /// The next frame.
    pub(super) async fn next(&mut self) -> Got {
        if let Some(got) = self.pending.take() {
            return got;
        }
        let mut head = [0; 8];
        if soon("a frame", self.io.read_exact(&mut head)).await.is_err() {
            return Got::End;
        }
        let length = u32::from_be_bytes([0, head[5], head[6], head[7]]);
        let mut payload = vec![0; length as usize];
        soon("a payload", self.io.read_exact(&mut payload)).await.unwrap();
        let number = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
        if head[0] & 0x80 == 0 {
            let stream = u32::from_be_bytes(head[..4].try_into().unwrap());
            let fin = (head[4] & FIN != 0).then_some(Got::Fin(stream));
            if payload.is_empty() {
                return fin.expect("an empty frame says FIN");
            }
            self.pending = fin;
            return Got::Data(stream, payload);
        }
        assert_eq!(head[..3], [0x80, 3, 0]);
        match head[3] {
            2 => {
                let block = self.inflated(&payload[4..]);
                Got::Reply(number(0), block)
            }
            3 => Got::Reset(number(0), number(4)),
            6 => Got::Ping(number(0)),
            7 => Got::Goaway(number(0), number(4)),
            9 => Got::Window(number(0), number(4)),
            other => panic!("a frame of type {other}"),
        }
    }

    fn inflated(&mut self, mut block: &[u8]) -> Vec<u8> {
        let mut plain = Vec::with_capacity(4096);
        let before = self.inflate.total_in();
        if self.inflate.decompress_vec(block, &mut plain, FlushDecompress::Sync).is_err() {
            self.inflate.set_dictionary(DICTIONARY).unwrap();
            let taken = usize::try_from(self.inflate.total_in() - before).unwrap();
            block = &block[taken..];
            self.inflate.decompress_vec(block, &mut plain, FlushDecompress::Sync).unwrap();
        }
        plain
    }

    /// The next frame that is no WINDOW_UPDATE and no SYN_REPLY.
    pub(super) async fn next_other(&mut self) -> Got {
        loop {
            match self.next().await {
                Got::Window(..) | Got::Reply(..) => {}
                other => return other,
            }
        }
    }

    /// What a stream brings until its FIN.
    pub(super) async fn until_fin(&mut self, stream: u32) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            match self.next_other().await {
                Got::Data(of, bytes) if of == stream => all.extend(bytes),
                Got::Fin(of) if of == stream => return all,
                other => panic!("{other:?}"),
            }
        }
    }
}
