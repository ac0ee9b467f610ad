//! Somebody to talk to behind a forwarded port.

use crate::harness::scene::{Scene, as_is};
use crate::harness::{Node, eventually, kernel, pod};
use anyhow::Result;
use berth::cri::proto;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

/// A container that answers each connection with everything it sent, and then `end`. Its queue is short: few
/// connections at once.
pub(super) fn in_pod(scene: &Scene<'_>, port: u16) -> Result<()> {
    let script = format!("exec nc -ll -p {port} -e sh -c 'cat; echo end'");
    let made = scene.script(&format!("echo{port}"), &script, as_is)?;
    listens(made.init()?, port)
}

/// Waits until somebody listens in a process's network namespace.
pub(super) fn listens(pid: i32, port: u16) -> Result<()> {
    let wanted = format!(":{port:04X} ");
    eventually(&format!("port {port} is listened on"), || {
        let tables = ["tcp", "tcp6"].map(|t| kernel::read(format!("/proc/{pid}/net/{t}")));
        let listens = tables
            .into_iter()
            .flatten()
            .any(|table| table.lines().any(|line| line.contains(&wanted) && line.contains(" 0A ")));
        Ok(listens.then_some(()))
    })
}

/// A pod in the host's network.
pub(super) fn host_pod<'a>(node: &'a Node, name: &str) -> Result<Scene<'a>> {
    Scene::with(node, name, |config| {
        pod::pod_namespaces(config).network = proto::NamespaceMode::Node.into();
        config.port_mappings.clear();
    })
}

/// The same on the host, for as many as come, to the end of the test program; its port.
pub(super) fn on_host(last: &'static [u8]) -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || echo(stream, last));
        }
    });
    Ok(port)
}

fn echo(mut stream: TcpStream, last: &[u8]) -> std::io::Result<()> {
    let mut block = vec![0; 32 << 10];
    loop {
        match stream.read(&mut block)? {
            0 => return stream.write_all(last),
            count => stream.write_all(&block[..count])?,
        }
    }
}
