//! Ports of containers, and those of the node that they take.

use super::names::{port_name, port_number};
use super::problem::{At, Problems};
use k8s_openapi::api::core::v1::{Container, ContainerPort, PodSpec};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// The ports of the node that a pod takes: protocol, address, number.
#[derive(Debug, Default)]
pub(super) struct HostPorts(BTreeSet<(String, String, i32)>);

/// The ports of one container of a pod.
pub(super) fn ports(
    problems: &mut Problems,
    at: &At,
    container: &Container,
    spec: &PodSpec,
    taken: &mut HostPorts,
) {
    let mut names = BTreeSet::new();
    for (at, port) in at.each_of(&container.ports) {
        if let Some(name) = port.name.as_deref().filter(|name| !name.is_empty()) {
            problems.check(&at.field("name"), name, port_name(name));
            if !names.insert(name) {
                problems.duplicate(&at.field("name"), name);
            }
        }
        one(problems, &at, port);
        on_the_node(problems, &at, port, taken);
        let host_port = port.host_port.unwrap_or_default();
        if spec.host_network == Some(true) && host_port != port.container_port {
            let why = "must be the containerPort on the node's network";
            problems.invalid(&at.field("hostPort"), host_port, why);
        }
    }
}

fn one(problems: &mut Problems, at: &At, port: &ContainerPort) {
    let number = at.field("containerPort");
    match port.container_port {
        0 => problems.required(&number, "a port has a number"),
        of => match port_number(of) {
            Ok(()) => {}
            Err(why) => problems.invalid(&number, of, why),
        },
    }
    let protocol = port.protocol.as_deref();
    problems.one_of(&at.field("protocol"), protocol, &["TCP", "UDP", "SCTP"]);
    if let Some(ip) = port.host_ip.as_deref().filter(|ip| !ip.is_empty())
        && ip.parse::<IpAddr>().is_err()
    {
        problems.invalid(&at.field("hostIP"), ip, "must be an IP address");
    }
}

fn on_the_node(problems: &mut Problems, at: &At, port: &ContainerPort, taken: &mut HostPorts) {
    let Some(number) = port.host_port.filter(|number| *number != 0) else { return };
    let at = at.field("hostPort");
    if let Err(why) = port_number(number) {
        return problems.invalid(&at, number, why);
    }
    let protocol = port.protocol.clone().unwrap_or_default();
    let address = port.host_ip.clone().unwrap_or_default();
    let shown = format!("{protocol} {address}:{number}");
    if !taken.0.insert((protocol, address, number)) {
        problems.duplicate(&at, shown);
    }
}
