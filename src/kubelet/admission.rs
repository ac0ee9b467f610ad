//! Whether the node takes a pod; pure. Who is refused has failed, with a reason that tools know.

use super::node::NodeFacts;
use super::quantity::pages_of;
use super::spec::{Role, host_network, members, spec};
use super::status::Verdict;
use super::wants::{Asked, asked, asked_devices, asked_pages};
use k8s_openapi::api::core::v1::Pod;

/// The sysctls that any pod may set: those of its own namespaces that can harm nobody else.
const SAFE_SYSCTLS: [&str; 10] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
];

/// What became of a pod at the door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admitted {
    /// It may run.
    Yes,
    /// It has failed.
    No(Verdict),
}

fn no(reason: &str, message: String) -> Admitted {
    Admitted::No(Verdict { reason: reason.to_owned(), message })
}

/// Whether a name is one of `allowed`, or begins as one of them that ends in `*` does.
fn is_allowed(name: &str, allowed: &[String]) -> bool {
    allowed.iter().any(|pattern| {
        let pattern = pattern.replace('/', ".");
        match pattern.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => name == pattern,
        }
    })
}

/// Whether a pod may run beside the others. `sysctls` are those that it may set beside the safe ones.
pub fn admit(pod: &Pod, others: &[&Pod], node: &NodeFacts, sysctls: &[String]) -> Admitted {
    if let Some(os) = spec(pod).os.as_ref().filter(|os| os.name != "linux") {
        let message =
            format!("the pod is for the operating system {:?}, the node's is linux", os.name);
        return no("PodOSNotSupported", message);
    }
    let security = spec(pod).security_context.as_ref();
    let asked = security.and_then(|context| context.sysctls.as_ref());
    for sysctl in asked.into_iter().flatten() {
        let name = sysctl.name.replace('/', ".");
        if !SAFE_SYSCTLS.contains(&name.as_str()) && !is_allowed(&name, sysctls) {
            return no(
                "SysctlForbidden",
                format!("sysctl {:?} is not among the safe ones", sysctl.name),
            );
        }
    }
    fits(pod, others, node).or_else(|| port_taken(pod, others)).map_or(Admitted::Yes, Admitted::No)
}

/// What of the node would not do for all of them.
fn fits(pod: &Pod, others: &[&Pod], node: &NodeFacts) -> Option<Verdict> {
    let used = others.iter().fold(Asked::default(), |sum, pod| sum.plus(asked(pod)));
    let asked = asked(pod);
    let count = u64::try_from(others.len()).unwrap_or(u64::MAX);
    let has = &node.allocatable;
    let rows = [
        ("pods".to_owned(), 1, count, has.pods),
        ("cpu".to_owned(), asked.cpu_milli, used.cpu_milli, has.cpu_milli),
        ("memory".to_owned(), asked.memory_bytes, used.memory_bytes, has.memory_bytes),
        (
            "ephemeral-storage".to_owned(),
            asked.ephemeral_storage_bytes,
            used.ephemeral_storage_bytes,
            has.ephemeral_storage_bytes,
        ),
    ];
    let used: Vec<_> = others.iter().map(|pod| asked_pages(pod)).collect();
    let pages = asked_pages(pod).into_iter().map(|(size, asked)| {
        let used = used.iter().filter_map(|of| of.get(&size));
        let used = used.fold(0, |sum: u64, bytes| sum.saturating_add(*bytes));
        // Pages of a size that the node does not have are none.
        (pages_of(size), asked, used, has.hugepages.get(&size).copied().unwrap_or(0))
    });
    // A kubelet leaves out of a static pod's requests what the node does not have, and starts it without.
    let devices =
        asked_devices(pod).into_iter().map(|(name, asked)| (name.to_owned(), asked, 0, 0));
    let full = rows
        .into_iter()
        .chain(pages)
        .chain(devices)
        .find(|(_, asked, used, has)| *asked > 0 && asked.saturating_add(*used) > *has);
    full.map(|(what, asked, used, has)| Verdict {
        reason: format!("OutOf{what}"),
        message: format!(
            "Node didn't have enough resource: {what}, requested: {asked}, used: {used}, capacity: {has}"
        ),
    })
}

/// A port of the host, with its protocol and address.
type HostPort = (i32, String, String);

fn host_ports(pod: &Pod) -> Vec<HostPort> {
    let ports = members(pod).into_iter().filter(|m| m.role != Role::Init);
    ports
        .flat_map(|member| member.container.ports.iter().flatten())
        .filter_map(|port| {
            let host = port.host_port.filter(|port| *port > 0);
            let number = if host_network(pod) { host.or(Some(port.container_port)) } else { host };
            let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
            Some((number?, protocol, port.host_ip.clone().unwrap_or_default()))
        })
        .collect()
}

/// A host port that another pod has.
fn port_taken(pod: &Pod, others: &[&Pod]) -> Option<Verdict> {
    let anywhere = |ip: &str| matches!(ip, "" | "0.0.0.0" | "::");
    let wanted = host_ports(pod);
    for other in others {
        for (port, protocol, ip) in host_ports(other) {
            let same = wanted.iter().any(|(wanted, of, at)| {
                *wanted == port && *of == protocol && (*at == ip || anywhere(at) || anywhere(&ip))
            });
            if same {
                return Some(Verdict {
                    reason: "NodePorts".to_owned(),
                    message: format!(
                        "host port {port}/{protocol} is pod {}'s",
                        super::spec::full_name(other)
                    ),
                });
            }
        }
    }
    None
}

#[cfg(test)]
#[path = "admission_tests.rs"]
mod tests;
