//! The formats of cgroup files (cgroup-v2.rst, "Interface Files"): a single value, flat keyed,
//! nested keyed, and the pressure format (Documentation/accounting/psi.rst). Pure.

use super::Limit;

/// A whole number on a line of its own.
pub(super) fn parse_number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// A number, or `max`.
pub(super) fn parse_limit(text: &str) -> Option<Limit> {
    match text.trim() {
        "max" => Some(Limit::Max),
        number => number.parse().ok().map(Limit::Value),
    }
}

/// The lines of a flat keyed file, `key value`; a line that is not so is given back as the error.
pub(super) fn parse_flat(text: &str) -> impl Iterator<Item = Result<(&str, u64), &str>> {
    text.lines().filter(|line| !line.is_empty()).map(|line| {
        let pair = line.split_once(' ').and_then(|(key, value)| Some((key, value.parse().ok()?)));
        pair.ok_or(line)
    })
}

/// The lines of a nested keyed file, `key sub=value sub=value`. Values that are no numbers (`max`)
/// are left out.
pub(super) fn parse_nested(text: &str) -> impl Iterator<Item = Result<Nested<'_>, &str>> {
    text.lines().filter(|line| !line.is_empty()).map(|line| {
        let mut words = line.split_ascii_whitespace();
        let key = words.next().filter(|key| !key.contains('=')).ok_or(line)?;
        let mut values = Vec::new();
        for word in words {
            let (name, value) = word.split_once('=').ok_or(line)?;
            if let Ok(value) = value.parse() {
                values.push((name, value));
            }
        }
        Ok(Nested { key, values })
    })
}

/// One line of a nested keyed file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Nested<'a> {
    /// The line's first word: a device, as `major:minor`.
    pub key: &'a str,
    values: Vec<(&'a str, u64)>,
}

impl Nested<'_> {
    /// The number of a sub-key; 0 when it is missing.
    pub(super) fn value(&self, name: &str) -> u64 {
        self.values.iter().find(|(n, _)| *n == name).map_or(0, |(_, value)| *value)
    }
}

/// Shares of time in which tasks stalled, percent, and the sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Stall {
    /// Over the last 10 seconds, percent.
    pub avg10: f64,
    /// Over the last minute, percent.
    pub avg60: f64,
    /// Over the last five minutes, percent.
    pub avg300: f64,
    /// Since the cgroup was made, microseconds.
    pub total_usec: u64,
}

/// Pressure stall information of one resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Pressure {
    /// At least one task stalled.
    pub some: Stall,
    /// All tasks stalled.
    pub full: Stall,
}

/// A pressure file. `full` of the CPU is missing on older kernels and reads as zeros.
pub(super) fn parse_pressure(text: &str) -> Result<Pressure, &str> {
    let mut pressure = Pressure::default();
    for line in text.lines().filter(|line| !line.is_empty()) {
        let (kind, rest) = line.split_once(' ').ok_or(line)?;
        let stall = parse_stall(rest).ok_or(line)?;
        match kind {
            "some" => pressure.some = stall,
            "full" => pressure.full = stall,
            _ => return Err(line),
        }
    }
    Ok(pressure)
}

fn parse_stall(text: &str) -> Option<Stall> {
    let mut stall = Stall::default();
    for word in text.split_ascii_whitespace() {
        let (name, value) = word.split_once('=')?;
        match name {
            "avg10" => stall.avg10 = value.parse().ok()?,
            "avg60" => stall.avg60 = value.parse().ok()?,
            "avg300" => stall.avg300 = value.parse().ok()?,
            "total" => stall.total_usec = value.parse().ok()?,
            _ => {}
        }
    }
    Some(stall)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_limit_is_a_number_or_max() {
        assert_eq!(parse_limit("max\n"), Some(Limit::Max));
        assert_eq!(parse_limit("4096\n"), Some(Limit::Value(4096)));
        assert_eq!(parse_limit("-1\n"), None);
        assert_eq!(parse_limit(""), None);
    }

    #[test]
    fn a_flat_line_that_is_none_is_named() {
        let lines: Vec<_> = parse_flat("oom 1\n\nodd\noom_kill x\n").collect();
        assert_eq!(lines, [Ok(("oom", 1)), Err("odd"), Err("oom_kill x")]);
    }

    #[test]
    fn nested_lines_keep_numbers_and_leave_max_out() {
        let lines: Vec<_> = parse_nested("8:0 rbytes=1 wbytes=2 x=max\n=\n8:1 odd\n").collect();
        let first = lines[0].clone().unwrap();
        assert_eq!((first.key, first.value("wbytes"), first.value("x")), ("8:0", 2, 0));
        assert_eq!(lines[1], Err("="));
        assert_eq!(lines[2], Err("8:1 odd"));
    }

    #[test]
    fn pressure_without_a_full_line_reads_as_zeros() {
        let text = "some avg10=1.50 avg60=0.25 avg300=0.00 total=123\n";
        let pressure = parse_pressure(text).unwrap();
        assert_eq!((pressure.some.avg10, pressure.some.total_usec), (1.5, 123));
        assert_eq!(pressure.full, Stall::default());
        assert!(parse_pressure("half avg10=1\n").is_err());
        assert!(parse_pressure("some avg10=x\n").is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_a_parser_panic(text in "[a-z0-9:= .\n-]{0,80}") {
            parse_flat(&text).for_each(drop);
            parse_nested(&text).for_each(drop);
            parse_pressure(&text).ok();
            parse_limit(&text);
        }
    }
}
