//! One session.
//!
//! A thread reads frames into a buffer for each stream; calls block, with [`DEADLINE`]. As the usual clients do
//! it sends no window updates and no settings, unless it is asked to ([`Client::keep_windows`]); its own
//! writes never wait for windows.

use super::upgrade::ask;
use super::wire::{Deflater, FIN, Inflater, control, data, pair};
use crate::harness::poll::DEADLINE;
use anyhow::{Context as _, Result, anyhow, bail, ensure};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// What has come of a stream.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stream {
    /// What was not taken yet.
    pub(crate) bytes: Vec<u8>,
    /// Headers of the SYN_REPLY.
    pub(crate) reply: Option<BTreeMap<String, String>>,
    pub(crate) fin: bool,
    /// The status of a RST_STREAM.
    pub(crate) reset: Option<u32>,
    /// Sum of the WINDOW_UPDATEs; of stream 0 for the session.
    pub(crate) granted: u64,
}

#[derive(Debug, Default)]
struct Seen {
    streams: BTreeMap<u32, Stream>,
    pings: Vec<u32>,
    /// Last stream and status.
    goaway: Option<(u32, u32)>,
    /// Why nothing more comes.
    end: Option<String>,
    /// Whether the reading waits.
    held: bool,
    keeps_windows: bool,
}

struct Writer {
    io: Box<dyn Write + Send>,
    deflate: Deflater,
    next_id: u32,
    next_ping: u32,
}

struct Shared {
    seen: Mutex<Seen>,
    changed: Condvar,
    writer: Mutex<Writer>,
}

/// One session. Its socket is shut when it is dropped.
pub(crate) struct Client {
    shared: Arc<Shared>,
    socket: Option<TcpStream>,
}

impl Client {
    /// Upgrades a URL by POST. Returns the protocol that was chosen.
    ///
    /// # Errors
    /// The answer is not an upgrade to SPDY/3.1 with one of the protocols.
    pub(crate) fn connect(url: &str, protocols: &[&str]) -> Result<(Self, String)> {
        let (answer, stream) = ask("POST", url, protocols)?;
        ensure!(answer.status == 101, "{answer:?}");
        ensure!(answer.values("upgrade") == ["SPDY/3.1"], "{answer:?}");
        let chosen = match &answer.values("x-stream-protocol-version")[..] {
            [chosen] if protocols.contains(chosen) => (*chosen).to_owned(),
            _ => bail!("no protocol of {protocols:?} is chosen: {answer:?}"),
        };
        Ok((Self::over_tcp(stream)?, chosen))
    }

    /// On a connection that speaks SPDY already.
    ///
    /// # Errors
    /// The socket cannot be shared.
    pub(crate) fn over_tcp(stream: TcpStream) -> Result<Self> {
        stream.set_read_timeout(None)?;
        let mut client = Self::over(stream.try_clone()?, stream.try_clone()?);
        client.socket = Some(stream);
        Ok(client)
    }

    /// On any two directions. The thread that reads ends when the first does.
    pub(crate) fn over(
        reader: impl Read + Send + 'static,
        writer: impl Write + Send + 'static,
    ) -> Self {
        let io = Box::new(writer);
        let writer = Writer { io, deflate: Deflater::new(), next_id: 1, next_ping: 1 };
        let shared = Arc::new(Shared {
            seen: Mutex::default(),
            changed: Condvar::new(),
            writer: Mutex::new(writer),
        });
        let theirs = shared.clone();
        std::thread::spawn(move || {
            let end = theirs.read_all(reader).err().map_or("EOF".into(), |e| format!("{e:#}"));
            theirs.seen().end = Some(end);
            theirs.changed.notify_all();
        });
        Self { shared, socket: None }
    }

    /// From now on says which windows it has, and makes them larger as data comes: as npm's client does.
    ///
    /// # Errors
    /// The connection is gone.
    pub(crate) fn keep_windows(&self, initial: u32) -> Result<()> {
        self.shared.seen().keeps_windows = true;
        let setting = [&[0, 0, 0, 1, 0, 0, 0, 7][..], &initial.to_be_bytes()].concat();
        self.raw(&control(4, 0, &setting))?;
        self.raw(&control(9, 0, &pair(0, 1 << 20)))
    }

    /// Stops to read the connection, or goes on.
    pub(crate) fn hold(&self, held: bool) {
        self.shared.seen().held = held;
        self.shared.changed.notify_all();
    }

    /// Opens a stream; does not wait for the reply.
    ///
    /// # Errors
    /// The connection is gone.
    pub(crate) fn open(&self, flags: u8, headers: &[(&str, &str)]) -> Result<u32> {
        let mut writer = self.shared.writer();
        let id = writer.next_id;
        writer.next_id += 2;
        drop(writer);
        self.open_as(id, flags, headers)?;
        Ok(id)
    }

    /// Opens a stream with an id of the caller's.
    ///
    /// # Errors
    /// The connection is gone.
    pub(crate) fn open_as(&self, id: u32, flags: u8, headers: &[(&str, &str)]) -> Result<()> {
        self.shared.seen().streams.entry(id).or_default();
        // Under one lock: blocks must come in the order in which they were compressed.
        let mut writer = self.shared.writer();
        let block = writer.deflate.block(headers)?;
        let frame = control(1, flags, &[&pair(id, 0)[..], &[0, 0], &block].concat());
        Ok(writer.io.write_all(&frame)?)
    }

    /// The streams of an exec or an attach, by name.
    ///
    /// # Errors
    /// The connection is gone.
    pub(crate) fn open_all(&self, kinds: &[&'static str]) -> Result<BTreeMap<&'static str, u32>> {
        kinds.iter().map(|kind| Ok((*kind, self.open(0, &[("streamtype", kind)])?))).collect()
    }

    /// The two streams of a forwarded connection: error, already half-closed as clients do, and data.
    ///
    /// # Errors
    /// The connection is gone.
    pub(crate) fn forward(&self, port: u16, request: u32) -> Result<(u32, u32)> {
        let (port, request) = (port.to_string(), request.to_string());
        let of = |kind| [("streamtype", kind), ("port", &port[..]), ("requestid", &request[..])];
        let error = self.open(0, &of("error"))?;
        self.fin(error)?;
        Ok((error, self.open(0, &of("data"))?))
    }

    /// Sends data, in one frame a MiB. Blocks while the server does not read.
    ///
    /// # Errors
    /// The connection is gone, or took nothing for [`DEADLINE`].
    pub(crate) fn write(&self, id: u32, bytes: &[u8]) -> Result<()> {
        bytes.chunks(1 << 20).try_for_each(|piece| self.raw(&data(id, 0, piece)))
    }

    /// Half-closes a stream.
    ///
    /// # Errors
    /// The connection is gone.
    pub(crate) fn fin(&self, id: u32) -> Result<()> {
        self.raw(&data(id, FIN, &[]))
    }

    /// Resets a stream.
    ///
    /// # Errors
    /// The connection is gone.
    pub(crate) fn reset(&self, id: u32, status: u32) -> Result<()> {
        self.raw(&control(3, 0, &pair(id, status)))
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// The connection is gone.
    pub(crate) fn raw(&self, bytes: &[u8]) -> Result<()> {
        self.shared.writer().io.write_all(bytes).context("write to the session")
    }

    /// Waits for the answer to a ping: all that was sent before has been read by then.
    ///
    /// # Errors
    /// It does not come.
    pub(crate) fn ping(&self) -> Result<()> {
        let mut writer = self.shared.writer();
        let id = writer.next_ping;
        writer.next_ping += 2;
        writer.io.write_all(&control(6, 0, &id.to_be_bytes()))?;
        drop(writer);
        self.wait("a ping comes back", |seen| seen.pings.contains(&id).then_some(Ok(())))?
    }

    /// What a stream brings until its FIN, without what was taken before.
    ///
    /// # Errors
    /// It is reset, or the session ends, or neither comes.
    pub(crate) fn read_to_end(&self, id: u32) -> Result<Vec<u8>> {
        self.wait(&format!("the end of stream {id}"), |seen| {
            let stream = seen.streams.get_mut(&id)?;
            match stream.reset {
                Some(status) => Some(Err(anyhow!("stream {id} is reset: {status}"))),
                None => stream.fin.then(|| Ok(std::mem::take(&mut stream.bytes))),
            }
        })?
    }

    /// Takes what a stream has brought as soon as it is enough.
    ///
    /// # Errors
    /// It never is.
    pub(crate) fn read_until(&self, id: u32, enough: impl Fn(&[u8]) -> bool) -> Result<Vec<u8>> {
        self.wait(&format!("enough of stream {id}"), |seen| {
            let stream = seen.streams.get_mut(&id)?;
            enough(&stream.bytes).then(|| std::mem::take(&mut stream.bytes))
        })
    }

    /// Waits for something to be so of a stream.
    ///
    /// # Errors
    /// It never is.
    pub(crate) fn until(
        &self,
        id: u32,
        what: &str,
        so: impl Fn(&Stream) -> bool,
    ) -> Result<Stream> {
        self.wait(&format!("{what} of stream {id}"), |seen| {
            seen.streams.get(&id).filter(|stream| so(stream)).cloned()
        })
    }

    /// What has come of a stream so far.
    pub(crate) fn stream(&self, id: u32) -> Stream {
        self.shared.seen().streams.get(&id).cloned().unwrap_or_default()
    }

    /// The last stream and the status of the server's GOAWAY.
    ///
    /// # Errors
    /// None comes.
    pub(crate) fn goaway(&self) -> Result<(u32, u32)> {
        self.wait("a GOAWAY", |seen| seen.goaway)
    }

    /// Waits for the server to close the connection; how it did: `EOF`, or an error.
    ///
    /// # Errors
    /// It does not.
    pub(crate) fn closed(&self) -> Result<String> {
        self.wait("the server closes", |seen| seen.end.clone())
    }

    /// Closes the write side of the connection, as one that is gone does not.
    ///
    /// # Errors
    /// There is no socket.
    pub(crate) fn shut(&self) -> Result<()> {
        Ok(self.socket.as_ref().context("no socket")?.shutdown(Shutdown::Write)?)
    }

    fn wait<T>(&self, what: &str, mut ask: impl FnMut(&mut Seen) -> Option<T>) -> Result<T> {
        let limit = Instant::now() + DEADLINE;
        let mut seen = self.shared.seen();
        loop {
            if let Some(answer) = ask(&mut seen) {
                return Ok(answer);
            }
            if let Some(end) = &seen.end {
                bail!("{what}: the session ended: {end}");
            }
            let left = limit.saturating_duration_since(Instant::now());
            ensure!(!left.is_zero(), "{what}: not within {DEADLINE:?}");
            let waited = self.shared.changed.wait_timeout(seen, left);
            seen = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.hold(false);
        if let Some(socket) = &self.socket {
            socket.shutdown(Shutdown::Both).ok();
        }
    }
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_all(&self, mut reader: impl Read) -> Result<()> {
        let mut inflate = Inflater::new();
        loop {
            let held = self.changed.wait_while(self.seen(), |seen| seen.held);
            drop(held.unwrap_or_else(PoisonError::into_inner));
            let mut head = [0; 8];
            match reader.read(&mut head[..1])? {
                0 => return Ok(()),
                _ => reader.read_exact(&mut head[1..]).context("a head cut off")?,
            }
            let length = u32::from_be_bytes([0, head[5], head[6], head[7]]);
            let mut payload = vec![0; usize::try_from(length)?];
            reader.read_exact(&mut payload).context("a frame cut off")?;
            self.take(head, payload, &mut inflate)?;
            self.changed.notify_all();
        }
    }

    fn take(&self, head: [u8; 8], payload: Vec<u8>, inflate: &mut Inflater) -> Result<()> {
        let mut seen = self.seen();
        if head[0] & 0x80 == 0 {
            let id = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
            let stream = seen.streams.get_mut(&id).with_context(|| format!("data of {id}"))?;
            ensure!(!stream.fin, "data of {id} after its FIN");
            ensure!(stream.reply.is_some(), "data of {id} before its reply");
            stream.fin = head[4] & FIN != 0;
            stream.bytes.extend(&payload);
            let grants = seen.keeps_windows && !payload.is_empty();
            drop(seen);
            if grants {
                let more = u32::try_from(payload.len())?;
                let both = [control(9, 0, &pair(id, more)), control(9, 0, &pair(0, more))];
                self.writer().io.write_all(&both.concat())?;
            }
            return Ok(());
        }
        ensure!(head[..3] == [0x80, 3, 0], "a control frame {head:?}");
        let number = |at: usize| -> Result<u32> {
            let four = payload.get(at..at + 4).context("a short frame")?;
            Ok(u32::from_be_bytes(four.try_into()?))
        };
        let first = number(0)?;
        match head[3] {
            2 => {
                let headers = inflate.headers(&payload[4..])?;
                let stream = seen.streams.get_mut(&first).context("a reply to nothing")?;
                ensure!(stream.reply.replace(headers).is_none(), "two replies to {first}");
            }
            3 => seen.streams.entry(first).or_default().reset = Some(number(4)?),
            6 => seen.pings.push(first),
            7 => seen.goaway = Some((first, number(4)?)),
            9 => seen.streams.entry(first).or_default().granted += u64::from(number(4)?),
            other => bail!("a frame of type {other}"),
        }
        Ok(())
    }
}
