//! The control socket: what the command line asks of the kubelet half. [`gate`] leads to it, [`service`] answers.

mod gate;
pub mod proto;
mod service;

pub use gate::{Control, KubeletGate};
pub use service::service;
