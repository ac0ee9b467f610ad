//! Values of the API as values of keys; pure.

use crate::quantity::parse_whole;
use serde_json::Value;
use std::time::Duration;
use toml::Value as Toml;

/// How a value is written, and what becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// As it is; empty: not set.
    Text,
    /// The path of a folder; empty: not set.
    Folder,
    /// As it is.
    Bool,
    /// A whole number from 0 on; 0: not set.
    Number,
    /// A whole number from 0 on; 0 is no limit, as if it was not set.
    SomeNumber,
    /// A duration as `1m30s`, in whole seconds, rounded up; 0: not set.
    Seconds,
    /// A quantity as `10Mi`; empty: not set.
    Bytes,
    /// A list of texts.
    Texts,
    /// Texts by name.
    Map,
    /// A whole number; none below 1 is a limit.
    Limit,
    /// A part of 1, in whole percents.
    Percent,
    /// What is enforced; `none`: nothing.
    Enforced,
    /// Seconds by priority.
    Priorities,
    /// Lists of texts by name.
    Headers,
    /// The name of a cgroup driver, which is compared.
    Driver,
    /// `unix://` and a path.
    Endpoint,
    /// Switches by name.
    Gates,
    /// One of several fields that make a key.
    Together,
}

/// A value that a field cannot have.
pub(super) type Wrong = String;

/// What a key gets of a value; none: it is left as it is.
pub(super) fn convert(form: Form, value: &Value) -> Result<Option<Toml>, Wrong> {
    Ok(match form {
        Form::Text => some_text(value)?.map(Toml::String),
        Form::Folder => folder(value)?.map(Toml::String),
        Form::Bool => Some(Toml::Boolean(boolean(value)?)),
        Form::Number | Form::SomeNumber => match number(value)? {
            0 => None,
            number => Some(Toml::Integer(number)),
        },
        Form::Seconds => match seconds(value)? {
            0 => None,
            seconds => Some(Toml::Integer(seconds)),
        },
        Form::Bytes => some_text(value)?.map(|text| bytes(&text)).transpose()?,
        Form::Texts => Some(Toml::Array(texts(value)?.into_iter().map(Toml::String).collect())),
        Form::Map => Some(map(value)?),
        Form::Limit => limit(value)?.map(Toml::Integer),
        Form::Percent => Some(Toml::Integer(percent(value)?)),
        Form::Enforced => {
            let mut all = texts(value)?;
            all.retain(|what| what != "none");
            Some(Toml::Array(all.into_iter().map(Toml::String).collect()))
        }
        Form::Priorities => Some(priorities(value)?),
        Form::Headers => Some(headers(value)?),
        Form::Endpoint => endpoint(value)?.map(Toml::String),
        Form::Driver | Form::Gates | Form::Together => None,
    })
}

/// A text.
pub(super) fn text(value: &Value) -> Result<&str, Wrong> {
    value.as_str().ok_or_else(|| format!("{value} is not a text"))
}

fn some_text(value: &Value) -> Result<Option<String>, Wrong> {
    Ok(Some(text(value)?).filter(|text| !text.is_empty()).map(str::to_owned))
}

fn folder(value: &Value) -> Result<Option<String>, Wrong> {
    let path = some_text(value)?;
    if path.as_ref().is_some_and(|path| std::path::Path::new(path).is_file()) {
        return Err(format!("{value} is a file, and a folder is read"));
    }
    Ok(path)
}

/// true or false.
pub(super) fn boolean(value: &Value) -> Result<bool, Wrong> {
    value.as_bool().ok_or_else(|| format!("{value} is neither true nor false"))
}

/// A whole number from 0 on.
pub(super) fn number(value: &Value) -> Result<i64, Wrong> {
    let number = value.as_i64().filter(|number| *number >= 0);
    number.ok_or_else(|| format!("{value} is not a whole number from 0 on"))
}

fn texts(value: &Value) -> Result<Vec<String>, Wrong> {
    let items = value.as_array().ok_or_else(|| format!("{value} is not a list"))?;
    items.iter().map(|item| text(item).map(str::to_owned)).collect()
}

fn map(value: &Value) -> Result<Toml, Wrong> {
    let entries = value.as_object().ok_or_else(|| format!("{value} is not a map"))?;
    let entry = |(name, value): (&String, &Value)| {
        Ok((name.clone(), Toml::String(text(value)?.to_owned())))
    };
    entries.iter().map(entry).collect::<Result<toml::Table, Wrong>>().map(Toml::Table)
}

fn priorities(value: &Value) -> Result<Toml, Wrong> {
    const SECONDS: &str = "shutdownGracePeriodSeconds";
    let items = value.as_array().ok_or_else(|| format!("{value} is not a list"))?;
    let entry = |item: &Value| {
        let fields = item.as_object().ok_or_else(|| format!("{item} is no object"))?;
        if let Some(other) = fields.keys().find(|key| !["priority", SECONDS].contains(&&***key)) {
            return Err(format!("{other}: there is no such field"));
        }
        let of = |name: &str| item.get(name).cloned().unwrap_or_else(|| 0.into());
        let priority = of("priority");
        let priority = priority.as_i64().ok_or_else(|| format!("{priority} is not a number"))?;
        let mut table = toml::Table::new();
        table.insert("priority".to_owned(), Toml::Integer(priority));
        table.insert("seconds".to_owned(), Toml::Integer(number(&of(SECONDS))?));
        Ok(Toml::Table(table))
    };
    items.iter().map(entry).collect::<Result<Vec<Toml>, Wrong>>().map(Toml::Array)
}

fn limit(value: &Value) -> Result<Option<i64>, Wrong> {
    let limit = value.as_i64().ok_or_else(|| format!("{value} is not a whole number"))?;
    Ok(Some(limit).filter(|limit| *limit > 0))
}

fn percent(value: &Value) -> Result<i64, Wrong> {
    let part = value.as_f64().filter(|part| *part > 0.0 && *part <= 1.0);
    let part = part.ok_or_else(|| format!("{value} is not a number above 0, and 1 at most"))?;
    #[expect(clippy::cast_possible_truncation, reason = "0 to 100")]
    let percent = (part * 100.0).round() as i64;
    Ok(percent.max(1))
}

/// Several values of one header are one with commas between (RFC 9110, section 5.3).
fn headers(value: &Value) -> Result<Toml, Wrong> {
    let entries = value.as_object().ok_or_else(|| format!("{value} is not a map"))?;
    let joined = |(name, values): (&String, &Value)| {
        Ok((name.clone(), Toml::String(texts(values)?.join(", "))))
    };
    entries.iter().map(joined).collect::<Result<toml::Table, Wrong>>().map(Toml::Table)
}

fn bytes(text: &str) -> Result<Toml, Wrong> {
    let bytes = parse_whole(text).map_err(|error| format!("{text:?} {error}"))?;
    // A quantity fits.
    Ok(Toml::Integer(i64::try_from(bytes).unwrap_or(i64::MAX)))
}

fn endpoint(value: &Value) -> Result<Option<String>, Wrong> {
    let Some(text) = some_text(value)? else { return Ok(None) };
    match (text.strip_prefix("unix://"), text.starts_with('/')) {
        (Some(path), _) if path.starts_with('/') => Ok(Some(path.to_owned())),
        (None, true) => Ok(Some(text)),
        _ => Err(format!("{text:?} is not the path of a unix socket, unix:///PATH")),
    }
}

/// A duration in whole seconds, rounded up.
pub(super) fn seconds(value: &Value) -> Result<i64, Wrong> {
    let duration = duration(text(value)?)
        .ok_or_else(|| format!("{value} is not a duration such as 90s or 1m30s"))?;
    let seconds = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    i64::try_from(seconds).map_err(|_| format!("{value} is too long"))
}

/// A duration as Go writes it: numbers with units, from the largest to the smallest or not; `0`.
fn duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut sum = Duration::ZERO;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(end);
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let nanos = match unit {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return None,
        };
        let amount: f64 = number.parse().ok()?;
        sum = sum.checked_add(Duration::try_from_secs_f64(amount * nanos / 1e9).ok()?)?;
        rest = after;
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn durations_are_those_of_go() {
        for (text, nanos) in [
            ("0", Some(0)),
            ("0s", Some(0)),
            ("1m0s", Some(60_000_000_000_u128)),
            ("1h2m3s", Some(3_723_000_000_000)),
            ("1.5s", Some(1_500_000_000)),
            ("100ms", Some(100_000_000)),
            (".5m", Some(30_000_000_000)),
            ("-1s", None),
            ("10", None),
            ("s", None),
            ("", None),
            ("1d", None),
        ] {
            assert_eq!(duration(text).map(|d| d.as_nanos()), nanos, "{text}");
        }
    }

    #[test]
    fn each_form_becomes_the_value_of_a_key_or_says_what_is_wrong() {
        let text = |text: &str| Some(Toml::String(text.into()));
        for (form, value, expected) in [
            (Form::Text, json!("a"), text("a")),
            (Form::Text, json!(""), None),
            (Form::Bool, json!(false), Some(Toml::Boolean(false))),
            (Form::Number, json!(7), Some(Toml::Integer(7))),
            (Form::Number, json!(0), None),
            (Form::Seconds, json!("1.2s"), Some(Toml::Integer(2))),
            (Form::Seconds, json!("0s"), None),
            (Form::Bytes, json!("5Mi"), Some(Toml::Integer(5 << 20))),
            (Form::Endpoint, json!("unix:///run/a.sock"), text("/run/a.sock")),
            (Form::Endpoint, json!(""), None),
            (Form::Limit, json!(-1), None),
            (Form::Limit, json!(100), Some(Toml::Integer(100))),
            (Form::Percent, json!(0.9), Some(Toml::Integer(90))),
            (Form::Percent, json!(1), Some(Toml::Integer(100))),
            (Form::Enforced, json!(["none"]), Some(Toml::Array(Vec::new()))),
        ] {
            assert_eq!(convert(form, &value).unwrap(), expected, "{form:?} {value}");
        }
        let joined = convert(Form::Headers, &json!({"A": ["b", "c"]})).unwrap().unwrap();
        assert_eq!(joined["A"].as_str(), Some("b, c"));
        for (form, value) in [
            (Form::Text, json!(1)),
            (Form::Folder, json!("/etc/hostname")),
            (Form::Bool, json!("true")),
            (Form::Number, json!(-1)),
            (Form::Seconds, json!(10)),
            (Form::Bytes, json!("5 MB")),
            (Form::Texts, json!("a")),
            (Form::Map, json!({"a": 1})),
            (Form::Priorities, json!([{"priority": 1, "seconds": 1}])),
            (Form::Percent, json!(1.5)),
            (Form::Endpoint, json!("tcp://localhost:1")),
        ] {
            assert!(convert(form, &value).is_err(), "{form:?} {value}");
        }
    }
}
