//! The shim: one a pod, parent, reaper and log writer of its containers, outlives the daemon.
//!
//! [`protocol`] has the table of messages, `client` is the daemon's side.

pub mod exit_file;
pub mod inherited;
pub mod protocol;
pub mod wire;

#[cfg(feature = "daemon")]
mod api;
#[cfg(feature = "daemon")]
pub mod client;
#[cfg(feature = "daemon")]
mod connection;
#[cfg(feature = "daemon")]
mod launch;

pub use exit_file::ExitRecord;
