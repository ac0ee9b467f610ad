//! Where a pod's volumes are. Every name of a path was checked to be one component.

use super::error::VolumeError;
use std::io;
use std::path::{Path, PathBuf};

/// The two roots.
#[derive(Clone, Debug)]
pub(super) struct Folders {
    pub(super) pods: PathBuf,
    pub(super) payload: PathBuf,
}

/// The paths of one pod.
#[derive(Clone, Debug)]
pub(super) struct PodFolders {
    pub(super) own: PathBuf,
    pub(super) payload: PathBuf,
}

/// What a pod's folder holds of this module's.
pub(super) const VOLUMES: &str = "volumes";
pub(super) const READY: &str = "ready";
pub(super) const SUB_PATHS: &str = "subpaths";

impl Folders {
    /// The folders of a pod.
    pub(super) fn of(&self, uid: &str) -> Result<PodFolders, VolumeError> {
        if !is_component(uid) {
            let source = io::Error::from(io::ErrorKind::InvalidFilename);
            return Err(VolumeError::io("find the folder of the pod", &self.pods.join(uid))(
                source,
            ));
        }
        Ok(PodFolders { own: self.pods.join(uid), payload: self.payload.join(uid) })
    }
}

impl PodFolders {
    /// The volume of `name` on disk, or where its file system is mounted.
    pub(super) fn volume(&self, name: &str) -> PathBuf {
        self.own.join(VOLUMES).join(name)
    }

    /// Says that the volume is set up.
    pub(super) fn ready(&self, name: &str) -> PathBuf {
        self.own.join(READY).join(name)
    }

    /// A volume of written files.
    pub(super) fn payload(&self, name: &str) -> PathBuf {
        self.payload.join(name)
    }

    /// What the mounts of a container are bound from.
    pub(super) fn sub_paths(&self, container: &str) -> PathBuf {
        self.own.join(SUB_PATHS).join(container)
    }
}

/// Whether a name can stand as one component of a path.
pub(super) fn is_component(name: &str) -> bool {
    !name.is_empty() && name.len() <= 255 && !name.starts_with('.') && !name.contains(['/', '\0'])
}

/// Makes a folder of berth's own with its parents, not to be entered by others.
pub(super) fn make_private(path: &Path) -> Result<(), VolumeError> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(VolumeError::io("create the folder", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uid_that_leads_elsewhere_is_refused() {
        let folders = Folders { pods: "/p".into(), payload: "/q".into() };
        for uid in ["", ".", "..", "a/b", "/etc", ".hidden", "a\0"] {
            assert!(folders.of(uid).is_err(), "{uid:?}");
        }
        assert_eq!(folders.of("u-1").unwrap().volume("v"), Path::new("/p/u-1/volumes/v"));
    }
}
