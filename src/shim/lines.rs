//! A container's output as log lines of the CRI: `<RFC 3339 nanoseconds> <stream> <P|F> <text>`.
//!
//! A line of more than 16 KiB is split: all parts but the last are `P`. What a stream ends with
//! and no newline follows is `P`, too, as containerd has it: readers join parts until an `F`.

use std::io::{BufRead as _, Write as _};

/// The most text of one log line, bytes.
pub(super) const MAX_TEXT: usize = 16 * 1024;

/// The bytes before the text: time, stream and tag are all of fixed length.
pub(super) const HEADER: usize = STAMP + " stdout F ".len();

const STAMP: usize = "1970-01-01T00:00:00.000000000Z".len();

/// A moment as it stands in a log.
#[derive(Clone, Copy)]
pub(super) struct Stamp([u8; STAMP]);

impl Stamp {
    /// `nanos` since the Unix epoch, UTC, until the year 9999.
    pub(super) fn new(nanos: i64) -> Self {
        let (seconds, fraction) =
            (nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000));
        let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        let (year, month, day) = date(days);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        let mut text = [b'0'; STAMP];
        // It fits exactly; a year beyond 9999 would be cut off.
        write!(
            text.as_mut_slice(),
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{fraction:09}Z"
        )
        .ok();
        Self(text)
    }

    /// The text.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The civil date of a day since 1970-01-01, by counting 400-year eras that begin in March.
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

/// Which of a container's streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    Stdout,
    Stderr,
}

impl Name {
    fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// Cuts one stream into lines. Holds what of a line has come, at most 16 KiB.
pub(super) struct Lines {
    name: Name,
    begun: Vec<u8>,
}

impl Lines {
    pub(super) fn new(name: Name) -> Self {
        Self { name, begun: Vec::new() }
    }

    /// Which stream it is.
    pub(super) fn name(&self) -> Name {
        self.name
    }

    /// Appends the log lines that `data` completes to `out`, and keeps the rest.
    pub(super) fn push(&mut self, mut data: &[u8], stamp: &Stamp, out: &mut Vec<u8>) {
        while !data.is_empty() {
            let mut rest = data;
            let length = rest.skip_until(b'\n').unwrap_or(data.len());
            let (line, after) = data.split_at_checked(length).unwrap_or((data, &[]));
            data = after;
            let text = line.strip_suffix(b"\n");
            let mut remaining = text.unwrap_or(line);
            while self.begun.len() + remaining.len() > MAX_TEXT {
                let room = MAX_TEXT - self.begun.len();
                let Some((now, later)) = remaining.split_at_checked(room) else { break };
                self.emit(b'P', now, stamp, out);
                remaining = later;
            }
            if text.is_some() {
                self.emit(b'F', remaining, stamp, out);
            } else {
                self.begun.extend_from_slice(remaining);
            }
        }
    }

    /// Appends what of a line has come, as a part.
    pub(super) fn flush(&mut self, stamp: &Stamp, out: &mut Vec<u8>) {
        if !self.begun.is_empty() {
            self.emit(b'P', &[], stamp, out);
        }
    }

    fn emit(&mut self, tag: u8, text: &[u8], stamp: &Stamp, out: &mut Vec<u8>) {
        header(self.name, tag, stamp, out);
        out.extend_from_slice(&self.begun);
        out.extend_from_slice(text);
        out.push(b'\n');
        // Given back, not kept: most streams never hold a part.
        if !self.begun.is_empty() {
            self.begun = Vec::new();
        }
    }
}

/// Appends what stands before a line's text.
pub(super) fn header(name: Name, tag: u8, stamp: &Stamp, out: &mut Vec<u8>) {
    out.extend_from_slice(stamp.as_bytes());
    out.push(b' ');
    out.extend_from_slice(name.as_str().as_bytes());
    out.extend_from_slice(&[b' ', tag, b' ']);
}

/// How many bytes of a container's output are lost when only the first `written` bytes of whole
/// log lines reached the file.
pub(super) fn lost(lines: &[u8], written: usize) -> u64 {
    let (mut start, mut lost) = (0, 0u64);
    for line in lines.split_inclusive(|b| *b == b'\n') {
        let end = start + line.len();
        if end > written {
            let text = (start + HEADER).max(written);
            let newline = usize::from(line.get(HEADER - 2) == Some(&b'F'));
            let bytes = (end - 1).saturating_sub(text) + newline;
            lost += u64::try_from(bytes).unwrap_or(0);
        }
        start = end;
    }
    lost
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const AT: i64 = 1_709_210_096_000_000_007;

    fn cut(lines: &mut Lines, data: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        lines.push(data, &Stamp::new(AT), &mut out);
        out
    }

    /// Tag and text of each log line.
    fn parse(log: &[u8]) -> Vec<(char, Vec<u8>)> {
        log.split_inclusive(|b| *b == b'\n')
            .map(|line| (line[HEADER - 2].into(), line[HEADER..line.len() - 1].to_vec()))
            .collect()
    }

    #[test]
    fn a_moment_is_written_in_utc_with_nine_digits() {
        let text = |nanos| String::from_utf8(Stamp::new(nanos).as_bytes().to_vec()).unwrap();
        for (nanos, expected) in [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (AT, "2024-02-29T12:34:56.000000007Z"),
            (951_868_799_999_999_999, "2000-02-29T23:59:59.999999999Z"),
            (4_107_542_399_000_000_000, "2100-02-28T23:59:59.000000000Z"),
            (4_107_542_400_000_000_000, "2100-03-01T00:00:00.000000000Z"),
            (-1, "1969-12-31T23:59:59.999999999Z"),
        ] {
            assert_eq!(text(nanos), expected);
        }
    }

    #[test]
    fn a_line_is_one_log_line() {
        let mut lines = Lines::new(Name::Stderr);
        assert_eq!(
            String::from_utf8(cut(&mut lines, b"hello\n")).unwrap(),
            "2024-02-29T12:34:56.000000007Z stderr F hello\n"
        );
        assert_eq!(parse(&cut(&mut lines, b"\n\r\n")), [('F', vec![]), ('F', b"\r".to_vec())]);
    }

    #[test]
    fn pieces_of_a_line_wait_for_its_end() {
        let mut lines = Lines::new(Name::Stdout);
        assert!(cut(&mut lines, b"he").is_empty());
        assert_eq!(parse(&cut(&mut lines, b"llo\nx")), [('F', b"hello".to_vec())]);
        let mut out = Vec::new();
        lines.flush(&Stamp::new(AT), &mut out);
        assert_eq!(parse(&out), [('P', b"x".to_vec())]);
        out.clear();
        lines.flush(&Stamp::new(AT), &mut out);
        assert!(out.is_empty());
    }

    #[test]
    fn only_a_line_of_more_than_16_kib_is_split() {
        let mut lines = Lines::new(Name::Stdout);
        let sizes = |log: &[u8]| {
            parse(log).iter().map(|(tag, text)| (*tag, text.len())).collect::<Vec<_>>()
        };
        let line = |n| [vec![b'x'; n], b"\n".to_vec()].concat();
        assert_eq!(sizes(&cut(&mut lines, &line(MAX_TEXT))), [('F', MAX_TEXT)]);
        assert_eq!(sizes(&cut(&mut lines, &line(MAX_TEXT + 1))), [('P', MAX_TEXT), ('F', 1)]);
        assert_eq!(
            sizes(&cut(&mut lines, &line(2 * MAX_TEXT))),
            [('P', MAX_TEXT), ('F', MAX_TEXT)]
        );
    }

    #[test]
    fn what_is_lost_is_counted_in_bytes_of_output() {
        let log = cut(&mut Lines::new(Name::Stdout), b"abc\ndefg\n");
        assert_eq!(lost(&log, log.len()), 0);
        assert_eq!(lost(&log, 0), 9);
        assert_eq!(lost(&log, HEADER + 1), 8);
        assert_eq!(lost(&log, HEADER + 4), 5);
        assert_eq!(lost(&log, HEADER + 4 + 7), 5);
    }

    proptest! {
        #[test]
        fn joined_parts_are_the_output(
            pieces in proptest::collection::vec(
                (prop_oneof![Just(0usize), 1..50usize, 16_000..40_000usize], any::<bool>()), 0..12),
        ) {
            let mut lines = Lines::new(Name::Stdout);
            let (mut input, mut log) = (Vec::new(), Vec::new());
            for (size, newline) in pieces {
                let mut piece = vec![b'y'; size];
                if newline { piece.push(b'\n'); }
                lines.push(&piece, &Stamp::new(AT), &mut log);
                prop_assert!(lines.begun.len() <= MAX_TEXT);
                input.extend(piece);
            }
            lines.flush(&Stamp::new(AT), &mut log);
            let mut joined = Vec::new();
            for (tag, text) in parse(&log) {
                prop_assert!(text.len() <= MAX_TEXT);
                joined.extend(text);
                if tag == 'F' { joined.push(b'\n'); }
            }
            prop_assert_eq!(joined, input);
            prop_assert!(lost(&log, 0) <= log.len() as u64);
        }
    }
}
