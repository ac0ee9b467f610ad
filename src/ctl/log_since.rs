//! From when on the lines of a log are wanted; pure.

use super::log_reader::parse_line;
use jiff::Timestamp;
use std::time::Duration;

/// Reads a time of the command line.
pub(super) fn parse_time(text: &str) -> Result<Timestamp, String> {
    text.parse().map_err(|_| format!("{text:?} is no time of RFC 3339, as 2026-01-31T12:00:00Z"))
}

/// Lets lines through from a time on. Times do not go back in a log: after the first line all are wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Since(Option<Timestamp>);

impl Since {
    /// `age` before `now`, or from `time` on, or always.
    pub(super) fn of(age: Option<Duration>, time: Option<Timestamp>, now: Timestamp) -> Self {
        // An age beyond all time is no limit.
        Self(time.or_else(|| age.and_then(|age| now.checked_sub(age).ok())))
    }

    /// Whether a line of the file is wanted. One without a time is, as the runtime wrote none.
    pub(super) fn has(&mut self, line: &[u8]) -> bool {
        let Some(from) = self.0 else { return true };
        let time = std::str::from_utf8(parse_line(line).time).ok();
        let time: Option<Timestamp> = time.and_then(|text| text.parse().ok());
        if time.is_some_and(|time| time < from) {
            return false;
        }
        self.0 = None;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(mut since: Since, times: &[&str]) -> Vec<usize> {
        let line = |time: &str| format!("{time} stdout F x").into_bytes();
        (0..times.len()).filter(|at| since.has(&line(times[*at]))).collect()
    }

    #[test]
    fn lines_are_wanted_from_a_time_on() {
        let times =
            ["2026-01-01T00:00:00.5Z", "2026-01-01T02:00:01+02:00", "2026-01-01T00:00:02Z", "odd"];
        let now: Timestamp = "2026-01-01T00:00:11Z".parse().unwrap();
        let at = |text| Some(parse_time(text).unwrap());
        for (since, expected) in [
            (Since::of(None, None, now), &[0, 1, 2, 3][..]),
            (Since::of(None, at("2026-01-01T00:00:01Z"), now), &[1, 2, 3]),
            (Since::of(Some(Duration::from_secs(9)), None, now), &[2, 3]),
            (Since::of(Some(Duration::from_secs(0)), None, now), &[3]),
            (Since::of(Some(Duration::MAX), None, now), &[0, 1, 2, 3]),
        ] {
            assert_eq!(passed(since, &times), expected, "{since:?}");
        }
    }

    #[test]
    fn a_time_is_of_rfc_3339() {
        assert!(parse_time("2026-01-31T12:00:00+01:00").is_ok());
        assert!(parse_time("yesterday").unwrap_err().contains("RFC 3339"));
    }
}
