//! Forgetting UDP connections that were led by rules which are not the rules any more.
//!
//! A translation is decided by the first packet and remembered. TCP ends, but a UDP sender that goes
//! on (a resolver, a log shipper) would be led to a dead pod, or past a new one, for ever
//! (kubernetes#58336). So after the rules of a UDP host port changed, the connections to that port
//! are removed: a dump, and a delete for each (ctnetlink, linux/netfilter/nfnetlink_conntrack.h).

use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST};
use std::fs::File;
use std::io::{self, Read as _, Write as _};

const DUMP: u16 = NLM_F_REQUEST | NLM_F_DUMP;
const ACKED: u16 = NLM_F_REQUEST | NLM_F_ACK;
/// NLMSG_ERROR, which also acknowledges, and NLMSG_DONE, which ends a dump.
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// NFNL_SUBSYS_CTNETLINK << 8, with IPCTNL_MSG_CT_NEW (how entries come), _GET and _DELETE.
const NEW: u16 = 0x100;
const GET: u16 = 0x101;
const DELETE: u16 = 0x102;
const ORIGINAL: u16 = 1;
const ZONE: u16 = 18;
/// Below a tuple: its transport part, and in that protocol and destination port.
const TRANSPORT: u16 = 2;
const PROTOCOL: u16 = 1;
const TO_PORT: u16 = 3;
/// Above the type's bits: nested, network byte order.
const TYPE: u16 = 0x3fff;
const UDP: u8 = 17;

/// Removes the UDP connections to these ports of the host; how many.
///
/// # Errors
/// The errno of netlink. Entries that ended meanwhile are no error.
pub(super) fn forget_udp(ports: &[u16]) -> io::Result<usize> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
    if ports.is_empty() {
        return Ok(0);
    }
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkNetFilter,
    )?;
    let mut socket = File::from(socket);
    let mut found = Vec::new();
    exchange(&mut socket, &message(GET, DUMP, 0, &[]), |kind, body| {
        if kind == NEW && leads_to(body, ports) {
            found.push(body.to_vec());
        }
    })?;
    for entry in &found {
        let family = entry.first().copied().unwrap_or_default();
        let mut named = Vec::new();
        for (kind, value) in attributes(entry.get(4..).unwrap_or_default()) {
            if matches!(kind & TYPE, ORIGINAL | ZONE) {
                append(&mut named, kind, value);
            }
        }
        match exchange(&mut socket, &message(DELETE, ACKED, family, &named), |_, _| {}) {
            Err(e) if e.raw_os_error() != Some(libc::ENOENT) => return Err(e),
            _ => {}
        }
    }
    Ok(found.len())
}

/// Whether an entry (family header and attributes) is of UDP and was first sent to one of `ports`.
fn leads_to(entry: &[u8], ports: &[u16]) -> bool {
    let find = |bytes, wanted| attributes(bytes).find(|(kind, _)| kind & TYPE == wanted);
    let value = |bytes, wanted| find(bytes, wanted).map(|(_, value)| value);
    let Some(transport) = value(entry.get(4..).unwrap_or_default(), ORIGINAL)
        .and_then(|tuple| value(tuple, TRANSPORT))
    else {
        return false;
    };
    let udp = value(transport, PROTOCOL).and_then(<[u8]>::first) == Some(&UDP);
    let port = value(transport, TO_PORT).and_then(|port| port.first_chunk::<2>());
    udp && port.is_some_and(|port| ports.contains(&u16::from_be_bytes(*port)))
}

/// A whole message: netlink header, family header, attributes.
fn message(kind: u16, flags: u16, family: u8, attributes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(20 + attributes.len()).unwrap_or(u32::MAX);
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend([family, 0, 0, 0]);
    bytes.extend(attributes);
    bytes
}

fn append(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    bytes.extend(u16::try_from(4 + value.len()).unwrap_or(u16::MAX).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// The attributes in `bytes`: type and value. Ends at the first that does not fit.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(*bytes.first_chunk()?));
        let kind = u16::from_ne_bytes(*bytes.get(2..)?.first_chunk()?);
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// Sends a message and hands every answer over until the last one.
fn exchange(socket: &mut File, message: &[u8], mut each: impl FnMut(u16, &[u8])) -> io::Result<()> {
    socket.write_all(message)?;
    let mut buffer = vec![0; 64 << 10];
    loop {
        let length = socket.read(&mut buffer)?;
        let mut rest = buffer.get(..length).unwrap_or_default();
        while let (Some(size), Some(kind)) = (rest.first_chunk(), rest.get(4..6)) {
            let size = usize::try_from(u32::from_ne_bytes(*size)).unwrap_or(usize::MAX);
            let kind = kind.first_chunk().map_or(0, |kind| u16::from_ne_bytes(*kind));
            let body = rest.get(16..size).unwrap_or_default();
            match kind {
                DONE => return Ok(()),
                ERROR => {
                    let code = body.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
                    let errno = code.saturating_neg();
                    return if errno == 0 {
                        Ok(())
                    } else {
                        Err(io::Error::from_raw_os_error(errno))
                    };
                }
                _ => each(kind, body),
            }
            rest = rest.get(size.max(16).next_multiple_of(4)..).unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An entry as the kernel sends it: IPv4, addresses left out.
    fn entry(protocol: u8, port: u16) -> Vec<u8> {
        let (mut transport, mut tuple, mut entry) = (Vec::new(), Vec::new(), vec![2, 0, 0, 0]);
        append(&mut transport, PROTOCOL, &[protocol]);
        append(&mut transport, 2, &4242_u16.to_be_bytes());
        append(&mut transport, TO_PORT, &port.to_be_bytes());
        append(&mut tuple, TRANSPORT | 0x8000, &transport);
        append(&mut entry, ORIGINAL | 0x8000, &tuple);
        entry
    }

    #[test]
    fn only_udp_to_one_of_the_ports_is_meant() {
        assert!(leads_to(&entry(17, 53), &[80, 53]));
        assert!(!leads_to(&entry(17, 54), &[80, 53]));
        assert!(!leads_to(&entry(6, 53), &[80, 53]));
        assert!(!leads_to(&[], &[53]));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_loop(bytes: Vec<u8>) {
            leads_to(&bytes, &[53]);
            assert!(attributes(&bytes).count() <= bytes.len());
        }
    }
}
