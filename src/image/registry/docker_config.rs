//! docker's `config.json`: which credentials are for which repository. Pure but for one read.
//!
//! `auths` has keys of hosts, or of hosts with a path, of which the longest that fits wins. `credHelpers` names a
//! program for such a key, and goes before `auths`; `credsStore` names one for all that is in neither. Other keys are
//! docker's own and of no concern.

use super::super::info::Auth;
use super::super::reference::{Reference, is_below};
use super::credentials::normalize;
use super::error::RegistryError;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

/// The part of the file that is about credentials.
#[derive(Debug, Default, Deserialize)]
pub(super) struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    #[serde(default, rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
    #[serde(default, rename = "credsStore")]
    store: String,
}

#[derive(Default, Deserialize)]
struct Entry {
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    auth: String,
    #[serde(default)]
    identitytoken: String,
    #[serde(default)]
    registrytoken: String,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry").finish_non_exhaustive()
    }
}

/// Where the credentials of a repository are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Nowhere.
    Nothing,
    /// In the file.
    Here(Auth),
    /// With a helper, under this name.
    Helper { helper: String, server: String },
}

/// The credentials that a docker configuration has for an image, of which helpers are left out: a text that a pod brings
/// names no programs of the node. None if the text is no such configuration, too.
pub fn credentials_for(config: &[u8], image: &Reference) -> Option<Auth> {
    match DockerConfig::parse(config)?.find(image.registry(), image.repository()) {
        Found::Here(auth) => Some(auth),
        Found::Nothing | Found::Helper { .. } => None,
    }
}

impl DockerConfig {
    /// Reads the file; one that does not exist holds nothing. Blocks.
    ///
    /// # Errors
    /// [`RegistryError::File`]: it cannot be read, or is no such file.
    pub(super) fn read(path: &Path) -> Result<Self, RegistryError> {
        let failed = |source| RegistryError::File { path: path.to_owned(), source };
        match std::fs::read(path) {
            // The library's words may quote a value, which may be a password.
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| {
                let place = format!("line {} is not that of a docker configuration", e.line());
                failed(io::Error::new(io::ErrorKind::InvalidData, place))
            }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(failed(source)),
        }
    }

    /// The same from a text; none if it is no such file.
    fn parse(text: &[u8]) -> Option<Self> {
        serde_json::from_slice(text).ok()
    }

    /// What there is for a repository of a host.
    pub(super) fn find(&self, host: &str, repository: &str) -> Found {
        let whole = format!("{}/{repository}", normalize(host));
        if let Some((server, helper)) = longest(&self.helpers, &whole, |_| true)
            && !helper.is_empty()
        {
            return Found::Helper { helper: helper.clone(), server: server.to_owned() };
        }
        // docker leaves an empty entry for what is in its store.
        let filled = |entry: &Entry| {
            let values = [&entry.username, &entry.auth, &entry.identitytoken, &entry.registrytoken];
            values.iter().any(|value| !value.is_empty())
        };
        if let Some((_, entry)) = longest(&self.auths, &whole, filled) {
            return Found::Here(Auth {
                username: entry.username.clone(),
                password: entry.password.clone(),
                auth: entry.auth.clone(),
                identity_token: entry.identitytoken.clone(),
                registry_token: entry.registrytoken.clone(),
                server_address: String::new(),
            });
        }
        if self.store.is_empty() {
            return Found::Nothing;
        }
        let server = match normalize(host).as_str() {
            // The name that docker stores it under.
            "docker.io" => "https://index.docker.io/v1/".to_owned(),
            host => host.to_owned(),
        };
        Found::Helper { helper: self.store.clone(), server }
    }
}

/// The longest key that is the repository or a folder above it.
fn longest<'a, T>(
    map: &'a BTreeMap<String, T>,
    whole: &str,
    wanted: impl Fn(&T) -> bool,
) -> Option<(&'a str, &'a T)> {
    map.iter()
        .map(|(key, value)| (normalize(key), key, value))
        .filter(|(name, _, value)| is_below(whole, name) && wanted(value))
        .max_by_key(|(name, ..)| name.len())
        .map(|(_, key, value)| (key.as_str(), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> DockerConfig {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn the_longest_path_wins_and_no_part_of_a_name_does() {
        let config = config(
            r#"{"auths": {
                "https://index.docker.io/v1/": {"auth": "docker"},
                "q.test": {"auth": "host"}, "q.test/team": {"auth": "team"},
                "https://q.test/team/web": {"auth": "web"}, "q.test:5000": {"auth": "port"},
                "e.test": {}
            }, "HttpHeaders": {"a": "b"}}"#,
        );
        for (host, repository, auth) in [
            ("docker.io", "library/busybox", Some("docker")),
            ("q.test", "a", Some("host")),
            ("q.test", "team", Some("team")),
            ("q.test", "team/db", Some("team")),
            ("q.test", "teams/db", Some("host")),
            ("q.test", "team/web", Some("web")),
            ("q.test", "team/web/x", Some("web")),
            ("q.test:5000", "team", Some("port")),
            ("e.test", "a", None),
            ("t.test", "a", None),
            ("q.test.evil.test", "a", None),
        ] {
            let found = config.find(host, repository);
            let wanted = auth.map_or(Found::Nothing, |auth| {
                Found::Here(Auth { auth: auth.into(), ..Auth::default() })
            });
            assert_eq!(found, wanted, "{host}/{repository}");
        }
    }

    #[test]
    fn a_helper_goes_before_the_file_and_the_store_after_it() {
        let config = config(
            r#"{"auths": {"q.test": {"auth": "a"}, "h.test": {"auth": "b"}, "e.test": {}},
                "credHelpers": {"h.test": "own", "g.test/team": "team"}, "credsStore": "all"}"#,
        );
        let helper = |helper: &str, server: &str| Found::Helper {
            helper: helper.into(),
            server: server.into(),
        };
        assert!(matches!(config.find("q.test", "x"), Found::Here(_)));
        assert_eq!(config.find("h.test", "x"), helper("own", "h.test"));
        assert_eq!(config.find("g.test", "team/x"), helper("team", "g.test/team"));
        assert_eq!(config.find("g.test", "x"), helper("all", "g.test"));
        assert_eq!(config.find("e.test", "x"), helper("all", "e.test"));
        assert_eq!(config.find("docker.io", "x"), helper("all", "https://index.docker.io/v1/"));
    }

    #[test]
    fn a_file_that_is_none_is_told_by_its_line_and_not_quoted_and_a_missing_one_is_empty() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        assert_eq!(DockerConfig::read(&path).unwrap().find("q.test", "a"), Found::Nothing);
        std::fs::write(&path, "{\"auths\":\n {\"q.test\": \"hunter2\"}}").unwrap();
        let error = crate::error::chain(&DockerConfig::read(&path).unwrap_err());
        assert!(error.contains("config.json: line 2 is not"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}
