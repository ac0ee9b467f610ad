//! The daemon's configuration: read once at start, immutable, handed down.

mod error;
mod kubelet;
mod load;
mod print;
mod schema;
mod validate;

pub use error::ConfigError;
pub use kubelet::Kubelet;
pub use load::{DEFAULT_PATH, Loaded, Origin, Overrides, load};
pub use print::keys;
pub use schema::{
    BlockIo, Cdi, CgroupDriver, Cgroups, Checkpoint, Config, Enforce, ImageConfig, Logging,
    Network, NetworkMode, Paths, Process, Runtime, Selinux, Server, Streaming,
};
pub use validate::{MAX_PREFIX4, MAX_PREFIX6};
