//! Spec → plan and descriptors, in the daemon.

use std::os::fd::OwnedFd;

use oci_spec::runtime::{Process, Spec};

use super::error::OciError;
use crate::config::Enforce;
use crate::shim::wire::{ExecPlan, InitPlan};
use crate::sys::process::InitPid;

/// What a shim needs to start a container: the plan and the descriptors it names.
#[derive(Debug)]
pub struct Prepared {
    /// The plan.
    pub plan: InitPlan,
    /// Its descriptors, in order; the first is the root file system.
    pub fds: Vec<OwnedFd>,
}

/// The pod around a container.
#[derive(Clone, Debug)]
pub struct PodContext {
    /// The pause process, when the pod has one.
    pub pause: Option<InitPid>,
    /// What a missing privilege does.
    pub privileges: Enforce,
    /// The process whose pid namespace is joined (namespace mode TARGET).
    pub target: Option<InitPid>,
}

/// The plan for a container's first process. `rootfs` is the detached mount of its root.
///
/// # Errors
/// [`OciError`]: what the spec asks and cannot be done, by name.
pub fn prepare(spec: &Spec, rootfs: OwnedFd, pod: &PodContext) -> Result<Prepared, OciError> {
    let _ = (spec, rootfs, pod);
    Err(OciError::unsupported("the executor"))
}

/// The plan for a further process in the container that `spec` made.
///
/// # Errors
/// As [`prepare`].
pub fn prepare_exec(
    spec: &Spec,
    process: &Process,
    pod: &PodContext,
) -> Result<ExecPlan, OciError> {
    let _ = (spec, process, pod);
    Err(OciError::unsupported("the executor"))
}
