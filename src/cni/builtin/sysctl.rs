//! The kernel parameters of the host that the built-in network needs. Each is read first, written
//! only if it differs, and told when it is written; none is set back, since others may rely on it.

use super::nat::Bridged;
use crate::cni::error::NetworkError;
use std::path::Path;

/// Lets the host forward between the bridge and its other interfaces.
pub(super) fn enable_forwarding(network: &Bridged) -> Result<(), NetworkError> {
    if set(Path::new("/proc/sys/net/ipv4/ip_forward"), "1")? {
        tracing::info!("IPv4 forwarding was off and is on now: pods need it");
    }
    let all6 = Path::new("/proc/sys/net/ipv6/conf/all/forwarding");
    if network.subnet6.is_some() && read(all6)? != "1" {
        keep_router_advertisements()?;
        set(all6, "1")?;
        tracing::info!("IPv6 forwarding was off and is on now: pods need it");
    }
    Ok(())
}

/// Lets packets with a source in 127.0.0.0/8 pass the bridge: a host port on 127.0.0.1 leads there.
/// To be called only when the guard rule is loaded (CVE-2020-8558).
pub(super) fn route_localnet(bridge: &str) -> Result<(), NetworkError> {
    let path = format!("/proc/sys/net/ipv4/conf/{bridge}/route_localnet");
    set(Path::new(&path), "1").map(|_| ())
}

/// Uses the bridge's link-local address at once. Probed for duplicates, it could not ask for a
/// neighbour in its first second, and IPv6 connections to the first pod would wait that long.
pub(super) fn skip_probing(bridge: &str) -> Result<(), NetworkError> {
    let path = format!("/proc/sys/net/ipv6/conf/{bridge}/accept_dad");
    set(Path::new(&path), "0").map(|_| ())
}

/// A host that forwards ignores router advertisements where `accept_ra` is 1, and would lose the
/// default route it has from them; 2 says "also when forwarding".
fn keep_router_advertisements() -> Result<(), NetworkError> {
    let conf = Path::new("/proc/sys/net/ipv6/conf");
    let entries = std::fs::read_dir(conf)
        .map_err(|e| NetworkError::kernel("read", conf.display().to_string(), e))?;
    for path in entries.flatten().map(|entry| entry.path().join("accept_ra")) {
        if read(&path).is_ok_and(|value| value == "1") {
            set(&path, "2")?;
        }
    }
    Ok(())
}

/// Writes a parameter unless it has the value; whether it was written.
fn set(path: &Path, value: &str) -> Result<bool, NetworkError> {
    if read(path)? == value {
        return Ok(false);
    }
    std::fs::write(path, value)
        .map_err(|e| NetworkError::kernel("write", path.display().to_string(), e))?;
    Ok(true)
}

fn read(path: &Path) -> Result<String, NetworkError> {
    std::fs::read_to_string(path)
        .map(|text| text.trim().to_owned())
        .map_err(|e| NetworkError::kernel("read", path.display().to_string(), e))
}
