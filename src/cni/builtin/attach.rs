//! The `builtin` mode: attach, detach and repair pods on berth's own bridge.
//!
//! Order of an attach: host ports are reserved (in memory), the journal is written, addresses are
//! leased, the cable is laid, rules are loaded if they changed, the journal is finished. Detach takes
//! the rules away and hands the cable and its addresses to the reaper.

use super::bridge::{self, Cable};
use super::conntrack;
use super::lease::{Leases, Pool};
use super::nat::{Bridged, Nat};
use super::nft::Nft;
use super::reaper::{Job, Reaper};
use super::sysctl;
use crate::cgroups::Leaf;
use crate::cni::error::NetworkError;
use crate::cni::journal::{BuiltinWork, Journal, Work};
use crate::cni::netlink::Netlink;
use crate::cni::request::{AttachRequest, Attachment, NotReady, POD_INTERFACE};
use crate::config;
use crate::ids::SandboxId;
use crate::sandbox::config::Protocol;
use crate::store::Layout;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::fd::AsFd as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The built-in network. In the mode `cni` it only undoes what was attached in the other mode.
pub(in crate::cni) struct Builtin {
    /// The network that pods get from now on; `None` in the mode `cni`.
    pub(super) own: Mutex<Option<Bridged>>,
    /// What the configuration says, in both modes. The bridge keeps its name and hardware address
    /// whichever network it has.
    pub(super) configured: Bridged,
    mtu: u32,
    layout: Layout,
    leases: Arc<Leases>,
    pub(super) reaper: Reaper,
    pub(super) nat: Mutex<Nat>,
    nft: Nft,
    host: Mutex<Host>,
}

/// What is known of the host's side.
#[derive(Default)]
struct Host {
    /// A socket in the host's network namespace.
    netlink: Option<Netlink>,
    /// The bridge's interface index, once it was made or found, and the network it was set up for.
    bridge: Option<(u32, Bridged)>,
    /// Whether packets from 127.0.0.0/8 pass the bridge.
    localnet: bool,
}

impl Builtin {
    /// Looks for nft and touches nothing.
    pub(in crate::cni) fn new(config: &config::Network, layout: &Layout) -> Self {
        let configured = Bridged {
            bridge: config.bridge.clone(),
            subnet: config.subnet,
            subnet6: config.subnet6,
        };
        let own = (config.mode == config::NetworkMode::Builtin).then(|| configured.clone());
        Self {
            nat: Mutex::new(Nat::new(own.clone())),
            own: Mutex::new(own),
            configured,
            mtu: config.mtu,
            layout: layout.clone(),
            leases: Arc::new(Leases::new(layout.leases())),
            reaper: Reaper::default(),
            nft: Nft::find(),
            host: Mutex::new(Host::default()),
        }
    }

    /// Whether pods can be attached.
    pub(in crate::cni) fn ready(&self) -> Result<(), NotReady> {
        self.nft.missing().map_or(Ok(()), |message| Err(NotReady::new(message)))
    }

    /// Attaches a pod. On an error the journal, if there is one, tells what was begun.
    pub(in crate::cni) fn attach(
        &self,
        request: &AttachRequest,
        group: &Leaf,
    ) -> Result<Attachment, NetworkError> {
        self.ready().map_err(NetworkError::NotReady)?;
        let network = &self.own().clone().unwrap_or_else(|| self.configured.clone());
        let id = &request.sandbox;
        let mut work = BuiltinWork {
            bridge: network.bridge.clone(),
            subnet: network.subnet,
            subnet6: network.subnet6,
            veth: bridge::veth_name(id),
            ports: request.port_mappings.iter().filter(|m| m.host_port > 0).cloned().collect(),
            ip: None,
            ip6: None,
        };
        let mut journal = Journal::new(request, Work::Builtin(work.clone()));
        self.nat().enter(id, &journal.pod, &work)?;
        if let Err(e) = journal.save(&self.layout) {
            self.nat().leave(id);
            return Err(e.into());
        }
        let mut addresses: Vec<(IpAddr, Pool)> = Vec::new();
        for pool in bridge::pools(network) {
            let ip = self.lease(pool, id)?;
            match ip {
                IpAddr::V4(ip) => work.ip = Some(ip),
                IpAddr::V6(ip) => work.ip6 = Some(ip),
            }
            addresses.push((ip, pool));
        }
        self.lay(network, &work.veth, &addresses, request)?;
        self.nat().enter(id, &journal.pod, &work)?;
        self.nft.apply(&self.nat, group)?;
        forget_connections(&work);
        self.open_localnet(&network.bridge)?;
        let ips = addresses.into_iter().map(|(ip, _)| ip).collect();
        let attachment = Attachment { ips, interface: POD_INTERFACE.to_owned() };
        journal.work = Work::Builtin(work);
        journal.attachment = Some(attachment.clone());
        journal.save(&self.layout)?;
        Ok(attachment)
    }

    /// Undoes what a journal says: the rules at once, the cable and its addresses soon after. Errors
    /// are what is left.
    pub(in crate::cni) fn detach(
        &self,
        id: &SandboxId,
        work: &BuiltinWork,
        group: &Leaf,
    ) -> Vec<NetworkError> {
        let mut errors = Vec::new();
        self.nat().leave(id);
        // Without host ports the table stays as it is, unless this was the last pod of a mode that
        // is not configured any more.
        let own = self.own().clone();
        if !work.ports.is_empty() || own.is_none() {
            errors.extend(self.nft.apply(&self.nat, group).err());
            forget_connections(work);
        }
        if !errors.is_empty() {
            // Packets are still led to its address.
            return errors;
        }
        let ips = work.ip.map(IpAddr::V4).into_iter().chain(work.ip6.map(IpAddr::V6)).collect();
        let job = Job { veth: work.veth.clone(), owner: id.clone(), ips };
        if let Err(e) = self.reaper.push(job, &self.leases) {
            errors.push(NetworkError::kernel("remove interface", work.veth.clone(), e));
            return errors;
        }
        let other = own.is_none_or(|own| own.bridge != work.bridge);
        if other && self.nat().is_unused(&work.bridge) {
            self.reaper.settle();
            let removed = self.with_host(|host, _| bridge::remove_link(host, &work.bridge));
            errors.extend(removed.err());
        }
        errors
    }

    /// The work of a sandbox whose journal is lost, as far as its id tells. Its rules go, too.
    pub(in crate::cni) fn unknown(&self, id: &SandboxId) -> BuiltinWork {
        let Bridged { bridge, subnet, subnet6 } = self.configured.clone();
        let veth = bridge::veth_name(id);
        BuiltinWork { bridge, subnet, subnet6, veth, ports: Vec::new(), ip: None, ip6: None }
    }

    /// Whether what a journal says is there.
    pub(in crate::cni) fn check(&self, work: &BuiltinWork) -> Result<(), NetworkError> {
        let failed = |e| NetworkError::kernel("look up", work.veth.clone(), e);
        let link = self.with_host(|host, _| host.link(&work.veth).map_err(failed))?;
        let gone = || failed(std::io::Error::from_raw_os_error(libc::ENODEV));
        link.map(|_| ()).ok_or_else(gone)
    }

    /// Takes over the pods that live, and drops what belongs to none of them. What was done, and what
    /// could not be.
    pub(in crate::cni) fn recover(&self, live: &[&Journal], group: &Leaf) -> Vec<String> {
        self.reaper.settle();
        let mut notes = Vec::new();
        let mut networks = BTreeSet::from([self.configured.clone()]);
        let mut cables = BTreeSet::new();
        let mut owners = BTreeSet::new();
        for journal in live {
            owners.insert(&journal.sandbox);
            let Work::Builtin(work) = &journal.work else { continue };
            networks.insert(Bridged::of(work));
            cables.insert(work.veth.clone());
            if let Err(e) = self.nat().enter(&journal.sandbox, &journal.pod, work) {
                notes.push(format!("pod {}: {e}", journal.pod));
            }
        }
        for network in &networks {
            match self.with_host(|host, _| clear_strays(host, network, &cables)) {
                Ok(removed) => notes.extend(removed),
                Err(e) => notes.push(crate::error::chain(&e)),
            }
        }
        match self.leases.release_where(|owner| owner.is_none_or(|id| !owners.contains(id))) {
            Ok(ips) => notes.extend(ips.iter().map(|ip| format!("gave back address {ip}"))),
            Err(e) => notes.push(format!("give back addresses: {e}")),
        }
        let rules = if self.nat().is_empty() {
            self.close(group)
        } else {
            // They may differ from what an earlier process loaded, and cost one run.
            self.nft.apply(&self.nat, group)
        };
        notes.extend(rules.err().map(|e| crate::error::chain(&e)));
        notes
    }

    /// Removes the bridge and the table when no pod is on them.
    pub(in crate::cni) fn close(&self, group: &Leaf) -> Result<(), NetworkError> {
        if !self.nat().is_empty() {
            return Ok(());
        }
        self.reaper.settle();
        let removed = self.with_host(|netlink, bridge| {
            *bridge = None;
            let ours = bridge::is_ours(netlink, &self.configured)?;
            if ours {
                bridge::remove_link(netlink, &self.configured.bridge)?;
            }
            Ok(ours)
        })?;
        if removed { self.nft.remove(group) } else { Ok(()) }
    }

    /// Lays the cable; makes the bridge first where it is not there, also when somebody removed it.
    fn lay(
        &self,
        network: &Bridged,
        veth: &str,
        addresses: &[(IpAddr, Pool)],
        request: &AttachRequest,
    ) -> Result<(), NetworkError> {
        let netns = request.netns_fd.as_fd();
        let failed = |operation, e| NetworkError::kernel(operation, format!("veth {veth}"), e);
        let cable = |bridge| Cable { veth, bridge, mtu: self.mtu, netns, addresses };
        let index = self.with_host(|host, known| {
            let index = match known {
                Some((index, set_up)) if set_up == network => *index,
                _ => self.make_bridge(host, network)?,
            };
            *known = Some((index, network.clone()));
            let error = match bridge::plug(host, &cable(index)) {
                Ok(()) => return Ok(index),
                Err(e) => e,
            };
            // Whether the bridge is another one now, since somebody removed ours, decides.
            let again = self.make_bridge(host, network)?;
            if again == index {
                return Err(failed("create", error));
            }
            *known = Some((again, network.clone()));
            bridge::plug(host, &cable(again)).map_err(|e| failed("create", e))?;
            Ok(again)
        })?;
        bridge::configure_pod(&cable(index)).map_err(|e| failed("configure the pod's end of", e))
    }

    fn make_bridge(&self, host: &mut Netlink, network: &Bridged) -> Result<u32, NetworkError> {
        let mac = bridge::mac(&self.configured);
        let index = bridge::ensure_bridge(host, network, self.mtu, mac)?;
        sysctl::enable_forwarding(network)?;
        Ok(index)
    }

    /// Called when the rules are loaded, and with them the guard.
    fn open_localnet(&self, bridge: &str) -> Result<(), NetworkError> {
        let mut host = self.host.lock().unwrap_or_else(PoisonError::into_inner);
        if !host.localnet {
            sysctl::route_localnet(bridge)?;
            host.localnet = true;
        }
        Ok(())
    }

    /// Leases an address; one of a pod that was just stopped, if there is no other.
    fn lease(&self, pool: Pool, id: &SandboxId) -> Result<IpAddr, NetworkError> {
        match self.leases.take(pool, id) {
            Err(NetworkError::Exhausted { .. }) => {
                self.reaper.settle();
                self.leases.take(pool, id)
            }
            taken => taken,
        }
    }

    /// Waits until nothing of detached pods is left.
    pub(in crate::cni) fn settle(&self) {
        self.reaper.settle();
    }

    /// Runs `work` with the host's socket and the bridge's index.
    pub(super) fn with_host<T>(
        &self,
        work: impl FnOnce(&mut Netlink, &mut Option<(u32, Bridged)>) -> Result<T, NetworkError>,
    ) -> Result<T, NetworkError> {
        let mut host = self.host.lock().unwrap_or_else(PoisonError::into_inner);
        let index = |host: &Host| host.bridge.as_ref().map(|(index, _)| *index);
        let before = index(&host);
        let mut netlink = match host.netlink.take() {
            Some(netlink) => netlink,
            None => {
                Netlink::open().map_err(|e| NetworkError::kernel("open", "a netlink socket", e))?
            }
        };
        let result = work(&mut netlink, &mut host.bridge);
        host.netlink = Some(netlink);
        if index(&host) != before {
            // Another bridge, or none: its parameters are the kernel's defaults.
            host.localnet = false;
        }
        result
    }

    pub(super) fn own(&self) -> MutexGuard<'_, Option<Bridged>> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn nat(&self) -> MutexGuard<'_, Nat> {
        self.nat.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes senders of UDP follow the rules as they are now. A node whose conntrack cannot be asked has
/// them follow when their entry times out, which is told and no reason to refuse a pod.
fn forget_connections(work: &BuiltinWork) {
    let udp = work.ports.iter().filter(|port| port.protocol == Protocol::Udp);
    let ports: Vec<u16> = udp.map(|port| port.host_port).collect();
    match conntrack::forget_udp(&ports) {
        Ok(0) => {}
        Ok(count) => tracing::debug!(count, "UDP connections to changed host ports forgotten"),
        Err(error) => tracing::warn!(%error, "UDP connections are led by the old rules"),
    }
}

fn clear_strays(
    host: &mut Netlink,
    network: &Bridged,
    live: &BTreeSet<String>,
) -> Result<Vec<String>, NetworkError> {
    let mut notes = Vec::new();
    for name in bridge::stray_cables(host, &network.bridge, live)? {
        bridge::remove_link(host, &name)?;
        notes.push(format!("removed interface {name}"));
    }
    Ok(notes)
}
