//! Every path below the two roots, in one place.

use crate::ids::{ContainerId, SandboxId};
use std::path::{Path, PathBuf};

/// The two roots and what lies below them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    run: PathBuf,
    state: PathBuf,
}

impl Layout {
    /// `run` is on tmpfs (`/run/berth`), `state` on disk (`/var/lib/berth`).
    pub fn new(run: impl Into<PathBuf>, state: impl Into<PathBuf>) -> Self {
        Self { run: run.into(), state: state.into() }
    }

    /// The root of what does not outlive a boot.
    pub fn run(&self) -> &Path {
        &self.run
    }

    /// The root of what does.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// The lock that keeps a second daemon off the same roots.
    pub fn lock(&self) -> PathBuf {
        self.run.join("berth.lock")
    }

    /// The folder of all live sandboxes, one folder each.
    pub fn sandboxes(&self) -> PathBuf {
        self.run.join("sandboxes")
    }

    /// The folder of one sandbox: its files, its shim's socket, its exit records.
    pub fn sandbox(&self, id: &SandboxId) -> PathBuf {
        self.sandboxes().join(id.as_str())
    }

    /// The live record of a sandbox.
    pub fn sandbox_record(&self, id: &SandboxId) -> PathBuf {
        self.sandbox(id).join("record.json")
    }

    /// The socket on which a sandbox's shim listens.
    pub fn shim_socket(&self, id: &SandboxId) -> PathBuf {
        self.sandbox(id).join("shim.sock")
    }

    /// The folder into which a sandbox's shim writes exit records, one file a container.
    pub fn exits(&self, id: &SandboxId) -> PathBuf {
        self.sandbox(id).join("exits")
    }

    /// The journal of a sandbox's network: written before each ADD and after it.
    pub fn network_journal(&self, id: &SandboxId) -> PathBuf {
        self.sandbox(id).join("network.json")
    }

    /// The folder of all live containers.
    pub fn containers(&self) -> PathBuf {
        self.run.join("containers")
    }

    /// The folder of one container.
    pub fn container(&self, id: &ContainerId) -> PathBuf {
        self.containers().join(id.as_str())
    }

    /// The live record of a container.
    pub fn container_record(&self, id: &ContainerId) -> PathBuf {
        self.container(id).join("record.json")
    }

    /// The OCI configuration of a container.
    pub fn bundle_config(&self, id: &ContainerId) -> PathBuf {
        self.container(id).join("config.json")
    }

    /// The bundle of a container that another runtime makes: `config.json`, `mounts`, and `state`,
    /// the runtime's own folder.
    pub fn handler(&self, id: &ContainerId) -> PathBuf {
        self.container(id).join("handler")
    }

    /// Where network namespaces are pinned for CNI plugins.
    pub fn netns_dir(&self) -> PathBuf {
        self.run.join("netns")
    }

    /// The pin of one sandbox's network namespace.
    pub fn netns(&self, id: &SandboxId) -> PathBuf {
        self.netns_dir().join(id.as_str())
    }

    /// The address leases of the built-in network, one file an address.
    pub fn leases(&self) -> PathBuf {
        self.run.join("leases")
    }

    /// Records of sandboxes that outlive a boot.
    pub fn durable_sandboxes(&self) -> PathBuf {
        self.state.join("sandboxes")
    }

    /// The durable record of one sandbox.
    pub fn durable_sandbox(&self, id: &SandboxId) -> PathBuf {
        self.durable_sandboxes().join(format!("{id}.json"))
    }

    /// Records of containers that outlive a boot.
    pub fn durable_containers(&self) -> PathBuf {
        self.state.join("containers")
    }

    /// The durable record of one container.
    pub fn durable_container(&self, id: &ContainerId) -> PathBuf {
        self.durable_containers().join(format!("{id}.json"))
    }

    /// The range of pod addresses that the cluster gave to the node.
    pub fn pod_ranges(&self) -> PathBuf {
        self.state.join("pod-ranges.json")
    }

    /// The image store: content, layers, index.
    pub fn images(&self) -> PathBuf {
        self.state.join("images")
    }

    /// The writable layers of containers.
    pub fn snapshots(&self) -> PathBuf {
        self.state.join("snapshots")
    }

    /// Archives of checkpoints for which the caller named no place, and what is not whole yet.
    pub fn checkpoints(&self) -> PathBuf {
        self.state.join("checkpoints")
    }

    /// The process images of all containers that were restored and not yet started.
    pub fn restores(&self) -> PathBuf {
        self.state.join("restores")
    }

    /// The process images of one container, until it is started.
    pub fn restore(&self, id: &ContainerId) -> PathBuf {
        self.restores().join(id.as_str())
    }

    /// The intent of a checkpoint in a sandbox: what is to be removed if it is cut off.
    pub fn checkpoint_journal(&self, id: &SandboxId) -> PathBuf {
        self.sandbox(id).join("checkpoint.json")
    }

    /// Creates the folders that the daemon expects; every one is root's alone.
    ///
    /// # Errors
    /// The first folder that cannot be made, and why.
    pub fn create(&self) -> Result<(), super::StoreError> {
        use std::os::unix::fs::DirBuilderExt as _;
        for path in [
            self.run.clone(),
            self.state.clone(),
            self.sandboxes(),
            self.containers(),
            self.netns_dir(),
            self.leases(),
            self.durable_sandboxes(),
            self.durable_containers(),
            self.images(),
            self.snapshots(),
            self.checkpoints(),
            self.restores(),
        ] {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o711)
                .create(&path)
                .map_err(|source| super::StoreError::new("create folder", &path, source))?;
        }
        Ok(())
    }
}
