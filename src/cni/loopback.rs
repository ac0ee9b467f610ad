//! The loopback interface of a pod: up, in both modes, before anything else is attached.

use super::netlink::{Netlink, up};
use std::io;
use std::os::fd::BorrowedFd;

/// Sets `lo` up inside a network namespace; the kernel gives it its addresses.
pub(super) fn raise_loopback(netns: BorrowedFd<'_>) -> io::Result<()> {
    Netlink::open_in(netns)?.one(up("lo"))
}
