//! Whether and when a request is worth another try. Pure.

use super::error::RegistryError;
use std::time::{Duration, SystemTime};

/// Requests in all, with the first.
const ATTEMPTS: u32 = 5;
/// The first pause; each further one is twice as long.
const FIRST: Duration = Duration::from_millis(250);
/// A host that wants to be left alone for longer is: a kubelet comes again by itself.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// How long to wait before the next try after `tries` failed ones; `None`: it would not help. `chance` is
/// any byte: nodes that fail together do not come back together.
pub(super) fn pause(error: &RegistryError, tries: u32, chance: u8) -> Option<Duration> {
    if tries >= ATTEMPTS {
        return None;
    }
    match error {
        RegistryError::Status {
            status: 408 | 429 | 500 | 502 | 503 | 504, retry_after, ..
        } => {
            let wanted = retry_after.unwrap_or_default();
            let further = backoff(tries, chance).saturating_sub(backoff(tries, 0));
            (wanted <= LONGEST_WAIT).then(|| wanted.max(backoff(tries, 0)) + further)
        }
        // Nobody there, or not who it should be: the next host or the next pull is the better try.
        RegistryError::Connection { source, .. } => {
            (!source.is_connect() && !source.is_builder()).then(|| backoff(tries, chance))
        }
        _ => None,
    }
}

/// The pause after so many failures, and up to a quarter more by `chance`.
pub(super) fn backoff(tries: u32, chance: u8) -> Duration {
    let pause = FIRST.saturating_mul(1 << tries.saturating_sub(1).min(5));
    pause + pause / 4 * u32::from(chance) / u32::from(u8::MAX)
}

/// A byte by chance. Without one there is no harm.
pub(super) fn chance() -> u8 {
    crate::sys::random::bytes::<1>().map_or(0, |[byte]| byte)
}

/// `Retry-After` of RFC 9110, 10.2.3: seconds, or a date.
pub(super) fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = httpdate::parse_http_date(value).ok()?;
    Some(at.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(status: u16, retry_after: Option<u64>) -> RegistryError {
        RegistryError::Status {
            host: "r.test".into(),
            status,
            codes: Vec::new(),
            detail: String::new(),
            retry_after: retry_after.map(Duration::from_secs),
        }
    }

    #[test]
    fn what_may_pass_is_tried_again_with_growing_pauses_and_not_for_ever() {
        for number in [408, 429, 500, 502, 503, 504] {
            let pauses: Vec<_> = (1..=6).map(|n| pause(&status(number, None), n, 255)).collect();
            assert!(pauses.iter().take(4).all(Option::is_some), "{number}: {pauses:?}");
            assert!(pauses.windows(2).take(3).all(|two| two[0] < two[1]), "{pauses:?}");
            assert_eq!(pauses[4..], [None, None]);
        }
        for number in [400, 401, 403, 404, 416, 501] {
            assert_eq!(pause(&status(number, None), 1, 0), None, "{number}");
        }
    }

    #[test]
    fn a_host_is_left_alone_as_long_as_it_wants_within_reason() {
        assert_eq!(pause(&status(429, Some(7)), 1, 0), Some(Duration::from_secs(7)));
        assert_eq!(pause(&status(503, Some(0)), 1, 0), Some(FIRST));
        assert_eq!(pause(&status(429, Some(3600)), 1, 0), None);
    }

    #[test]
    fn chance_makes_a_pause_longer_by_a_quarter_at_most_and_never_shorter() {
        for tries in 1..=9 {
            let all: Vec<Duration> = (0..=255).map(|chance| backoff(tries, chance)).collect();
            assert!(all.windows(2).all(|two| two[0] < two[1]), "{tries}: {all:?}");
            assert_eq!(all[255], all[0] + all[0] / 4);
        }
        let wanted = Duration::from_secs(7);
        let pauses = [0, 255].map(|chance| pause(&status(429, Some(7)), 1, chance).unwrap());
        assert_eq!(pauses, [wanted, wanted + FIRST / 4]);
        let bytes: Vec<u8> = (0..64).map(|_| super::chance()).collect();
        assert!(bytes.iter().any(|byte| *byte != bytes[0]), "{bytes:?}");
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let in_seconds = |value: &str| retry_after(value, now).map(|d| d.as_secs());
        assert_eq!(in_seconds("120"), Some(120));
        assert_eq!(in_seconds("Sun, 06 Nov 1994 08:49:47 GMT"), Some(10));
        assert_eq!(in_seconds("Sun, 06 Nov 1994 08:49:07 GMT"), Some(0));
        assert_eq!(in_seconds("soon"), None);
        assert_eq!(in_seconds("-1"), None);
    }
}
