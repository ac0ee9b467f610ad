//! The pod sandbox: shared namespaces behind a pause process, and everything a pod shares.

pub mod config;
