//! The messages of `proto/shim`, as generated.

#![allow(missing_docs, clippy::all, reason = "generated code; its documentation is in proto/shim")]

include!(concat!(env!("OUT_DIR"), "/berth.shim.v1.rs"));
