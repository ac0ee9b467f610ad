//! Reads the text format of Prometheus 0.0.4 line by line, and takes nothing that a scrape would not.

use std::collections::{BTreeMap, BTreeSet};

/// A sample as a scrape sees it.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::kubelet::http) struct Scraped {
    pub(in crate::kubelet::http) name: String,
    pub(in crate::kubelet::http) labels: BTreeMap<String, String>,
    pub(in crate::kubelet::http) value: f64,
}

/// All samples, or what is wrong with the first line that is wrong.
pub(in crate::kubelet::http) fn check(text: &str) -> Result<Vec<Scraped>, String> {
    if !text.is_empty() && !text.ends_with('\n') {
        return Err("the last line has no end".into());
    }
    let mut samples: Vec<Scraped> = Vec::new();
    let mut helped = BTreeSet::new();
    let mut typed: BTreeMap<String, String> = BTreeMap::new();
    let mut family = String::new();
    for line in text.lines() {
        let wrong = |what: &str| Err(format!("{what}: {line:?}"));
        if let Some(rest) = line.strip_prefix("# HELP ") {
            family = rest.split(' ').next().unwrap_or_default().to_owned();
            if !is_name(&family) || !helped.insert(family.clone()) {
                return wrong("help of no family or told twice");
            }
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap_or_default();
            if name != family || !["counter", "gauge", "histogram"].contains(&kind) {
                return wrong("no type, or not behind its help");
            }
            if typed.insert(name.to_owned(), kind.to_owned()).is_some() {
                return wrong("a type told twice");
            }
        } else {
            let sample = sample(line).map_err(|what| format!("{what}: {line:?}"))?;
            let of =
                |name: &str| name == family && typed.get(name).is_some_and(|k| k != "histogram");
            let part = |part: &str| {
                let name = sample.name.strip_suffix(part);
                name.is_some_and(|n| n == family && typed.get(n).is_some_and(|k| k == "histogram"))
            };
            if !of(&sample.name) && !["_bucket", "_sum", "_count"].into_iter().any(part) {
                return wrong("a sample outside its family");
            }
            if samples.iter().any(|s| s.name == sample.name && s.labels == sample.labels) {
                return wrong("the same sample again");
            }
            samples.push(sample);
        }
    }
    Ok(samples)
}

fn is_name(name: &str) -> bool {
    let letter = |c: char| c.is_ascii_alphabetic() || c == '_' || c == ':';
    name.starts_with(letter) && name.chars().all(|c| letter(c) || c.is_ascii_digit())
}

fn sample(line: &str) -> Result<Scraped, &'static str> {
    let end = line.find(['{', ' ']).ok_or("no value")?;
    let (name, mut rest) = line.split_at(end);
    if !is_name(name) {
        return Err("no name");
    }
    let mut labels = BTreeMap::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        loop {
            let (key, after) = rest.split_once("=\"").ok_or("a label without a value")?;
            if !is_name(key) || key.contains(':') {
                return Err("no label's name");
            }
            let (value, after) = quoted(after)?;
            if labels.insert(key.to_owned(), value).is_some() {
                return Err("a label twice");
            }
            if let Some(after) = after.strip_prefix('}') {
                rest = after;
                break;
            }
            rest = after.strip_prefix(',').ok_or("no end of labels")?;
        }
    }
    let rest = rest.strip_prefix(' ').ok_or("no space before the value")?;
    let mut words = rest.split(' ');
    let value = words.next().and_then(|word| word.parse().ok()).ok_or("no number")?;
    if words.next().is_some_and(|time| time.parse::<i64>().is_err()) || words.next().is_some() {
        return Err("no time");
    }
    Ok(Scraped { name: name.to_owned(), labels, value })
}

fn quoted(text: &str) -> Result<(String, &str), &'static str> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((value, &text[at + 1..])),
            '\\' => value.push(match chars.next().map(|(_, c)| c) {
                Some('n') => '\n',
                Some(c @ ('"' | '\\')) => c,
                _ => return Err("no escape"),
            }),
            c => value.push(c),
        }
    }
    Err("no end of a value")
}

#[test]
fn what_a_scrape_would_not_take_is_told() {
    let head = "# HELP a A.\n# TYPE a gauge\n";
    check(&format!("{head}a 1\na{{x=\"1\"}} 1.5 77\n")).unwrap();
    for bad in [
        "a 1\n".to_owned(),
        format!("{head}b 1\n"),
        format!("{head}a 1\na 1\n"),
        format!("{head}a x\n"),
        format!("{head}a 1"),
        format!("{head}a{{x=1}} 1\n"),
        format!("{head}a{{x=\"\\z\"}} 1\n"),
        format!("{head}a{{x=\"1\",x=\"2\"}} 1\n"),
        format!("{head}a  1\n"),
        format!("{head}{head}"),
    ] {
        assert!(check(&bad).is_err(), "{bad:?}");
    }
}
