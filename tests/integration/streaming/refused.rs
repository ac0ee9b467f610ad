//! Requests that are no session: each has its answer, and none leaves anything.

use super::ask;
use crate::harness::channels::{Client, ERROR, authority};
use crate::harness::scene::{Scene, as_is};
use crate::harness::spdy;
use crate::harness::{Node, Options, Test, kernel, own, pod, poll, shared};
use anyhow::{Context as _, Result, ensure};
use berth::cri::proto;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;
use tonic::Code;

pub(super) fn tests() -> Vec<Test> {
    vec![
        shared("a_call_that_cannot_be_is_refused_by_its_field", &[], calls),
        shared("a_token_is_good_for_one_session", &[], tokens),
        shared("requests_that_are_no_upgrade_are_told_why", &[], requests),
        shared("silent_connections_keep_nobody_off", &[], silent),
        own("slow_and_silent_clients_are_let_go", &[], options, slow),
    ]
}

fn calls(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "stream-calls")?;
    let made = scene.start("main", pod::PATIENT, as_is)?;
    let created = scene.create("created", pod::PATIENT, as_is)?;
    let exec = |container_id: &str, cmd: &[&str], [stdin, stdout, stderr, tty]: [bool; 4]| {
        let cmd = cmd.iter().map(|word| (*word).to_owned()).collect();
        let container_id = container_id.to_owned();
        node.cri.exec(proto::ExecRequest { container_id, cmd, tty, stdin, stdout, stderr }).err()
    };
    let attach = |container_id: &str, [stdin, stdout, stderr, tty]: [bool; 4]| {
        let container_id = container_id.to_owned();
        node.cri.attach(proto::AttachRequest { container_id, stdin, tty, stdout, stderr }).err()
    };
    let forward = |pod: &str, port: i32| {
        let pod_sandbox_id = pod.to_owned();
        node.cri.port_forward(proto::PortForwardRequest { pod_sandbox_id, port: vec![port] }).err()
    };
    let (out, none) = ([false, true, false, false], [false; 4]);
    let (both, talk) = ([false, true, true, true], [true, true, false, false]);
    let tty = [false, true, false, true];
    let missing = "0".repeat(64);
    let rows = [
        ("no command", exec(&made.id, &[], out), Code::InvalidArgument, "cmd"),
        ("no stream", exec(&made.id, &["true"], none), Code::InvalidArgument, "stdin"),
        ("tty with errors", exec(&made.id, &["true"], both), Code::InvalidArgument, "stderr"),
        ("no container", exec("", &["true"], out), Code::InvalidArgument, "container_id"),
        ("an unknown container", exec(&missing, &["true"], out), Code::NotFound, "container"),
        ("not running", exec(&created, &["true"], out), Code::FailedPrecondition, "not running"),
        ("attach: no stream", attach(&made.id, none), Code::InvalidArgument, "stdin"),
        ("attach: tty with errors", attach(&made.id, both), Code::InvalidArgument, "stderr"),
        ("attach: no stdin", attach(&made.id, talk), Code::FailedPrecondition, "without stdin"),
        ("attach: no terminal", attach(&made.id, tty), Code::FailedPrecondition, "no terminal"),
        ("attach: not running", attach(&created, out), Code::FailedPrecondition, "not running"),
        ("attach: unknown", attach(&missing, out), Code::NotFound, "container"),
        ("port 0", forward(&scene.pod, 0), Code::InvalidArgument, "port[0]"),
        ("port 65536", forward(&scene.pod, 65_536), Code::InvalidArgument, "port[0]"),
        ("an unknown pod", forward(&missing, 80), Code::NotFound, "sandbox"),
    ];
    for (what, status, code, word) in rows {
        let status = status.with_context(|| format!("{what}: it is accepted"))?;
        ensure!(status.code() == code && status.message().contains(word), "{what}: {status}");
    }
    Ok(())
}

/// One request as bytes; the answer to its end.
fn raw(url: &str, request: &str) -> Result<String> {
    let mut stream = TcpStream::connect(authority(url)?)?;
    stream.set_read_timeout(Some(poll::DEADLINE))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok();
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or_default()
}

const SPDY: &str = "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\
    X-Stream-Protocol-Version: v4.channel.k8s.io\r\n";

fn tokens(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "stream-tokens")?;
    let made = scene.start("main", pod::PATIENT, as_is)?;
    let url = ask::exec(node, &made.id, "o", "echo once")?;
    ensure!(url.starts_with("http://127.0.0.1:"), "{url}");
    ensure!(Client::connect(node, &url, "v4.channel.k8s.io")?.code()? == 0);
    let used = Client::try_connect(node, &url, "v4.channel.k8s.io")?.err().context("used twice")?;
    ensure!(used.code == 404, "{used:?}");
    // Forged, and of another kind.
    let url = ask::exec(node, &made.id, "o", "echo once")?;
    let forged = format!("{}{}", &url[..url.len() - 4], "0000");
    let other = url.replace("/exec/", "/attach/");
    for bad in [forged, other, format!("{url}/more"), url.replace("/exec/", "/")] {
        let refused = Client::try_connect(node, &bad, "v4.channel.k8s.io")?.err();
        let refused = refused.with_context(|| format!("{bad} is a session"))?;
        ensure!(refused.code == 404, "{bad}: {refused:?}");
    }
    // The control: nothing of that has used it up.
    ensure!(Client::connect(node, &url, "v4.channel.k8s.io")?.code()? == 0);
    Ok(())
}

fn requests(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "stream-requests")?;
    let made = scene.start("main", pod::PATIENT, as_is)?;
    let url = ask::exec(node, &made.id, "o", "echo once")?;
    let path = url.splitn(4, '/').nth(3).context("no path")?.to_owned();
    let ask = |method: &str, headers: &str| {
        raw(&url, &format!("{method} /{path} HTTP/1.1\r\nHost: berth\r\n{headers}\r\n"))
    };
    let spdy = "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\n";
    let unknown = format!("{spdy}X-Stream-Protocol-Version: v9.channel.k8s.io\r\n");
    let long = format!("{SPDY}X-Long: {}\r\n", "x".repeat(64 << 10));
    let many = format!("{SPDY}{}", "X-Many: x\r\n".repeat(200));
    for (what, method, headers, code, words) in [
        ("no upgrade", "POST", "", "400", "Connection: Upgrade"),
        ("another upgrade", "POST", "Connection: Upgrade\r\nUpgrade: h2c\r\n", "400", "SPDY/3.1"),
        ("no protocol", "POST", spdy, "400", "X-Stream-Protocol-Version"),
        ("an unknown protocol", "POST", &unknown, "403", "v4.channel.k8s.io"),
        ("another method", "PUT", SPDY, "405", "GET or POST"),
        ("a long header", "POST", &long, "431", ""),
        ("many headers", "POST", &many, "431", ""),
    ] {
        let answer = ask(method, headers)?;
        ensure!(status(&answer) == code && answer.contains(words), "{what}: {answer}");
    }
    let lower = ask("POST", &unknown)?.to_lowercase();
    for name in ["v4.channel", "v3.channel", "v2.channel", "channel"] {
        let line = format!("x-accepted-stream-protocol-versions: {name}.k8s.io\r\n");
        ensure!(lower.contains(&line), "no {line:?} in {lower}");
    }
    let refused = Client::try_connect(node, &url, "v9.channel.k8s.io")?.err().context("v9")?;
    ensure!(
        refused.code == 403 && refused.known.iter().any(|p| p == "v5.channel.k8s.io"),
        "{refused:?}"
    );
    // Nothing of that has used it up.
    ensure!(Client::connect(node, &url, "v5.channel.k8s.io, v4.channel.k8s.io")?.code()? == 0);
    let forward = super::ask::port_forward(node, &scene.pod, &[])?;
    for query in ["", "?port=0", "?port=70000", "?port=1&port=1"] {
        let refused = Client::try_connect(node, &format!("{forward}{query}"), "v4.channel.k8s.io")?;
        let refused = refused.err().with_context(|| format!("{query:?} is a session"))?;
        ensure!(refused.code == 400 && refused.text.contains("port"), "{query:?}: {refused:?}");
    }
    Ok(())
}

fn silent(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "stream-silent")?;
    let made = scene.start("main", pod::PATIENT, as_is)?;
    let url = ask::exec(node, &made.id, "o", "echo heard")?;
    let address = authority(&url)?;
    // More than may be on their way at once, and none of them says anything.
    let silent: Vec<_> = (0..300).map(|_| TcpStream::connect(address)).collect::<Result<_, _>>()?;
    let mut client = Client::connect(node, &url, "v5.channel.k8s.io")?;
    ensure!(client.code()? == 0 && client.text(1) == "heard\n");
    drop(silent);
    Ok(())
}

fn options(_: &crate::harness::machine::Machine) -> Options {
    let config = "[streaming]\nidle_timeout_seconds = 3\n".to_owned();
    Options { config, ..Default::default() }
}

fn slow(node: &mut Node) -> Result<()> {
    let node = &*node;
    let scene = Scene::new(node, "stream-slow")?;
    let made = scene.start("main", pod::PATIENT, as_is)?;
    let before = kernel::descriptors(node.pid()?)?.len();
    let url = ask::exec(node, &made.id, "io", "echo begun; exec sleep 100000")?;
    // One that never opens the streams of its session.
    let url_of_lazy = ask::exec(node, &made.id, "o", "true")?;
    let (lazy, _) = spdy::Client::connect(&url_of_lazy, &["v4.channel.k8s.io"])?;
    // A session in which nothing is said, one whose client says nothing at all, one who says it letter by letter.
    let mut idle = Client::connect(node, &url, "v4.channel.k8s.io")?;
    let mut silent = TcpStream::connect(authority(&url)?)?;
    let mut dripping = TcpStream::connect(authority(&url)?)?;
    let drip = std::thread::spawn(move || {
        let letters = "POST /exec/none HTTP/1.1\r\n".bytes().chain(std::iter::repeat(b'x'));
        letters.take(600).all(|letter| {
            poll::pause(Duration::from_millis(100));
            dripping.write_all(&[letter]).is_ok()
        })
    });
    let url = ask::exec(node, &made.id, "o", "echo begun; exec sleep 100000")?;
    let (idle_spdy, _) = spdy::Client::connect(&url, &["v4.channel.k8s.io"])?;
    let ids = idle_spdy.open_all(&["error", "stdout"])?;
    idle_spdy.read_until(ids["stdout"], |bytes| bytes == b"begun\n")?;
    idle.until(1, "begun\n")?;
    idle.until_cut()?;
    ensure!(idle.got(ERROR).is_empty(), "the command has ended by itself: {}", idle.text(ERROR));
    lazy.closed().context("a client of SPDY without streams is kept")?;
    idle_spdy.closed().context("the idle client of SPDY is kept")?;
    let told = idle_spdy.stream(ids["error"]).bytes;
    ensure!(told.is_empty(), "the command has ended by itself: {told:?}");
    silent.set_read_timeout(Some(poll::DEADLINE))?;
    silent.read_to_end(&mut Vec::new()).context("the silent client is kept")?;
    ensure!(!drip.join().unwrap_or(true), "the dripping client is kept");
    poll::eventually("all descriptors are closed", || {
        Ok((kernel::descriptors(node.pid()?)?.len() <= before + 2).then_some(()))
    })?;
    // The control: one that says something now and then stays longer than that.
    let url = ask::exec(node, &made.id, "io", "exec cat")?;
    let mut busy = Client::connect(node, &url, "v4.channel.k8s.io")?;
    for number in 0..10 {
        busy.send(0, format!("{number}\n").as_bytes())?;
        busy.until(1, &format!("{number}\n"))?;
        poll::pause(Duration::from_millis(500));
    }
    Ok(())
}
