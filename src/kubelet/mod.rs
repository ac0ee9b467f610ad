//! The kubelet half: pods from files, HTTP and the control socket, kept running through the verbs of CRI.
//!

pub mod admission;
pub mod api;
pub mod backoff;
pub mod board;
pub mod cgroups;
pub mod env;
pub mod node;
pub mod objects;
pub mod observed;
pub mod plan;
pub mod pleg;
pub mod pods;
pub mod qos;
pub mod quantity;
pub mod request;
pub mod source;
pub mod spec;
pub mod status;
pub mod volumes;
