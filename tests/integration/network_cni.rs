//! The mode `cni` with the real plugins: readiness, addresses, host ports, DEL without a network.

use crate::harness::cni::{self, BridgeGuard, SUBNET};
use crate::harness::image::PAGE;
use crate::harness::machine::Need;
use crate::harness::netns::{Netns, page, sh, silent};
use crate::harness::pod::{PATIENT, container, pod, pod_namespaces};
use crate::harness::{Node, Test, eventually, kernel, own, poll};
use anyhow::{Context as _, Result, bail, ensure};
use berth::cri::proto::{self, NamespaceMode};
use serde_json::json;
use std::time::{Duration, Instant};
use tonic::Code;

pub(crate) fn tests() -> Vec<Test> {
    const NEEDS: &[Need] = &[Need::PodNetwork, Need::Plugins];
    vec![
        own("without_a_network_only_host_pods_run", &[Need::PodNetwork], cni::options, none),
        own("a_network_that_appears_is_used_within_a_second", NEEDS, cni::options, appears),
        own("a_wrong_first_file_is_not_passed_over", &[Need::PodNetwork], cni::options, wrong_file),
        own("the_real_plugins_attach_and_detach", NEEDS, cni::options, real),
        own("a_host_port_by_portmap_answers", NEEDS, cni::options, portmap),
        own("a_pod_stops_when_its_network_is_removed", NEEDS, cni::options, removed),
        own("a_pod_stops_after_a_restart_without_its_network", NEEDS, cni::options, restarted),
    ]
}

fn not_ready(node: &Node) -> Result<String> {
    let (ready, reason, message) = cni::ready(node)?;
    ensure!(!ready && reason == "NetworkPluginNotReady", "ready {ready}, {reason}: {message}");
    Ok(message)
}

fn none(node: &mut Node) -> Result<()> {
    let message = not_ready(node)?;
    let status = node.run_pod(&pod(node, "early")).err().context("a pod without a network")?;
    ensure!(status.code() == Code::FailedPrecondition, "{status}");
    for words in ["NetworkPluginNotReady", message.as_str()] {
        ensure!(status.message().contains(words), "{words:?} is not in {status}");
    }
    cni::no_builtin_network(node)?;
    let mut on_host = pod(node, "on-host");
    pod_namespaces(&mut on_host).network = NamespaceMode::Node.into();
    let id = node.run_pod(&on_host)?;
    let main = node.launch_container(&id, &on_host, &container("main", PATIENT))?;
    ensure!(node.exec_ok(&main, &["echo", "runs"])? == "runs");
    ensure!(node.pod(&id)?.network.unwrap_or_default().ip.is_empty(), "it was given an address");
    cni::no_builtin_network(node)
}

fn appears(node: &mut Node) -> Result<()> {
    let _bridge = BridgeGuard;
    not_ready(node)?;
    // Somebody asks all the time, as a kubelet does.
    let attempt = |number: usize| node.run_pod(&pod(node, &format!("eager-{number}")));
    let mut refused = 0;
    for _ in 0..5 {
        ensure!(attempt(refused).is_err(), "a pod without a network");
        refused += 1;
    }
    cni::write(node, &cni::real_plugins(node))?;
    let written = Instant::now();
    poll::within(cni::CHANGE_LIMIT, "the network is used", || {
        Ok(cni::ready(node)?.0.then_some(()))
    })?;
    let id = eventually("a pod runs", || {
        refused += 1;
        Ok(Some(attempt(refused)?))
    })?;
    let address = node.pod(&id)?.network.unwrap_or_default().ip;
    ensure!(address.starts_with(SUBNET), "{address} after {:?}", written.elapsed());
    cni::no_builtin_network(node)?;
    std::fs::remove_file(node.conflist_file())?;
    poll::within(cni::CHANGE_LIMIT, "the network is gone", || {
        Ok((!cni::ready(node)?.0).then_some(()))
    })?;
    ensure!(attempt(refused + 1).is_err(), "a pod after the network was removed");
    // One that is there is there.
    ensure!(attempt(refused)? == id, "a repeat made another");
    Ok(())
}

fn wrong_file(node: &mut Node) -> Result<()> {
    cni::script(node, "fine", "")?;
    let wrong = node.path("etc/net.d/00-wrong.conflist");
    std::fs::write(&wrong, "{")?;
    cni::write(node, &json!([{ "type": "fine" }]))?;
    eventually("the wrong file is named", || {
        Ok(not_ready(node)?.contains("00-wrong.conflist").then_some(()))
    })?;
    ensure!(node.run_pod(&pod(node, "misled")).is_err(), "the second file was used");
    // Control: without the wrong file the other one is the network.
    std::fs::remove_file(&wrong)?;
    eventually("the network is ready", || Ok(cni::ready(node)?.0.then_some(())))?;
    node.run_pod(&pod(node, "led"))?;
    Ok(())
}

fn real(node: &mut Node) -> Result<()> {
    let _bridge = BridgeGuard;
    cni::install(node, &cni::real_plugins(node))?;
    let mut pods = Vec::new();
    for name in ["one", "two"] {
        let id = node.run_pod(&pod(node, name))?;
        let address = node.pod(&id)?.network.unwrap_or_default().ip;
        let inside = Netns::of(node.pause_pid(&id)?)?;
        let kernels =
            inside.inside(|| sh("ip -o addr show dev eth0; ip -o addr show dev lo"))??;
        for wanted in [format!(" {address}/24 "), " 127.0.0.1/8 ".to_owned()] {
            ensure!(kernels.contains(&wanted), "{wanted} is not in {kernels}");
        }
        let lease = node.path("ipam/test").join(&address);
        ensure!(kernel::read(&lease)?.contains(&id), "the lease does not name the pod");
        let pin = node.run_dir().join("netns").join(&id);
        ensure!(pin.exists(), "the namespace is not pinned");
        pods.push((id, address, lease, pin));
    }
    let (one, _, lease, pin) = &pods[0];
    let ping = ["ping", "-c", "1", "-W", "10", &pods[1].1];
    let config = pod(node, "one");
    let main = node.launch_container(one, &config, &container("main", PATIENT))?;
    node.exec_ok(&main, &ping).context("from one pod to the other")?;
    node.stop_pod(one)?;
    ensure!(!lease.exists() && !pin.exists(), "a stopped pod keeps its lease or its pin");
    ensure!(pods[1].2.exists(), "the other pod lost its lease");
    cni::no_builtin_network(node)
}

fn portmap(node: &mut Node) -> Result<()> {
    let _bridge = BridgeGuard;
    cni::install(node, &cni::real_plugins(node))?;
    let port = 18_090;
    let mut config = pod(node, "published");
    let mapping = proto::PortMapping { container_port: 80, host_port: port, ..Default::default() };
    config.port_mappings = vec![mapping];
    let id = node.run_pod(&config)?;
    let serve = container("web", &["httpd", "-f", "-p", "80", "-h", "/www"]);
    node.launch_container(&id, &config, &serve)?;
    let inside = Netns::of(node.pause_pid(&id)?)?;
    eventually("the server answers", || inside.inside(|| page("127.0.0.1", 80))?.map(Some))?;
    let port = u16::try_from(port)?;
    ensure!(page("127.0.0.1", port)? == PAGE, "on loopback");
    ensure!(page(&format!("{SUBNET}1"), port)? == PAGE, "on the bridge's address");
    node.stop_pod(&id)?;
    ensure!(silent("127.0.0.1", port), "the port of a stopped pod answers");
    Ok(())
}

fn removed(node: &mut Node) -> Result<()> {
    let _bridge = BridgeGuard;
    cni::install(node, &cni::real_plugins(node))?;
    let (id, _) = node.patient_pod("bereft")?;
    let folder = node.conflist_file().parent().context("a folder")?.to_owned();
    std::fs::remove_dir_all(&folder)?;
    eventually("the network is gone", || Ok((!cni::ready(node)?.0).then_some(())))?;
    node.stop_pod(&id)?;
    freed(node)?;
    // The folder is watched from above until it is back.
    std::fs::create_dir(&folder)?;
    cni::install(node, &cni::real_plugins(node))
}

fn restarted(node: &mut Node) -> Result<()> {
    let _bridge = BridgeGuard;
    cni::install(node, &cni::real_plugins(node))?;
    let (id, main) = node.patient_pod("bereft")?;
    node.kill()?;
    std::fs::remove_file(node.conflist_file())?;
    node.launch()?;
    not_ready(node)?;
    ensure!(node.exec_ok(&main, &["echo", "alive"])? == "alive");
    node.stop_pod(&id)?;
    freed(node)
}

/// No address is leased, no cable is left.
fn freed(node: &Node) -> Result<()> {
    let leased = kernel::names_in(&node.path("ipam/test"));
    if let Some(lease) = leased.iter().find(|name| name.starts_with(SUBNET)) {
        bail!("{lease} is still leased");
    }
    poll::within(Duration::from_secs(60), "the cables are gone", || {
        let cables: Vec<String> =
            kernel::links().into_iter().filter(|name| name.starts_with("veth")).collect();
        ensure!(cables.is_empty(), "left: {cables:?}");
        Ok(Some(()))
    })
}
