//! What of a log is asked for, and its lines without their heads; pure.

use super::answer::Refusal;
use super::query::Query;
use crate::ctl::log_reader::{Entry, parse_line};
use jiff::{SignedDuration, Timestamp};

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct LogQuery {
    /// Until the container ends.
    pub(super) follow: bool,
    /// Of the instance before this one.
    pub(super) previous: bool,
    /// No more than so many lines from the end.
    pub(super) tail: Option<usize>,
    /// With the time before each line.
    timestamps: bool,
    /// Nothing from before.
    since: Option<Timestamp>,
    /// No more than so many bytes.
    limit: Option<u64>,
}

impl LogQuery {
    /// Reads the options of a v1 PodLogOptions.
    ///
    /// # Errors
    /// 400: a number or time that is none, two beginnings, a limit of nothing.
    pub(super) fn parse(query: &Query, now: Timestamp) -> Result<Self, Refusal> {
        let seconds = query.number("sinceSeconds")?;
        let time = query.first("sinceTime").filter(|text| !text.is_empty());
        let since = match (seconds, time) {
            (Some(_), Some(_)) => {
                return Err(Refusal::bad("sinceSeconds and sinceTime cannot be given at once"));
            }
            (Some(0), None) => return Err(Refusal::bad("sinceSeconds must be more than 0")),
            (Some(seconds), None) => {
                let before = SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
                // Before all times is before all lines.
                Some(now.checked_sub(before).unwrap_or(Timestamp::MIN))
            }
            (None, Some(text)) => {
                let parsed = text.parse::<Timestamp>();
                let bad = |_| Refusal::bad(format!("sinceTime={text:?} is not a time of RFC 3339"));
                Some(parsed.map_err(bad)?)
            }
            (None, None) => None,
        };
        let limit = query.number("limitBytes")?;
        if limit == Some(0) {
            return Err(Refusal::bad("limitBytes must be more than 0"));
        }
        let tail = query.number("tailLines")?;
        Ok(Self {
            follow: query.is_set("follow"),
            previous: query.is_set("previous"),
            tail: tail.map(|lines| usize::try_from(lines).unwrap_or(usize::MAX)),
            timestamps: query.is_set("timestamps"),
            since,
            limit,
        })
    }
}

/// Lines of the file to what is sent of them.
#[derive(Debug)]
pub(super) struct Cutter {
    timestamps: bool,
    since: Option<Timestamp>,
    left: Option<usize>,
    /// Whether the container's line goes on in the next entry.
    within: bool,
}

impl Cutter {
    pub(super) fn new(query: &LogQuery) -> Self {
        Self {
            timestamps: query.timestamps,
            since: query.since,
            left: query.limit.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX)),
            within: false,
        }
    }

    /// Whether as much was sent as was asked for.
    pub(super) fn is_done(&self) -> bool {
        self.left == Some(0)
    }

    /// Adds what is sent of `line` to `out`.
    pub(super) fn add(&mut self, line: &[u8], out: &mut Vec<u8>) {
        let entry = parse_line(line);
        if self.is_before(&entry) {
            return;
        }
        if self.timestamps && !self.within && !entry.time.is_empty() {
            self.put(entry.time, out);
            self.put(b" ", out);
        }
        self.put(entry.text, out);
        if entry.full {
            self.put(b"\n", out);
        }
        self.within = !entry.full;
    }

    /// An entry without a time is of no time, and is sent.
    fn is_before(&self, entry: &Entry<'_>) -> bool {
        let Some(since) = self.since else { return false };
        let time = std::str::from_utf8(entry.time).ok().and_then(|text| text.parse().ok());
        time.is_some_and(|time: Timestamp| time < since)
    }

    fn put(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let count = self.left.map_or(bytes.len(), |left| left.min(bytes.len()));
        out.extend_from_slice(bytes.get(..count).unwrap_or_default());
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-01-02T03:04:05Z";

    fn parse(query: &str) -> Result<LogQuery, Refusal> {
        LogQuery::parse(&Query::parse(Some(query)), NOW.parse().unwrap())
    }

    #[test]
    fn options_are_those_of_a_pods_log() {
        assert_eq!(parse("").unwrap(), LogQuery::default());
        let query = parse(
            "follow=true&previous=1&tailLines=7&timestamps=true&limitBytes=9&sinceSeconds=65",
        );
        let expected = LogQuery {
            follow: true,
            previous: true,
            tail: Some(7),
            timestamps: true,
            since: Some("2026-01-02T03:03:00Z".parse().unwrap()),
            limit: Some(9),
        };
        assert_eq!(query.unwrap(), expected);
        let since = parse("sinceTime=2026-01-02T04:00:00%2B01:00").unwrap().since;
        assert_eq!(since, Some("2026-01-02T03:00:00Z".parse().unwrap()));
        assert!(parse("sinceSeconds=9223372036854775807").unwrap().since.is_some());
    }

    #[test]
    fn options_that_cannot_be_are_refused_by_name() {
        for (query, name) in [
            ("tailLines=-1", "tailLines"),
            ("limitBytes=0", "limitBytes"),
            ("sinceSeconds=0", "sinceSeconds"),
            ("sinceTime=yesterday", "sinceTime"),
            ("sinceSeconds=1&sinceTime=2026-01-02T03:04:05Z", "at once"),
        ] {
            let refusal = parse(query).unwrap_err();
            assert_eq!(refusal.code, 400, "{query}");
            assert!(refusal.cause.contains(name), "{query}: {}", refusal.cause);
        }
    }

    #[test]
    fn heads_are_left_out_pieces_joined_and_the_rest_is_as_asked_for() {
        let lines = [
            "2026-01-02T03:00:00.5Z stdout F one",
            "2026-01-02T03:00:01Z stdout P tw",
            "2026-01-02T03:00:01.1Z stdout F o",
            "2026-01-02T04:00:02+01:00 stderr F three",
            "no head",
        ];
        for (query, expected) in [
            ("", "one\ntwo\nthree\nno head\n"),
            ("limitBytes=6", "one\ntw"),
            ("sinceTime=2026-01-02T03:00:02Z", "three\nno head\n"),
            (
                "timestamps=1&limitBytes=60",
                "2026-01-02T03:00:00.5Z one\n2026-01-02T03:00:01Z two\n2026-01-",
            ),
        ] {
            let mut cutter = Cutter::new(&parse(query).unwrap());
            let mut out = Vec::new();
            lines.iter().for_each(|line| cutter.add(line.as_bytes(), &mut out));
            assert_eq!(String::from_utf8(out).unwrap(), expected, "{query}");
            assert_eq!(cutter.is_done(), query.contains("limit"), "{query}");
        }
    }
}
