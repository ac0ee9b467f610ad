//! A pod with containers in it, told in few words.

use super::kernel;
use super::logs::{self, Line};
use super::node::Node;
use super::pod::{container, pod};
use super::poll::eventually;
use anyhow::{Context as _, Result};
use berth::cri::proto;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::path::{Path, PathBuf};

/// A READY pod. It is left to the harness to remove it.
pub(crate) struct Scene<'a> {
    pub(crate) node: &'a Node,
    /// The pod's request.
    pub(crate) config: proto::PodSandboxConfig,
    /// Its id.
    pub(crate) pod: String,
}

/// A container that was started.
pub(crate) struct Made<'a> {
    pub(crate) node: &'a Node,
    /// The pod's id.
    pub(crate) pod: String,
    /// The container's id.
    pub(crate) id: String,
    /// Its log.
    pub(crate) log: PathBuf,
}

/// Changes nothing about a request.
pub(crate) fn as_is<T>(_: &mut T) {}

impl<'a> Scene<'a> {
    /// Runs a pod.
    ///
    /// # Errors
    /// What the daemon says.
    pub(crate) fn new(node: &'a Node, name: &str) -> Result<Self> {
        Self::with(node, name, as_is)
    }

    /// Runs a pod whose request was changed.
    ///
    /// # Errors
    /// What the daemon says.
    pub(crate) fn with(
        node: &'a Node,
        name: &str,
        change: impl FnOnce(&mut proto::PodSandboxConfig),
    ) -> Result<Self> {
        let mut config = pod(node, name);
        change(&mut config);
        let pod = node.run_pod(&config).context("RunPodSandbox")?;
        Ok(Self { node, config, pod })
    }

    /// CreateContainer.
    ///
    /// # Errors
    /// What the daemon says.
    pub(crate) fn create(
        &self,
        name: &str,
        command: &[&str],
        change: impl FnOnce(&mut proto::ContainerConfig),
    ) -> Result<String, tonic::Status> {
        let mut config = container(name, command);
        change(&mut config);
        self.node.create(&self.pod, &self.config, &config)
    }

    /// Creates and starts a container of a command.
    ///
    /// # Errors
    /// What the daemon says.
    pub(crate) fn start(
        &self,
        name: &str,
        command: &[&str],
        change: impl FnOnce(&mut proto::ContainerConfig),
    ) -> Result<Made<'a>> {
        let id = self.create(name, command, change).context("CreateContainer")?;
        self.node.start_container(&id).context("StartContainer")?;
        let log = PathBuf::from(&self.config.log_directory).join(format!("{name}.log"));
        Ok(Made { node: self.node, pod: self.pod.clone(), id, log })
    }

    /// Creates and starts a container of a shell script.
    ///
    /// # Errors
    /// What the daemon says.
    pub(crate) fn script(
        &self,
        name: &str,
        script: &str,
        change: impl FnOnce(&mut proto::ContainerConfig),
    ) -> Result<Made<'a>> {
        self.start(name, &["sh", "-c", script], change)
    }

    /// Runs a shell script to its end: the container's status, and what it wrote.
    ///
    /// # Errors
    /// What the daemon says, or that it does not end.
    pub(crate) fn output(
        &self,
        name: &str,
        script: &str,
        change: impl FnOnce(&mut proto::ContainerConfig),
    ) -> Result<(proto::ContainerStatus, String)> {
        let made = self.script(name, script, change)?;
        let status = made.end()?;
        Ok((status, made.text()?))
    }
}

impl Made<'_> {
    /// Its log.
    ///
    /// # Errors
    /// It cannot be read.
    pub(crate) fn lines(&self) -> Result<Vec<Line>> {
        logs::read(&self.log)
    }

    /// What it wrote, both streams in the order of the log.
    ///
    /// # Errors
    /// The log cannot be read.
    pub(crate) fn text(&self) -> Result<String> {
        let lines = self.lines()?;
        let one = |l: &Line| if l.tag == "F" { format!("{}\n", l.text) } else { l.text.clone() };
        Ok(lines.iter().map(one).collect())
    }

    /// Waits until it has written a line.
    ///
    /// # Errors
    /// It does not.
    pub(crate) fn said(&self, line: &str) -> Result<()> {
        eventually(&format!("the container says {line:?}"), || {
            Ok(self.lines()?.iter().any(|l| l.text.trim_end() == line).then_some(()))
        })
    }

    /// ContainerStatus.
    ///
    /// # Errors
    /// What the daemon says.
    pub(crate) fn status(&self) -> Result<proto::ContainerStatus> {
        self.node.container(&self.id)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It does not end.
    pub(crate) fn end(&self) -> Result<proto::ContainerStatus> {
        self.node.wait_exited(&self.id)
    }

    /// The mount at a path in it, as the kernel lists it.
    ///
    /// # Errors
    /// It does not run.
    pub(crate) fn mount_at(&self, point: &str) -> Result<Option<kernel::Mount>> {
        let all = kernel::mounts(&self.init()?.to_string())?;
        Ok(all.into_iter().rfind(|m| m.point == point))
    }

    /// Its first process.
    ///
    /// # Errors
    /// It has none.
    pub(crate) fn init(&self) -> Result<i32> {
        self.node.init_pid(&self.pod, &self.id)
    }

    /// Its cgroup, for a pod without a cgroup parent.
    pub(crate) fn cgroup(&self) -> PathBuf {
        self.node.container_cgroup(&self.pod, &self.id)
    }
}

/// The processes of each pod are in one pid namespace, so that no container's first process is the
/// namespace's: that one is immune to the signals it does not handle.
pub(crate) fn shared_pids(config: &mut proto::PodSandboxConfig) {
    super::pod::pod_namespaces(config).pid = proto::NamespaceMode::Pod.into();
}

/// The container's part of [`shared_pids`].
pub(crate) fn in_shared_pids(config: &mut proto::ContainerConfig) {
    let options = super::pod::security(config).namespace_options.get_or_insert_default();
    options.pid = proto::NamespaceMode::Pod.into();
}

/// A bind mount of a folder of the host.
pub(crate) fn bind(host: &Path, at: &str) -> proto::Mount {
    proto::Mount {
        host_path: host.to_string_lossy().into_owned(),
        container_path: at.into(),
        ..Default::default()
    }
}

/// A tmpfs on the host, as long as this lives.
pub(crate) struct Tmpfs(PathBuf);

impl Tmpfs {
    /// Mounts one of a size such as `1m`; the folder is made when it is missing.
    ///
    /// # Errors
    /// It cannot be mounted.
    pub(crate) fn at(path: &Path, size: &str) -> Result<Self> {
        std::fs::create_dir_all(path)?;
        let size = format!("size={size}");
        mount(Some("volume"), path, Some("tmpfs"), MsFlags::empty(), Some(size.as_str()))?;
        Ok(Self(path.into()))
    }

    /// Unmounts it, which fails while anything holds it.
    ///
    /// # Errors
    /// It is busy.
    pub(crate) fn remove(self) -> Result<()> {
        umount2(&self.0, MntFlags::empty()).context("unmount the volume")
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        umount2(&self.0, MntFlags::MNT_DETACH).ok();
    }
}
