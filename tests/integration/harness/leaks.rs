//! Nothing leaks: after the last pod is gone the node is as before.

use super::kernel;
use super::node::Node;
use super::poll;
use super::runtime;
use anyhow::{Result, ensure};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// How long the daemon may take to clean up behind the last answer.
const GRACE: Duration = Duration::from_secs(10);
/// Connections of the harness come and go.
const DESCRIPTOR_SLACK: usize = 6;
/// Sockets of what a daemon serves since it was configured anew.
const MORE_SERVED: usize = 4;
/// Where cgroups of berth's are, below the root of the hierarchy.
const GROUPS: [&str; 6] = [
    "berth",
    "berth-shims",
    "berth-helpers",
    "berth-oci",
    "berth.slice",
    "system.slice/berth-shims.scope",
];

/// The node before a test.
pub(crate) struct Baseline {
    mounts: BTreeSet<String>,
    links: BTreeSet<String>,
    groups: BTreeSet<PathBuf>,
    netns: BTreeSet<String>,
    descriptors: usize,
}

impl Baseline {
    /// Looks at the node.
    ///
    /// # Errors
    /// The daemon does not run.
    pub(crate) fn take(node: &Node) -> Result<Self> {
        Ok(Self {
            mounts: mount_points()?,
            links: links(node),
            groups: groups(node),
            netns: named_namespaces(),
            descriptors: kernel::descriptors(node.pid()?)?.len(),
        })
    }

    /// Says what is on the node now and was not before.
    ///
    /// # Errors
    /// Everything that was left, by kind and name.
    pub(crate) fn compare(&self, node: &Node) -> Result<()> {
        poll::within(GRACE, "the node is as before", || {
            let left = self.left(node)?;
            ensure!(left.is_empty(), "left behind:\n  {}", left.join("\n  "));
            Ok(Some(()))
        })
    }

    fn left(&self, node: &Node) -> Result<Vec<String>> {
        let mut left = Vec::new();
        let mut tell =
            |kind: &str, name: &dyn std::fmt::Display| left.push(format!("{kind} {name}"));
        for mount in mount_points()?.difference(&self.mounts) {
            tell("mount", mount);
        }
        for link in links(node).difference(&self.links) {
            tell("link", link);
        }
        for name in named_namespaces().difference(&self.netns) {
            tell("network namespace", name);
        }
        for group in groups(node).difference(&self.groups) {
            tell("cgroup", &group.display());
            for pid in kernel::pids_in(group).unwrap_or_default() {
                let command = kernel::read(format!("/proc/{pid}/comm")).unwrap_or_default();
                tell("process", &format!("{pid} {command}"));
            }
        }
        for folder in ["sandboxes", "containers", "netns", "leases"] {
            for name in kernel::names_in(&node.run_dir().join(folder)) {
                tell("file", &format!("run/{folder}/{name}"));
            }
        }
        for folder in ["sandboxes", "containers", "snapshots"] {
            for name in kernel::names_in(&node.state_dir().join(folder)) {
                tell("file", &format!("state/{folder}/{name}"));
            }
        }
        for lease in host_local_leases(&node.path("ipam")) {
            tell("address lease", &lease);
        }
        for rule in pod_rules(node) {
            tell("nft rule", &rule);
        }
        let descriptors = kernel::descriptors(node.pid()?)?;
        let slack = DESCRIPTOR_SLACK + if node.reconfigured { MORE_SERVED } else { 0 };
        if descriptors.len() > self.descriptors + slack {
            tell("descriptors", &format!("{} instead of {}", descriptors.len(), self.descriptors));
            descriptors.iter().for_each(|target| tell("descriptor", target));
        }
        Ok(left)
    }
}

fn mount_points() -> Result<BTreeSet<String>> {
    Ok(kernel::mounts("self")?.into_iter().map(|m| format!("{} on {}", m.kind, m.point)).collect())
}

/// The bridge of the network may stay for the next pod.
fn links(node: &Node) -> BTreeSet<String> {
    kernel::links()
        .into_iter()
        .filter(|name| *name != node.bridge() && name != "cni-test" && name != runtime::BRIDGE)
        .collect()
}

fn named_namespaces() -> BTreeSet<String> {
    ["/run/netns", "/var/run/netns"]
        .iter()
        .flat_map(|folder| kernel::names_in(Path::new(folder)))
        .collect()
}

fn groups(node: &Node) -> BTreeSet<PathBuf> {
    let root = &node.machine.cgroup_root;
    let mut all: BTreeSet<PathBuf> =
        GROUPS.iter().flat_map(|group| kernel::cgroups_below(&root.join(group))).collect();
    // The classes stay for the next pod.
    let class = |path: &PathBuf| path.ends_with("burstable") || path.ends_with("besteffort");
    all.extend(kernel::cgroups_below(&node.kubelet_cgroup()).into_iter().filter(|p| !class(p)));
    all
}

/// The address files of the host-local plugin, which keeps its own books.
fn host_local_leases(folder: &Path) -> Vec<String> {
    let mut leases = Vec::new();
    for network in kernel::names_in(folder) {
        let names = kernel::names_in(&folder.join(&network));
        let addresses = names.into_iter().filter(|n| n.parse::<std::net::IpAddr>().is_ok());
        leases.extend(addresses.map(|address| format!("{network}/{address}")));
    }
    leases
}

/// Rules and set elements that name a single pod address of this node.
fn pod_rules(node: &Node) -> Vec<String> {
    let output = Command::new("nft").args(["list", "ruleset"]).output();
    let text = output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
    let config = std::fs::read_to_string(node.path("etc/config.toml")).unwrap_or_default();
    let prefix = config
        .split("subnet = \"")
        .nth(1)
        .and_then(|rest| rest.split("0/24").next())
        .unwrap_or("10.213.")
        .to_owned();
    text.lines()
        .filter(|line| {
            line.split(&prefix).skip(1).any(|rest| {
                let number: String = rest.chars().take_while(char::is_ascii_digit).collect();
                let whole_net = rest.get(number.len()..).is_some_and(|r| r.starts_with('/'));
                !whole_net && !matches!(number.as_str(), "0" | "1" | "255")
            })
        })
        .map(|line| line.trim().to_owned())
        .collect()
}
