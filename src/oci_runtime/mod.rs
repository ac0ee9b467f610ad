//! The native executor as an OCI runtime command, `berth-oci`: what containerd, podman and people
//! can use in the place of runc.
//!
//! No daemon and no shim: each verb is a process of its own. What it must know of a container is in
//! a folder below `--root`; the truth about its process is the kernel's. A container's first
//! process is made by `create`, and waits on a socket in that folder until `start` connects
//! (`gate`). Whoever ran `create` is its parent: it must be a subreaper, or init is.
//!
//! * `args`, `entry`: the command line, from arguments to an exit code; `log`, `error`
//! * `seal`: no program of the host is within a container's reach
//! * `context`, `state`, `bundle`, `cgroup`, `resources`: what the verbs stand on
//! * `gate`, `hooks`, `console`, `foreground`: what happens around a container's process
//! * one file a verb

pub mod args;
mod bundle;
mod cgroup;
mod console;
mod context;
mod create;
mod delete;
mod entry;
mod error;
mod events;
mod exec;
mod features;
mod foreground;
mod gate;
mod hooks;
mod kill;
mod list;
mod log;
mod pause;
mod ps;
mod resources;
mod run;
mod scope;
mod seal;
mod spec;
mod start;
mod state;
mod update;

pub use entry::{execute, main};
