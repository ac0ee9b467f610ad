//! The real shim and the real pause, driven by the daemon's client. Needs root, `/bin/busybox`,
//! and the programs: in the folder `BERTH_STAGE`, or built beside this test
//! (`cargo build -p berth-pause --profile pause`).

#![cfg(feature = "daemon")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says what it skips"
)]

mod attach;
mod container;
mod pod;
mod world;
