//! Clients that nobody here wrote: npm's spdy-transport, PyPI's websocket-client.

use super::{ask, echo};
use crate::harness::channels::code;
use crate::harness::machine::Need::StreamPeers;
use crate::harness::scene::{Scene, as_is};
use crate::harness::{Node, Test, pod, shared};
use anyhow::{Context as _, Result, ensure};
use std::io::Write as _;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

pub(super) fn tests() -> Vec<Test> {
    vec![
        shared("other_peoples_clients_run_commands", &[StreamPeers], exec),
        shared("other_peoples_clients_have_terminals", &[StreamPeers], terminal),
        shared("other_peoples_clients_attach", &[StreamPeers], attach),
        shared("other_peoples_clients_forward_ports", &[StreamPeers], forward),
        shared("other_peoples_clients_are_refused_by_code", &[StreamPeers], refused),
    ]
}

/// The clients, and the scripts that drive them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peer {
    Spdy,
    WebSocket,
}

const PEERS: [Peer; 2] = [Peer::Spdy, Peer::WebSocket];

impl Peer {
    fn protocols(self) -> &'static [&'static str] {
        match self {
            Self::Spdy => {
                &["v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"]
            }
            Self::WebSocket => {
                &["v5.channel.k8s.io", "v4.channel.k8s.io", "v4.base64.channel.k8s.io"]
            }
        }
    }

    /// Runs a script with an input.
    fn run(self, node: &Node, arguments: &[&str], input: &[u8]) -> Result<Output> {
        let (program, name, text) = match self {
            Self::Spdy => (PathBuf::from("node"), "spdy.js", include_str!("../../peers/spdy.js")),
            Self::WebSocket => {
                let python = node.machine.python.clone().context("no Python")?;
                (python, "ws.py", include_str!("../../peers/ws.py"))
            }
        };
        let script = node.path(name);
        std::fs::write(&script, text)?;
        let mut child = Command::new(program)
            .arg(script)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut stdin = child.stdin.take().context("no stdin")?;
        let bytes = input.to_vec();
        // Beside the reading: what is written comes back while it is written.
        let keeps_open = arguments.contains(&"attach");
        let (ended, wait) = std::sync::mpsc::channel::<()>();
        let writer = std::thread::spawn(move || {
            let done = stdin.write_all(&bytes).is_ok();
            // The end of its input ends an attached client, whatever is still to come.
            if keeps_open {
                wait.recv().ok();
            }
            done
        });
        let output = child.wait_with_output()?;
        drop(ended);
        writer.join().ok();
        Ok(output)
    }
}

fn told(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).chars().take(3000).collect::<String>();
    format!("{}: {} {}", output.status, text(&output.stdout), text(&output.stderr))
}

fn exec(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "peers-exec")?;
    let made = scene.start("main", pod::PATIENT, as_is)?;
    for (peer, protocol) in PEERS.iter().flat_map(|p| p.protocols().iter().map(move |n| (*p, *n))) {
        let what = format!("{peer:?} {protocol}");
        // Not every version has an end of stdin.
        let script = "head -c 5000000; echo errors >&2; exit 7";
        let url = ask::exec(node, &made.id, "ioe", script)?;
        let status = node.path("status");
        let options =
            ["exec", &url, "--protocols", protocol, "--status", &status.to_string_lossy()];
        let sent: Vec<u8> =
            (0..5_000_000_u32).map(|n| u8::try_from(n % 253).unwrap_or(0)).collect();
        let output = peer.run(node, &options, &sent)?;
        ensure!(output.stdout == sent, "{what}: {} bytes; {}", output.stdout.len(), told(&output));
        ensure!(output.stderr == b"errors\n", "{what}: {}", told(&output));
        let end = std::fs::read_to_string(&status)?;
        match protocol.starts_with("v4") || protocol.starts_with("v5") {
            true => ensure!(code(&end)? == 7 && output.status.code() == Some(7), "{what}: {end}"),
            false => ensure!(end == "command terminated with exit code 7", "{what}: {end}"),
        }
        std::fs::remove_file(status)?;
    }
    Ok(())
}

fn terminal(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "peers-tty")?;
    let made = scene.start("main", pod::PATIENT, as_is)?;
    for peer in PEERS {
        let url =
            ask::exec(node, &made.id, "iot", "stty size; read line; echo \"got $line\"; exit 5")?;
        let mut options = vec!["exec", &url, "--resize", "132x43"];
        if peer == Peer::Spdy {
            options.extend(["--streams", "stdin,stdout"]);
        }
        let output = peer.run(node, &options, b"typed\n")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(text.contains("43 132\r\n"), "{peer:?}: {}", told(&output));
        ensure!(text.ends_with("got typed\r\n"), "{peer:?}: {}", told(&output));
        ensure!(output.status.code() == Some(5), "{peer:?}: {}", told(&output));
    }
    Ok(())
}

fn attach(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "peers-attach")?;
    for (number, peer) in PEERS.into_iter().enumerate() {
        let script = "while read line; do echo \"out $line\"; test \"$line\" = end && exit 0; done";
        let made = scene.script(&format!("c{number}"), script, |config| config.stdin = true)?;
        let url = ask::attach(node, &made.id, "ioe")?;
        let output = peer.run(node, &["attach", &url], b"one\nend\n")?;
        ensure!(output.stdout == b"out one\nout end\n", "{peer:?}: {}", told(&output));
        ensure!(output.status.success(), "{peer:?}: {}", told(&output));
        made.end()?;
    }
    Ok(())
}

fn forward(node: &Node) -> Result<()> {
    let scene = echo::host_pod(node, "peers-forward")?;
    let ports = format!("{},{}", echo::on_host(b"")?, echo::on_host(b"")?);
    // Free until a moment ago.
    let nobody = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port().to_string();
    for (peer, more) in [(Peer::Spdy, &["--connections", "20"][..]), (Peer::WebSocket, &[])] {
        let url = ask::port_forward(node, &scene.pod, &[])?;
        let options = ["port-forward", &url, "--ports", &ports, "--bytes", "300000"];
        let output = peer.run(node, &[&options[..], more].concat(), b"")?;
        ensure!(output.status.success(), "{peer:?}: {}", told(&output));
        let lines = String::from_utf8(output.stdout)?;
        let wanted = if peer == Peer::Spdy { 20 } else { 2 };
        ensure!(lines.lines().count() == wanted, "{peer:?}: {lines}");
        for line in lines.lines() {
            let one: serde_json::Value = serde_json::from_str(line)?;
            ensure!(one["echo"] == true && one["bytes"] == 300_000, "{peer:?}: {line}");
        }
        // Nobody is there: text on the error stream.
        let url = ask::port_forward(node, &scene.pod, &[])?;
        let output = peer.run(node, &["port-forward", &url, "--ports", &nobody], b"")?;
        ensure!(output.status.code() == Some(1), "{peer:?}: {}", told(&output));
        let one: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        let error = one["error"].as_str().unwrap_or_default();
        ensure!(error.contains(&nobody) && error.contains("refused"), "{peer:?}: {one}");
    }
    Ok(())
}

fn refused(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "peers-refused")?;
    let made = scene.start("main", pod::PATIENT, as_is)?;
    for peer in PEERS {
        let url = ask::exec(node, &made.id, "o", "true")?;
        let unknown = ["exec", &url, "--protocols", "v9.channel.k8s.io"];
        let output = peer.run(node, &unknown, b"")?;
        ensure!(output.status.code() == Some(71), "{peer:?}: {}", told(&output));
        ensure!(told(&output).contains("403"), "{peer:?}: {}", told(&output));
        let output = peer.run(node, &["exec", &format!("{url}0")], b"")?;
        ensure!(told(&output).contains("404"), "{peer:?}: {}", told(&output));
    }
    Ok(())
}
