//! What is at work in a sandbox, and its repair when the daemon ended meanwhile.
//!
//! criu has code of its own in the processes that it dumps: it must not be killed while it works. So a start of
//! the daemon first waits for a criu that outlived the daemon before.

use super::CheckpointError;
use crate::cgroups::Leaf;
use crate::error::{AtStep as _, StepFailed};
use crate::ids::SandboxId;
use crate::node::Node;
use crate::store;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a criu of an earlier daemon may go on.
const CRIU_WITHIN: Duration = Duration::from_secs(60);

/// What is removed when a checkpoint is not whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    /// Files and folders that did not exist before.
    pub paths: Vec<PathBuf>,
}

impl Left {
    /// Removes everything; goes on past errors and answers the first.
    pub(super) fn remove(&self) -> Result<(), CheckpointError> {
        let mut result = Ok(());
        for path in &self.paths {
            let removed = remove(path).map_err(|e| CheckpointError::file("remove", path, e));
            result = result.and(removed);
        }
        result
    }
}

fn remove(path: &Path) -> io::Result<()> {
    let removed = match std::fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(e) => Err(e),
    };
    match removed {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// At the start of the daemon: ends what was at work in a sandbox. `leaves`: of its containers. Blocks.
///
/// # Errors
/// What could not be repaired; the rest is.
pub fn repair(node: &Node, id: &SandboxId, leaves: &[Leaf]) -> Result<(), StepFailed> {
    const STEP: &str = "repair after a checkpoint";
    let journal = node.layout.checkpoint_journal(id);
    let Some(left) = store::load::<Left>(&journal).at(STEP)? else { return Ok(()) };
    let helpers = node.cgroups.helpers(id);
    let waited = match helpers.exists() {
        true => helpers.wait_empty(CRIU_WITHIN).at("wait for criu").map(drop),
        false => Ok(()),
    };
    let mut result = waited;
    for leaf in leaves {
        result = result.and(leaf.thaw().at("let a paused container go on"));
    }
    result = result.and(left.value.remove().at("remove what is not whole"));
    result?;
    store::remove(&journal).at(STEP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_removed_and_what_is_gone_is_removed_already() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(path("0/images")).unwrap();
        std::fs::write(path("pod.json"), "{}").unwrap();
        std::fs::write(path("other"), "").unwrap();
        let left = Left { paths: vec![path("0"), path("none"), path("pod.json")] };
        left.remove().unwrap();
        left.remove().unwrap();
        let rest: Vec<_> = std::fs::read_dir(folder.path()).unwrap().flatten().collect();
        assert_eq!(rest.len(), 1);
    }
}
