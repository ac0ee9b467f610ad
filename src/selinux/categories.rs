//! Which pod has which pair of categories. A pod keeps its pair until it is removed, over a restart of
//! the daemon by its record; no two pods have the same unless their requests name it.

use super::SelinuxError;
use crate::ids::SandboxId;
use crate::lock::lock;
use std::collections::{HashMap, HashSet};
use std::sync::Mutex;

/// The pairs of the node's pods.
#[derive(Debug)]
pub struct Categories {
    /// Categories are below this.
    range: u32,
    held: Mutex<HashMap<SandboxId, (u16, u16)>>,
}

impl Categories {
    /// None is taken. `range` is 2 to 1024.
    pub fn new(range: u32) -> Self {
        Self { range, held: Mutex::default() }
    }

    fn pairs(&self) -> u32 {
        self.range * self.range.saturating_sub(1) / 2
    }

    /// A pair that no pod has, for this one: the first free one from `start` on, a random number.
    ///
    /// # Errors
    /// [`SelinuxError::Exhausted`].
    pub fn take(&self, id: &SandboxId, start: u32) -> Result<(u16, u16), SelinuxError> {
        let pairs = self.pairs();
        let mut held = lock(&self.held);
        let taken: HashSet<(u16, u16)> = held.values().copied().collect();
        let start = start.checked_rem(pairs).unwrap_or(0);
        let free = (start..pairs).chain(0..start).map(pair).find(|pair| !taken.contains(pair));
        let free = free.ok_or(SelinuxError::Exhausted { pairs })?;
        held.insert(id.clone(), free);
        Ok(free)
    }

    /// This pair is this pod's, whoever else has it.
    pub fn hold(&self, id: &SandboxId, pair: (u16, u16)) {
        lock(&self.held).insert(id.clone(), pair);
    }

    /// Gives back what a pod has; nothing is fine.
    pub fn release(&self, id: &SandboxId) {
        lock(&self.held).remove(id);
    }
}

/// The pair of a number: 0 is (0, 1), 1 is (0, 2), 2 is (1, 2), 3 is (0, 3).
fn pair(number: u32) -> (u16, u16) {
    let high = (1 + 8 * number).isqrt().div_ceil(2);
    let low = number - high * (high - 1) / 2;
    // Below the range, which is at most 1024.
    (u16::try_from(low).unwrap_or(u16::MAX), u16::try_from(high).unwrap_or(u16::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn id(number: u32) -> SandboxId {
        SandboxId::parse(&format!("{number:064x}")).unwrap()
    }

    #[test]
    fn every_number_is_another_pair_and_all_are_in_range() {
        let range = 1024;
        let all: HashSet<(u16, u16)> = (0..range * (range - 1) / 2).map(pair).collect();
        assert_eq!(all.len(), 523_776);
        assert!(all.iter().all(|(low, high)| low < high && u32::from(*high) < range));
    }

    #[test]
    fn no_two_pods_have_a_pair_and_when_all_are_taken_it_is_said() {
        let categories = Categories::new(4);
        let taken: HashSet<_> =
            (0..6).map(|n| categories.take(&id(n), 1_000_003 * n).unwrap()).collect();
        assert_eq!(taken.len(), 6);
        let error = categories.take(&id(6), 0).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
        assert!(error.to_string().contains("all 6 pairs"), "{error}");
    }

    #[test]
    fn a_pair_that_is_given_back_is_given_again_and_a_held_one_is_not() {
        let categories = Categories::new(3);
        categories.hold(&id(0), (0, 1));
        categories.hold(&id(1), (0, 2));
        for start in 0..3 {
            assert_eq!(categories.take(&id(2), start).unwrap(), (1, 2));
            categories.release(&id(2));
        }
        categories.release(&id(0));
        categories.release(&id(0));
        assert_eq!(categories.take(&id(3), 0).unwrap(), (0, 1));
    }
}
