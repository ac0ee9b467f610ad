//! The built-in network with traffic: addresses, host ports, what is kept out, what is freed.

use crate::harness::image::PAGE;
use crate::harness::machine::{Machine, Need};
use crate::harness::netns::{Neighbour, Netns, page, sh, silent};
use crate::harness::pod::{container, pod};
use crate::harness::{Node, Options, Test, eventually, kernel, own, shared};
use anyhow::{Context as _, Result, ensure};
use berth::cri::proto;
use std::collections::BTreeSet;
use std::net::{IpAddr, UdpSocket};
use std::time::Duration;
use tonic::Code;

pub(crate) fn tests() -> Vec<Test> {
    const NEEDS: &[Need] = &[Need::PodNetwork];
    // They reach the node from a second host, which a machine with rules of its own may not allow.
    const WHOLE: &[Need] = &[Need::PodNetwork, Need::Controllers];
    vec![
        shared("a_pod_has_an_address_of_each_family_and_frees_them", NEEDS, addresses),
        shared("pods_reach_each_other_and_the_node", NEEDS, reach),
        shared("what_leaves_the_node_carries_its_address", WHOLE, masquerade),
        shared("a_host_port_answers_on_every_address_and_goes_with_its_pod", WHOLE, host_port),
        shared("a_host_ip_keeps_a_port_to_one_address", WHOLE, host_ip),
        shared("a_host_port_that_is_taken_names_its_pod", NEEDS, conflict),
        shared("fifty_pods_at_once_have_fifty_addresses", NEEDS, fifty),
        own("a_host_port_outlives_the_daemons_death", NEEDS, usual, outlives),
        own("a_pod_cannot_reach_the_nodes_loopback", NEEDS, usual, loopback_guard),
    ]
}

fn usual(_: &Machine) -> Options {
    Options::default()
}

/// The addresses of a pod as it was told: IPv4, IPv6.
fn told(node: &Node, id: &str) -> Result<(String, String)> {
    let network = node.pod(id)?.network.context("no network in the status")?;
    ensure!(network.additional_ips.len() == 1, "two families: {network:?}");
    Ok((network.ip, network.additional_ips[0].ip.clone()))
}

/// The address of the bridge: the first of the pod's subnet.
fn gateway(pod: &str) -> String {
    let (subnet, _) = pod.rsplit_once('.').unwrap_or_default();
    format!("{subnet}.1")
}

/// A pod that serves the page on port 80 and on these ports of the host.
fn web(node: &Node, name: &str, ports: &[(i32, &str)]) -> Result<(String, String)> {
    let mut config = pod(node, name);
    config.port_mappings = ports
        .iter()
        .map(|&(host_port, host_ip)| proto::PortMapping {
            container_port: 80,
            host_port,
            host_ip: host_ip.into(),
            ..Default::default()
        })
        .collect();
    let id = node.run_pod(&config)?;
    let serve = container("web", &["httpd", "-f", "-p", "80", "-h", "/www"]);
    let server = node.launch_container(&id, &config, &serve)?;
    let inside = Netns::of(node.pause_pid(&id)?)?;
    eventually("the web server answers in its pod", || {
        inside.inside(|| page("::1", 80))?.map(Some)
    })?;
    Ok((id, server))
}

fn leases(node: &Node) -> BTreeSet<String> {
    kernel::names_in(&node.run_dir().join("leases")).into_iter().collect()
}

fn addresses(node: &Node) -> Result<()> {
    let id = node.run_pod(&pod(node, "addressed"))?;
    let (v4, v6) = told(node, &id)?;
    let inside = Netns::of(node.pause_pid(&id)?)?;
    let kernels = inside.inside(|| sh("ip -o addr show dev eth0; ip -o addr show dev lo"))??;
    for address in [format!("{v4}/24"), format!("{v6}/64"), "127.0.0.1/8".into(), "::1/128".into()]
    {
        ensure!(kernels.contains(&format!(" {address} ")), "{address} in {kernels}");
    }
    let routes = inside.inside(|| sh("ip route; ip -6 route"))??;
    ensure!(routes.matches("default via").count() == 2, "two default routes: {routes}");
    ensure!(leases(node) == [v4.clone(), v6].into(), "leases: {:?}", leases(node));
    node.stop_pod(&id)?;
    // What was freed is not given out at once: somebody may still talk to it.
    let next = node.run_pod(&pod(node, "next"))?;
    ensure!(told(node, &next)?.0 != v4, "the address of a pod that has just gone");
    node.stop_pod(&next)?;
    eventually("the leases go after the cables", || Ok(leases(node).is_empty().then_some(())))
}

fn reach(node: &Node) -> Result<()> {
    let (server, _) = web(node, "server", &[])?;
    let (v4, v6) = told(node, &server)?;
    let (_, client) = web(node, "client", &[])?;
    for address in [&v4, &v6] {
        // busybox's wget needs the C library's plugins also for numbers; its nc does not.
        let ask = format!("printf 'GET /index.html HTTP/1.0\\r\\n\\r\\n' | nc -w 10 {address} 80");
        let got = node.exec_ok(&client, &["sh", "-c", &ask])?;
        ensure!(got.ends_with(PAGE.trim()), "{address}: {got:?}");
    }
    ensure!(page(&v4, 80)? == PAGE && page(&v6, 80)? == PAGE, "from the node");
    // Control: only the server's port.
    ensure!(silent(&v4, 81), "another port of the pod answers");
    node.stop_pod(&server)?;
    ensure!(silent(&v4, 80), "the stopped pod answers");
    Ok(())
}

fn masquerade(node: &Node) -> Result<()> {
    let neighbour = Neighbour::new()?;
    let id = node.run_pod(&pod(node, "leaves"))?;
    let inside = Netns::of(node.pause_pid(&id)?)?;
    for (to, from) in [("192.0.2.2", "192.0.2.1"), ("2001:db8::2", "2001:db8::1")] {
        let to: IpAddr = to.parse()?;
        let socket = neighbour.inside(|| UdpSocket::bind((to, 0)))??;
        socket.set_read_timeout(Some(Duration::from_secs(10)))?;
        let port = socket.local_addr()?.port();
        inside.inside(|| {
            let any: IpAddr = if to.is_ipv4() { "0.0.0.0".parse()? } else { "::".parse()? };
            anyhow::Ok(UdpSocket::bind((any, 0))?.send_to(b"x", (to, port))?)
        })??;
        let (_, seen) = socket.recv_from(&mut [0; 4]).context("nothing came")?;
        ensure!(seen.ip().to_string() == from, "the neighbour saw {seen}");
    }
    Ok(())
}

const PORT: u16 = 18_080;

fn host_port(node: &Node) -> Result<()> {
    let neighbour = Neighbour::new()?;
    let node_addresses = ["127.0.0.1", "192.0.2.1", "2001:db8::1"];
    ensure!(node_addresses.iter().all(|a| silent(a, PORT)), "somebody else has the port");
    let (id, _) = web(node, "published", &[(i32::from(PORT), "")])?;
    let itself = Netns::of(node.pause_pid(&id)?)?;
    let other = node.run_pod(&pod(node, "other"))?;
    let other = Netns::of(node.pause_pid(&other)?)?;
    let bridge = gateway(&told(node, &id)?.0);
    for address in node_addresses.into_iter().chain([bridge.as_str()]) {
        ensure!(page(address, PORT)? == PAGE, "from the node, {address}");
    }
    for address in ["192.0.2.1", "2001:db8::1"] {
        let from = |netns: &Netns| netns.inside(|| page(address, PORT))?;
        let far = neighbour.inside(|| page(address, PORT))?.context("from a neighbour")?;
        ensure!(far == PAGE, "from a neighbour, {address}");
        ensure!(from(&other).context("from another pod")? == PAGE, "from another pod, {address}");
        ensure!(from(&itself).context("from the pod itself")? == PAGE, "itself, {address}");
    }
    // The documented exception: the kernel has no route_localnet for IPv6.
    ensure!(silent("::1", PORT), "[::1] answers");
    // Control: only that port, and only while the pod is there.
    ensure!(silent("192.0.2.1", PORT + 1), "a port that nobody asked for");
    node.stop_pod(&id)?;
    ensure!(node_addresses.iter().all(|a| silent(a, PORT)), "the port of a stopped pod answers");
    Ok(())
}

fn host_ip(node: &Node) -> Result<()> {
    let neighbour = Neighbour::new()?;
    let ports = [(i32::from(PORT), "127.0.0.1"), (i32::from(PORT) + 1, "192.0.2.1")];
    web(node, "narrow", &ports)?;
    ensure!(page("127.0.0.1", PORT)? == PAGE);
    ensure!(neighbour.inside(|| page("192.0.2.1", PORT + 1))?? == PAGE);
    ensure!(silent("127.0.0.1", PORT + 1), "the port of 192.0.2.1 answers on 127.0.0.1");
    ensure!(neighbour.inside(|| silent("192.0.2.1", PORT))?, "the port of 127.0.0.1 is outside");
    Ok(())
}

fn conflict(node: &Node) -> Result<()> {
    let (first, _) = web(node, "first", &[(i32::from(PORT), "")])?;
    let leased = leases(node);
    let mut second = pod(node, "second");
    let port =
        proto::PortMapping { container_port: 80, host_port: PORT.into(), ..Default::default() };
    second.port_mappings = vec![port.clone()];
    let status = node.run_pod(&second).err().context("two pods have one port")?;
    ensure!(status.code() == Code::FailedPrecondition, "{status}");
    ensure!(
        status.message().contains("hostPort 18080/tcp is taken by pod tests/first"),
        "{status}"
    );
    ensure!(leases(node) == leased, "the refused pod has a lease");
    ensure!(page("127.0.0.1", PORT)? == PAGE, "the first pod lost its port");
    // Control: the port is free when the first has gone; and UDP is another port.
    node.stop_pod(&first)?;
    node.run_pod(&second)?;
    let mut third = pod(node, "third");
    let udp = proto::PortMapping { protocol: proto::Protocol::Udp.into(), ..port };
    third.port_mappings = vec![udp];
    node.run_pod(&third)?;
    Ok(())
}

fn fifty(node: &Node) -> Result<()> {
    let begin = |number| {
        let config = Some(pod(node, &format!("p{number}")));
        let request = proto::RunPodSandboxRequest { config, ..Default::default() };
        let mut client = node.cri.runtime();
        node.cri.begin(async move { client.run_pod_sandbox(request).await })
    };
    let calls: Vec<_> = (0..50).map(begin).collect();
    let mut addresses = BTreeSet::new();
    for call in calls {
        let (v4, v6) = told(node, &node.cri.finish(call)?.pod_sandbox_id)?;
        addresses.extend([v4, v6]);
    }
    ensure!(addresses.len() == 100, "{} addresses", addresses.len());
    ensure!(leases(node) == addresses, "leases: {:?}", leases(node));
    Ok(())
}

fn outlives(node: &mut Node) -> Result<()> {
    let (id, _) = web(node, "stays", &[(i32::from(PORT), "")])?;
    let before = told(node, &id)?;
    node.kill()?;
    ensure!(page("127.0.0.1", PORT)? == PAGE, "while the daemon is dead");
    node.launch()?;
    ensure!(page("127.0.0.1", PORT)? == PAGE, "after the restart");
    ensure!(told(node, &id)? == before, "other addresses: {:?}", told(node, &id)?);
    let other = node.run_pod(&pod(node, "new"))?;
    let new = told(node, &other)?;
    ensure!(new.0 != before.0 && new.1 != before.1, "an address twice: {new:?}");
    Ok(())
}

/// CVE-2020-8558: with route_localnet, a neighbour reaches what listens on 127.0.0.1.
fn loopback_guard(node: &mut Node) -> Result<()> {
    let id = node.run_pod(&pod(node, "attacker"))?;
    let inside = Netns::of(node.pause_pid(&id)?)?;
    let (own, _) = told(node, &id)?;
    let listener = UdpSocket::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    // A pod with CAP_NET_ADMIN that sends what its own kernel would keep.
    inside.inside(|| {
        let bridge = gateway(&own);
        sh(&format!(
            "ip addr del 127.0.0.1/8 dev lo
             echo 1 >/proc/sys/net/ipv4/conf/all/route_localnet
             ip route add 127.0.0.1 via {bridge}"
        ))
    })??;
    let heard = |patience| {
        inside
            .inside(|| UdpSocket::bind((own.as_str(), 0))?.send_to(b"x", ("127.0.0.1", port)))??;
        listener.set_read_timeout(Some(patience))?;
        anyhow::Ok(listener.recv(&mut [0; 4]).is_ok())
    };
    ensure!(!heard(Duration::from_secs(1))?, "the pod reaches the node's loopback");
    // Control: it is the guard that keeps it out.
    sh("nft delete chain inet berth loopback_guard")?;
    ensure!(heard(Duration::from_secs(10))?, "the probe does not get through without the guard");
    Ok(())
}
