//! The generated messages, clients and servers of `proto/cri/runtime.v1.proto`.
//!
//! The protocol file carries the documentation; names are those of the interface in Rust's case.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    reason = "generated; the protocol file is what is written and reviewed"
)]

tonic::include_proto!("runtime.v1");
