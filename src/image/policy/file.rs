//! policy.toml: what is asked of the images of a registry or a repository.
//!
//! Strict: an unknown key, a rule that could never apply, or a key that cannot be read makes the whole
//! policy unusable, and then nothing is pulled.

use super::super::reference::is_below;
use super::key::Key;
use crate::small_file;
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// What is asked of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Action {
    Accept,
    Reject,
    Signed,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    default: Action,
    #[serde(default)]
    rule: Vec<Rule>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    #[serde(rename = "for")]
    scope: String,
    action: Action,
    #[serde(default)]
    keys: Vec<PathBuf>,
    #[serde(default)]
    signed_as: Vec<String>,
}

/// What is asked of one image.
#[derive(Debug)]
pub(super) enum Demand {
    /// Nothing.
    Accept,
    /// It is not pulled. By which rule.
    Reject(String),
    /// One of the keys has signed it as one of the repositories.
    Signed(Signed),
}

/// A demand for a signature.
#[derive(Debug)]
pub(in crate::image) struct Signed {
    pub(super) keys: Vec<Key>,
    /// Names of repositories beside the image's own.
    pub(super) signed_as: Vec<String>,
}

/// What the policy at `path` asks of images of the repository `name` (`registry/repository`).
/// Reads it anew: a change counts at once. Blocks on the disk.
///
/// # Errors
/// What is wrong with the policy, with file and rule.
pub(super) fn demand(path: &Path, name: &str) -> Result<Demand, String> {
    let at = |reason: String| format!("{}: {reason}", path.display());
    let text = String::from_utf8(read(path)?).map_err(|_| at("is not UTF-8".to_owned()))?;
    let file: File = toml::from_str(&text).map_err(|e| at(e.to_string().trim_end().to_owned()))?;
    file.check().map_err(at)?;
    let fits = |rule: &&Rule| is_below(name, &rule.scope);
    let Some(rule) = file.rule.iter().filter(fits).max_by_key(|rule| rule.scope.len()) else {
        return Ok(match file.default {
            Action::Accept => Demand::Accept,
            _ => Demand::Reject("default".to_owned()),
        });
    };
    Ok(match rule.action {
        Action::Accept => Demand::Accept,
        Action::Reject => Demand::Reject(rule.scope.clone()),
        Action::Signed => Demand::Signed(Signed {
            keys: rule.keys.iter().map(|key| read_key(key)).collect::<Result<_, _>>()?,
            signed_as: rule.signed_as.clone(),
        }),
    })
}

/// Reads a policy for nothing but what comes of it.
#[cfg(any(test, feature = "fuzzing"))]
pub(in crate::image) fn parse(text: &str) {
    if let Ok(file) = toml::from_str::<File>(text) {
        file.check().ok();
    }
}

fn read_key(path: &Path) -> Result<Key, String> {
    Key::parse(&read(path)?).map_err(|reason| format!("{}: {reason}", path.display()))
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    small_file::read(path).map_err(|e| format!("{}: {e}", path.display()))
}

impl File {
    fn check(&self) -> Result<(), String> {
        if self.default == Action::Signed {
            return Err("default: is accept or reject; keys belong to a rule".to_owned());
        }
        for (n, rule) in self.rule.iter().enumerate() {
            rule.check().map_err(|reason| format!("rule for {:?}: {reason}", rule.scope))?;
            if self.rule.iter().take(n).any(|earlier| earlier.scope == rule.scope) {
                return Err(format!("rule for {:?}: there are two", rule.scope));
            }
        }
        Ok(())
    }
}

impl Rule {
    fn check(&self) -> Result<(), String> {
        let host = self.scope.split('/').next().unwrap_or_default();
        let is_host = host == "localhost" || host.contains(['.', ':']);
        let plain = !self.scope.ends_with('/') && !self.scope.contains(['@', '*', ' ']);
        if !is_host || !plain || host == "index.docker.io" {
            return Err(
                "is not a registry, or a registry and a repository without a tag".to_owned()
            );
        }
        match (self.action, self.keys.is_empty() && self.signed_as.is_empty()) {
            (Action::Signed, _) if self.keys.is_empty() => {
                Err("signed by whom: no keys".to_owned())
            }
            (Action::Accept | Action::Reject, false) => {
                Err("has keys or signed_as, but its action is not signed".to_owned())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::Signer;
    use super::*;

    /// What a policy asks of a repository, in short.
    fn asks(text: &str, name: &str) -> Result<String, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy.toml");
        std::fs::write(&path, text).unwrap();
        let told = demand(&path, name).map(|demand| match demand {
            Demand::Accept => "accept".to_owned(),
            Demand::Reject(by) => format!("reject by {by}"),
            Demand::Signed(signed) => format!("{} keys, {:?}", signed.keys.len(), signed.signed_as),
        });
        told.map_err(|e| e.replace(&path.display().to_string(), "FILE"))
    }

    #[test]
    fn the_longest_rule_decides_and_covers_whole_parts_of_a_name() {
        let signer = Signer::new("EC -pkeyopt ec_paramgen_curve:P-256");
        let text = format!(
            r#"default = "reject"
            [[rule]]
            for = "docker.io"
            action = "accept"
            [[rule]]
            for = "docker.io/library"
            action = "signed"
            keys = ["{key}", "{key}"]
            signed_as = ["r.test/mirrored"]
            [[rule]]
            for = "docker.io/library/bad"
            action = "reject"
            [[rule]]
            for = "localhost:5000/team"
            action = "accept""#,
            key = signer.public_file().display(),
        );
        for (name, expected) in [
            ("docker.io/other/x", "accept"),
            ("docker.io/library/x", r#"2 keys, ["r.test/mirrored"]"#),
            ("docker.io/library/bad", "reject by docker.io/library/bad"),
            ("docker.io/library/bad/x", "reject by docker.io/library/bad"),
            ("docker.io/library/badly", r#"2 keys, ["r.test/mirrored"]"#),
            ("docker.io.evil.test/library/x", "reject by default"),
            ("localhost:5000/team/x", "accept"),
            ("localhost:5000/teams", "reject by default"),
            ("localhost/team", "reject by default"),
        ] {
            assert_eq!(asks(&text, name).unwrap(), expected, "{name}");
        }
    }

    #[test]
    fn a_policy_with_a_fault_is_none() {
        let rule = |body: &str| format!("default = \"accept\"\n[[rule]]\n{body}");
        for (text, words) in [
            (String::new(), "missing field `default`"),
            ("default = \"signed\"".to_owned(), "FILE: default: "),
            ("default = \"maybe\"".to_owned(), "unknown variant `maybe`"),
            ("default = \"accept\"\nrules = 1".to_owned(), "unknown field `rules`"),
            (rule("for = \"r.test\""), "missing field `action`"),
            (rule("for = \"busybox\"\naction = \"reject\""), "is not a registry"),
            (rule("for = \"r.test/a:1@x\"\naction = \"reject\""), "is not a registry"),
            (rule("for = \"r.test/\"\naction = \"reject\""), "is not a registry"),
            (rule("for = \"*.test\"\naction = \"reject\""), "is not a registry"),
            (rule("for = \"r.test\"\naction = \"signed\""), "no keys"),
            (rule("for = \"r.test\"\naction = \"accept\"\nkeys = [\"/k\"]"), "its action is not"),
            (
                rule("for = \"r.test\"\naction = \"signed\"\nkeys = [\"/no/key\"]"),
                "/no/key: No such file",
            ),
            (
                rule("for = \"r.test\"\naction = \"signed\"\nkeys = [\"/etc/passwd\"]"),
                "/etc/passwd: is no public key in PEM",
            ),
            (
                format!(
                    "{}\n[[rule]]\nfor = \"r.test\"\naction = \"accept\"",
                    rule("for = \"r.test\"\naction = \"reject\"")
                ),
                "rule for \"r.test\": there are two",
            ),
        ] {
            let error = asks(&text, "r.test/a").unwrap_err();
            assert!(error.contains(words), "{text}\n{error}");
        }
        let error = demand(Path::new("/no/policy"), "r.test/a").unwrap_err();
        assert!(error.starts_with("/no/policy: No such file"), "{error}");
    }
}
