//! The same sessions over SPDY/3.1, by a client of the tests' own.

use super::{ask, echo};
use crate::harness::channels::{authority, code};
use crate::harness::scene::{Scene, as_is};
use crate::harness::spdy::Client;
use crate::harness::{Node, Test, eventually, kernel, pod, shared};
use anyhow::{Context as _, Result, ensure};
use futures::{SinkExt as _, StreamExt as _};
use std::collections::BTreeMap;
use std::net::{TcpListener, TcpStream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

pub(super) fn tests() -> Vec<Test> {
    vec![
        shared("spdy_commands_have_their_streams_in_every_version", &[], versions),
        shared("spdy_terminals_have_sizes", &[], terminal),
        shared("spdy_clients_attach_beside_each_other", &[], attach),
        shared("spdy_windows_are_kept_and_granted", &[], windows),
        shared("spdy_forwards_many_connections_at_once", &[], forward),
        shared("spdy_in_a_tunnel_forwards_as_well", &[], tunnel),
        shared("spdy_rubbish_ends_its_own_session", &[], rubbish),
    ]
}

const FORWARD: &str = "portforward.k8s.io";

type Ids = BTreeMap<&'static str, u32>;

fn exec(
    node: &Node,
    id: &str,
    streams: &str,
    script: &str,
    version: &str,
) -> Result<(Client, Ids)> {
    let url = ask::exec(node, id, streams, script)?;
    let (client, chosen) = Client::connect(&url, &["v9.channel.k8s.io", version])?;
    ensure!(chosen == version, "{chosen} was chosen");
    let resizes = streams.contains('t') && version != "channel.k8s.io";
    let kinds = [
        ("error", true),
        ("stdin", streams.contains('i')),
        ("stdout", streams.contains('o')),
        ("stderr", streams.contains('e')),
        ("resize", resizes),
    ];
    let kinds: Vec<_> = kinds.iter().filter(|(_, wanted)| *wanted).map(|(kind, _)| *kind).collect();
    let ids = client.open_all(&kinds)?;
    Ok((client, ids))
}

fn text(client: &Client, id: u32) -> Result<String> {
    Ok(String::from_utf8(client.read_to_end(id)?)?)
}

fn versions(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "spdy-exec")?;
    let made = scene.start("main", pod::PATIENT, as_is)?;
    for (version, as_status) in [
        ("v4.channel.k8s.io", true),
        ("v3.channel.k8s.io", false),
        ("v2.channel.k8s.io", false),
        ("channel.k8s.io", false),
    ] {
        let script = "cat; echo errors >&2; exit 7";
        let (client, ids) = exec(node, &made.id, "ioe", script, version)?;
        client.write(ids["stdin"], b"first ")?;
        // It comes while stdin is open: nothing waits for its end.
        let first = client.read_until(ids["stdout"], |bytes| bytes == b"first ")?;
        client.write(ids["stdin"], b"second")?;
        client.fin(ids["stdin"])?;
        ensure!(text(&client, ids["stdout"])? == "second", "{version}: after {first:?}");
        ensure!(text(&client, ids["stderr"])? == "errors\n", "{version}");
        let end = text(&client, ids["error"])?;
        match as_status {
            true => ensure!(code(&end)? == 7, "{version}: {end}"),
            false => ensure!(end == "command terminated with exit code 7", "{version}: {end}"),
        }
        let reply = client.stream(ids["stdin"]).reply.context("no SYN_REPLY")?;
        ensure!(reply.get(":status").is_some_and(|s| s.starts_with("200")), "{reply:?}");
        client.closed()?;
    }
    Ok(())
}

fn terminal(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "spdy-tty")?;
    let made = scene.start("main", pod::PATIENT, as_is)?;
    let script = "trap 'stty size' WINCH; stty size; while ! read line; do :; done; exit 5";
    let (client, ids) = exec(node, &made.id, "iot", script, "v4.channel.k8s.io")?;
    client.write(ids["resize"], br#"{"Width":132,"Height":43}"#)?;
    let has =
        |line: &'static str| move |bytes: &[u8]| String::from_utf8_lossy(bytes).contains(line);
    client.read_until(ids["stdout"], has("43 132\r\n"))?;
    client.write(ids["resize"], b"{\"Width\":80,\"Height\":24}\n")?;
    client.read_until(ids["stdout"], has("24 80\r\n"))?;
    client.write(ids["stdin"], b"typed\n")?;
    ensure!(code(&text(&client, ids["error"])?)? == 5);
    Ok(())
}

fn attach(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "spdy-attach")?;
    let script = "while read line; do echo \"out $line\"; test \"$line\" = end && exit 9; done; sleep 100000";
    let made = scene.script("main", script, |config| config.stdin = true)?;
    let kinds: [&[&str]; 2] = [&["error", "stdin", "stdout"], &["error", "stdout"]];
    let mut clients = Vec::new();
    for (streams, kinds) in ["io", "o"].into_iter().zip(kinds) {
        let url = ask::attach(node, &made.id, streams)?;
        let (client, _) = Client::connect(&url, &["v4.channel.k8s.io"])?;
        let ids = client.open_all(kinds)?;
        clients.push((client, ids));
    }
    let [(talks, ids), (hears, other)] = &clients[..] else { unreachable!() };
    let line =
        |word: &'static str| move |bytes: &[u8]| String::from_utf8_lossy(bytes).contains(word);
    // The second one hears from the moment at which it is there.
    eventually("both hear", || {
        talks.write(ids["stdin"], b"hello\n")?;
        talks.read_until(ids["stdout"], line("out hello"))?;
        talks.ping()?;
        Ok(line("out hello")(&hears.stream(other["stdout"]).bytes).then_some(()))
    })?;
    talks.write(ids["stdin"], b"end\n")?;
    for (client, ids) in &clients {
        ensure!(text(client, ids["stdout"])?.ends_with("out end\n"));
        ensure!(code(&text(client, ids["error"])?)? == 0);
    }
    ensure!(made.end()?.exit_code == 9);
    Ok(())
}

fn windows(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "spdy-windows")?;
    let made = scene.start("main", pod::PATIENT, as_is)?;
    let pattern: Vec<u8> = (0..6_000_000).map(|n| u8::try_from(n % 251).unwrap_or(0)).collect();
    // As npm's client: it has windows, and takes no more than they allow. As Go's: there are none.
    // A window of 1000 costs a turn of both sides for each 1000 bytes.
    for (window, size) in [(Some(64 << 10), 6_000_000), (Some(1000), 200_000), (None, 6_000_000)] {
        let sent = &pattern[..size];
        let (client, ids) = exec(node, &made.id, "io", "exec cat", "v4.channel.k8s.io")?;
        if let Some(bytes) = window {
            client.keep_windows(bytes)?;
        }
        let (client, ids) = (&client, &ids);
        let got = std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                match window {
                    Some(_) => write_within_windows(client, ids["stdin"], sent)?,
                    None => client.write(ids["stdin"], sent)?,
                }
                client.fin(ids["stdin"])
            });
            let got = client.read_to_end(ids["stdout"])?;
            writer.join().map_err(|_| anyhow::anyhow!("the writer panicked"))??;
            anyhow::Ok(got)
        })?;
        ensure!(got == sent, "{window:?}: {} bytes of {size}", got.len());
        ensure!(
            window.is_none() || client.stream(0).granted > 0,
            "the session's window is as it was"
        );
        ensure!(code(&text(client, ids["error"])?)? == 0);
    }
    Ok(())
}

/// Sends no more than the server's windows allow, which begin with 64 KiB.
fn write_within_windows(client: &Client, id: u32, bytes: &[u8]) -> Result<()> {
    let mut sent = 64 << 10;
    for piece in bytes.chunks(16 << 10) {
        sent += u64::try_from(piece.len())?;
        for window in [id, 0] {
            let allowed = |granted| granted + (128 << 10) >= sent;
            client.until(window, "a window", |stream| allowed(stream.granted))?;
        }
        client.write(id, piece)?;
    }
    Ok(())
}

fn forward(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "spdy-forward")?;
    echo::in_pod(&scene, 7011)?;
    echo::in_pod(&scene, 7012)?;
    let host = echo::host_pod(node, "spdy-host")?;
    let url = ask::port_forward(node, &host.pod, &[])?;
    let (client, _) = Client::connect(&url, &[FORWARD])?;
    forwards(&client, [echo::on_host(b"end\n")?, echo::on_host(b"end\n")?], 100)?;
    drop(client);
    let url = ask::port_forward(node, &scene.pod, &[])?;
    let (client, _) = Client::connect(&url, &[FORWARD])?;
    forwards(&client, [7011, 7012], 2)?;
    // Nobody is there: text on the error stream, and the end of both.
    let (error, data) = client.forward(7013, 1000)?;
    let told = text(&client, error)?;
    ensure!(told.contains("port 7013") && told.contains("refused"), "{told}");
    client.until(data, "the end", |stream| stream.fin || stream.reset.is_some())?;
    // Without a request's id the order joins the two.
    let headers = |kind| [("streamtype", kind), ("port", "7011")];
    client.open(0, &headers("error"))?;
    let data = client.open(0, &headers("data"))?;
    client.write(data, b"old")?;
    client.fin(data)?;
    ensure!(text(&client, data)? == "oldend\n");
    // What is no port is reset, and nothing else.
    for port in ["", "0", "65536", "x"] {
        let id =
            client.open(0, &[("streamtype", "data"), ("port", port), ("requestid", "2000")])?;
        client.until(id, "a reset", |stream| stream.reset.is_some())?;
    }
    let id = client.open(0, &[("streamtype", "other"), ("port", "7011")])?;
    client.until(id, "a reset", |stream| stream.reset.is_some())?;
    forwards(&client, [7011, 7012], 2)
}

/// Connections side by side: each answers with what it was sent, after its half-close.
fn forwards(client: &Client, ports: [u16; 2], count: u32) -> Result<()> {
    let begun = (0..count)
        .map(|number| {
            let port = ports[usize::try_from(number % 2)?];
            let (_, data) = client.forward(port, 100 + number)?;
            client.write(data, format!("hello {number}").as_bytes())?;
            Ok((number, data))
        })
        .collect::<Result<Vec<_>>>()?;
    for (number, data) in &begun {
        let hello = format!("hello {number}");
        client.read_until(*data, |bytes| bytes == hello.as_bytes())?;
    }
    for (_, data) in &begun {
        client.fin(*data)?;
        ensure!(text(client, *data)? == "end\n");
    }
    Ok(())
}

fn tunnel(node: &Node) -> Result<()> {
    let scene = echo::host_pod(node, "spdy-tunnel")?;
    let port = echo::on_host(b"end\n")?;
    let url = ask::port_forward(node, &scene.pod, &[])?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let near = TcpStream::connect(listener.local_addr()?)?;
    let far = listener.accept()?.0;
    far.set_nonblocking(true)?;
    let bridge = node.cri.spawn(bridge(url, far));
    let client = Client::over_tcp(near)?;
    forwards(&client, [port, port], 8)?;
    drop(client);
    node.cri.join(bridge)?
}

/// Passes bytes of a socket through the binary messages of a WebSocket.
async fn bridge(url: String, near: TcpStream) -> Result<()> {
    let stream = tokio::net::TcpStream::connect(authority(&url)?).await?;
    let mut request = url.replacen("http://", "ws://", 1).into_client_request()?;
    let name = "SPDY/3.1+portforward.k8s.io";
    request.headers_mut().insert("sec-websocket-protocol", name.parse()?);
    let (socket, _) = tokio_tungstenite::client_async(request, stream).await?;
    let (mut sink, mut messages) = socket.split();
    let (mut read, mut write) = tokio::net::TcpStream::from_std(near)?.into_split();
    let there = async {
        let mut block = vec![0; 777];
        while let Ok(count @ 1..) = read.read(&mut block).await {
            sink.send(Message::binary(block[..count].to_vec())).await?;
        }
        sink.close().await?;
        anyhow::Ok(())
    };
    let back = async {
        while let Some(Ok(Message::Binary(bytes))) = messages.next().await {
            write.write_all(&bytes).await.ok();
        }
    };
    tokio::join!(there, back).0
}

fn rubbish(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "spdy-rubbish")?;
    let made = scene.start("main", pod::PATIENT, as_is)?;
    let (beside, ids) = exec(node, &made.id, "io", "exec cat", "v4.channel.k8s.io")?;
    let group = node.container_cgroup(&made.pod, &made.id);
    let running = |count: usize| {
        eventually(&format!("{count} commands run"), || {
            let slots = kernel::cgroups_below(&group);
            let pids: usize =
                slots.iter().map(|slot| kernel::pids_in(slot).map_or(0, |pids| pids.len())).sum();
            Ok((pids == count).then_some(()))
        })
    };
    running(1)?;
    let version = [0x80, 9, 0, 1, 0, 0, 0, 10, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0];
    let header_block = [0x80, 3, 0, 1, 0, 0, 0, 14, 0, 0, 0, 99, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4];
    let even = [0x80, 3, 0, 1, 0, 0, 0, 10, 0, 0, 0, 98, 0, 0, 0, 0, 0, 0];
    let huge = [0x80, 3, 0, 1, 0, 0xff, 0xff, 0xff];
    for (what, bytes) in [
        ("another version", &version[..]),
        ("headers that are no zlib", &header_block),
        ("a control frame of 16 MiB", &huge),
        ("a stream with a server's id", &even),
    ] {
        let (client, _) = exec(node, &made.id, "io", "exec sleep 100000", "v4.channel.k8s.io")?;
        running(2)?;
        client.raw(bytes)?;
        client.closed().with_context(|| format!("{what}: the session goes on"))?;
        running(1).with_context(|| format!("after {what}"))?;
    }
    beside.write(ids["stdin"], b"here")?;
    beside.read_until(ids["stdout"], |bytes| bytes == b"here")?;
    drop(beside);
    running(0)
}
