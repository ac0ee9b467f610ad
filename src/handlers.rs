//! Runtime handlers: by what the containers of a pod are made.
//!
//! The empty name is the native executor. The others are OCI runtimes of the host, by the names that
//! `[runtimes]` of the configuration gives them; a RuntimeClass names one of them. A pod keeps the
//! runtime that it was made with, whatever the configuration says later.

use crate::cgroups::Cgroups;
use crate::cni::helper::{self, Helper};
use crate::config::Runtime;
use crate::error::{ErrorKind, chain};
use crate::ids::{SandboxId, random_hex};
use crate::sys::process::Ended;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a runtime may take to tell its features.
const FEATURES_WITHIN: Duration = Duration::from_secs(30);

/// A handler that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HandlerError {
    /// Nobody has configured it.
    #[error("no runtime handler {name:?} is configured")]
    Unknown {
        /// The name as it was given.
        name: String,
    },
    /// Its program is not there, or is none.
    #[error("runtime handler {name:?}: {path}")]
    Program {
        /// Its name.
        name: String,
        /// Its program.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl HandlerError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Unknown { .. } => ErrorKind::InvalidArgument,
            Self::Program { .. } => ErrorKind::FailedPrecondition,
        }
    }
}

/// What a handler can do, as CRI's Status tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// Mounts that are read-only with everything below them.
    pub recursive_read_only_mounts: bool,
}

/// A configured handler.
#[derive(Clone, Debug)]
struct Handler {
    path: PathBuf,
    /// Why it could not be used when the daemon started.
    missing: Option<String>,
    features: Features,
}

/// All handlers but the native one.
#[derive(Clone, Debug, Default)]
pub struct Handlers(BTreeMap<String, Handler>);

impl Handlers {
    /// Asks every configured runtime for its features. Blocks.
    pub fn probe(configured: &BTreeMap<String, Runtime>, cgroups: &Cgroups) -> Self {
        let probed = configured.iter().map(|(name, runtime)| {
            let path = runtime.path.clone();
            let missing = program(name, &path).err().map(|e| chain(&e));
            if let Some(why) = &missing {
                tracing::error!(handler = name, error = why, "runtime handler cannot be used");
            }
            let features = match &missing {
                None => features(name, &path, cgroups),
                Some(_) => Features::default(),
            };
            (name.clone(), Handler { path, missing, features })
        });
        Self(probed.collect())
    }

    /// The program of a handler; `None` for the native executor.
    ///
    /// # Errors
    /// [`HandlerError`].
    pub fn find(&self, name: &str) -> Result<Option<PathBuf>, HandlerError> {
        if name.is_empty() {
            return Ok(None);
        }
        let unknown = || HandlerError::Unknown { name: name.to_owned() };
        let handler = self.0.get(name).ok_or_else(unknown)?;
        program(name, &handler.path)?;
        Ok(Some(handler.path.clone()))
    }

    /// Whether a handler of this name is configured; the empty one always is.
    ///
    /// # Errors
    /// [`HandlerError::Unknown`].
    pub fn known(&self, name: &str) -> Result<(), HandlerError> {
        match name.is_empty() || self.0.contains_key(name) {
            true => Ok(()),
            false => Err(HandlerError::Unknown { name: name.to_owned() }),
        }
    }

    /// The features of a handler that is not the native one; those of an unknown one are none.
    pub fn features_of(&self, name: &str) -> Features {
        self.0.get(name).map(|h| h.features.clone()).unwrap_or_default()
    }

    /// Those that can be used, by name.
    pub fn usable(&self) -> Vec<(String, Features)> {
        let usable = self.0.iter().filter(|(_, h)| h.missing.is_none());
        usable.map(|(name, h)| (name.clone(), h.features.clone())).collect()
    }

    /// Why the others cannot.
    pub fn unusable(&self) -> Vec<String> {
        self.0.values().filter_map(|h| h.missing.clone()).collect()
    }
}

/// Whether there is a program that can be executed.
///
/// # Errors
/// [`HandlerError::Program`].
pub fn program(name: &str, path: &Path) -> Result<(), HandlerError> {
    let failed =
        |source| HandlerError::Program { name: name.to_owned(), path: path.to_owned(), source };
    let found = std::fs::metadata(path).map_err(failed)?;
    if found.is_file() && found.permissions().mode() & 0o111 != 0 {
        return Ok(());
    }
    Err(failed(io::Error::new(io::ErrorKind::PermissionDenied, "it is no program")))
}

/// What a runtime says it can do; one that does not know the verb has none of it.
fn features(name: &str, path: &Path, cgroups: &Cgroups) -> Features {
    match ask(path, cgroups) {
        Ok(features) => features,
        Err(why) => {
            tracing::warn!(handler = name, error = why, "runtime handler tells no features");
            Features::default()
        }
    }
}

fn ask(path: &Path, cgroups: &Cgroups) -> Result<Features, String> {
    let hex = random_hex().map_err(|e| e.to_string())?;
    let id = SandboxId::parse(&hex).map_err(|e| e.to_string())?;
    let args = &["features"];
    let helper = Helper { program: path, args, env: &[], stdin: &[], limit: FEATURES_WITHIN };
    let group = cgroups.helpers(&id);
    let output = helper::run(&helper, &group);
    helper::tidy_group(&group);
    let output = output.map_err(|e| chain(&e))?;
    match output.ended {
        Ended::Code(0) => parse_features(&output.stdout),
        _ => Err(output.stderr.trim().to_owned()),
    }
}

/// Of the OCI runtime specification's features structure what CRI asks for.
fn parse_features(text: &[u8]) -> Result<Features, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Told {
        #[serde(default)]
        mount_options: Vec<String>,
    }
    let told: Told = serde_json::from_slice(text).map_err(|e| e.to_string())?;
    let recursive_read_only_mounts = told.mount_options.iter().any(|option| option == "rro");
    Ok(Features { recursive_read_only_mounts })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_read_and_what_is_not_told_is_not_there() {
        let told = parse_features(br#"{"ociVersionMin":"1.0.0","mountOptions":["ro","rro"]}"#);
        assert_eq!(told, Ok(Features { recursive_read_only_mounts: true }));
        assert_eq!(parse_features(b"{}"), Ok(Features::default()));
        assert!(parse_features(b"unknown command features").is_err());
    }

    #[test]
    fn a_handler_is_found_by_its_name_and_only_with_its_program() {
        let handler = |path: &str| Handler {
            path: path.into(),
            missing: None,
            features: Features::default(),
        };
        let all = [("sh".to_owned(), handler("/bin/sh")), ("no".to_owned(), handler("/no/such"))];
        let handlers = Handlers(all.into());
        assert_eq!(handlers.find("").unwrap(), None);
        assert_eq!(handlers.find("sh").unwrap(), Some("/bin/sh".into()));
        let unknown = handlers.find("kata").unwrap_err();
        assert_eq!(unknown.kind(), ErrorKind::InvalidArgument);
        assert!(unknown.to_string().contains("kata"));
        let missing = handlers.find("no").unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::FailedPrecondition);
        assert!(chain(&missing).contains("/no/such"), "{missing}");
        assert!(program("folder", Path::new("/")).is_err());
    }
}
