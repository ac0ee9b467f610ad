//! How many pods were evicted, for metrics.

use crate::lock::lock;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// Counts of evictions since the start, by signal. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct EvictionTally(Arc<Mutex<BTreeMap<&'static str, u64>>>);

impl EvictionTally {
    /// Counts one.
    pub(super) fn count(&self, signal: &'static str) {
        *lock(&self.0).entry(signal).or_default() += 1;
    }

    /// The counts, by signal.
    pub fn read(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.0).clone()
    }
}
