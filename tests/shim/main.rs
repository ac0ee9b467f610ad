//! The real shim and the real pause, driven by the daemon's client. Needs root, `/bin/busybox`,
//! and pause built: `cargo build -p berth-pause --profile pause`.

#![cfg(feature = "daemon")]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod container;
mod pod;
mod world;
