//! Address leases: one entry an address in a folder, which is the whole truth.
//!
//! An entry is a symbolic link whose name is the address and whose target is the sandbox id: made
//! exclusively, with its content, in one system call, so that no half-made lease exists. Addresses
//! are handed out next after last, so that one is not used again soon.

use crate::cni::error::NetworkError;
use crate::ids::SandboxId;
use ipnet::{Ipv4Net, Ipv6Net};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// The leases of a node.
#[derive(Debug)]
pub(super) struct Leases {
    dir: PathBuf,
    /// The offset handed out last, by network.
    last: Mutex<BTreeMap<Pool, u128>>,
}

/// The addresses of a network that pods can have: all but the network's own, the bridge's and, in
/// IPv4, the broadcast address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Pool {
    /// IPv4.
    V4(Ipv4Net),
    /// IPv6.
    V6(Ipv6Net),
}

/// The offset of the first address for pods: 0 is the network, 1 the bridge.
const FIRST: u128 = 2;

impl Pool {
    /// The bridge's address: the first.
    pub(super) fn gateway(self) -> IpAddr {
        self.address(1)
    }

    /// The prefix length.
    pub(super) fn prefix(self) -> u8 {
        match self {
            Self::V4(net) => net.prefix_len(),
            Self::V6(net) => net.prefix_len(),
        }
    }

    /// How many pods can have an address.
    fn size(self) -> u128 {
        let (bits, reserved) = match self {
            Self::V4(net) => (32_u32.saturating_sub(net.prefix_len().into()), FIRST + 1),
            Self::V6(net) => (128_u32.saturating_sub(net.prefix_len().into()), FIRST),
        };
        1_u128.checked_shl(bits).unwrap_or(u128::MAX).saturating_sub(reserved)
    }

    fn address(self, offset: u128) -> IpAddr {
        match self {
            Self::V4(net) => {
                let offset = u32::try_from(offset).unwrap_or(u32::MAX);
                Ipv4Addr::from_bits(net.network().to_bits().saturating_add(offset)).into()
            }
            Self::V6(net) => {
                Ipv6Addr::from_bits(net.network().to_bits().saturating_add(offset)).into()
            }
        }
    }

    fn offset(self, address: IpAddr) -> Option<u128> {
        match (self, address) {
            (Self::V4(net), IpAddr::V4(ip)) if net.contains(&ip) => {
                Some(ip.to_bits().saturating_sub(net.network().to_bits()).into())
            }
            (Self::V6(net), IpAddr::V6(ip)) if net.contains(&ip) => {
                Some(ip.to_bits().saturating_sub(net.network().to_bits()))
            }
            _ => None,
        }
    }

    fn describe(self) -> String {
        match self {
            Self::V4(net) => net.to_string(),
            Self::V6(net) => net.to_string(),
        }
    }
}

impl Leases {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir, last: Mutex::new(BTreeMap::new()) }
    }

    /// Leases the next free address of `pool` to a sandbox.
    ///
    /// # Errors
    /// [`NetworkError::Exhausted`]; [`NetworkError::Kernel`] when the folder cannot be written.
    pub(super) fn take(&self, pool: Pool, owner: &SandboxId) -> Result<IpAddr, NetworkError> {
        let size = pool.size();
        let mut all = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let last = match all.get(&pool) {
            Some(last) => *last,
            None => self.newest(pool)?,
        };
        for step in 1..=size {
            let offset = FIRST + last.saturating_sub(FIRST).wrapping_add(step) % size;
            // Before the first lease, `last` is 1 and the first candidate is FIRST.
            let offset = if last < FIRST { FIRST + step - 1 } else { offset };
            let address = pool.address(offset);
            match std::os::unix::fs::symlink(owner.as_str(), self.entry(address)) {
                Ok(()) => {
                    all.insert(pool, offset);
                    return Ok(address);
                }
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(NetworkError::kernel("lease", address.to_string(), e)),
            }
        }
        Err(NetworkError::Exhausted { subnet: pool.describe(), count: size })
    }

    /// Gives back one address if `owner` has it.
    pub(super) fn release(&self, address: IpAddr, owner: &SandboxId) -> io::Result<()> {
        let entry = self.entry(address);
        if owner_of(&entry).as_ref() == Some(owner) { remove(&entry) } else { Ok(()) }
    }

    /// Gives back every address whose owner (`None`: no sandbox) `goes`; the addresses.
    pub(super) fn release_where(
        &self,
        goes: impl Fn(Option<&SandboxId>) -> bool,
    ) -> io::Result<Vec<IpAddr>> {
        let mut released = Vec::new();
        for (address, entry) in self.entries()? {
            if goes(owner_of(&entry).as_ref()) {
                remove(&entry)?;
                released.push(address);
            }
        }
        Ok(released)
    }

    /// Where the allocation goes on after a start: behind the lease made last.
    fn newest(&self, pool: Pool) -> Result<u128, NetworkError> {
        let failed = |e| NetworkError::kernel("list", self.dir.display().to_string(), e);
        let mut newest = None;
        for (address, entry) in self.entries().map_err(failed)? {
            let Some(offset) = pool.offset(address) else { continue };
            let made = entry.symlink_metadata().and_then(|m| m.modified()).ok();
            newest = newest.max(Some((made, offset)));
        }
        Ok(newest.map_or(FIRST - 1, |(_, offset)| offset))
    }

    fn entries(&self) -> io::Result<Vec<(IpAddr, PathBuf)>> {
        let dir = match std::fs::read_dir(&self.dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            dir => dir?,
        };
        let mut entries = Vec::new();
        for entry in dir {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            if let Some(address) = name.and_then(|name| name.parse().ok()) {
                entries.push((address, path));
            }
        }
        Ok(entries)
    }

    fn entry(&self, address: IpAddr) -> PathBuf {
        self.dir.join(address.to_string())
    }
}

fn owner_of(entry: &Path) -> Option<SandboxId> {
    SandboxId::parse(std::fs::read_link(entry).ok()?.to_str()?).ok()
}

fn remove(entry: &Path) -> io::Result<()> {
    match std::fs::remove_file(entry) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(digit: &str) -> SandboxId {
        SandboxId::parse(&digit.repeat(64)).unwrap()
    }

    fn pool(text: &str) -> Pool {
        text.parse().map(Pool::V4).unwrap_or_else(|_| Pool::V6(text.parse().unwrap()))
    }

    fn leases() -> (tempfile::TempDir, Leases) {
        let dir = tempfile::tempdir().unwrap();
        let leases = Leases::new(dir.path().to_owned());
        (dir, leases)
    }

    fn take(leases: &Leases, net: &str, owner: &str) -> String {
        leases.take(pool(net), &id(owner)).unwrap().to_string()
    }

    #[test]
    fn addresses_are_handed_out_next_after_last_and_not_again_soon() {
        let (_dir, leases) = leases();
        assert_eq!(take(&leases, "10.1.0.0/29", "a"), "10.1.0.2");
        assert_eq!(take(&leases, "10.1.0.0/29", "b"), "10.1.0.3");
        leases.release("10.1.0.2".parse().unwrap(), &id("a")).unwrap();
        assert_eq!(take(&leases, "10.1.0.0/29", "c"), "10.1.0.4");
        assert_eq!(take(&leases, "fd00:1::/64", "c"), "fd00:1::2");
        assert_eq!(take(&leases, "fd00:1::/64", "d"), "fd00:1::3");
    }

    #[test]
    fn a_full_network_is_an_error_that_says_so_until_one_is_given_back() {
        let (_dir, leases) = leases();
        for last in 2..=6 {
            assert_eq!(take(&leases, "10.1.0.0/29", "a"), format!("10.1.0.{last}"));
        }
        let error = leases.take(pool("10.1.0.0/29"), &id("b")).unwrap_err();
        assert_eq!(error.to_string(), "no free address in 10.1.0.0/29: all 5 are leased");
        assert_eq!(error.kind(), crate::error::ErrorKind::ResourceExhausted);
        leases.release("10.1.0.4".parse().unwrap(), &id("a")).unwrap();
        assert_eq!(take(&leases, "10.1.0.0/29", "b"), "10.1.0.4");
    }

    #[test]
    fn a_network_without_room_for_a_pod_has_no_addresses() {
        let (_dir, leases) = leases();
        for net in ["10.1.0.0/31", "10.1.0.1/32", "fd00::/127", "fd00::1/128"] {
            let refused = leases.take(pool(net), &id("a"));
            assert!(matches!(refused, Err(NetworkError::Exhausted { count: 0, .. })), "{net}");
        }
        assert_eq!(take(&leases, "10.1.0.0/30", "a"), "10.1.0.2");
        assert_eq!(take(&leases, "fd00::/126", "a"), "fd00::2");
        assert_eq!(take(&leases, "fd00::/126", "a"), "fd00::3");
    }

    #[test]
    fn after_a_start_the_allocation_goes_on_behind_the_newest_lease() {
        let (dir, leases) = leases();
        take(&leases, "10.1.0.0/24", "a");
        take(&leases, "10.1.0.0/24", "b");
        let restarted = Leases::new(dir.path().to_owned());
        assert_eq!(take(&restarted, "10.1.0.0/24", "c"), "10.1.0.4");
    }

    #[test]
    fn only_the_owner_gives_an_address_back_and_twice_is_fine() {
        let (dir, leases) = leases();
        take(&leases, "10.1.0.0/24", "a");
        let ip = "10.1.0.2".parse().unwrap();
        leases.release(ip, &id("b")).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        leases.release(ip, &id("a")).unwrap();
        leases.release(ip, &id("a")).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn leases_of_nobody_who_lives_are_given_back() {
        let (dir, leases) = leases();
        take(&leases, "10.1.0.0/24", "a");
        take(&leases, "10.1.0.0/24", "b");
        std::os::unix::fs::symlink("nobody", dir.path().join("10.1.0.9")).unwrap();
        let live = id("b");
        let mut gone = leases.release_where(|owner| owner != Some(&live)).unwrap();
        gone.sort();
        let gone: Vec<_> = gone.iter().map(ToString::to_string).collect();
        assert_eq!(gone, ["10.1.0.2", "10.1.0.9"]);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
