//! Waiting for something that must come true.

use anyhow::{Context as _, Result, bail};
use std::time::{Duration, Instant};

/// Long enough for anything but a hang, also in a virtual machine without KVM.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Asks again and again until there is an answer.
///
/// # Errors
/// The last answer's error, or that there was none before [`DEADLINE`].
pub(crate) fn eventually<T>(what: &str, ask: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    within(DEADLINE, what, ask)
}

/// [`eventually`] with a deadline of the caller's.
///
/// # Errors
/// The last answer's error, or that there was none before the deadline.
pub(crate) fn within<T>(
    limit: Duration,
    what: &str,
    mut ask: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let end = Instant::now() + limit;
    loop {
        let answer = ask();
        match answer {
            Ok(Some(value)) => return Ok(value),
            Ok(None) if Instant::now() > end => bail!("{what}: not within {limit:?}"),
            Err(error) if Instant::now() > end => {
                return Err(error).context(format!("{what}: not within {limit:?}"));
            }
            Ok(None) | Err(_) => pause(Duration::from_millis(20)),
        }
    }
}

/// Lets time pass, where time itself is the subject of a test.
#[expect(clippy::disallowed_methods, reason = "the one place where the tests sleep")]
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}
