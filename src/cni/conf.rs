//! Network configuration lists (CNI spec, section 1): which file is used, and what is in it.
//!
//! The first file in lexical order with one of three extensions is *the* network. When that file
//! is wrong there is no network: the next one is not used instead, since a pod on another network
//! than the one meant is worse than no pod.

use super::request::NotReady;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A version of the CNI protocol that berth speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum CniVersion {
    /// 0.3.1: ADD and DEL.
    #[serde(rename = "0.3.1")]
    V0_3_1,
    /// 0.4.0: CHECK.
    #[serde(rename = "0.4.0")]
    V0_4_0,
    /// 1.0.0: no `version` in addresses.
    #[serde(rename = "1.0.0")]
    V1_0_0,
    /// 1.1.0: GC and STATUS.
    #[serde(rename = "1.1.0")]
    V1_1_0,
}

impl CniVersion {
    /// All of them, oldest first.
    pub const ALL: [Self; 4] = [Self::V0_3_1, Self::V0_4_0, Self::V1_0_0, Self::V1_1_0];

    /// As it stands in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V0_3_1 => "0.3.1",
            Self::V0_4_0 => "0.4.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }

    /// Whether plugins know the command.
    pub fn has_check(self) -> bool {
        self >= Self::V0_4_0
    }

    /// Whether plugins know GC and STATUS.
    pub fn has_gc_and_status(self) -> bool {
        self >= Self::V1_1_0
    }
}

impl FromStr for CniVersion {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|version| version.as_str() == text)
            .ok_or_else(|| format!("cniVersion {text:?} is not one of 0.3.1, 0.4.0, 1.0.0, 1.1.0"))
    }
}

/// One plugin of a list: its type and its part of the configuration, as it was written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plugin {
    /// The plugin's file name.
    pub kind: String,
    /// The keys that the plugin gets, without `capabilities`.
    pub conf: Map<String, Value>,
    /// The capabilities that it asks for.
    pub capabilities: Vec<String>,
}

/// A network configuration list, valid and ready to be run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConfList {
    /// The network's name.
    pub name: String,
    /// The version spoken with every plugin of the list.
    pub version: CniVersion,
    /// CHECK is not to be called.
    pub disable_check: bool,
    /// GC is not to be called.
    pub disable_gc: bool,
    /// The plugins, in the order of ADD; at least one.
    pub plugins: Vec<Plugin>,
}

/// Loads the network of a folder.
///
/// # Errors
/// [`NotReady`] with what is wrong: no folder, no file, a file that is not a configuration.
pub fn load_dir(dir: &Path) -> Result<ConfList, NotReady> {
    let Some(path) = first_file(dir)? else {
        return Err(NotReady::new(format!("no CNI configuration in {}", dir.display())));
    };
    let text = std::fs::read(&path)
        .map_err(|e| NotReady::new(format!("read CNI configuration {}: {e}", path.display())))?;
    let parsed = if path.extension().is_some_and(|x| x == "conflist") {
        parse_list(&text)
    } else {
        parse_single(&text)
    };
    parsed.map_err(|why| NotReady::new(format!("CNI configuration {}: {why}", path.display())))
}

/// The first configuration file of a folder in lexical order.
fn first_file(dir: &Path) -> Result<Option<PathBuf>, NotReady> {
    let unreadable = |e: std::io::Error| {
        NotReady::new(format!("no CNI configuration in {}: {e}", dir.display()))
    };
    let mut first: Option<PathBuf> = None;
    for entry in std::fs::read_dir(dir).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if is_configuration(&path) && first.as_ref().is_none_or(|best| path < *best) {
            first = Some(path);
        }
    }
    Ok(first)
}

/// Whether a path is a file with one of the extensions. A folder, and a link that leads nowhere, is no
/// file.
pub(super) fn is_configuration(path: &Path) -> bool {
    let known = path.extension().is_some_and(|x| x == "conflist" || x == "conf" || x == "json");
    known && path.is_file()
}

/// Parses the text of a `*.conflist`.
///
/// # Errors
/// What is wrong, without the file's name.
pub(super) fn parse_list(text: &[u8]) -> Result<ConfList, String> {
    let mut list = parse_object(text)?;
    let plugins = match list.remove("plugins") {
        Some(Value::Array(plugins)) if !plugins.is_empty() => plugins,
        Some(Value::Array(_)) | None => return Err("it lists no plugins".to_owned()),
        Some(_) => return Err("plugins is not a list".to_owned()),
    };
    let plugins = plugins.into_iter().map(parse_plugin).collect::<Result<_, _>>()?;
    Ok(ConfList {
        name: parse_name(&list)?,
        version: parse_version(&list)?,
        disable_check: parse_switch(&list, "disableCheck")?,
        disable_gc: parse_switch(&list, "disableGC")?,
        plugins,
    })
}

/// Parses the text of a `*.conf` or `*.json`: one plugin that stands for a list of itself.
///
/// # Errors
/// What is wrong, without the file's name.
pub(super) fn parse_single(text: &[u8]) -> Result<ConfList, String> {
    let conf = parse_object(text)?;
    if conf.contains_key("plugins") {
        // A list under the wrong name: clear what is meant, and others take it, too.
        return parse_list(text);
    }
    Ok(ConfList {
        name: parse_name(&conf)?,
        version: parse_version(&conf)?,
        disable_check: false,
        disable_gc: false,
        plugins: vec![parse_plugin(Value::Object(conf))?],
    })
}

fn parse_object(text: &[u8]) -> Result<Map<String, Value>, String> {
    match serde_json::from_slice(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err("not a JSON object".to_owned()),
        Err(e) => Err(e.to_string()),
    }
}

fn parse_name(conf: &Map<String, Value>) -> Result<String, String> {
    let name = conf.get("name").and_then(Value::as_str).ok_or("it has no name")?;
    // Spec: a letter or digit first, then letters, digits, '_', '.', '-'.
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    let rest = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if starts_well && name.chars().all(rest) {
        Ok(name.to_owned())
    } else {
        Err(format!("{name:?} is not a network name"))
    }
}

/// The newest version that both sides know: of `cniVersions` where given (1.1.0), else
/// `cniVersion`.
fn parse_version(conf: &Map<String, Value>) -> Result<CniVersion, String> {
    let single = conf.get("cniVersion").map(|v| v.as_str().ok_or("cniVersion is not text"));
    if let Some(Value::Array(offered)) = conf.get("cniVersions") {
        let known = offered.iter().filter_map(Value::as_str).filter_map(|v| v.parse().ok());
        let single = single.and_then(Result::ok).and_then(|v| v.parse().ok());
        return known.chain(single).max().ok_or_else(|| {
            format!("none of cniVersions {} is known", Value::Array(offered.clone()))
        });
    }
    single.ok_or("it has no cniVersion")??.parse()
}

fn parse_switch(conf: &Map<String, Value>, key: &str) -> Result<bool, String> {
    match conf.get(key) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(on)) => Ok(*on),
        // The spec's own examples quote it.
        Some(Value::String(text)) if text == "true" || text == "false" => Ok(text == "true"),
        Some(other) => Err(format!("{key} is {other}, not true or false")),
    }
}

fn parse_plugin(value: Value) -> Result<Plugin, String> {
    let Value::Object(mut conf) = value else {
        return Err("a plugin is not a JSON object".to_owned());
    };
    let kind = conf.get("type").and_then(Value::as_str).ok_or("a plugin has no type")?.to_owned();
    if kind.is_empty() || kind.contains(['/', '\0']) || kind == "." || kind == ".." {
        return Err(format!("plugin type {kind:?} is not a file name"));
    }
    let capabilities = match conf.remove("capabilities") {
        Some(Value::Object(asked)) => asked
            .into_iter()
            .filter(|(_, wanted)| *wanted == Value::Bool(true))
            .map(|(name, _)| name)
            .collect(),
        _ => Vec::new(),
    };
    Ok(Plugin { kind, conf, capabilities })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = r#"{"cniVersion":"1.0.0","name":"podnet","plugins":[
        {"type":"bridge","bridge":"cni0","ipam":{"type":"host-local"}},
        {"type":"portmap","capabilities":{"portMappings":true,"other":false}}]}"#;

    #[test]
    fn a_list_is_read_with_its_plugins_in_order() {
        let list = parse_list(LIST.as_bytes()).unwrap();
        assert_eq!((list.name.as_str(), list.version), ("podnet", CniVersion::V1_0_0));
        assert!(!list.disable_check && !list.disable_gc);
        let kinds: Vec<_> = list.plugins.iter().map(|p| p.kind.as_str()).collect();
        assert_eq!(kinds, ["bridge", "portmap"]);
        assert_eq!(list.plugins[1].capabilities, ["portMappings"]);
        assert!(!list.plugins[1].conf.contains_key("capabilities"));
        assert_eq!(list.plugins[0].conf["bridge"], "cni0");
    }

    #[test]
    fn a_single_configuration_is_a_list_of_one() {
        let text = br#"{"cniVersion":"0.3.1","name":"n","type":"bridge","mtu":1400}"#;
        let list = parse_single(text).unwrap();
        assert_eq!((list.plugins.len(), list.version), (1, CniVersion::V0_3_1));
        assert_eq!(parse_single(LIST.as_bytes()), parse_list(LIST.as_bytes()));
    }

    #[test]
    fn the_newest_known_of_several_versions_is_spoken() {
        let text = br#"{"cniVersion":"0.4.0","cniVersions":["1.1.0","0.3.1","9.0.0"],"name":"n",
            "disableCheck":"true","disableGC":true,"plugins":[{"type":"a"}]}"#;
        let list = parse_list(text).unwrap();
        assert_eq!(list.version, CniVersion::V1_1_0);
        assert!(list.disable_check && list.disable_gc);
    }

    #[test]
    fn what_cannot_be_run_is_refused_with_the_reason() {
        for (name, text, says) in [
            ("not JSON", "{", "EOF"),
            ("not an object", "[]", "not a JSON object"),
            ("no plugins", r#"{"cniVersion":"1.0.0","name":"n","plugins":[]}"#, "no plugins"),
            ("no name", r#"{"cniVersion":"1.0.0","plugins":[{"type":"a"}]}"#, "no name"),
            (
                "bad name",
                r#"{"cniVersion":"1.0.0","name":"../n","plugins":[{"type":"a"}]}"#,
                "../n",
            ),
            ("no version", r#"{"name":"n","plugins":[{"type":"a"}]}"#, "no cniVersion"),
            ("old", r#"{"cniVersion":"0.2.0","name":"n","plugins":[{"type":"a"}]}"#, "0.2.0"),
            ("no type", r#"{"cniVersion":"1.0.0","name":"n","plugins":[{}]}"#, "no type"),
            ("path", r#"{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"../a"}]}"#, "../a"),
        ] {
            let why = parse_list(text.as_bytes()).unwrap_err();
            assert!(why.contains(says), "{name}: {why}");
        }
    }

    #[test]
    fn the_first_file_in_lexical_order_is_the_network_and_others_are_not_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        assert!(load_dir(dir.path()).unwrap_err().message.contains("no CNI configuration"));
        write("00-readme.txt", "no");
        write("05-half.conflist.tmp", "{");
        std::fs::create_dir(dir.path().join("01-dir.conf")).unwrap();
        write("20-b.conf", r#"{"cniVersion":"1.0.0","name":"b","type":"bridge"}"#);
        assert_eq!(load_dir(dir.path()).unwrap().name, "b");
        write("10-a.conflist", LIST);
        assert_eq!(load_dir(dir.path()).unwrap().name, "podnet");
    }

    #[test]
    fn a_broken_first_file_is_an_error_and_not_a_reason_to_use_the_second() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("10-a.conflist"), "{").unwrap();
        std::fs::write(dir.path().join("20-b.conflist"), LIST).unwrap();
        let refused = load_dir(dir.path()).unwrap_err();
        assert_eq!(refused.reason, "NetworkPluginNotReady");
        assert!(refused.message.contains("10-a.conflist"), "{refused}");
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_parsers_panic(text in "\\PC{0,64}") {
            parse_list(text.as_bytes()).ok();
            parse_single(text.as_bytes()).ok();
        }
    }
}
