//! Reads the configuration files and remembers where each value came from.
//!
//! `config.toml` first, then `config.d/*.toml` beside it in lexical order. Tables are merged, and
//! of one key the last file wins; lists are replaced, not joined. Each file is checked on its own
//! against the schema, so that a mistake is told with its file and line.

use super::kubelet_file::{self, KubeletFile};
use super::{Config, ConfigError, validate};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use toml::de::{DeTable, DeValue};

/// Where the configuration is when nothing else is said.
pub const DEFAULT_PATH: &str = "/etc/berth/config.toml";

/// Where a value was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nowhere: it is berth's own.
    Default,
    /// In a file, at a line from 1 on.
    File(PathBuf, usize),
    /// By fields of a KubeletConfiguration.
    KubeletFile(PathBuf, String),
    /// By an option of the command line.
    CommandLine(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::KubeletFile(path, fields) => write!(f, "{}: {fields}", path.display()),
            Self::CommandLine(option) => f.write_str(option),
        }
    }
}

/// What the command line says in place of the files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `--log-level`.
    pub log_level: Option<String>,
    /// `--log-json`.
    pub log_json: bool,
}

/// The effective configuration and the origin of everything in it.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// What of a KubeletConfiguration changes nothing, a sentence each.
    pub ignored: Vec<String>,
    origins: BTreeMap<String, Origin>,
}

impl Loaded {
    /// Where the value of a key (`network.mtu`) was set.
    pub fn origin(&self, key: &str) -> Origin {
        self.origins.get(key).cloned().unwrap_or(Origin::Default)
    }
}

/// Reads `path` and the drop-ins beside it. `None`: the default path, which need not exist.
///
/// # Errors
/// A file that cannot be read, is not TOML, has an unknown key or an impossible value; a `path`
/// that was asked for and does not exist.
pub fn load(path: Option<&Path>, overrides: &Overrides) -> Result<Loaded, ConfigError> {
    let main = path.unwrap_or(Path::new(DEFAULT_PATH));
    let mut files = Vec::new();
    match std::fs::read_to_string(main) {
        Ok(text) => files.push((main.to_owned(), text)),
        Err(e) if e.kind() == io::ErrorKind::NotFound && path.is_none() => {}
        Err(source) => return Err(ConfigError::Read { path: main.to_owned(), source }),
    }
    for path in drop_ins(&main.with_file_name("config.d"))? {
        match std::fs::read_to_string(&path) {
            Ok(text) => files.push((path, text)),
            Err(source) => return Err(ConfigError::Read { path, source }),
        }
    }
    merge(&files, overrides)
}

/// The drop-ins of a folder in lexical order; none when it does not exist.
fn drop_ins(folder: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let failed = |source| ConfigError::Read { path: folder.to_owned(), source };
    let entries = match std::fs::read_dir(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(failed)?,
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|e| e == "toml") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// Makes one configuration of the texts of files, the first one weakest, and of the KubeletConfiguration that they
/// name, which is weaker than any of them.
pub(super) fn merge(
    files: &[(PathBuf, String)],
    overrides: &Overrides,
) -> Result<Loaded, ConfigError> {
    let mut merged = toml::Table::new();
    let mut origins = BTreeMap::new();
    for (path, text) in files {
        let failed = |error: toml::de::Error| ConfigError::Syntax {
            path: path.clone(),
            line: line_of(text, error.span()),
            message: error.message().to_owned(),
        };
        // Against the schema: unknown keys and wrong types are found here, with their place.
        toml::from_str::<Config>(text).map_err(failed)?;
        let places = DeTable::parse(text).map_err(failed)?;
        note_origins(path, text, places.get_ref(), "", &mut origins);
        merge_tables(&mut merged, text.parse().map_err(failed)?);
    }
    let from_kubelet = take_kubelet_file(&mut merged, &mut origins)?;
    let mut config: Config = merged
        .try_into()
        .map_err(|e: toml::de::Error| ConfigError::Merge { message: e.message().to_owned() })?;
    if let Some(level) = &overrides.log_level {
        config.log.level.clone_from(level);
        origins.insert("log.level".into(), Origin::CommandLine("--log-level"));
    }
    if overrides.log_json {
        config.log.json = true;
        origins.insert("log.json".into(), Origin::CommandLine("--log-json"));
    }
    if let (Some(kubelet), Some(Origin::KubeletFile(..))) =
        (&mut config.kubelet, origins.get("kubelet.runtime_endpoint"))
        && kubelet.runtime_endpoint.as_ref() == Some(&config.server.socket)
    {
        // That is berth itself.
        kubelet.runtime_endpoint = None;
    }
    let driver = config.cgroups.driver;
    let loaded = Loaded { config, ignored: from_kubelet.ignored, origins };
    if from_kubelet.driver.is_some_and(|wanted| wanted != driver) {
        return Err(ConfigError::Value {
            key: "cgroups.driver",
            value: format!("{driver:?}").to_lowercase(),
            origin: loaded.origin("cgroups.driver").to_string(),
            reason: "not the cgroupDriver of kubelet.config_file",
        });
    }
    validate::validate(&loaded)?;
    Ok(loaded)
}

/// Sets the keys of `[kubelet]` that nobody has set yet from the KubeletConfiguration that it names.
fn take_kubelet_file(
    merged: &mut toml::Table,
    origins: &mut BTreeMap<String, Origin>,
) -> Result<KubeletFile, ConfigError> {
    let Some(toml::Value::Table(kubelet)) = merged.get_mut("kubelet") else {
        return Ok(KubeletFile::default());
    };
    let Some(path) = kubelet.get("config_file").and_then(toml::Value::as_str) else {
        return Ok(KubeletFile::default());
    };
    let path = PathBuf::from(path);
    let file = kubelet_file::read(&path)?;
    for (key, (value, fields)) in &file.keys {
        if set_unless_there(kubelet, key, value) {
            let origin = Origin::KubeletFile(path.clone(), fields.clone());
            origins.insert(format!("kubelet.{key}"), origin);
        }
    }
    Ok(file)
}

/// Sets a key, which may be one of a table in the table; whether nobody had.
fn set_unless_there(table: &mut toml::Table, key: &str, value: &toml::Value) -> bool {
    match key.split_once('.') {
        Some((name, rest)) => {
            let inner = table.entry(name).or_insert_with(|| toml::Table::new().into());
            inner.as_table_mut().is_some_and(|inner| set_unless_there(inner, rest, value))
        }
        None if table.contains_key(key) => false,
        None => {
            table.insert(key.to_owned(), value.clone());
            true
        }
    }
}

fn merge_tables(into: &mut toml::Table, from: toml::Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(toml::Value::Table(old)), toml::Value::Table(new)) => merge_tables(old, new),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

/// Notes the place of every value of a file. No key of the schema has a table for its value, so a value
/// is whatever is no table.
fn note_origins(
    path: &Path,
    text: &str,
    table: &DeTable<'_>,
    prefix: &str,
    origins: &mut BTreeMap<String, Origin>,
) {
    for (key, value) in table {
        let name = format!("{prefix}{}", key.get_ref());
        if let DeValue::Table(inner) = value.get_ref() {
            note_origins(path, text, inner, &format!("{name}."), origins);
        } else {
            let line = line_of(text, Some(key.span()));
            origins.insert(name, Origin::File(path.to_owned(), line));
        }
    }
}

fn line_of(text: &str, span: Option<Range<usize>>) -> usize {
    let start = span.map_or(0, |s| s.start);
    1 + text.bytes().take(start).filter(|b| *b == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(texts: &[(&str, &str)]) -> Vec<(PathBuf, String)> {
        texts.iter().map(|(p, t)| ((*p).into(), (*t).into())).collect()
    }

    fn refused(text: &str) -> String {
        merge(&files(&[("/c", text)]), &Overrides::default()).unwrap_err().to_string()
    }

    #[test]
    fn the_last_file_wins_key_by_key_and_every_origin_is_known() {
        let loaded = merge(
            &files(&[
                ("/a", "[network]\nmtu = 1400\nbridge = \"br7\"\n"),
                ("/b", "# more\n\n[network]\nmtu = 9000\n[cgroups]\nenforce = \"best-effort\"\n"),
            ]),
            &Overrides { log_level: Some("debug".into()), log_json: false },
        )
        .unwrap();
        assert_eq!(loaded.config.network.mtu, 9000);
        assert_eq!(loaded.config.network.bridge, "br7");
        assert_eq!(loaded.config.log.level, "debug");
        for (key, origin) in [
            ("network.mtu", "/b:4"),
            ("network.bridge", "/a:3"),
            ("cgroups.enforce", "/b:6"),
            ("log.level", "--log-level"),
            ("image.keep_blobs", "default"),
        ] {
            assert_eq!(loaded.origin(key).to_string(), origin, "{key}");
        }
    }

    fn kubelet_file(dir: &Path, text: &str) -> String {
        let path = dir.join("kubelet.yaml");
        let head = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";
        std::fs::write(&path, format!("{head}{text}")).unwrap();
        format!("[kubelet]\nconfig_file = {:?}\n", path.to_str().unwrap())
    }

    #[test]
    fn a_kubelet_configuration_is_weaker_than_berths_own_keys_and_stronger_than_defaults() {
        let dir = tempfile::tempdir().unwrap();
        let text = kubelet_file(
            dir.path(),
            "maxPods: 7\nsyncFrequency: 10s\nrotateCertificates: true\n\
            imageGCHighThresholdPercent: 75\nimageGCLowThresholdPercent: 60\n\
            staticPodURLHeader: {A: [b]}\ncontainerRuntimeEndpoint: unix:///run/berth/berth.sock\n",
        );
        let own = "max_pods = 9\nsync_seconds = 60\n[kubelet.image_gc]\nhigh_percent = 70\n";
        let loaded =
            merge(&files(&[("/c", &format!("{text}{own}"))]), &Overrides::default()).unwrap();
        let kubelet = loaded.config.kubelet.as_ref().unwrap();
        // Also one that is set to its default.
        assert_eq!((kubelet.max_pods, kubelet.sync_seconds), (9, 60));
        assert_eq!(kubelet.manifest_url_headers["A"], "b");
        assert_eq!(kubelet.file_check_seconds, 20);
        assert_eq!((kubelet.image_gc.high_percent, kubelet.image_gc.low_percent), (70, 60));
        assert_eq!(kubelet.runtime_endpoint, None, "berth itself");
        assert_eq!(loaded.ignored.len(), 1);
        let loaded = merge(&files(&[("/c", &text)]), &Overrides::default()).unwrap();
        assert_eq!(loaded.config.kubelet.as_ref().unwrap().max_pods, 7);
        let origin = loaded.origin("kubelet.max_pods").to_string();
        assert!(origin.ends_with("/kubelet.yaml: maxPods"), "{origin}");
    }

    #[test]
    fn what_a_kubelet_configuration_says_is_checked_as_all_else_is() {
        let dir = tempfile::tempdir().unwrap();
        for (text, wanted) in [
            ("clusterDNS: [a]\n", "invalid"),
            ("crashLoopBackOff: {maxContainerRestartPeriod: 400s}\n", "not 1 to 300"),
            (
                "cgroupDriver: systemd\n",
                "cgroups.driver = cgroupfs (default): not the cgroupDriver",
            ),
            ("maxPod: 1\n", "kubelet.yaml: maxPod: there is no such field"),
        ] {
            let message = refused(&kubelet_file(dir.path(), text));
            assert!(message.contains(wanted), "{text}: {message}");
        }
        let message = refused("[kubelet]\nconfig_file = \"/nowhere/k.yaml\"\n");
        assert!(message.contains("/nowhere/k.yaml"), "{message}");
    }

    #[test]
    fn an_unknown_key_is_refused_with_file_and_line() {
        let text = refused("[network]\nmtu = 1400\nmtv = 3\n");
        assert!(text.starts_with("/c:3: unknown field `mtv`"), "{text}");
        let text = refused("\n[netwrok]\nmtu = 1400\n");
        assert!(text.starts_with("/c:2: unknown field `netwrok`"), "{text}");
    }

    #[test]
    fn wrong_types_and_broken_files_are_refused_with_their_line() {
        for (text, line) in [
            ("[network]\nmtu = \"x\"\n", "/c:2: "),
            ("[cgroups]\n\ndriver = \"upstart\"\n", "/c:3: "),
            ("[network\n", "/c:1: "),
            ("[network]\nmtu = 1\nmtu = 2\n", "/c:3: "),
            ("[image]\nmax_layer_bytes = -1\n", "/c:2: "),
        ] {
            let message = refused(text);
            assert!(message.starts_with(line), "{message}");
        }
    }

    #[test]
    fn impossible_values_are_refused_with_their_origin() {
        let text = refused("[paths]\nrun = \"run\"\n");
        assert!(text.starts_with("paths.run = run (/c:2): "), "{text}");
    }

    #[test]
    fn drop_ins_are_read_in_lexical_order_and_other_files_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let main = dir.path().join("config.toml");
        std::fs::write(&main, "[network]\nmtu = 1300\nbridge = \"a\"\n").unwrap();
        let folder = dir.path().join("config.d");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("20-b.toml"), "[network]\nmtu = 1320\n").unwrap();
        std::fs::write(folder.join("10-a.toml"), "[network]\nmtu = 1310\nbridge = \"b\"\n")
            .unwrap();
        std::fs::write(folder.join("30-c.toml.off"), "not read").unwrap();
        let loaded = load(Some(&main), &Overrides::default()).unwrap();
        assert_eq!(loaded.config.network.mtu, 1320);
        assert_eq!(loaded.config.network.bridge, "b");
        let expected = Origin::File(folder.join("20-b.toml"), 2);
        assert_eq!(loaded.origin("network.mtu"), expected);
    }

    #[test]
    fn a_file_that_was_asked_for_must_exist() {
        let error = load(Some(Path::new("/nowhere/berth.toml")), &Overrides::default());
        assert!(matches!(error, Err(ConfigError::Read { .. })));
    }
}
