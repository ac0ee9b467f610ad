//! The daemon's configuration: read once at start, immutable, handed down.

mod schema;

pub use schema::{
    CgroupDriver, Cgroups, Config, Enforce, ImageConfig, Logging, Network, NetworkMode, Paths,
    Process, Server,
};
