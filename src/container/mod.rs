//! One container: its request, its OCI spec, its verbs.

pub mod config;
