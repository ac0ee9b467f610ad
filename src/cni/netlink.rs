//! rtnetlink(7) by plain request and answer on one socket: the kernel answers within the send, so
//! nothing is waited for and no task is needed.
//!
//! A socket belongs to the network namespace in which it was opened. Several requests go in one
//! datagram; the kernel works them off in order, also past one that fails.

use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage,
};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteType,
};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::IpAddr;
use std::os::fd::BorrowedFd;

/// Larger than any datagram that the kernel sends in a dump (32 KiB).
const RECEIVE: usize = 64 << 10;

/// One request: the message, and the flags beside REQUEST and ACK.
pub(super) struct Request {
    message: RouteNetlinkMessage,
    flags: u16,
}

/// A socket.
#[derive(Debug)]
pub(super) struct Netlink {
    socket: File,
    sequence: u32,
}

impl Netlink {
    /// A socket in the network namespace of the calling thread.
    pub(super) fn open() -> io::Result<Self> {
        use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkRoute,
        )?;
        Ok(Self { socket: socket.into(), sequence: 0 })
    }

    /// A socket in another network namespace.
    pub(super) fn open_in(netns: BorrowedFd<'_>) -> io::Result<Self> {
        crate::sys::netns::inside(netns, Self::open)?
    }

    /// Sends requests in one datagram and gives the answer to each, in order.
    pub(super) fn execute(&mut self, requests: Vec<Request>) -> io::Result<Vec<io::Result<()>>> {
        let first = self.sequence.wrapping_add(1);
        let count = requests.len();
        let mut datagram = Vec::new();
        for request in requests {
            self.encode(request.message, NLM_F_ACK | request.flags, &mut datagram);
        }
        self.socket.write_all(&datagram)?;
        let mut answers: Vec<Option<io::Result<()>>> = (0..count).map(|_| None).collect();
        while answers.iter().any(Option::is_none) {
            for message in self.receive()? {
                let at = usize::try_from(message.header.sequence_number.wrapping_sub(first));
                // Anything else is the rest of an earlier exchange that was given up.
                let slot = at.ok().and_then(|at| answers.get_mut(at));
                if let (Some(slot), NetlinkPayload::Error(answer)) = (slot, message.payload) {
                    *slot = Some(if answer.code.is_none() { Ok(()) } else { Err(answer.to_io()) });
                }
            }
        }
        Ok(answers.into_iter().flatten().collect())
    }

    /// Sends one request.
    pub(super) fn one(&mut self, request: Request) -> io::Result<()> {
        self.execute(vec![request])?.into_iter().collect()
    }

    /// Sends requests of which all have to succeed; the first error.
    pub(super) fn all(&mut self, requests: Vec<Request>) -> io::Result<()> {
        self.execute(requests)?.into_iter().collect()
    }

    /// The interface with this name.
    pub(super) fn link(&mut self, name: &str) -> io::Result<Option<LinkMessage>> {
        let request = RouteNetlinkMessage::GetLink(link_message(name));
        match self.query(request, 0) {
            Ok(links) => Ok(links.into_iter().next()),
            Err(e) if e.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// All interfaces.
    pub(super) fn links(&mut self) -> io::Result<Vec<LinkMessage>> {
        self.query(RouteNetlinkMessage::GetLink(LinkMessage::default()), NLM_F_DUMP)
    }

    fn query(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<Vec<LinkMessage>> {
        let mut datagram = Vec::new();
        // Acknowledged, so that one answer ends like a dump: with a message that says so.
        let ack = if flags == 0 { NLM_F_ACK } else { 0 };
        self.encode(message, flags | ack, &mut datagram);
        self.socket.write_all(&datagram)?;
        let mut links = Vec::new();
        loop {
            for message in self.receive()? {
                if message.header.sequence_number != self.sequence {
                    continue;
                }
                match message.payload {
                    NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => {
                        links.push(link);
                    }
                    NetlinkPayload::Done(_) => return Ok(links),
                    NetlinkPayload::Error(answer) if answer.code.is_none() => return Ok(links),
                    NetlinkPayload::Error(answer) => return Err(answer.to_io()),
                    _ => {}
                }
            }
        }
    }

    fn encode(&mut self, message: RouteNetlinkMessage, flags: u16, datagram: &mut Vec<u8>) {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        datagram.extend_from_slice(&bytes);
        // Messages begin at multiples of four.
        datagram.resize(datagram.len().next_multiple_of(4), 0);
    }

    fn receive(&mut self) -> io::Result<Vec<NetlinkMessage<RouteNetlinkMessage>>> {
        let mut buffer = vec![0; RECEIVE];
        let length = self.socket.read(&mut buffer)?;
        let mut rest = buffer.get(..length).unwrap_or_default();
        let mut messages = Vec::new();
        while !rest.is_empty() {
            let message = NetlinkMessage::deserialize(rest)
                .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e.to_string()))?;
            let length = usize::try_from(message.header.length).unwrap_or(rest.len()).max(16);
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            messages.push(message);
        }
        Ok(messages)
    }
}

/// An interface message that names its interface.
pub(super) fn link_message(name: &str) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    message
}

/// Marks the interface as one that shall be up.
pub(super) fn raise(message: &mut LinkMessage) {
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
}

/// Makes an interface; EEXIST when the name is taken.
pub(super) fn create(message: LinkMessage) -> Request {
    let message = RouteNetlinkMessage::NewLink(message);
    Request { message, flags: NLM_F_CREATE | NLM_F_EXCL }
}

/// Changes an interface, whatever kind it is of.
pub(super) fn change(message: LinkMessage) -> Request {
    Request { message: RouteNetlinkMessage::NewLink(message), flags: 0 }
}

/// Removes the interface with this name; ENODEV when there is none.
pub(super) fn delete(name: &str) -> Request {
    Request { message: RouteNetlinkMessage::DelLink(link_message(name)), flags: 0 }
}

/// Puts an interface into a group.
pub(super) fn move_to_group(name: &str, group: u32) -> Request {
    let mut message = link_message(name);
    message.attributes.push(LinkAttribute::Group(group));
    change(message)
}

/// Removes every interface of a group; ENODEV when there is none.
pub(super) fn delete_group(group: u32) -> Request {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::Group(group));
    Request { message: RouteNetlinkMessage::DelLink(message), flags: 0 }
}

/// Sets an interface up.
pub(super) fn up(name: &str) -> Request {
    let mut message = link_message(name);
    raise(&mut message);
    change(message)
}

/// Gives an interface an address; EEXIST when it has it. An IPv6 address is not probed for
/// duplicates: berth hands each out once, and a pod is not kept waiting for it.
pub(super) fn add_address(index: u32, ip: IpAddr, prefix: u8) -> Request {
    let mut message = AddressMessage::default();
    message.header.index = index;
    message.header.prefix_len = prefix;
    message.header.family = family(ip);
    message.attributes.push(AddressAttribute::Address(ip));
    message.attributes.push(AddressAttribute::Local(ip));
    match ip {
        IpAddr::V4(ip) => {
            let host_bits = u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
            let broadcast = (ip.to_bits() | host_bits).into();
            message.attributes.push(AddressAttribute::Broadcast(broadcast));
        }
        IpAddr::V6(_) => {
            message.header.flags = AddressHeaderFlags::Nodad;
            message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
    }
    Request { message: RouteNetlinkMessage::NewAddress(message), flags: NLM_F_CREATE | NLM_F_EXCL }
}

/// Routes everything through a gateway.
pub(super) fn add_default_route(index: u32, gateway: IpAddr) -> Request {
    let mut message = RouteMessage::default();
    message.header.address_family = family(gateway);
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Static;
    message.header.kind = RouteType::Unicast;
    let address = match gateway {
        IpAddr::V4(ip) => RouteAddress::Inet(ip),
        IpAddr::V6(ip) => RouteAddress::Inet6(ip),
    };
    message.attributes.push(RouteAttribute::Gateway(address));
    message.attributes.push(RouteAttribute::Oif(index));
    Request { message: RouteNetlinkMessage::NewRoute(message), flags: NLM_F_CREATE | NLM_F_EXCL }
}

fn family(ip: IpAddr) -> AddressFamily {
    if ip.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

/// The name of an interface as the kernel told it.
pub(super) fn name_of(link: &LinkMessage) -> Option<&str> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.as_str()),
        _ => None,
    })
}

/// The index of the bridge that an interface is a port of.
pub(super) fn controller_of(link: &LinkMessage) -> Option<u32> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Controller(index) => Some(*index),
        _ => None,
    })
}
