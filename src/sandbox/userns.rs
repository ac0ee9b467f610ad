//! A pod's user namespace: made before pause, which joins it and is what keeps it; and whether this
//! node can run pods in one.

use super::object::SandboxRecord;
use crate::error::{AtStep, ErrorKind, StepFailed};
use crate::idmap::{IdMaps, IdRange};
use crate::image::{self, ImageError, Images};
use crate::node::Node;
use crate::oci::NewUserns;
use crate::shim::client::ShimBinaries;
use crate::sys;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

/// Who makes user namespaces for this node.
pub fn maker(shims: &ShimBinaries) -> NewUserns {
    NewUserns::Program(Arc::clone(shims.pause()))
}

/// Makes a pod's. Blocks.
///
/// # Errors
/// The kernel's refusal.
pub fn make(node: &Node, maps: &IdMaps) -> Result<OwnedFd, StepFailed> {
    maker(&node.shims).make(maps).map_err(in_words).at("make the pod's user namespace")
}

fn in_words(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::ENOSPC) => io::Error::new(
            error.kind(),
            "the node allows no further user namespace (sysctl user.max_user_namespaces)",
        ),
        _ => error,
    }
}

/// That of a running pod which has one.
///
/// # Errors
/// FailedPrecondition when pause is gone, and with it the namespace.
pub fn of_pod(record: &SandboxRecord) -> Result<Option<OwnedFd>, StepFailed> {
    const STEP: &str = "open the pod's user namespace";
    if record.config.userns.is_none() {
        return Ok(None);
    }
    let gone = |source: Box<dyn std::error::Error + Send + Sync>| StepFailed {
        step: STEP,
        kind: ErrorKind::FailedPrecondition,
        source,
    };
    let pause = record.pause.as_ref().ok_or_else(|| gone("the pod has no pause".into()))?;
    sys::userns::of(pause).map(Some).map_err(|e| gone(e.into()))
}

/// Tries what a pod in a user namespace needs of the kernel: a namespace, and a root file system of
/// id-mapped layers. Blocks.
///
/// # Errors
/// Why this node cannot run one.
pub fn probe(shims: &ShimBinaries, images: &Images) -> Result<(), String> {
    try_mapped(&maker(shims), |space| images.try_id_mapped(space))
}

/// [`probe`] without a daemon: `pause` is its program, and `folder` an empty one where images would be.
/// Blocks.
///
/// # Errors
/// Why this node cannot run one.
pub fn probe_in(pause: OwnedFd, folder: &Path) -> Result<(), String> {
    try_mapped(&NewUserns::Program(Arc::new(pause)), |space| image::try_id_mapped(folder, space))
}

fn try_mapped(
    maker: &NewUserns,
    mount: impl FnOnce(BorrowedFd<'_>) -> Result<(), ImageError>,
) -> Result<(), String> {
    let range = |host| vec![IdRange { container: 0, host, length: 65_536 }];
    let maps = IdMaps { uids: range(65_536), gids: range(65_536) };
    let space = maker.make(&maps).map_err(|e| format!("make a user namespace: {}", in_words(e)))?;
    mount(space.as_fd()).map_err(|e| crate::error::chain(&e))
}
