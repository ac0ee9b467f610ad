//! The wire: CRI v1 over gRPC. Foreign types (prost, tonic) stay in this folder.

pub mod proto;

#[cfg(test)]
mod descriptor_tests;
