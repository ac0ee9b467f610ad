//! A CNI configuration made from a template and the node's range of pod addresses.
//!
//! The placeholders have the names of other runtimes' templates: `{{.PodCIDR}}` is the first range,
//! `{{.PodCIDRRanges}}` the value of host-local's `ranges`, `{{.Routes}}` that of its `routes`. Other
//! placeholders, control structures among them, are an error and not text.

use super::conf;
use super::range::{PodRanges, RangeError};
use crate::store;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// What berth writes.
const FILE: &str = "10-berth.conflist";

/// Writes the network of `template` to `dir`, unless a network of somebody else is there. Answers
/// what was written; `None`: nothing had to be.
///
/// # Errors
/// [`RangeError::Template`] when it cannot be read or makes no network; [`RangeError::Store`].
pub(super) fn install(
    template: &Path,
    dir: &Path,
    ranges: &PodRanges,
) -> Result<Option<PathBuf>, RangeError> {
    if others(dir) {
        return Ok(None);
    }
    let failed = |why| RangeError::Template { path: template.to_owned(), why };
    let text = std::fs::read_to_string(template).map_err(|e| failed(e.to_string()))?;
    let text = render(&text, ranges).map_err(failed)?;
    conf::parse_list(text.as_bytes()).map_err(failed)?;
    std::fs::create_dir_all(dir).map_err(|e| failed(format!("create {}: {e}", dir.display())))?;
    let path = dir.join(FILE);
    if std::fs::read(&path).is_ok_and(|old| old == text.as_bytes()) {
        return Ok(None);
    }
    store::replace(&path, text.as_bytes())?;
    Ok(Some(path))
}

/// Whether somebody else's network is in the folder.
fn others(dir: &Path) -> bool {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).any(|path| {
        conf::is_configuration(&path) && path.file_name().is_some_and(|name| name != FILE)
    })
}

/// The template with its placeholders filled in.
fn render(template: &str, ranges: &PodRanges) -> Result<String, String> {
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after.split_once("}}").ok_or("a placeholder without an end")?;
        text.push_str(before);
        text.push_str(&value(name.trim(), ranges)?);
        rest = after;
    }
    text.push_str(rest);
    Ok(text)
}

fn value(name: &str, ranges: &PodRanges) -> Result<String, String> {
    let all = ranges.in_order();
    match name {
        ".PodCIDR" => Ok(all.first().map(ToString::to_string).unwrap_or_default()),
        ".PodCIDRRanges" => {
            let sets = all.iter().map(|range| json!([{ "subnet": range.to_string() }]));
            Ok(Value::Array(sets.collect()).to_string())
        }
        ".Routes" => {
            let everything = |v4: bool| if v4 { "0.0.0.0/0" } else { "::/0" };
            let routes = all.iter().map(|r| json!({ "dst": everything(r.addr().is_ipv4()) }));
            Ok(Value::Array(routes.collect()).to_string())
        }
        _ => {
            Err(format!("placeholder {{{{{name}}}}} is none of .PodCIDR, .PodCIDRRanges, .Routes"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEMPLATE: &str = r#"{ "cniVersion": "1.0.0", "name": "pods", "plugins": [ {
        "type": "bridge", "note": "{{ .PodCIDR }}",
        "ipam": { "type": "host-local", "ranges": {{.PodCIDRRanges}}, "routes": {{.Routes}} } } ] }"#;

    fn ranges(text: &str) -> PodRanges {
        PodRanges::parse(text).unwrap().unwrap()
    }

    #[test]
    fn placeholders_are_filled_in_for_every_range() {
        let text = render(TEMPLATE, &ranges("fd00:1::/64,10.1.2.0/24")).unwrap();
        let made: Value = serde_json::from_str(&text).unwrap();
        let plugin = &made["plugins"][0];
        assert_eq!(plugin["note"], "fd00:1::/64");
        let expected = json!([[{ "subnet": "fd00:1::/64" }], [{ "subnet": "10.1.2.0/24" }]]);
        assert_eq!(plugin["ipam"]["ranges"], expected);
        let expected = json!([{ "dst": "::/0" }, { "dst": "0.0.0.0/0" }]);
        assert_eq!(plugin["ipam"]["routes"], expected);
    }

    #[test]
    fn a_placeholder_that_is_not_known_is_an_error_by_name() {
        for (template, word) in
            [("{{range .Routes}}", "range .Routes"), ("{{.PodCIDR", "without an end")]
        {
            let why = render(template, &ranges("10.1.2.0/24")).unwrap_err();
            assert!(why.contains(word), "{why}");
        }
    }

    #[test]
    fn the_network_is_written_once_and_never_beside_one_of_somebody_else() {
        let temp = tempfile::tempdir().unwrap();
        let (template, dir) = (temp.path().join("template"), temp.path().join("net.d"));
        std::fs::write(&template, TEMPLATE).unwrap();
        let install = |range: &str| install(&template, &dir, &ranges(range)).unwrap();
        let path = install("10.1.2.0/24").unwrap();
        assert!(conf::load_dir(&dir).is_ok_and(|list| list.name == "pods"));
        assert_eq!(install("10.1.2.0/24"), None, "it is there");
        assert_eq!(install("10.9.9.0/24").as_ref(), Some(&path), "another range");
        assert!(std::fs::read_to_string(&path).unwrap().contains("10.9.9.0/24"));
        std::fs::write(dir.join("99-other.conf"), "{}").unwrap();
        assert_eq!(install("10.7.7.0/24"), None);
        assert!(std::fs::read_to_string(&path).unwrap().contains("10.9.9.0/24"));
    }

    #[test]
    fn a_template_that_makes_no_network_writes_nothing() {
        let temp = tempfile::tempdir().unwrap();
        let (template, dir) = (temp.path().join("template"), temp.path().join("net.d"));
        let ranges = ranges("10.1.2.0/24");
        for text in ["{", "{}", "{{.Unknown}}"] {
            std::fs::write(&template, text).unwrap();
            let error = install(&template, &dir, &ranges).unwrap_err();
            assert_eq!(error.kind(), crate::error::ErrorKind::FailedPrecondition, "{error}");
        }
        std::fs::remove_file(&template).unwrap();
        assert!(install(&template, &dir, &ranges).is_err());
        assert!(std::fs::read_dir(&dir).map_or(true, |mut entries| entries.next().is_none()));
    }
}
