//! Networks for the mode `cni`: of the real plugins, and of shell scripts.

use super::Options;
use super::machine::Machine;
use super::node::Node;
use super::poll;
use anyhow::{Context as _, Result, ensure};
use berth::cri::proto;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::Duration;

/// The bridge of the real plugin, which the plugin leaves for the next pod.
pub(crate) const BRIDGE: &str = "cni-test";
/// The network of the real plugins.
pub(crate) const SUBNET: &str = "10.214.77.";

/// A daemon in the mode `cni`, without a network at first.
pub(crate) fn options(_: &Machine) -> Options {
    Options { conflist: Some(String::new()), ..Options::default() }
}

/// Removes the bridge of the real plugin when the test ends.
pub(crate) struct BridgeGuard;

impl Drop for BridgeGuard {
    fn drop(&mut self) {
        Command::new("ip").args(["link", "del", BRIDGE]).output().ok();
    }
}

/// bridge with host-local, and portmap.
pub(crate) fn real_plugins(node: &Node) -> Value {
    let ipam = json!({
        "type": "host-local",
        "dataDir": node.path("ipam"),
        "ranges": [[{ "subnet": format!("{SUBNET}0/24") }]],
        "routes": [{ "dst": "0.0.0.0/0" }],
    });
    json!([
        { "type": "bridge", "bridge": BRIDGE, "isGateway": true, "ipMasq": true,
          "hairpinMode": true, "ipam": ipam },
        { "type": "portmap", "capabilities": { "portMappings": true } },
    ])
}

/// Writes a network of these plugins and waits until it is in force.
pub(crate) fn install(node: &Node, plugins: &Value) -> Result<()> {
    write(node, plugins)?;
    poll::eventually("the network is ready", || Ok(ready(node)?.0.then_some(())))
}

/// Writes a network of these plugins.
pub(crate) fn write(node: &Node, plugins: &Value) -> Result<()> {
    let list = json!({ "cniVersion": "1.0.0", "name": "test", "plugins": plugins });
    std::fs::write(node.conflist_file(), list.to_string())?;
    Ok(())
}

/// NetworkReady: its status, its reason, its message.
pub(crate) fn ready(node: &Node) -> Result<(bool, String, String)> {
    let status = node.cri.status(proto::StatusRequest::default())?.status.context("no status")?;
    let found = status.conditions.into_iter().find(|c| c.r#type == "NetworkReady");
    let condition = found.context("no NetworkReady")?;
    Ok((condition.status, condition.reason, condition.message))
}

/// Writes a plugin: a script that finds its own name in `$me`, the network's in stdin, a folder for
/// its traces in `$traces`, and answers ADD with one address unless it ends before that.
///
/// # Errors
/// It cannot be written.
pub(crate) fn script(node: &Node, name: &str, body: &str) -> Result<()> {
    let folder = node.path("etc/plugins");
    let traces = node.path("traces");
    std::fs::create_dir_all(&folder)?;
    std::fs::create_dir_all(&traces)?;
    let text = format!(
        "#!/bin/sh\nme={name}\ntraces={traces}\ncat >\"$traces/stdin-$me-$CNI_COMMAND\"\n\
         echo \"$CNI_COMMAND $me\" >>\"$traces/calls\"\n{body}\n\
         [ $CNI_COMMAND = ADD ] || exit 0\n\
         echo '{{\"cniVersion\":\"1.0.0\",\"interfaces\":[{{\"name\":\"eth0\",\"sandbox\":\"'\"$CNI_NETNS\"'\"}}],\
         \"ips\":[{{\"address\":\"10.99.0.2/24\",\"interface\":0}}]}}'\n",
        traces = traces.display()
    );
    let path = folder.join(name);
    std::fs::write(&path, text)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// What the scripts were asked, in order, as `ADD first`.
pub(crate) fn calls(node: &Node) -> Vec<String> {
    let text = std::fs::read_to_string(node.path("traces/calls")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// The configuration that a script was given for a command.
pub(crate) fn given(node: &Node, name: &str, command: &str) -> Result<Value> {
    let path = node.path("traces").join(format!("stdin-{name}-{command}"));
    Ok(serde_json::from_slice(&std::fs::read(path)?)?)
}

/// Waits until a trace exists.
pub(crate) fn wait_for(node: &Node, trace: &str) -> Result<()> {
    let path = node.path("traces").join(trace);
    poll::eventually(trace, || Ok(path.exists().then_some(())))
}

/// Nothing of berth's own network is here.
pub(crate) fn no_builtin_network(node: &Node) -> Result<()> {
    let links = super::kernel::links();
    ensure!(!links.contains(&node.bridge()), "berth's own bridge is here: {links:?}");
    let leases = super::kernel::names_in(&node.run_dir().join("leases"));
    ensure!(leases.is_empty(), "berth's own leases: {leases:?}");
    let rules = Command::new("nft").args(["list", "ruleset"]).output()?.stdout;
    let rules = String::from_utf8_lossy(&rules).into_owned();
    ensure!(!rules.contains(&node.bridge()), "berth's own rules: {rules}");
    Ok(())
}

/// How long to wait for a change of the folder to be in force: a bound for a busy machine, far below
/// the time after which a kubelet asks for pods in vain. Unhindered it takes milliseconds.
pub(crate) const CHANGE_LIMIT: Duration = Duration::from_secs(10);
