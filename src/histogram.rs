//! How long something took, as a histogram of Prometheus: counts below fixed bounds, their sum, their number.

use std::time::Duration;

/// Times of one thing. Each time is counted once, in the narrowest bucket that has room for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    bounds: &'static [Duration],
    counts: Vec<u64>,
    above: u64,
    sum: Duration,
}

impl Histogram {
    /// None yet; `bounds` rise.
    pub fn new(bounds: &'static [Duration]) -> Self {
        Self { bounds, counts: vec![0; bounds.len()], above: 0, sum: Duration::ZERO }
    }

    /// Counts one that took `time`.
    pub fn observe(&mut self, time: Duration) {
        self.sum = self.sum.saturating_add(time);
        let at = self.bounds.partition_point(|bound| *bound < time);
        *self.counts.get_mut(at).unwrap_or(&mut self.above) += 1;
    }

    /// Each bound, and how many took no longer.
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, u64)> {
        self.bounds.iter().zip(&self.counts).scan(0, |below, (bound, count)| {
            *below += count;
            Some((*bound, *below))
        })
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum::<u64>() + self.above
    }

    /// How long all of them took.
    pub fn sum(&self) -> Duration {
        self.sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_has_all_that_took_no_longer() {
        const BOUNDS: &[Duration] = &[Duration::from_millis(10), Duration::from_millis(100)];
        let mut times = Histogram::new(BOUNDS);
        for millis in [10, 11, 100, 5000] {
            times.observe(Duration::from_millis(millis));
        }
        let buckets: Vec<_> = times.buckets().map(|(_, count)| count).collect();
        assert_eq!(buckets, [1, 3]);
        assert_eq!((times.count(), times.sum()), (4, Duration::from_millis(5121)));
    }
}
