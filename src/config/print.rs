//! The effective configuration as text: TOML again, with the origin of each value behind it.

use super::{BlockIo, Config, ConfigError, Kubelet, Loaded, Runtime};
use serde_json::Value;
use std::fmt::Write as _;
use std::path::PathBuf;

impl Loaded {
    /// The whole configuration as TOML, one key a line, each with a comment that names its origin.
    ///
    /// # Errors
    /// A value that cannot be written as TOML, which no valid configuration holds.
    pub fn to_text(&self) -> Result<String, ConfigError> {
        let mut text = String::new();
        for sentence in &self.ignored {
            writeln!(text, "# {sentence}").ok();
        }
        for (table, keys) in tables(&self.config)? {
            // Writing to a String cannot fail, here and below.
            writeln!(text, "{}[{table}]", if text.is_empty() { "" } else { "\n" }).ok();
            for (key, value) in keys {
                let origin = self.origin(&format!("{table}.{key}"));
                match toml_value(&value)? {
                    Some(value) => writeln!(text, "{key} = {value}  # {origin}").ok(),
                    None => writeln!(text, "# {key} is not set  # {origin}").ok(),
                };
            }
        }
        Ok(text)
    }
}

/// Every key of the schema, with its table.
///
/// # Errors
/// None at present.
pub fn keys() -> Result<Vec<String>, ConfigError> {
    let mut config = Config::default();
    // A table whose name is free, once.
    config.blockio.insert("NAME".to_owned(), BlockIo::default());
    config.runtimes.insert("NAME".to_owned(), Runtime { path: PathBuf::new() });
    config.kubelet = Some(Kubelet::default());
    let tables = tables(&config)?;
    Ok(tables
        .into_iter()
        .flat_map(|(table, keys)| keys.into_iter().map(move |(key, _)| format!("{table}.{key}")))
        .collect())
}

type Table = (String, Vec<(String, Value)>);

/// All values by table. By way of JSON, which keeps what is absent (`null`); TOML does not.
fn tables(config: &Config) -> Result<Vec<Table>, ConfigError> {
    let failed = |e: serde_json::Error| ConfigError::Merge { message: e.to_string() };
    let Value::Object(tables) = serde_json::to_value(config).map_err(failed)? else {
        return Ok(Vec::new());
    };
    let mut all = Vec::new();
    for (name, value) in tables {
        if let Value::Object(keys) = value {
            split(&name, keys, &mut all);
        }
    }
    Ok(all)
}

/// A table, and each table in it by its whole name.
fn split(name: &str, keys: serde_json::Map<String, Value>, all: &mut Vec<Table>) {
    let mut plain = Vec::new();
    let mut inner = Vec::new();
    for (key, value) in keys {
        match value {
            // A map without entries is a value: there is no table of it.
            Value::Object(keys) if !keys.is_empty() => inner.push((format!("{name}.{key}"), keys)),
            value => plain.push((key, value)),
        }
    }
    if !plain.is_empty() {
        all.push((name.to_owned(), plain));
    }
    for (name, keys) in inner {
        split(&name, keys, all);
    }
}

fn toml_value(value: &Value) -> Result<Option<String>, ConfigError> {
    if value.is_null() {
        return Ok(None);
    }
    let failed = |e: toml::ser::Error| ConfigError::Merge { message: e.to_string() };
    toml::Value::try_from(value).map_err(failed).map(|v| Some(v.to_string()))
}

#[cfg(test)]
mod tests {
    use super::super::load::{Overrides, merge};
    use super::*;

    #[test]
    fn the_printed_configuration_reads_back_as_itself() {
        let text = "[server]\ngroup = \"adm\"\n[image]\nplain_http = [\"a:5000\", \"b\"]\n\
            [runtimes.runc]\npath = \"/usr/bin/runc\"\n";
        let loaded = merge(&[("/c".into(), text.into())], &Overrides::default()).unwrap();
        let printed = loaded.to_text().unwrap();
        let again: Config = toml::from_str(&printed).unwrap();
        assert_eq!(again, loaded.config);
        assert!(printed.contains("group = \"adm\"  # /c:2\n"), "{printed}");
        assert!(
            printed.contains("[runtimes.runc]\npath = \"/usr/bin/runc\"  # /c:6\n"),
            "{printed}"
        );
        assert!(printed.contains("# libexec is not set  # default\n"), "{printed}");
        assert!(printed.contains("mtu = 1500  # default\n"), "{printed}");
    }

    #[test]
    fn every_key_is_in_the_reference() {
        let reference = include_str!("../../docs/config.md");
        let mut table = "";
        let mut documented = std::collections::BTreeSet::new();
        for line in reference.lines() {
            if let Some(name) = line.strip_prefix("## `[") {
                table = name.trim_end_matches("]`");
            } else if let Some(rest) = line.strip_prefix("| `") {
                documented.insert(format!("{table}.{}", rest.split('`').next().unwrap()));
            }
        }
        let keys: std::collections::BTreeSet<String> = keys().unwrap().into_iter().collect();
        assert_eq!(documented, keys);
    }
}
