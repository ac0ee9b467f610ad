//! The built-in network: a bridge with addresses of a configured range, masquerade and host ports.
//!
//! A pod without a host port is attached by a handful of netlink messages and no program. Host ports
//! and masquerade are one nftables table, which is written whole and loaded in one transaction.
//!
//! A host port answers on every address of the host in both families (IPv6 as far as pods have it),
//! on 127.0.0.1, and from other pods. It does not answer on `[::1]`: the kernel routes no packet with
//! that source out of the loopback interface, and has no switch for it as IPv4 has.

mod attach;
mod bridge;
mod conntrack;
mod lease;
mod nat;
mod nft;
mod ranges;
mod reaper;
mod sysctl;

pub(super) use attach::Builtin;
