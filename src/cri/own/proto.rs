//! The generated messages, client and server of `proto/berth/berth.proto`, berth's own service.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    reason = "generated; the protocol file is what is written and reviewed"
)]

tonic::include_proto!("berth.v1");
