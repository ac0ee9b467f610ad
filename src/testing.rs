//! What unit tests share.

use std::time::{Duration, Instant};

/// A bound against hanging, on a machine of any speed.
const SOON: Duration = Duration::from_secs(60);

/// Waits for what must come. Also for what follows from closing a descriptor: a program that
/// another test is just starting holds a copy of it until its execve.
///
/// # Panics
/// With `what`, when it does not come.
pub(crate) fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}
