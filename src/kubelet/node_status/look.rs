//! What is told of the node: by its files, and by the runtime.

use crate::cri::client::{Cri, CriError};
use crate::cri::proto;
use std::path::Path;

/// What does not change while the daemon runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct System {
    pub(super) machine_id: String,
    pub(super) system_uuid: String,
    pub(super) boot_id: String,
    pub(super) kernel: String,
    pub(super) os_image: String,
}

impl System {
    /// Reads it below `root`. Blocking. What cannot be read is empty.
    pub(super) fn read(root: &Path) -> Self {
        let text = |name: &str| {
            let text = std::fs::read_to_string(root.join(name)).unwrap_or_default();
            text.trim().to_owned()
        };
        let machine_id = text("etc/machine-id");
        let uuid = text("sys/class/dmi/id/product_uuid");
        let release = match text("etc/os-release") {
            empty if empty.is_empty() => text("usr/lib/os-release"),
            release => release,
        };
        Self {
            system_uuid: if uuid.is_empty() { machine_id.clone() } else { uuid.to_lowercase() },
            machine_id,
            boot_id: text("proc/sys/kernel/random/boot_id"),
            kernel: text("proc/sys/kernel/osrelease"),
            os_image: pretty_name(&release),
        }
    }
}

/// `PRETTY_NAME` of os-release(5).
fn pretty_name(release: &str) -> String {
    let line = release.lines().find_map(|line| line.trim().strip_prefix("PRETTY_NAME="));
    line.unwrap_or("Linux").trim_matches(['"', '\'']).to_owned()
}

/// What the runtime tells.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Runtime {
    pub(super) version: proto::VersionResponse,
    pub(super) status: proto::StatusResponse,
    pub(super) images: Vec<proto::Image>,
}

impl Runtime {
    /// Asks it.
    pub(super) async fn ask(cri: &dyn Cri) -> Result<Self, CriError> {
        let version = proto::VersionRequest { version: "v1".to_owned() };
        Ok(Self {
            version: cri.version(version).await?,
            status: cri.status(proto::StatusRequest { verbose: false }).await?,
            images: cri.list_images(proto::ListImagesRequest::default()).await?.images,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_is_read_from_its_files() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("etc/machine-id", "abc\n");
        write("proc/sys/kernel/osrelease", "6.12.0\n");
        write("etc/os-release", "NAME=X\nPRETTY_NAME=\"X 1\"\n");
        let system = System::read(dir.path());
        assert_eq!((&*system.machine_id, &*system.system_uuid), ("abc", "abc"));
        assert_eq!((&*system.kernel, &*system.os_image), ("6.12.0", "X 1"));
        write("sys/class/dmi/id/product_uuid", "ABC-1\n");
        assert_eq!(System::read(dir.path()).system_uuid, "abc-1");
        assert_eq!(pretty_name(""), "Linux");
    }
}
