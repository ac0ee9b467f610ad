//! The pod sandbox: shared namespaces behind a pause process, and everything a pod shares.

pub mod config;
pub mod files;
pub mod namespaces;
pub mod netns;
pub mod object;
pub mod pod_files;
pub mod remove;
pub mod resources;
pub mod run;
pub mod state;
pub mod stop;
pub mod sysctl;
pub mod teardown;
pub mod update;
pub mod userns;
