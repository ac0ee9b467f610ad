//! Wall-clock time as CRI counts it.

use std::time::{SystemTime, UNIX_EPOCH};

/// Now, in nanoseconds since 1970. Saturates in the year 2262.
pub fn now_nanos() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
