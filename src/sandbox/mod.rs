//! The pod sandbox: shared namespaces behind a pause process, and everything a pod shares.

pub mod config;
pub mod files;
pub mod namespaces;
pub mod sysctl;
