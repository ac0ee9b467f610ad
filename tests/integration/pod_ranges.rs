//! UpdateRuntimeConfig: the node's pod range, on the built-in network and by a CNI template.

use crate::harness::image::PAGE;
use crate::harness::machine::{Machine, Need};
use crate::harness::netns::{Netns, page, sh};
use crate::harness::pod::{container, pod};
use crate::harness::{Node, Options, Test, cni, eventually, kernel, own};
use anyhow::{Context as _, Result, ensure};
use berth::cri::proto;
use serde_json::json;
use std::path::PathBuf;
use tonic::Code;

pub(crate) fn tests() -> Vec<Test> {
    const NEEDS: &[Need] = &[Need::PodNetwork];
    vec![
        own("new_pods_get_the_nodes_range_and_old_ones_keep_theirs", NEEDS, usual, builtin),
        own("an_idle_bridge_has_the_new_gateway_alone", NEEDS, usual, idle),
        own("a_range_that_cannot_be_changes_nothing", NEEDS, usual, refused),
        own("a_cni_network_is_made_of_the_template", NEEDS, templated, template),
        own("without_a_template_plugins_are_left_alone", NEEDS, cni::options, no_template),
    ]
}

fn usual(_: &Machine) -> Options {
    Options::default()
}

fn tell(node: &Node, pod_cidr: &str) -> Result<(), tonic::Status> {
    let network_config = Some(proto::NetworkConfig { pod_cidr: pod_cidr.into() });
    let runtime_config = Some(proto::RuntimeConfig { network_config });
    let request = proto::UpdateRuntimeConfigRequest { runtime_config };
    node.cri.update_runtime_config(request).map(drop)
}

/// The addresses and routes of a pod, as the kernel has them once it has looked for duplicates.
fn inside(node: &Node, id: &str) -> Result<String> {
    let netns = Netns::of(node.pause_pid(id)?)?;
    eventually("no address is tentative", || {
        let found = netns.inside(|| sh("ip -o addr show dev eth0; ip route; ip -6 route"))??;
        Ok((!found.contains("tentative")).then_some(found))
    })
}

fn bridge(node: &Node) -> Result<String> {
    sh(&format!("ip -o addr show dev {}", node.bridge()))
}

/// A pod that serves the page on port 80: its id and address.
fn web(node: &Node, name: &str) -> Result<(String, String)> {
    let config = pod(node, name);
    let id = node.run_pod(&config)?;
    let serve = container("web", &["httpd", "-f", "-p", "80", "-h", "/www"]);
    node.launch_container(&id, &config, &serve)?;
    let ip = node.pod(&id)?.network.unwrap_or_default().ip;
    eventually("the web server answers", || Ok(page(&ip, 80).ok()))?;
    Ok((id, ip))
}

fn builtin(node: &mut Node) -> Result<()> {
    let (old, old_ip) = web(node, "old")?;
    let before = inside(node, &old)?;
    tell(node, "10.77.5.0/24,fd00:be77:5::/64")?;
    let (new, new_ip) = web(node, "new")?;
    ensure!(new_ip.starts_with("10.77.5."), "it is told to have {new_ip}");
    let found = inside(node, &new)?;
    for part in [
        format!(" {new_ip}/24 "),
        " fd00:be77:5::".into(),
        "default via 10.77.5.1 ".into(),
        "default via fd00:be77:5::1 ".into(),
    ] {
        ensure!(found.contains(&part), "{part:?} is not in {found}");
    }
    let after = inside(node, &old)?;
    ensure!(after == before, "the old pod was changed from {before} to {after}");
    let addresses = bridge(node)?;
    let (subnet, _) = old_ip.rsplit_once('.').context("no IPv4")?;
    for gateway in [format!(" {subnet}.1/24 "), " 10.77.5.1/24 ".into()] {
        ensure!(addresses.contains(&gateway), "{gateway:?} is not in {addresses}");
    }
    // Both are reached, by the node and by each other.
    for (from, ip) in [(&old, &new_ip), (&new, &old_ip)] {
        let netns = Netns::of(node.pause_pid(from)?)?;
        ensure!(page(ip, 80)? == PAGE, "{ip} from the node");
        ensure!(netns.inside(|| page(ip, 80))?? == PAGE, "{ip} from the other pod");
    }
    // A kubelet tells it once: the next daemon knows it, and what the old pod had.
    node.kill()?;
    node.launch()?;
    let (_, next_ip) = web(node, "next")?;
    ensure!(next_ip.starts_with("10.77.5.") && next_ip != new_ip, "{next_ip}");
    ensure!(page(&old_ip, 80)? == PAGE && page(&new_ip, 80)? == PAGE, "after a restart");
    Ok(())
}

fn idle(node: &mut Node) -> Result<()> {
    let id = node.run_pod(&pod(node, "first"))?;
    node.remove_pod(&id)?;
    tell(node, "10.78.6.0/24")?;
    let id = node.run_pod(&pod(node, "second"))?;
    let addresses = bridge(node)?;
    let v4: Vec<&str> = addresses.lines().filter(|l| l.contains(" inet ")).collect();
    ensure!(v4.len() == 1 && v4[0].contains(" 10.78.6.1/24 "), "{addresses}");
    let status = node.pod(&id)?.network.unwrap_or_default();
    ensure!(status.additional_ips.is_empty(), "a range of IPv4 alone: {status:?}");
    // It is still taken for berth's own, and goes at the end.
    node.remove_pod(&id)?;
    node.stop()?;
    ensure!(!kernel::links().contains(&node.bridge()), "the bridge is left");
    node.launch()
}

fn refused(node: &mut Node) -> Result<()> {
    for range in ["10.0.0.0", "10.0.0.0/30", "fd00::/64", "10.1.0.0/24,10.2.0.0/24", "fd00::/127"] {
        let error = tell(node, range).err().with_context(|| format!("{range} is taken"))?;
        ensure!(error.code() == Code::InvalidArgument, "{range}: {error}");
    }
    tell(node, "")?;
    node.cri.update_runtime_config(Default::default())?;
    ensure!(!node.state_dir().join("pod-ranges.json").exists(), "a range is kept");
    let id = node.run_pod(&pod(node, "usual"))?;
    let ip = node.pod(&id)?.network.unwrap_or_default().ip;
    ensure!(ip.starts_with("10.213."), "{ip} is not of the configured range");
    Ok(())
}

fn template_file() -> PathBuf {
    std::env::temp_dir().join(format!("berth-template-{}", std::process::id()))
}

fn templated(machine: &Machine) -> Options {
    let config = format!("\ncni_conf_template = {:?}\n", template_file());
    Options { config, ..cni::options(machine) }
}

struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).ok();
    }
}

fn template(node: &mut Node) -> Result<()> {
    let file = Removed(template_file());
    // Without the template, and with one that makes no network, the caller is told.
    for text in [None, Some("{{.Nothing}}"), Some("{}")] {
        if let Some(text) = text {
            std::fs::write(&file.0, text)?;
        }
        let error = tell(node, "10.99.0.0/24").err().context("a network of nothing")?;
        ensure!(error.code() == Code::FailedPrecondition, "{error}");
        let path = file.0.display().to_string();
        ensure!(error.message().contains(&path), "{error}");
    }
    ensure!(!cni::ready(node)?.0, "a network of nothing");
    let text = r#"{ "cniVersion": "1.0.0", "name": "test", "plugins": [ { "type": "first",
        "subnet": "{{.PodCIDR}}", "ranges": {{.PodCIDRRanges}}, "routes": {{.Routes}} } ] }"#;
    std::fs::write(&file.0, text)?;
    cni::script(node, "first", "")?;
    tell(node, "10.99.0.0/24,fd00:be99::/64")?;
    eventually("the network is ready", || Ok(cni::ready(node)?.0.then_some(())))?;
    let id = node.run_pod(&pod(node, "templated"))?;
    let given = cni::given(node, "first", "ADD")?;
    ensure!(given["subnet"] == "10.99.0.0/24", "{given}");
    let ranges = json!([[{ "subnet": "10.99.0.0/24" }], [{ "subnet": "fd00:be99::/64" }]]);
    ensure!(given["ranges"] == ranges, "{given}");
    ensure!(given["routes"] == json!([{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }]), "{given}");
    node.remove_pod(&id)?;
    // The cluster's own configuration is never written over, nor joined by another.
    let folder = node.conflist_file().parent().context("no folder")?.to_owned();
    std::fs::rename(folder.join("10-berth.conflist"), node.conflist_file())?;
    let before = kernel::read(node.conflist_file())?;
    tell(node, "10.98.0.0/24")?;
    ensure!(kernel::names_in(&folder) == ["10-test.conflist"], "{:?}", kernel::names_in(&folder));
    ensure!(kernel::read(node.conflist_file())? == before, "it was changed");
    Ok(())
}

fn no_template(node: &mut Node) -> Result<()> {
    tell(node, "10.99.0.0/24")?;
    let folder = node.conflist_file().parent().context("no folder")?.to_owned();
    ensure!(kernel::names_in(&folder).is_empty(), "{:?}", kernel::names_in(&folder));
    ensure!(!cni::ready(node)?.0, "a network of nothing");
    // Not even a range that the built-in network could not have is refused: it is the plugins' own.
    tell(node, "fd00::/64")?;
    Ok(())
}
