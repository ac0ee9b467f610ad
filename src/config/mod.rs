//! The daemon's configuration: read once at start, immutable, handed down.

mod error;
mod eviction;
mod kubelet;
mod kubelet_file;
mod load;
mod print;
mod schema;
mod validate;
mod validate_eviction;

pub use error::ConfigError;
pub use eviction::{
    Amount, BadThreshold, Eviction, ImageGc, MinimumReclaim, Signal, SoftThreshold, Threshold,
};
pub use kubelet::{Enforced, Kubelet, ShutdownGrace, SwapBehavior};
pub use load::{DEFAULT_PATH, Loaded, Origin, Overrides, load};
pub use print::keys;
pub use schema::{
    BlockIo, Cdi, CgroupDriver, Cgroups, Checkpoint, Config, Enforce, ImageConfig, Logging,
    Network, NetworkMode, Paths, Process, Runtime, Selinux, Server, Streaming,
};
pub use validate::{MAX_PREFIX4, MAX_PREFIX6};
