//! Who is on the built-in network, which host ports lead where, and the rules that follow: pure.

use crate::cni::error::NetworkError;
use crate::cni::journal::BuiltinWork;
use crate::ids::SandboxId;
use crate::sandbox::config::{PortMapping, Protocol};
use ipnet::{Ipv4Net, Ipv6Net};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// The table that is berth's alone.
const TABLE: &str = "inet berth";

/// A bridge and its networks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Bridged {
    pub(super) bridge: String,
    pub(super) subnet: Ipv4Net,
    pub(super) subnet6: Option<Ipv6Net>,
}

impl Bridged {
    /// The network that a pod was attached to.
    pub(super) fn of(work: &BuiltinWork) -> Self {
        Self { bridge: work.bridge.clone(), subnet: work.subnet, subnet6: work.subnet6 }
    }
}

#[derive(Clone, Debug)]
struct Pod {
    name: String,
    work: BuiltinWork,
}

/// The pods of the built-in network, and the network that new ones get, if any.
#[derive(Clone, Debug, Default)]
pub(super) struct Nat {
    own: Option<Bridged>,
    pods: BTreeMap<SandboxId, Pod>,
}

impl Nat {
    /// No pods; `own` is the configured network in the mode `builtin`.
    pub(super) fn new(own: Option<Bridged>) -> Self {
        Self { own, pods: BTreeMap::new() }
    }

    /// Replaces the network that new pods get.
    pub(super) fn set_own(&mut self, own: Bridged) {
        self.own = Some(own);
    }

    /// Enters a pod, or what is known of it now, unless a host port of it is taken.
    ///
    /// # Errors
    /// [`NetworkError::PortTaken`], also when the pod asks for one port twice.
    pub(super) fn enter(
        &mut self,
        id: &SandboxId,
        name: &str,
        work: &BuiltinWork,
    ) -> Result<(), NetworkError> {
        for (at, port) in work.ports.iter().enumerate() {
            let own = work.ports.iter().take(at).map(|other| (other, name));
            let others = self.pods.iter().filter(|(other, _)| *other != id);
            let others =
                others.flat_map(|(_, p)| p.work.ports.iter().map(|o| (o, p.name.as_str())));
            if let Some((_, pod)) = own.chain(others).find(|(other, _)| clash(port, other)) {
                return Err(NetworkError::PortTaken { port: describe(port), pod: pod.to_owned() });
            }
        }
        self.pods.insert(id.clone(), Pod { name: name.to_owned(), work: work.clone() });
        Ok(())
    }

    /// Forgets a pod.
    pub(super) fn leave(&mut self, id: &SandboxId) {
        self.pods.remove(id);
    }

    /// Whether no pod is on a bridge.
    pub(super) fn is_unused(&self, bridge: &str) -> bool {
        self.pods.values().all(|pod| pod.work.bridge != bridge)
    }

    /// Whether no pod is entered.
    pub(super) fn is_empty(&self) -> bool {
        self.pods.is_empty()
    }

    /// The whole table as `nft -f` takes it: what was there before goes in the same transaction.
    pub(super) fn ruleset(&self) -> String {
        let mut text = removal();
        let pods = || self.pods.values().map(|pod| &pod.work);
        let networks: BTreeSet<Bridged> =
            self.own.iter().cloned().chain(pods().map(Bridged::of)).collect();
        if networks.is_empty() {
            return text;
        }
        let ports: String = pods().map(port_rules).collect();
        let postrouting: String = networks.iter().map(masquerade_rules).collect();
        // Writing to a String cannot fail.
        write!(
            text,
            "table {TABLE} {{\n\
             chain hostports {{\n{ports}}}\n\
             chain prerouting {{\n\
             type nat hook prerouting priority -100; policy accept;\n\
             fib daddr type local jump hostports\n\
             }}\n\
             chain output {{\n\
             type nat hook output priority -100; policy accept;\n\
             fib daddr type local jump hostports\n\
             }}\n\
             chain postrouting {{\n\
             type nat hook postrouting priority 100; policy accept;\n\
             {postrouting}}}\n\
             chain loopback_guard {{\n\
             type filter hook prerouting priority -300; policy accept;\n\
             iifname != \"lo\" ip daddr 127.0.0.0/8 drop\n\
             }}\n\
             }}\n"
        )
        .ok();
        text
    }
}

/// The text that removes the table, whether it is there or not.
pub(super) fn removal() -> String {
    format!("table {TABLE}\ndelete table {TABLE}\n")
}

fn port_rules(pod: &BuiltinWork) -> String {
    let mut rules = String::new();
    for port in &pod.ports {
        let to = port.container_port;
        let on = format!("{} dport {}", protocol(port.protocol), port.host_port);
        // An unspecified address asks for every one of its family, none for every one of both.
        let at = port.host_ip.filter(|ip| !ip.is_unspecified());
        if let Some(ip) = pod.ip.filter(|_| port.host_ip.is_none_or(|ip| ip.is_ipv4())) {
            let at = at.map_or_else(String::new, |ip| format!(" ip daddr {ip}"));
            writeln!(rules, "meta nfproto ipv4{at} {on} dnat ip to {ip}:{to}").ok();
        }
        if let Some(ip) = pod.ip6.filter(|_| port.host_ip.is_none_or(|ip| ip.is_ipv6())) {
            // `[::1]` is left alone: see the module's header.
            let at = at.map_or_else(String::new, |ip| format!(" ip6 daddr {ip}"));
            writeln!(rules, "meta nfproto ipv6{at} ip6 daddr != ::1 {on} dnat ip6 to [{ip}]:{to}")
                .ok();
        }
    }
    rules
}

/// In order: to a pod by a host port from 127.0.0.1, whose answer would not come back; from pod to
/// pod (or to itself) by a host port, whose answer would not pass the host; and what leaves.
fn masquerade_rules(network: &Bridged) -> String {
    let Bridged { bridge, subnet, subnet6 } = network;
    let subnet = subnet.trunc();
    let mut rules = format!(
        "oifname \"{bridge}\" ip saddr 127.0.0.0/8 masquerade\n\
         oifname \"{bridge}\" ip saddr {subnet} ct status dnat masquerade\n\
         ip saddr {subnet} ip daddr != {{ {subnet}, 224.0.0.0/4 }} masquerade fully-random\n"
    );
    if let Some(subnet6) = subnet6 {
        let subnet6 = subnet6.trunc();
        write!(
            rules,
            "oifname \"{bridge}\" ip6 saddr {subnet6} ct status dnat masquerade\n\
             ip6 saddr {subnet6} ip6 daddr != {{ {subnet6}, ff00::/8 }} masquerade fully-random\n"
        )
        .ok();
    }
    rules
}

fn clash(a: &PortMapping, b: &PortMapping) -> bool {
    let overlap = match (a.host_ip, b.host_ip) {
        (Some(a), Some(b)) if a.is_ipv4() != b.is_ipv4() => false,
        (Some(a), Some(b)) => a == b || a.is_unspecified() || b.is_unspecified(),
        (None, _) | (_, None) => true,
    };
    a.protocol == b.protocol && a.host_port == b.host_port && overlap
}

fn describe(port: &PortMapping) -> String {
    let on = port.host_ip.map_or_else(String::new, |ip| format!(" on {ip}"));
    format!("{}/{}{on}", port.host_port, protocol(port.protocol))
}

fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(digit: &str) -> SandboxId {
        SandboxId::parse(&digit.repeat(64)).unwrap()
    }

    fn port(protocol: Protocol, host_port: u16, host_ip: Option<&str>) -> PortMapping {
        let host_ip = host_ip.map(|ip| ip.parse().unwrap());
        PortMapping { protocol, container_port: 80, host_port, host_ip }
    }

    fn work(ports: Vec<PortMapping>) -> BuiltinWork {
        BuiltinWork {
            bridge: "berth0".into(),
            subnet: "10.88.0.0/16".parse().unwrap(),
            subnet6: Some("fd00:88::/64".parse().unwrap()),
            veth: "bt0".into(),
            ports,
            ip: Some("10.88.0.5".parse().unwrap()),
            ip6: Some("fd00:88::5".parse().unwrap()),
        }
    }

    #[test]
    fn a_port_leads_to_the_pod_in_both_families_and_ipv6_loopback_is_left_alone() {
        let mut nat = Nat::default();
        nat.enter(&id("a"), "d/a", &work(vec![port(Protocol::Tcp, 8080, None)])).unwrap();
        let rules = nat.ruleset();
        assert!(rules.contains("meta nfproto ipv4 tcp dport 8080 dnat ip to 10.88.0.5:80\n"));
        assert!(rules.contains(
            "meta nfproto ipv6 ip6 daddr != ::1 tcp dport 8080 dnat ip6 to [fd00:88::5]:80\n"
        ));
    }

    #[test]
    fn a_host_ip_narrows_the_rule_to_it_and_to_its_family() {
        for (host_ip, with, without) in [
            ("192.0.2.1", "ipv4 ip daddr 192.0.2.1 udp dport 53 dnat", "nfproto ipv6"),
            ("127.0.0.1", "ipv4 ip daddr 127.0.0.1 udp dport 53 dnat", "nfproto ipv6"),
            ("0.0.0.0", "ipv4 udp dport 53 dnat", "nfproto ipv6"),
            ("2001:db8::1", "ip6 daddr 2001:db8::1 ip6 daddr != ::1 udp", "nfproto ipv4"),
            ("::", "ipv6 ip6 daddr != ::1 udp dport 53 dnat", "nfproto ipv4"),
        ] {
            let mut nat = Nat::default();
            let work = work(vec![port(Protocol::Udp, 53, Some(host_ip))]);
            nat.enter(&id("a"), "d/a", &work).unwrap();
            let rules = nat.ruleset();
            assert!(rules.contains(with) && !rules.contains(without), "{host_ip}: {rules}");
        }
    }

    #[test]
    fn every_table_replaces_the_one_before_and_guards_the_loopback_network() {
        let own = Bridged {
            bridge: "berth0".into(),
            subnet: "10.88.0.1/16".parse().unwrap(),
            subnet6: None,
        };
        let rules = Nat::new(Some(own)).ruleset();
        assert!(rules.starts_with("table inet berth\ndelete table inet berth\ntable inet berth {"));
        assert!(rules.contains("iifname != \"lo\" ip daddr 127.0.0.0/8 drop"));
        assert!(rules.contains("ip saddr 10.88.0.0/16 ip daddr != { 10.88.0.0/16, 224.0.0.0/4 }"));
        assert!(!rules.contains("ip6 saddr"));
        assert_eq!(Nat::default().ruleset(), removal());
    }

    #[test]
    fn a_pod_without_host_ports_does_not_change_the_table() {
        let mut nat = Nat::new(Some(Bridged::of(&work(Vec::new()))));
        let before = nat.ruleset();
        nat.enter(&id("a"), "d/a", &work(Vec::new())).unwrap();
        assert_eq!(nat.ruleset(), before);
        nat.leave(&id("a"));
        assert_eq!(nat.ruleset(), before);
    }

    #[test]
    fn a_port_that_another_pod_has_is_refused_by_its_name() {
        for (name, first, second, clashes) in [
            ("same", (8080, None), (8080, None), true),
            ("other port", (8080, None), (8081, None), false),
            ("all and one", (8080, None), (8080, Some("192.0.2.1")), true),
            ("one and 0.0.0.0", (8080, Some("192.0.2.1")), (8080, Some("0.0.0.0")), true),
            ("two addresses", (8080, Some("192.0.2.1")), (8080, Some("192.0.2.2")), false),
            ("two families", (8080, Some("0.0.0.0")), (8080, Some("::")), false),
        ] {
            let mut nat = Nat::default();
            let make = |(number, ip)| work(vec![port(Protocol::Tcp, number, ip)]);
            nat.enter(&id("a"), "d/a", &make(first)).unwrap();
            let second = nat.enter(&id("b"), "d/b", &make(second));
            assert_eq!(second.is_err(), clashes, "{name}");
            if let Err(error) = second {
                assert!(error.to_string().ends_with("is taken by pod d/a"), "{name}: {error}");
            }
        }
    }

    #[test]
    fn a_port_is_free_again_when_its_pod_left_and_protocols_do_not_meet() {
        let mut nat = Nat::default();
        let tcp = work(vec![port(Protocol::Tcp, 53, None)]);
        nat.enter(&id("a"), "d/a", &tcp).unwrap();
        nat.enter(&id("a"), "d/a", &tcp).unwrap();
        nat.enter(&id("b"), "d/b", &work(vec![port(Protocol::Udp, 53, None)])).unwrap();
        nat.leave(&id("a"));
        nat.enter(&id("c"), "d/c", &tcp).unwrap();
        let twice = work(vec![port(Protocol::Sctp, 9, None), port(Protocol::Sctp, 9, None)]);
        assert!(nat.enter(&id("d"), "d/d", &twice).is_err());
    }
}
