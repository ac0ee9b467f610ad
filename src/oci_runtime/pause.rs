//! pause and resume: the freezer of the container's cgroup.

use super::context::Context;
use super::error::{Doing as _, RuntimeError};
use super::state::{Container, Status};
use std::time::Duration;

/// A process in an uninterruptible wait freezes only after it.
const FROZEN_WITHIN: Duration = Duration::from_secs(10);

/// The verb `pause`.
pub(super) fn pause(ctx: &Context<'_>, id: &str) -> Result<(), RuntimeError> {
    let (container, _lock) = Container::load_locked(ctx, id)?;
    match container.status(ctx)? {
        Status::Running | Status::Created => {}
        status => return Err(RuntimeError::State { verb: "pause", id: id.to_owned(), status }),
    }
    let leaf = container.leaf(ctx);
    let doing = || format!("pause {id:?}");
    if leaf.freeze(FROZEN_WITHIN).doing(doing)? {
        return Ok(());
    }
    leaf.thaw().doing(doing)?;
    Err(format!("a process did not stand still within {FROZEN_WITHIN:?}")).doing(doing)
}

/// The verb `resume`.
pub(super) fn resume(ctx: &Context<'_>, id: &str) -> Result<(), RuntimeError> {
    let (container, _lock) = Container::load_locked(ctx, id)?;
    let leaf = container.leaf(ctx);
    let doing = || format!("resume {id:?}");
    match container.status(ctx)? {
        Status::Paused => {}
        // Paused before its start.
        Status::Created if leaf.frozen().doing(doing)? => {}
        status => return Err(RuntimeError::State { verb: "resume", id: id.to_owned(), status }),
    }
    leaf.thaw().doing(doing)
}
