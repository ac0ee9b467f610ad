//! The text format of Prometheus, version 0.0.4: families one behind the other, each with its help and type, and no two
//! samples of the same name and labels.

use crate::histogram::Histogram;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};
use std::time::Duration;

/// What a number does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::kubelet::http) enum Kind {
    Counter,
    Gauge,
    /// Of [`Exposition::histogram`] alone.
    Histogram,
}

/// A number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::kubelet::http) enum Value {
    Whole(u64),
    /// A duration, shown as seconds.
    Nanos(u64),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SECOND: u64 = 1_000_000_000;
        match *self {
            Self::Whole(number) => write!(f, "{number}"),
            Self::Nanos(nanos) => write!(f, "{}.{:09}", nanos / SECOND, nanos % SECOND),
        }
    }
}

/// A sample of a family.
#[derive(Clone, Copy, Debug)]
pub(in crate::kubelet::http) struct Sample<'a> {
    /// Names and values.
    pub(in crate::kubelet::http) labels: &'a [(&'a str, &'a str)],
    pub(in crate::kubelet::http) value: Value,
    /// When it was read, nanoseconds since 1970; 0: now.
    pub(in crate::kubelet::http) nanos: i64,
}

/// Nanoseconds in a millisecond, the unit of the format's times.
const MILLI: i64 = 1_000_000;

struct Family {
    kind: Kind,
    help: String,
    seen: BTreeSet<String>,
    text: String,
}

/// Families of samples, sorted by name.
#[derive(Default)]
pub(in crate::kubelet::http) struct Exposition(BTreeMap<String, Family>);

impl Exposition {
    /// A family, without samples yet. Without any it is left out.
    pub(in crate::kubelet::http) fn family(&mut self, name: &str, kind: Kind, help: &str) {
        let help = help.to_owned();
        self.0.entry(name.to_owned()).or_insert_with(|| Family {
            kind,
            help,
            seen: BTreeSet::new(),
            text: String::new(),
        });
    }

    /// Adds a sample to a family there is. One of the same labels as an earlier one is left out, and so is one whose names
    /// are none.
    pub(in crate::kubelet::http) fn add(&mut self, name: &str, sample: Sample<'_>) {
        self.add_part(name, "", sample);
    }

    /// Adds a sample named after its family and `part`.
    fn add_part(&mut self, name: &str, part: &str, sample: Sample<'_>) {
        let named = is_name(name) && sample.labels.iter().all(|(key, _)| is_name(key));
        let Some(family) = self.0.get_mut(name).filter(|_| named) else { return };
        let labels = format!("{part}{}", labels(sample.labels));
        if !family.seen.insert(labels.clone()) {
            return;
        }
        // Writing to a String cannot fail.
        write!(family.text, "{name}{labels} {}", sample.value).ok();
        if sample.nanos > 0 {
            write!(family.text, " {}", sample.nanos / MILLI).ok();
        }
        family.text.push('\n');
    }

    /// Adds times to a family of histograms there is.
    pub(in crate::kubelet::http) fn histogram(
        &mut self,
        name: &str,
        labels: &[(&str, &str)],
        times: &Histogram,
    ) {
        let bound = |bound: Duration| nanos(bound).to_string();
        let buckets = times.buckets().map(|(limit, count)| (bound(limit), count));
        for (limit, count) in buckets.chain([("+Inf".to_owned(), times.count())]) {
            let labels: Vec<_> = labels.iter().copied().chain([("le", limit.as_str())]).collect();
            let sample = Sample { labels: &labels, value: Value::Whole(count), nanos: 0 };
            self.add_part(name, "_bucket", sample);
        }
        let count = Value::Whole(times.count());
        for (part, value) in [("_sum", nanos(times.sum())), ("_count", count)] {
            self.add_part(name, part, Sample { labels, value, nanos: 0 });
        }
    }

    /// A family of one sample, as of now.
    pub(in crate::kubelet::http) fn one(
        &mut self,
        (name, kind, help): (&str, Kind, &str),
        labels: &[(&str, &str)],
        value: Value,
    ) {
        self.family(name, kind, help);
        self.add(name, Sample { labels, value, nanos: 0 });
    }

    /// The text.
    pub(in crate::kubelet::http) fn text(self) -> String {
        let mut text = String::new();
        for (name, family) in self.0 {
            if family.text.is_empty() {
                continue;
            }
            let kind = match family.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram => "histogram",
            };
            let help = family.help.replace('\\', "\\\\").replace('\n', "\\n");
            write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{}", family.text).ok();
        }
        text
    }
}

fn nanos(time: Duration) -> Value {
    Value::Nanos(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}

fn is_name(name: &str) -> bool {
    let letter = |c: char| c.is_ascii_alphabetic() || c == '_';
    name.starts_with(letter) && name.chars().all(|c| letter(c) || c.is_ascii_digit())
}

fn labels(labels: &[(&str, &str)]) -> String {
    if labels.is_empty() {
        return String::new();
    }
    let escaped =
        |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let pairs: Vec<String> =
        labels.iter().map(|(key, value)| format!("{key}=\"{}\"", escaped(value))).collect();
    format!("{{{}}}", pairs.join(","))
}

#[cfg(test)]
mod tests {
    use super::super::checker::check;
    use super::*;

    #[test]
    fn samples_are_by_family_and_values_are_escaped() {
        let mut all = Exposition::default();
        all.family("b_total", Kind::Counter, "one\\two\nthree");
        all.family("a", Kind::Gauge, "A.");
        all.family("empty", Kind::Gauge, "None.");
        let labels = [("x", "q\"b\\n\nl")];
        all.add("b_total", Sample { labels: &labels, value: Value::Whole(7), nanos: 0 });
        all.add("a", Sample { labels: &[], value: Value::Nanos(1_020_000_000), nanos: 5_000_000 });
        all.add("b_total", Sample { labels: &labels, value: Value::Whole(8), nanos: 0 });
        all.add("b_total", Sample { labels: &[("0", "")], value: Value::Whole(8), nanos: 0 });
        let text = all.text();
        assert_eq!(
            text,
            "# HELP a A.\n# TYPE a gauge\na 1.020000000 5\n\
            # HELP b_total one\\\\two\\nthree\n# TYPE b_total counter\n\
            b_total{x=\"q\\\"b\\\\n\\nl\"} 7\n"
        );
        let samples = check(&text).unwrap();
        assert_eq!(samples[1].labels["x"], "q\"b\\n\nl");
    }
}
