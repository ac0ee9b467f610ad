//! The command line.

pub mod args;
mod attach;
pub mod check;
pub mod commands;
pub mod config;
mod connect;
pub mod console;
mod error;
mod events;
mod exec;
mod execute;
mod format;
mod generate;
mod image_layers;
mod images;
mod inspect;
pub mod kubelet;
mod list;
mod log_chain;
mod log_of_pod;
pub(crate) mod log_reader;
mod log_since;
mod logs;
pub mod port_forward;
mod progress;
mod prune;
mod resolve;
mod stats;
mod stop;
pub mod stream;
mod why;

pub use connect::Daemon;
pub use error::{CtlError, NOT_RUN};
pub use execute::{Place, execute};
