//! The shim: one a pod, parent, reaper and log writer of its containers, outlives the daemon.

pub mod wire;
