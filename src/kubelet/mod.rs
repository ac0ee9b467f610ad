//! The kubelet half: pods from files, HTTP and the control socket, kept running through the verbs of CRI.
//!
//! [`objects`] are the ConfigMaps, Secrets and Services that pods may name; [`node`] is what pods are told of the node.

pub mod node;
pub mod objects;
pub mod quantity;
