//! One container: its request, its OCI spec, its verbs.

pub mod apparmor;
pub mod capabilities;
pub mod class;
pub mod config;
pub mod create;
pub mod devices;
pub mod env;
pub mod error;
pub mod exec;
pub mod exec_sync;
pub mod exit;
pub mod hooks;
pub mod log;
pub mod mounts;
pub mod object;
pub mod processes;
pub mod remove;
pub mod seccomp;
pub mod security;
pub mod spec;
pub mod start;
pub mod state;
pub mod stats;
pub mod stop;
pub mod stop_signal;
#[cfg(test)]
pub(crate) mod test_values;
pub mod update;
pub mod user;
