//! The bridge, and a pod's cable into it, by rtnetlink.
//!
//! Hardware addresses follow from addresses: what a neighbour remembers of an address stays right
//! when the address goes to another pod, and the bridge keeps its own when ports come and go.

use super::lease::Pool;
use super::nat::Bridged;
use super::sysctl;
use crate::cni::error::NetworkError;
use crate::cni::netlink::{self, Netlink};
use crate::cni::request::POD_INTERFACE;
use crate::ids::SandboxId;
use rtnetlink::packet_route::link::{
    InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoPortKind, InfoVeth, LinkAttribute,
    LinkInfo, LinkMessage,
};
use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd as _, BorrowedFd};

/// How the host's ends of cables begin.
const PREFIX: &str = "bt";
/// How many digits of the sandbox id follow: 14 characters in all, of at most 15.
const DIGITS: usize = 12;

/// A pod's cable.
pub(super) struct Cable<'a> {
    /// The name of the host's end.
    pub(super) veth: &'a str,
    /// The interface index of the bridge.
    pub(super) bridge: u32,
    /// The MTU of both ends, bytes.
    pub(super) mtu: u32,
    /// The pod's network namespace.
    pub(super) netns: BorrowedFd<'a>,
    /// The pod's addresses, each with the network it is of.
    pub(super) addresses: &'a [(IpAddr, Pool)],
}

/// The name of the host's end of a sandbox's cable.
pub(super) fn veth_name(id: &SandboxId) -> String {
    format!("{PREFIX}{}", id.as_str().get(..DIGITS).unwrap_or_default())
}

/// Makes the bridge with this hardware address, or takes the one that is there, and gives it the
/// gateways of the network; its interface index.
///
/// # Errors
/// [`NetworkError::Kernel`]; EEXIST when an interface of another kind has its name.
pub(super) fn ensure_bridge(
    netlink: &mut Netlink,
    network: &Bridged,
    mtu: u32,
    mac: Vec<u8>,
) -> Result<u32, NetworkError> {
    let name = network.bridge.as_str();
    let failed = |operation, e| NetworkError::kernel(operation, format!("bridge {name}"), e);
    let mut link = netlink.link(name).map_err(|e| failed("look up", e))?;
    if link.is_none() {
        let mut message = netlink::link_message(name);
        message.attributes.push(LinkAttribute::Mtu(mtu));
        message.attributes.push(LinkAttribute::Address(mac));
        message.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]));
        accept(netlink.one(netlink::create(message)), libc::EEXIST)
            .map_err(|e| failed("create", e))?;
        link = netlink.link(name).map_err(|e| failed("look up", e))?;
    }
    let gone = || failed("look up", io::Error::from_raw_os_error(libc::ENODEV));
    let link = link.ok_or_else(gone)?;
    if !is_bridge(&link) {
        let e = io::Error::from_raw_os_error(libc::EEXIST);
        return Err(failed("an interface that is none has the name of", e));
    }
    let index = link.header.index;
    if network.subnet6.is_some() {
        sysctl::skip_probing(name)?;
    }
    let mut requests = vec![netlink::up(name)];
    for pool in pools(network) {
        requests.push(netlink::add_address(index, pool.gateway(), pool.prefix()));
    }
    for answer in netlink.execute(requests).map_err(|e| failed("configure", e))? {
        accept(answer, libc::EEXIST).map_err(|e| failed("configure", e))?;
    }
    Ok(index)
}

/// Whether the bridge of this network is there and was made here.
///
/// # Errors
/// [`NetworkError::Kernel`].
pub(super) fn is_ours(netlink: &mut Netlink, network: &Bridged) -> Result<bool, NetworkError> {
    let link = netlink
        .link(&network.bridge)
        .map_err(|e| NetworkError::kernel("look up", network.bridge.clone(), e))?;
    let mac = LinkAttribute::Address(mac(network));
    Ok(link.is_some_and(|link| is_bridge(&link) && link.attributes.contains(&mac)))
}

/// Lays the host's end: a pair made straight into both namespaces, plugged in, hairpin on.
///
/// # Errors
/// The errno of the kernel; ENODEV when the bridge is gone. A pair that could not be finished stays
/// for [`remove_link`].
pub(super) fn plug(netlink: &mut Netlink, cable: &Cable<'_>) -> io::Result<()> {
    // Not up yet: the kernel makes this end first, and an end without its other cannot be opened.
    let mut peer = netlink::link_message(POD_INTERFACE);
    peer.attributes.push(LinkAttribute::Mtu(cable.mtu));
    // A descriptor by number: the kernel takes its own reference within the send.
    peer.attributes.push(LinkAttribute::NetNsFd(cable.netns.as_raw_fd()));
    if let Some(mac) = cable.addresses.iter().find_map(|(ip, _)| mac_of(*ip)) {
        peer.attributes.push(LinkAttribute::Address(mac));
    }
    let mut pair = netlink::link_message(cable.veth);
    netlink::raise(&mut pair);
    pair.attributes.push(LinkAttribute::Mtu(cable.mtu));
    pair.attributes.push(LinkAttribute::Controller(cable.bridge));
    pair.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Veth),
        LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
    ]));
    // A pod reaches itself by a host port also where bridged packets pass the IP hooks.
    let mut hairpin = netlink::link_message(cable.veth);
    hairpin.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::PortKind(InfoPortKind::Bridge),
        LinkInfo::PortData(InfoPortData::BridgePort(vec![InfoBridgePort::HairpinMode(true)])),
    ]));
    netlink.all(vec![netlink::create(pair), netlink::change(hairpin)])
}

/// Sets up the pod's end, and `lo`.
///
/// # Errors
/// The errno of the kernel.
pub(super) fn configure_pod(cable: &Cable<'_>) -> io::Result<()> {
    let mut netlink = Netlink::open_in(cable.netns)?;
    let link = netlink.link(POD_INTERFACE)?;
    let gone = || io::Error::from_raw_os_error(libc::ENODEV);
    let index = link.ok_or_else(gone)?.header.index;
    let mut requests = vec![netlink::up("lo"), netlink::up(POD_INTERFACE)];
    for (ip, pool) in cable.addresses {
        requests.push(netlink::add_address(index, *ip, pool.prefix()));
        requests.push(netlink::add_default_route(index, pool.gateway()));
    }
    netlink.all(requests)
}

/// Removes an interface; one that is not there is removed already.
///
/// # Errors
/// [`NetworkError::Kernel`].
pub(super) fn remove_link(netlink: &mut Netlink, name: &str) -> Result<(), NetworkError> {
    accept(netlink.one(netlink::delete(name)), libc::ENODEV)
        .map_err(|e| NetworkError::kernel("remove interface", name, e))
}

/// The cables in a bridge that belong to none of `live`.
///
/// # Errors
/// [`NetworkError::Kernel`].
pub(super) fn stray_cables(
    netlink: &mut Netlink,
    bridge: &str,
    live: &BTreeSet<String>,
) -> Result<Vec<String>, NetworkError> {
    let links = netlink.links().map_err(|e| NetworkError::kernel("list", "interfaces", e))?;
    let named = |link: &&LinkMessage| netlink::name_of(link) == Some(bridge);
    let Some(index) = links.iter().find(named).map(|link| link.header.index) else {
        return Ok(Vec::new());
    };
    let cables = links.iter().filter(|link| netlink::controller_of(link) == Some(index));
    let names = cables.filter_map(netlink::name_of);
    Ok(names
        .filter(|name| is_cable_name(name) && !live.contains(*name))
        .map(str::to_owned)
        .collect())
}

fn is_cable_name(name: &str) -> bool {
    name.strip_prefix(PREFIX).is_some_and(|digits| {
        digits.len() == DIGITS && digits.bytes().all(|b| b.is_ascii_hexdigit())
    })
}

/// The networks of a bridge, IPv4 first.
pub(super) fn pools(network: &Bridged) -> Vec<Pool> {
    std::iter::once(Pool::V4(network.subnet)).chain(network.subnet6.map(Pool::V6)).collect()
}

/// The hardware address of a network's bridge.
pub(super) fn mac(network: &Bridged) -> Vec<u8> {
    mac_of(Pool::V4(network.subnet).gateway()).unwrap_or_default()
}

/// 02:be and the four bytes of the IPv4 address; 02 says "locally administered".
fn mac_of(ip: IpAddr) -> Option<Vec<u8>> {
    let mac = |ip: Ipv4Addr| [&[0x02, 0xbe], ip.octets().as_slice()].concat();
    match ip {
        IpAddr::V4(ip) => Some(mac(ip)),
        IpAddr::V6(_) => None,
    }
}

fn is_bridge(link: &LinkMessage) -> bool {
    link.attributes.iter().any(|attribute| {
        matches!(attribute, LinkAttribute::LinkInfo(infos)
            if infos.contains(&LinkInfo::Kind(InfoKind::Bridge)))
    })
}

/// Takes one errno as success.
pub(super) fn accept(answer: io::Result<()>, errno: i32) -> io::Result<()> {
    match answer {
        Err(e) if e.raw_os_error() == Some(errno) => Ok(()),
        answer => answer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cable_is_named_for_its_sandbox_and_fits_the_kernels_limit() {
        let name = veth_name(&SandboxId::parse(&"0f".repeat(32)).unwrap());
        assert_eq!(name, "bt0f0f0f0f0f0f");
        assert!(name.len() < libc::IFNAMSIZ && is_cable_name(&name));
        for foreign in ["btrfs0", "bt0f0f0f0f0f0f0", "vethbt0f0f0f0f", "bt0f0f0f0f0f0z"] {
            assert!(!is_cable_name(foreign), "{foreign}");
        }
    }

    #[test]
    fn hardware_addresses_follow_from_addresses_and_are_local_unicast() {
        let mac = mac_of("10.88.0.5".parse().unwrap()).unwrap();
        assert_eq!(mac, [0x02, 0xbe, 10, 88, 0, 5]);
        assert_eq!((mac[0] & 1, mac[0] & 2), (0, 2));
    }
}
