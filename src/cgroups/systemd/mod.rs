//! The systemd cgroup driver: one transient, delegated scope a pod, and one for all shims, asked for by
//! D-Bus (org.freedesktop.systemd1(5), systemd.scope(5); systemd's "Control Group APIs and Delegation").
//!
//! Nobody but systemd makes cgroups below a slice, and a scope does not exist without a process. So a pod's
//! pause starts in its shim's cgroup and is handed to systemd, which makes the scope around it; inside the
//! scope berth alone makes cgroups. A scope ends when its last process does.
//!
//! `properties` (pure: limits as systemd calls them), `bus` (the calls), `seat` (the scope of the shims).

mod bus;
mod error;
mod manager;
mod properties;
mod seat;

pub(super) use bus::Systemd;
pub use error::SystemdError;
pub(super) use properties::{Property, limits, scope};
pub use seat::Seat;
pub(super) use seat::Shims;
