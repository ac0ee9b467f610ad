//! Forwarded ports: the pod's localhost, and nobody else's.

use super::{ask, echo};
use crate::harness::channels::Client;
use crate::harness::scene::{Scene, as_is};
use crate::harness::{Node, Test, shared};
use anyhow::{Result, ensure};
use berth::cri::proto;

pub(super) fn tests() -> Vec<Test> {
    vec![
        shared("ports_of_a_pod_are_reached", &[], reached),
        shared("a_port_of_ipv6_alone_and_one_of_the_host_are_reached", &[], families),
    ]
}

const V5: &str = "v5.channel.k8s.io";

fn reached(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "forward")?;
    echo::in_pod(&scene, 7001)?;
    echo::in_pod(&scene, 7002)?;
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
    echo::listens(made.init()?, 7004)?;
    let url = ask::port_forward(node, &scene.pod, &[7004])?;
    let mut client = Client::connect(node, &url, "v4.channel.k8s.io")?;
    client.send(0, b"GET / HTTP/1.0\r\n\r\n")?;
    client.until(0, "HTTP/1.")?;
    // The pod's end is the connection's, where the client has no word for its own.
    client.end()?;
    // The host's own network.
    let scene = echo::host_pod(node, "forward-host")?;
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    let url = ask::port_forward(node, &scene.pod, &[port.into()])?;
    let mut client = Client::connect(node, &url, V5)?;
    let (mut stream, _) = listener.accept()?;
    std::io::Write::write_all(&mut stream, b"from the host")?;
    client.until(0, "from the host")
}
