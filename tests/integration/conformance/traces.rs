//! What a request made, as text in which ids and names are the same for every repeat of it.

use crate::harness::{Node, kernel};
use anyhow::Result;
use std::fmt::Write as _;

/// What of /proc/PID/status may be asked for.
const STATUS: [&str; 9] =
    ["Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "NoNewPrivs", "Seccomp"];
/// The files of a pod's cgroup that hold what was asked for.
const LIMITS: [&str; 9] = [
    "cpu.max",
    "cpu.weight",
    "cpuset.cpus",
    "cpuset.mems",
    "memory.max",
    "memory.low",
    "memory.high",
    "memory.swap.max",
    "pids.max",
];

/// A pod, by its own process and its cgroup.
pub(super) fn of_pod(node: &Node, id: &str) -> Result<String> {
    let pause = node.pause_pid(id)?;
    let mut text = String::new();
    for field in STATUS {
        writeln!(text, "{field} {}", kernel::status_field(pause, field)?)?;
    }
    for file in ["limits", "oom_score_adj", "uid_map"] {
        writeln!(text, "{}", kernel::read(format!("/proc/{pause}/{file}"))?)?;
    }
    for kind in ["net", "ipc", "uts", "pid", "user", "mnt", "cgroup"] {
        let own = kernel::namespace(pause, kind)? != kernel::namespace(kernel::own_pid()?, kind)?;
        writeln!(text, "{kind} namespace of its own: {own}")?;
    }
    for mount in kernel::mounts(&pause.to_string())? {
        writeln!(text, "{} {} {} {}", mount.point, mount.kind, mount.options, mount.super_options)?;
    }
    let group = kernel::cgroup_of(pause)?;
    let group = node.machine.cgroup_root.join(group.trim_start_matches('/'));
    for file in LIMITS {
        if let Some(value) = group.parent().and_then(|pod| kernel::read(pod.join(file)).ok()) {
            writeln!(text, "{file} {value}")?;
        }
    }
    for file in ["hosts", "resolv.conf", "hostname"] {
        let path = node.run_dir().join("sandboxes").join(id).join(file);
        writeln!(text, "{file}: {}", kernel::read(path)?)?;
    }
    let network = node.pod(id)?.network.unwrap_or_default();
    let more = network.additional_ips.iter().map(|other| other.ip.as_str());
    let own: Vec<&str> = more.chain([network.ip.as_str(), id]).filter(|s| !s.is_empty()).collect();
    Ok(without_names(&text, &own))
}

/// A container, by what it will be started with.
pub(super) fn of_container(node: &Node, sandbox: &str, id: &str) -> Result<String> {
    let bundle = node.run_dir().join("containers").join(id).join("config.json");
    let spec: serde_json::Value = serde_json::from_str(&kernel::read(bundle)?)?;
    let request = told(node, id)?;
    // Sets of capabilities have no order.
    let text = format!("{spec:#}\n{request}");
    let mut lines: Vec<&str> = text.lines().map(|line| line.trim_end_matches(',')).collect();
    lines.sort_unstable();
    Ok(without_names(&lines.join("\n"), &[sandbox, id]))
}

/// What ContainerStatus tells of mounts, users, limits and signals.
fn told(node: &Node, id: &str) -> Result<String> {
    let status = node.container(id)?;
    let told = (status.mounts, status.user, status.resources, status.stop_signal, status.log_path);
    Ok(format!("{told:#?}"))
}

/// `field-7` is `field-N`, and what is its own alone is `OWN`.
fn without_names(text: &str, ids: &[&str]) -> String {
    let mut text = ids.iter().fold(text.to_owned(), |text, id| text.replace(id, "OWN"));
    let mut from = 0;
    while let Some(at) = text[from..].find("field-") {
        let start = from + at + "field-".len();
        let digits = text[start..].bytes().take_while(u8::is_ascii_digit).count();
        text.replace_range(start..start + digits, "N");
        from = start + 1;
    }
    text
}
