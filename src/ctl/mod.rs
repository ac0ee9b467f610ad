//! The command line.

pub mod pod;
