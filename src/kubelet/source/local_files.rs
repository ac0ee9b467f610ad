//! What was applied over the control socket, on disk: one object a file.
//!
//! The name of a file is a digest of the object's, which may be longer than a name of a file can be.

use crate::kubelet::api::Object;
use crate::store::{self, StoreError};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

/// The folder of applied objects.
#[derive(Clone, Debug)]
pub(super) struct LocalFiles(PathBuf);

impl LocalFiles {
    /// The folder, made where it is missing.
    ///
    /// # Errors
    /// Those of mkdir(2).
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        Ok(Self(dir.to_owned()))
    }

    fn path(&self, origin: &str) -> PathBuf {
        let digest = Sha256::digest(origin);
        let name: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        self.0.join(name).with_extension("json")
    }

    /// Keeps an object's text.
    ///
    /// # Errors
    /// [`StoreError`]: what was kept before stands.
    pub(super) fn put(&self, origin: &str, text: &[u8]) -> Result<(), StoreError> {
        store::replace(&self.path(origin), text)
    }

    /// Removes an object; one that is not there is removed already.
    ///
    /// # Errors
    /// [`StoreError`]: it is there still.
    pub(super) fn remove(&self, origin: &str) -> Result<(), StoreError> {
        store::remove(&self.path(origin))
    }

    /// Every text, by the path of its file.
    ///
    /// # Errors
    /// Those of opendir(3) and readdir(3).
    pub(super) fn load(&self) -> io::Result<BTreeMap<PathBuf, Result<Vec<u8>, String>>> {
        let mut texts = BTreeMap::new();
        for entry in fs::read_dir(&self.0)? {
            let path = entry?.path();
            // A write that was cut off has another extension.
            if path.extension().is_some_and(|extension| extension == "json") {
                let text = super::files::read(&path);
                texts.insert(path, text);
            }
        }
        Ok(texts)
    }
}

/// An object as it is kept.
///
/// # Errors
/// None that values of the API have.
pub(super) fn text(object: &Object) -> serde_json::Result<Vec<u8>> {
    match object {
        Object::Pod(pod) => serde_json::to_vec(pod),
        Object::ConfigMap(map) => serde_json::to_vec(map),
        Object::Secret(secret) => serde_json::to_vec(secret),
        Object::Service(service) => serde_json::to_vec(service),
    }
}
