//! Forwarded ports: the pod's localhost, and nobody else's.

use super::ask;
use crate::harness::channels::Client;
use crate::harness::scene::{Scene, as_is};
use crate::harness::{Node, Test, eventually, kernel, pod, shared};
use anyhow::{Result, ensure};
use berth::cri::proto;

pub(super) fn tests() -> Vec<Test> {
    vec![
        shared("ports_of_a_pod_are_reached", &[], reached),
        shared("a_port_of_ipv6_alone_and_one_of_the_host_are_reached", &[], families),
    ]
}

const V5: &str = "v5.channel.k8s.io";

/// A container that answers each connection with everything it sent, and then `end`.
pub(super) fn echoing(scene: &Scene<'_>, port: u16) -> Result<()> {
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

fn reached(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "forward")?;
    echoing(&scene, 7001)?;
    echoing(&scene, 7002)?;
    // Two ports at once, as the call names them.
    let url = ask::port_forward(node, &scene.pod, &[7001, 7002])?;
    let mut client = Client::connect(node, &url, V5)?;
    client.send(2, b"to the second")?;
    client.send(0, b"to the first")?;
    client.until(0, "to the first")?;
    client.until(2, "to the second")?;
    ensure!(client.got(0).starts_with(&7001_u16.to_le_bytes()), "{:?}", client.got(0));
    ensure!(client.got(3) == 7002_u16.to_le_bytes(), "{:?}", client.got(3));
    // One that has said all hears the rest.
    client.close(0)?;
    client.until(0, "end\n")?;
    client.until_closed(0)?;
    client.send(2, b" more")?;
    client.until(2, "to the second more")?;
    // As the URL names them; nobody is there.
    let url = ask::port_forward(node, &scene.pod, &[])?;
    let mut client = Client::connect(node, &format!("{url}?port=7003"), V5)?;
    client.until(1, "port 7003")?;
    ensure!(client.text(1).contains("refused"), "{}", client.text(1));
    // Not a READY pod.
    node.cri
        .stop_pod_sandbox(proto::StopPodSandboxRequest { pod_sandbox_id: scene.pod.clone() })?;
    let error = ask::port_forward(node, &scene.pod, &[7001]).err().map(|e| format!("{e:#}"));
    ensure!(error.as_ref().is_some_and(|e| e.contains("is not running")), "{error:?}");
    Ok(())
}

fn families(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "forward6")?;
    let made = scene.script("six", "exec httpd -f -p [::1]:7004 -h /www", as_is)?;
    listens(made.init()?, 7004)?;
    let url = ask::port_forward(node, &scene.pod, &[7004])?;
    let mut client = Client::connect(node, &url, "v4.channel.k8s.io")?;
    client.send(0, b"GET / HTTP/1.0\r\n\r\n")?;
    client.until(0, "HTTP/1.")?;
    // The host's own network.
    let scene = Scene::with(node, "forward-host", |config| {
        pod::pod_namespaces(config).network = proto::NamespaceMode::Node.into();
        config.port_mappings.clear();
    })?;
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    let url = ask::port_forward(node, &scene.pod, &[port.into()])?;
    let mut client = Client::connect(node, &url, V5)?;
    let (mut stream, _) = listener.accept()?;
    std::io::Write::write_all(&mut stream, b"from the host")?;
    client.until(0, "from the host")
}
