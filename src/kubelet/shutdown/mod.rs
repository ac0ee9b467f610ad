//! Graceful node shutdown: pods end before the node does (KEP-2000, KEP-2712).
//!
//! A delay lock of logind ([`logind`], org.freedesktop.login1(5)) holds a shutdown up until the pods have ended in their
//! groups ([`groups`], pure), at most as long as the groups take together. [`watch`](watch()) says when one begins and when it
//! was called off; [`end_in_groups`] ends the pods. Off unless a period is configured.

mod end;
mod groups;
mod logind;
mod watch;

pub use end::{NOT_TAKEN, TERMINATED, end_in_groups, ended_for_it};
pub use groups::{Group, groups};
pub use logind::ShutdownError;
pub use watch::{Inhibitor, Order, watch};
