//! `berth serve`: the daemon's life from start to stop.

mod notify;
mod serve;

pub use serve::{DaemonError, serve};
