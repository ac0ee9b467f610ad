//! The generated messages, client and server of `proto/berth/pods.proto`.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    reason = "generated; the protocol file is what is written and reviewed"
)]

tonic::include_proto!("berth.pods.v1");
