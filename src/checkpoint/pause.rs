//! Containers that stand still for as long as a value lives.

use super::CheckpointError;
use crate::cgroups::Leaf;
use crate::error::chain;
use std::time::{Duration, Instant};

/// No container takes longer, unless the kernel cannot interrupt one of its processes.
const FREEZE_WITHIN: Duration = Duration::from_secs(20);

/// A container that stands still. It goes on when this is dropped, on every way out.
pub(super) struct Paused {
    leaf: Leaf,
    container: String,
    thawed: bool,
}

impl Paused {
    /// Has all processes of a container stand still, those of its commands, too.
    pub(super) fn new(
        leaf: &Leaf,
        container: &str,
        until: Instant,
    ) -> Result<Self, CheckpointError> {
        // From the first byte written on it may be frozen, whatever freezing answers.
        let paused = Self { leaf: leaf.clone(), container: container.to_owned(), thawed: false };
        let left = until.saturating_duration_since(Instant::now()).min(FREEZE_WITHIN);
        match leaf.freeze(left) {
            Ok(true) => Ok(paused),
            Ok(false) => Err(CheckpointError::Restless(container.to_owned())),
            Err(source) => Err(CheckpointError::Cgroup { container: container.to_owned(), source }),
        }
    }

    /// Lets it go on.
    pub(super) fn go_on(mut self) -> Result<(), CheckpointError> {
        self.thaw()
    }

    fn thaw(&mut self) -> Result<(), CheckpointError> {
        let container = self.container.clone();
        let thawed = self.leaf.thaw();
        self.thawed = thawed.is_ok();
        thawed.map_err(|source| CheckpointError::Cgroup { container, source })
    }
}

impl Drop for Paused {
    fn drop(&mut self) {
        if self.thawed {
            return;
        }
        if let Err(error) = self.thaw() {
            tracing::error!(container = self.container, error = chain(&error), "it stays paused");
        }
    }
}
