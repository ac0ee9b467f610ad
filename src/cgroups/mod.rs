//! Control groups, version 2: where pods are, what they may use, what they use, how they end.
//!
//! `resources` (asked for) → `limits` (pure: files and values) → `apply` (written, or taken back).
//! `devices` (pure: rules to a program) → `sys::bpf`. `parse` (pure) → `stats`, `events`.
//! `systemd`: the driver that has systemd make pods' cgroups.
//! `path`, `tree` and `manager` say where things are; `group` and `leaf` are the handles.
//!
//! Kernel documents: Documentation/admin-guide/cgroup-v2.rst, Documentation/accounting/psi.rst.
//! Oldest kernel: 6.1.

mod apply;
mod cpulist;
mod details;
mod devices;
mod dir;
mod error;
mod events;
mod freeze;
mod group;
mod leaf;
mod limits;
mod manager;
mod parse;
mod path;
mod pod;
mod resources;
mod scope;
mod stats;
mod swap;
mod systemd;
mod tree;

pub use details::{CgroupDetails, DeviceIo, HugeTlb};
pub use devices::{DeviceKind, DeviceRule, Permissions, Verdict};
pub use error::CgroupError;
pub use events::{MemoryEvents, parse_memory_events};
pub use group::Group;
pub use leaf::Leaf;
pub use manager::Cgroups;
pub use parse::{Pressure, Stall};
pub use path::{CgroupPath, expand_slice, is_slice};
pub use pod::PodCgroup;
pub use resources::{Limit, Resources};
pub use scope::Scope;
pub use stats::{CgroupStats, CpuStats, IoStats, MemoryStats, PidsStats};
pub use swap::swap_bytes;
pub use systemd::{Seat, SystemdError};
