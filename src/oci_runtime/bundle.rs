//! The bundle: a folder with config.json and, mostly, the root file system.

use super::error::{Doing as _, RuntimeError};
use super::hooks::Hooks;
use oci_spec::runtime::Spec;
use std::path::{Path, PathBuf};

/// A bundle that was read.
#[derive(Debug)]
pub(super) struct Bundle {
    /// Its folder.
    pub(super) dir: PathBuf,
    /// The root file system.
    pub(super) rootfs: PathBuf,
    /// Its config.json.
    pub(super) text: Vec<u8>,
    /// The configuration without hooks.
    pub(super) spec: Spec,
    /// The hooks.
    pub(super) hooks: Hooks,
}

impl Bundle {
    /// Reads the bundle at `dir`; none: the working directory.
    pub(super) fn load(dir: Option<&Path>) -> Result<Self, RuntimeError> {
        let dir = dir.unwrap_or(Path::new("."));
        let dir = dir.canonicalize().doing(|| format!("find the bundle {}", dir.display()))?;
        let path = dir.join("config.json");
        let text = std::fs::read(&path).doing(|| format!("read {}", path.display()))?;
        let mut spec: Spec =
            serde_json::from_slice(&text).doing(|| format!("parse {}", path.display()))?;
        let hooks = Hooks::of(&spec).doing(|| "read the configuration")?;
        spec.set_hooks(None);
        let Some(root) = spec.root() else {
            return Err(RuntimeError::refused("root is missing in config.json"));
        };
        let rootfs = dir.join(root.path());
        let rootfs = rootfs
            .canonicalize()
            .doing(|| format!("find the root file system {}", rootfs.display()))?;
        Ok(Self { dir, rootfs, text, spec, hooks })
    }

    /// Whether the process shall have a terminal.
    pub(super) fn terminal(&self) -> bool {
        self.spec.process().as_ref().and_then(|p| p.terminal()).unwrap_or(false)
    }
}
