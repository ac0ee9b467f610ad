//! The native executor: an OCI spec in, a process out.

use std::os::fd::OwnedFd;

pub use crate::shim::wire::{ExecPlan, InitPlan};

/// A container's set-up, ready to be sent to its shim.
#[derive(Debug)]
pub struct Prepared {
    /// What is done.
    pub plan: InitPlan,
    /// The descriptors that the plan refers to by index.
    pub fds: Vec<OwnedFd>,
}
