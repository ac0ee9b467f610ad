//! One container: its request, its OCI spec, its verbs.

pub mod capabilities;
pub mod config;
pub mod devices;
pub mod env;
pub mod error;
pub mod mounts;
pub mod security;
pub mod spec;
#[cfg(test)]
pub(crate) mod test_values;
pub mod user;
