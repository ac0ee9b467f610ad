//! The floor of streams: the same bytes through the same number of pipes and over one connection on loopback,
//! by reads and writes alone. No message is framed, no process is started.

use crate::rate;
use crate::samples::Samples;
use anyhow::{Result, ensure};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

/// How much is read and written at once: what is usual for streams of commands.
const BLOCK: usize = 32 << 10;

/// Prints the floor's figures, lines `name<TAB>MB/s`.
pub(crate) async fn run() -> Result<()> {
    let mut floor = Samples::default();
    for (name, copy) in [
        ("stream_out", out as fn(u64) -> Result<Duration>),
        ("stream_in", into),
        ("stream_both", both),
    ] {
        for rate in rate::measure(async |mib| copy(u64::from(mib) << 20)).await? {
            floor.add(name, rate);
        }
        let (median, _) = floor.median(name).unwrap_or_default();
        writeln!(std::io::stdout().lock(), "{name}\t{median:.3}")?;
    }
    Ok(())
}

/// Writer, pipe, relay, connection, reader.
fn out(bytes: u64) -> Result<Duration> {
    let (server, mut client) = connection()?;
    let (read, write) = std::io::pipe()?;
    thread::scope(|scope| {
        let began = Instant::now();
        let sides =
            [scope.spawn(move || fill(write, bytes)), scope.spawn(move || pass(read, server))];
        ensure!(drain(&mut client)? == bytes, "bytes are lost");
        ended(sides)?;
        Ok(began.elapsed())
    })
}

/// Writer, connection, relay, pipe, reader.
fn into(bytes: u64) -> Result<Duration> {
    let (server, client) = connection()?;
    let (mut read, write) = std::io::pipe()?;
    thread::scope(|scope| {
        let began = Instant::now();
        let sides =
            [scope.spawn(move || fill(client, bytes)), scope.spawn(move || pass(server, write))];
        ensure!(drain(&mut read)? == bytes, "bytes are lost");
        ended(sides)?;
        Ok(began.elapsed())
    })
}

/// Writer, connection, relay, pipe, `cat`, pipe, relay, the same connection, reader.
fn both(bytes: u64) -> Result<Duration> {
    let (server, client) = connection()?;
    let (to_cat, cat) = (std::io::pipe()?, std::io::pipe()?);
    let (server_out, mut client_out) = (server.try_clone()?, client.try_clone()?);
    thread::scope(|scope| {
        let began = Instant::now();
        let sides = [
            scope.spawn(move || {
                let filled = fill(&client, bytes);
                client.shutdown(std::net::Shutdown::Write).and(filled)
            }),
            scope.spawn(move || pass(server, to_cat.1)),
            scope.spawn(move || pass(to_cat.0, cat.1)),
            scope.spawn(move || {
                let passed = pass(cat.0, &server_out);
                server_out.shutdown(std::net::Shutdown::Write).and(passed)
            }),
        ];
        ensure!(drain(&mut client_out)? == bytes, "bytes are lost");
        ended(sides)?;
        Ok(began.elapsed())
    })
}

/// Both ends of a connection.
fn connection() -> Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let client = TcpStream::connect(listener.local_addr()?)?;
    Ok((listener.accept()?.0, client))
}

fn fill(to: impl Write, bytes: u64) -> std::io::Result<()> {
    pass(std::io::repeat(0).take(bytes), to)
}

/// Not by std::io::copy: that splices, which nothing can that looks at the bytes.
fn pass(mut from: impl Read, mut to: impl Write) -> std::io::Result<()> {
    let mut block = [0; BLOCK];
    loop {
        match from.read(&mut block)? {
            0 => return Ok(()),
            count => to.write_all(block.get(..count).unwrap_or_default())?,
        }
    }
}

fn drain(from: &mut impl Read) -> std::io::Result<u64> {
    let mut block = [0; BLOCK];
    let mut sum = 0;
    loop {
        match from.read(&mut block)? {
            0 => return Ok(sum),
            count => sum += u64::try_from(count).map_err(std::io::Error::other)?,
        }
    }
}

fn ended<const N: usize>(sides: [ScopedJoinHandle<'_, std::io::Result<()>>; N]) -> Result<()> {
    for side in sides {
        side.join().map_err(|_| anyhow::anyhow!("a side of a copy died"))??;
    }
    Ok(())
}
