//! The pod network: CNI plugins, or berth's own bridge.
//!
//! [`Network`] attaches and detaches pods in the configured mode and never changes mode by itself.
//! Every effect is journalled before it is made; detach follows the journal. Implements the CNI
//! specification 0.3.1 to 1.1.0 and the CRI's NetworkReady condition.

mod builtin;
mod capability;
mod chain;
mod conf;
mod error;
#[cfg(test)]
mod fixture;
pub(crate) mod helper;
mod invoke;
mod journal;
#[cfg(test)]
mod kernel_tests;
mod loopback;
mod netlink;
mod network;
#[cfg(test)]
mod plugin_tests;
mod plugins;
mod range;
mod request;
mod result;
mod stats;
mod template;
mod watch;

pub use capability::{EGRESS_BANDWIDTH, INGRESS_BANDWIDTH, InvalidBandwidth};
pub use conf::{CniVersion, ConfList, Plugin, load_dir};
pub use error::NetworkError;
pub use helper::HelperError;
pub use invoke::PluginError;
pub use network::Network;
pub use range::{PodRanges, RangeError};
pub use request::{AttachRequest, Attachment, NotReady, POD_INTERFACE};
pub use stats::{InterfaceStats, parse_net_dev, read_interface_stats};
