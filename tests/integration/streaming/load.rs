//! Much at once and much in a row: every byte arrives, memory is bounded, and nothing is left.

use super::ask;
use crate::harness::channels::{Client, ERROR, STDIN, STDOUT, authority, code};
use crate::harness::scene::{Scene, as_is};
use crate::harness::spdy;
use crate::harness::{Node, Options, Test, eventually, kernel, own, pod};
use anyhow::{Context as _, Result, ensure};
use futures::{SinkExt as _, StreamExt as _};
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

pub(super) fn tests() -> Vec<Test> {
    vec![
        own("a_gibibyte_goes_both_ways_byte_for_byte_in_little_memory", &[], options, gibibyte),
        own("a_side_that_does_not_take_is_not_kept_for", &[], options, stuck),
        own("two_hundred_sessions_at_once_each_have_their_own", &[], options, many),
        own("a_thousand_sessions_half_of_them_cut_leave_nothing", &[], options, cut),
    ]
}

fn options(_: &crate::harness::machine::Machine) -> Options {
    // What a session says of itself would be most of the log.
    Options { config: "[log]\nlevel = \"info\"\n".to_owned(), ..Default::default() }
}

/// What a session may keep, KiB.
const SESSION_KIB: u64 = 4 << 10;
const BLOCK: usize = 32 << 10;

/// A figure of the daemon's status in KiB.
fn memory(node: &Node, name: &str) -> Result<u64> {
    let status = kernel::read(format!("/proc/{}/status", node.pid()?))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    Ok(line.context("no such figure")?.trim().trim_end_matches(" kB").parse()?)
}

/// Forgets the largest memory so far (proc_pid_clear_refs(5)).
fn forget_peak(node: &Node) -> Result<()> {
    Ok(std::fs::write(format!("/proc/{}/clear_refs", node.pid()?), "5")?)
}

/// What is to come back, block by block.
struct Expected {
    number: u64,
    block: Vec<u8>,
    at: usize,
}

impl Expected {
    fn new() -> Self {
        Self { number: 0, block: block(0), at: 0 }
    }

    /// Compares what came next.
    fn take(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let count = bytes.len().min(BLOCK - self.at);
            let wanted = &self.block[self.at..self.at + count];
            ensure!(bytes[..count] == *wanted, "block {} differs", self.number);
            (bytes, self.at) = (&bytes[count..], self.at + count);
            if self.at == BLOCK {
                (self.number, self.at) = (self.number + 1, 0);
                self.block = block(self.number);
            }
        }
        Ok(())
    }
}

/// The block at an offset: no two alike, so that none can be lost, doubled or moved.
fn block(number: u64) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.take(BLOCK / 8).flatten().collect()
}

fn gibibyte(node: &mut Node) -> Result<()> {
    let node = &*node;
    let scene = Scene::new(node, "stream-large")?;
    let made = scene.start("main", pod::PATIENT, as_is)?;
    let bytes: usize = if node.machine.virtual_machine { 64 << 20 } else { 1 << 30 };
    // Once before, so that what is made once is there.
    let url = ask::exec(node, &made.id, "io", "exec cat")?;
    let mut client = Client::connect(node, &url, "v5.channel.k8s.io")?;
    client.send(STDIN, &block(0))?;
    while client.got(STDOUT).len() < BLOCK {
        client.next()?;
    }
    drop(client);
    let before = memory(node, "VmRSS")?;
    forget_peak(node)?;
    let url = ask::exec(node, &made.id, "io", "exec cat")?;
    let blocks = u64::try_from(bytes / BLOCK)?;
    let (mut sink, mut stream) = node.cri.run(open(url)).context("connect")?.split();
    let writer = node.cri.spawn(async move {
        for number in 0..blocks {
            sink.send(Message::binary([vec![STDIN], block(number)].concat())).await?;
        }
        sink.send(Message::binary(vec![255, STDIN])).await?;
        anyhow::Ok(sink)
    });
    let reader = node.cri.spawn(async move {
        let (mut expected, mut status) = (Expected::new(), String::new());
        while let Some(Ok(Message::Binary(message))) = stream.next().await {
            match message[0] {
                STDOUT => expected.take(&message[1..])?,
                ERROR => status.push_str(std::str::from_utf8(&message[1..])?),
                _ => {}
            }
        }
        let Expected { number, at, .. } = expected;
        ensure!((number, at) == (blocks, 0), "{number} blocks and {at} bytes of {blocks}");
        code(&status)
    });
    let code = node.cri.join(reader)??;
    drop(node.cri.join(writer)??);
    ensure!(code == 0, "{code}");
    let grown = memory(node, "VmHWM")?.saturating_sub(before);
    ensure!(grown < SESSION_KIB, "{grown} KiB for one session");
    forget_peak(node)?;
    gibibyte_of_spdy(&ask::exec(node, &made.id, "io", "exec cat")?, blocks)?;
    let grown = memory(node, "VmHWM")?.saturating_sub(before);
    ensure!(grown < SESSION_KIB, "{grown} KiB for one session of SPDY");
    Ok(())
}

/// The same by a client that has no windows.
fn gibibyte_of_spdy(url: &str, blocks: u64) -> Result<()> {
    let (client, _) = spdy::Client::connect(url, &["v4.channel.k8s.io"])?;
    let ids = client.open_all(&["error", "stdin", "stdout"])?;
    let (client, ids) = (&client, &ids);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for number in 0..blocks {
                client.write(ids["stdin"], &block(number))?;
            }
            client.fin(ids["stdin"])
        });
        let mut expected = Expected::new();
        while expected.number < blocks {
            expected.take(&client.read_until(ids["stdout"], |bytes| !bytes.is_empty())?)?;
        }
        ensure!(client.read_to_end(ids["stdout"])?.is_empty(), "more than was sent");
        writer.join().map_err(|_| anyhow::anyhow!("the writer panicked"))??;
        let status = String::from_utf8(client.read_to_end(ids["error"])?)?;
        ensure!(code(&status)? == 0, "{status}");
        Ok(())
    })
}

type Socket = tokio_tungstenite::WebSocketStream<TcpStream>;

async fn open(url: String) -> Result<Socket> {
    let stream = TcpStream::connect(authority(&url)?).await?;
    let mut request = url.replacen("http://", "ws://", 1).into_client_request()?;
    request.headers_mut().insert("sec-websocket-protocol", "v5.channel.k8s.io".parse()?);
    Ok(tokio_tungstenite::client_async(request, stream).await?.0)
}

fn stuck(node: &mut Node) -> Result<()> {
    let node = &*node;
    let scene = Scene::new(node, "stream-stuck")?;
    let made = scene.start("main", pod::PATIENT, as_is)?;
    let before = memory(node, "VmRSS")?;
    // Each writes all it can and reads nothing; so does its client.
    let sessions: Vec<_> = (0..20)
        .map(|_| ask::exec(node, &made.id, "io", "exec cat /dev/zero"))
        .collect::<Result<Vec<_>>>()?
        .into_iter()
        .map(|url| {
            node.cri.spawn(async move {
                let mut socket = open(url).await?;
                let message = Message::binary(vec![0; BLOCK + 1]);
                let mut sent = 0;
                while tokio::time::timeout(Duration::from_secs(2), socket.send(message.clone()))
                    .await
                    .is_ok_and(|sent| sent.is_ok())
                {
                    sent += BLOCK;
                    ensure!(sent < 64 << 20, "everything is taken");
                }
                Ok(socket)
            })
        })
        .collect();
    let mut sockets = Vec::new();
    for session in sessions {
        sockets.push(node.cri.join(session)??);
    }
    let grown = memory(node, "VmRSS")?.saturating_sub(before);
    ensure!(grown < 20 * SESSION_KIB, "{grown} KiB for 20 sessions");
    // The others go on beside them.
    let url = ask::exec(node, &made.id, "o", "echo free")?;
    let mut client = Client::connect(node, &url, "v5.channel.k8s.io")?;
    ensure!(client.code()? == 0 && client.text(STDOUT) == "free\n");
    drop(sockets);
    no_command_is_left(&scene, &made.id)
}

/// Waits until no command runs in a container: no process is in any of its slots.
fn no_command_is_left(scene: &Scene<'_>, id: &str) -> Result<()> {
    let group = scene.node.container_cgroup(&scene.pod, id);
    eventually("all commands have ended", || {
        let slots = kernel::cgroups_below(&group);
        let pids: Vec<i32> =
            slots.iter().flat_map(|slot| kernel::pids_in(slot).unwrap_or_default()).collect();
        ensure!(pids.is_empty(), "{pids:?} run still");
        Ok(Some(()))
    })
}

fn many(node: &mut Node) -> Result<()> {
    let node = &*node;
    let scene = Scene::new(node, "stream-many")?;
    let made = scene.start("main", pod::PATIENT, as_is)?;
    let count = if node.machine.virtual_machine { 50 } else { 200 };
    let sessions: Vec<_> = (0..count)
        .map(|number| {
            let script = format!("read line; echo \"{number} $line\"; exit {}", number % 100);
            Ok((number, ask::exec(node, &made.id, "io", &script)?))
        })
        .collect::<Result<Vec<_>>>()?
        .into_iter()
        .map(|(number, url)| {
            let all = node.cri.spawn(async move {
                let mut socket = open(url).await?;
                let line = format!("\0line {number}\n").into_bytes();
                socket.send(Message::binary(line)).await?;
                let (mut out, mut status) = (Vec::new(), Vec::new());
                while let Some(Ok(Message::Binary(message))) = socket.next().await {
                    match message[0] {
                        1 => out.extend(&message[1..]),
                        3 => status.extend(&message[1..]),
                        _ => {}
                    }
                }
                anyhow::Ok((String::from_utf8(out)?, code(std::str::from_utf8(&status)?)?))
            });
            (number, all)
        })
        .collect();
    for (number, session) in sessions {
        let (out, code) = node.cri.join(session)?.with_context(|| format!("session {number}"))?;
        ensure!((out.as_str(), code) == (&*format!("{number} line {number}\n"), number % 100));
    }
    no_command_is_left(&scene, &made.id)
}

fn cut(node: &mut Node) -> Result<()> {
    let node = &*node;
    let scene = Scene::new(node, "stream-cut")?;
    let made = scene.script(
        "main",
        "while read line; do echo \"$line\"; done; exec sleep 100000",
        |c| {
            c.stdin = true;
        },
    )?;
    let count: u64 = if node.machine.virtual_machine { 200 } else { 1000 };
    let round = |numbers: std::ops::Range<u64>| -> Result<()> {
        let numbers: Vec<u64> = numbers.collect();
        for some in numbers.chunks(25) {
            let begun: Vec<_> = some
                .iter()
                .map(|number| {
                    let url = match number % 3 {
                        0 => ask::attach(node, &made.id, "io"),
                        _ => ask::exec(node, &made.id, "io", "read line; echo \"$line\"; cat"),
                    }?;
                    Ok((*number, url))
                })
                .collect::<Result<Vec<_>>>()?
                .into_iter()
                .map(|(number, url)| (number, node.cri.spawn(session(number, url))))
                .collect();
            for (number, session) in begun {
                node.cri.join(session)?.with_context(|| format!("session {number}"))?;
            }
        }
        no_command_is_left(&scene, &made.id)
    };
    round(0..50)?;
    let descriptors = kernel::descriptors(node.pid()?)?.len();
    let memory_before = memory(node, "VmRSS")?;
    round(50..count)?;
    eventually("all descriptors are closed", || {
        let now = kernel::descriptors(node.pid()?)?.len();
        ensure!(now <= descriptors + 4, "{now} descriptors instead of {descriptors}");
        Ok(Some(()))
    })?;
    let grown = memory(node, "VmRSS")?.saturating_sub(memory_before);
    ensure!(grown < SESSION_KIB, "{grown} KiB more after {count} sessions");
    ensure!(kernel::alive(made.init()?) && !made.text()?.contains("closed"));
    Ok(())
}

/// One session; an odd one is cut at a point that its number chooses. Half of them are of SPDY.
async fn session(number: u64, url: String) -> Result<()> {
    let cut = (number % 2 == 1).then_some(number / 2 % 5);
    if number % 4 > 1 {
        return tokio::task::spawn_blocking(move || spdy_session(number, &url, cut)).await?;
    }
    if cut == Some(0) || cut == Some(1) {
        // In the middle of the request.
        let mut stream = TcpStream::connect(authority(&url)?).await?;
        if cut == Some(1) {
            let path = url.splitn(4, '/').nth(3).context("no path")?;
            let head = format!("GET /{path} HTTP/1.1\r\nConnection: Upgrade\r\nUpgr");
            stream.write_all(head.as_bytes()).await?;
        }
        return Ok(());
    }
    let mut socket = open(url).await?;
    if cut == Some(2) {
        return Ok(());
    }
    let line = format!("line {number}\n");
    socket.send(Message::binary([&[STDIN], line.as_bytes()].concat())).await?;
    if cut == Some(3) {
        return Ok(());
    }
    let mut out = Vec::new();
    while !String::from_utf8_lossy(&out).contains(&line) {
        match socket.next().await {
            Some(Ok(Message::Binary(message))) if message[0] == STDOUT => out.extend(&message[1..]),
            Some(Ok(_)) => {}
            other => anyhow::bail!("{other:?} before {line:?}"),
        }
    }
    if cut == Some(4) {
        // In the middle of a frame: a header that says more than follows.
        socket.get_mut().write_all(&[0x82, 0xfe, 0x10]).await?;
        return Ok(());
    }
    socket.send(Message::binary(vec![255, STDIN])).await?;
    while let Some(Ok(_)) = socket.next().await {}
    Ok(())
}

/// The same over SPDY.
fn spdy_session(number: u64, url: &str, cut: Option<u64>) -> Result<()> {
    let (client, _) = spdy::Client::connect(url, &["v4.channel.k8s.io"])?;
    if cut == Some(0) {
        return Ok(());
    }
    if cut == Some(1) {
        client.open_all(&["error"])?;
        return Ok(());
    }
    let ids = client.open_all(&["error", "stdin", "stdout"])?;
    if cut == Some(2) {
        return Ok(());
    }
    let line = format!("line {number}\n");
    client.write(ids["stdin"], line.as_bytes())?;
    if cut == Some(3) {
        return Ok(());
    }
    client.until(ids["stdout"], "the line", |stream| {
        String::from_utf8_lossy(&stream.bytes).contains(&line)
    })?;
    if cut == Some(4) {
        // In the middle of a frame.
        return client.raw(&[0x80, 3, 0, 1, 0]);
    }
    client.fin(ids["stdin"])?;
    client.read_to_end(ids["error"])?;
    Ok(())
}
