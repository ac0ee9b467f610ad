//! The shim: one a pod, parent, reaper and log writer of its containers, outlives the daemon.
//!
//! [`protocol`] has the table of messages, [`server`] is the shim's side, `client` the daemon's.

mod attach;
mod container;
pub mod exit_file;
mod handler;
pub mod inherited;
mod io;
mod ledger;
mod lines;
mod link;
mod memory;
mod namespace;
mod pause;
pub mod protocol;
mod reap;
mod requests;
pub mod server;
mod starting;
pub mod wire;

#[cfg(feature = "daemon")]
mod api;
#[cfg(feature = "daemon")]
mod attachment;
#[cfg(feature = "daemon")]
pub mod client;
#[cfg(feature = "daemon")]
mod connection;
#[cfg(feature = "daemon")]
mod launch;

pub use exit_file::ExitRecord;
