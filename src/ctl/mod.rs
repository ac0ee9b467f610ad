//! The command line.

pub mod args;
pub mod check;
pub mod config;
pub mod pod;
