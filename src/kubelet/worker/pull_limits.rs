//! How many images are pulled at a time, and how many pulls are begun a second. Who comes too early waits.

use crate::config;
use crate::lock::lock;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// The limits, and who is held by them.
#[derive(Debug, Default)]
pub struct PullLimits {
    beside: Option<Arc<Semaphore>>,
    rate: Option<Rate>,
}

/// So many a second, after a time without any several at once.
#[derive(Debug)]
struct Rate {
    each: Duration,
    ahead: Duration,
    /// When the next one would begin if they came evenly.
    next: Mutex<Option<Instant>>,
}

impl Rate {
    /// When one that comes now may begin: the generic cell rate algorithm.
    fn reserve(&self, now: Instant) -> Instant {
        let mut next = lock(&self.next);
        let even = next.map_or(now, |next| next.max(now));
        *next = Some(even + self.each);
        even.checked_sub(self.ahead).map_or(now, |at| at.max(now))
    }
}

impl PullLimits {
    /// As configured.
    pub fn new(config: &config::Kubelet) -> Self {
        let rate = config.pulls_per_second.map(|rate| {
            let each = Duration::from_secs(1) / u32::try_from(rate).unwrap_or(u32::MAX).max(1);
            let more = u32::try_from(config.pulls_burst.saturating_sub(1)).unwrap_or(u32::MAX);
            Rate { each, ahead: each.saturating_mul(more), next: Mutex::default() }
        });
        let beside = config.parallel_pulls.map(|most| Arc::new(Semaphore::new(most)));
        Self { beside, rate }
    }

    /// Waits for a turn, which lasts until what is returned is dropped.
    pub(super) async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        let permit = match &self.beside {
            // It is never closed.
            Some(beside) => Arc::clone(beside).acquire_owned().await.ok(),
            None => None,
        };
        if let Some(rate) = &self.rate {
            let at = rate.reserve(Instant::now());
            tokio::time::sleep_until(at).await;
        }
        permit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pulls_begin_at_their_rate_after_the_first_few() {
        let config = config::Kubelet {
            pulls_per_second: Some(2),
            pulls_burst: 3,
            ..config::Kubelet::default()
        };
        let limits = PullLimits::new(&config);
        let began = Instant::now();
        let mut at = Vec::new();
        for _ in 0..5 {
            limits.turn().await;
            at.push(began.elapsed().as_millis());
        }
        assert_eq!(at, [0, 0, 0, 500, 1000]);
        tokio::time::sleep(Duration::from_secs(60)).await;
        let again = Instant::now();
        for _ in 0..3 {
            limits.turn().await;
        }
        assert_eq!(again.elapsed(), Duration::ZERO, "what was not used is there again");
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_are_pulled_at_a_time_than_may_be() {
        let config = config::Kubelet { parallel_pulls: Some(1), ..config::Kubelet::default() };
        let limits = PullLimits::new(&config);
        let first = limits.turn().await;
        let second = tokio::time::timeout(Duration::from_secs(9), limits.turn());
        assert!(second.await.is_err(), "two at once");
        drop(first);
        assert!(limits.turn().await.is_some());
    }
}
