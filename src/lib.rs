//! berth: a node-level container runtime and kubelet.
//!
//! Four kinds of process, each with its own rules:
//!
//! * `berth`, the daemon and the command line: tokio; decides everything; never forks without exec.
//! * `berth-shim`, one a pod: one thread and one poll loop; parent, reaper and log writer of the
//!   pod's containers; outlives the daemon. Built without the `daemon` feature.
//! * container init, between clone and exec: numbered steps, reports `(step, errno)` by pipe.
//! * `berth-pause`, one a pod (`src/pause`): holds the shared namespaces.
//!
//! Dependencies point down: `kubelet (through the trait cri::client::Cri), cri, ctl → engine → sandbox, container → shim client, image, cni,
//! cgroups, store → sys`, and `shim server → oci → sys`.

#![deny(unsafe_code)]

pub mod error;
pub mod idmap;
pub mod ids;
pub mod oci;
pub mod shim;
pub mod sys;
#[cfg(test)]
mod testing;
pub mod undefended;

#[cfg(feature = "daemon")]
pub mod blocking;
#[cfg(feature = "daemon")]
pub mod bus;
#[cfg(feature = "daemon")]
pub mod cdi;
#[cfg(feature = "daemon")]
pub mod cgroups;
#[cfg(feature = "daemon")]
pub mod checkpoint;
#[cfg(feature = "daemon")]
pub mod clock;
#[cfg(feature = "daemon")]
pub mod cni;
#[cfg(feature = "daemon")]
pub mod config;
#[cfg(feature = "daemon")]
pub mod container;
#[cfg(feature = "daemon")]
pub mod cri;
#[cfg(feature = "daemon")]
pub mod ctl;
#[cfg(feature = "daemon")]
pub mod daemon;
#[cfg(feature = "daemon")]
pub mod engine;
#[cfg(feature = "daemon")]
mod expand;
#[cfg(feature = "daemon")]
pub mod failpoint;
#[cfg(feature = "daemon")]
pub mod handlers;
#[cfg(feature = "daemon")]
pub mod histogram;
#[cfg(feature = "daemon")]
pub mod image;
#[cfg(feature = "daemon")]
pub mod kubelet;
#[cfg(feature = "daemon")]
pub mod lock;
#[cfg(feature = "daemon")]
pub mod node;
#[cfg(feature = "daemon")]
pub mod oci_runtime;
#[cfg(feature = "daemon")]
pub mod probes;
#[cfg(feature = "daemon")]
mod quantity;
#[cfg(feature = "daemon")]
pub mod sandbox;
#[cfg(feature = "daemon")]
pub mod selinux;
#[cfg(feature = "daemon")]
mod small_file;
#[cfg(feature = "daemon")]
pub mod store;
#[cfg(feature = "daemon")]
pub mod telemetry;
#[cfg(feature = "daemon")]
pub mod tls;
#[cfg(feature = "daemon")]
mod waits;
#[cfg(feature = "daemon")]
pub mod watch;
