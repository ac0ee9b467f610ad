//! A step of a pod that failed: what its container waits for, and when to try again.

use crate::kubelet::status::Waiting;
use std::time::{Duration, SystemTime};

/// How long to wait after a step that failed for no reason of its own.
pub(super) const RETRY: Duration = Duration::from_secs(10);

/// A step that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// The reason that the container's status shows.
    pub(super) waiting: Waiting,
    /// When it is worth another try.
    pub(super) again: SystemTime,
}

impl Failure {
    /// For `reason`, to be tried again after the usual time.
    pub(super) fn new(reason: &str, message: String, now: SystemTime) -> Self {
        Self {
            waiting: Waiting { reason: reason.to_owned(), message },
            again: now + RETRY.mul_f64(jitter()),
        }
    }
}

/// 1 to 1.5, so that what failed together is not tried again together.
fn jitter() -> f64 {
    let byte = crate::sys::random::bytes::<1>().map_or(0, |[byte]| byte);
    1.0 + f64::from(byte) / 510.0
}
