//! Requests to begin with, and the usual sequences of calls.

use super::image::BUSYBOX;
use super::kernel;
use super::logs;
use super::node::Node;
use super::poll::eventually;
use anyhow::{Context as _, Result, ensure};
use berth::cri::proto;
use std::path::PathBuf;
use std::time::Duration;

/// A shell that ends with 0 on SIGTERM, and not before.
pub(crate) const PATIENT: &[&str] = &["sh", "-c", "trap 'exit 0' TERM; sleep 100000 & wait"];

/// A request for a pod with its own network where the machine can do that, else with the host's.
pub(crate) fn pod(node: &Node, name: &str) -> proto::PodSandboxConfig {
    let network = if node.machine.has(super::machine::Need::PodNetwork) {
        proto::NamespaceMode::Pod
    } else {
        proto::NamespaceMode::Node
    };
    proto::PodSandboxConfig {
        metadata: Some(proto::PodSandboxMetadata {
            name: name.into(),
            uid: format!("uid-{name}"),
            namespace: "tests".into(),
            attempt: 0,
        }),
        hostname: if network == proto::NamespaceMode::Pod { name.into() } else { String::new() },
        log_directory: node.path("logs").join(name).to_string_lossy().into_owned(),
        linux: Some(proto::LinuxPodSandboxConfig {
            security_context: Some(proto::LinuxSandboxSecurityContext {
                namespace_options: Some(namespaces(network)),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// Namespace options: this network, pid of the container, ipc of the pod.
pub(crate) fn namespaces(network: proto::NamespaceMode) -> proto::NamespaceOption {
    proto::NamespaceOption {
        network: network.into(),
        pid: proto::NamespaceMode::Container.into(),
        ipc: proto::NamespaceMode::Pod.into(),
        ..Default::default()
    }
}

/// The namespace options of a pod request, to be changed.
///
/// # Panics
/// Never: they are added when they are missing.
pub(crate) fn pod_namespaces(config: &mut proto::PodSandboxConfig) -> &mut proto::NamespaceOption {
    config
        .linux
        .get_or_insert_default()
        .security_context
        .get_or_insert_default()
        .namespace_options
        .get_or_insert_default()
}

/// A request for a container of the busybox image.
pub(crate) fn container(name: &str, command: &[&str]) -> proto::ContainerConfig {
    proto::ContainerConfig {
        metadata: Some(proto::ContainerMetadata { name: name.into(), attempt: 0 }),
        image: Some(proto::ImageSpec { image: BUSYBOX.into(), ..Default::default() }),
        command: command.iter().map(|&word| word.to_owned()).collect(),
        log_path: format!("{name}.log"),
        linux: Some(proto::LinuxContainerConfig {
            resources: Some(proto::LinuxContainerResources::default()),
            // As a kubelet sends it.
            security_context: Some(proto::LinuxContainerSecurityContext {
                namespace_options: Some(proto::NamespaceOption {
                    pid: proto::NamespaceMode::Container.into(),
                    ..Default::default()
                }),
                ..Default::default()
            }),
        }),
        ..Default::default()
    }
}

/// The resources of a container request, to be changed.
pub(crate) fn resources(
    config: &mut proto::ContainerConfig,
) -> &mut proto::LinuxContainerResources {
    config.linux.get_or_insert_default().resources.get_or_insert_default()
}

/// The security context of a container request, to be changed.
pub(crate) fn security(
    config: &mut proto::ContainerConfig,
) -> &mut proto::LinuxContainerSecurityContext {
    config.linux.get_or_insert_default().security_context.get_or_insert_default()
}

/// Adds these capabilities to a container request.
pub(crate) fn add_capabilities(config: &mut proto::ContainerConfig, names: &[&str]) {
    let capabilities = security(config).capabilities.get_or_insert_default();
    capabilities.add_capabilities.extend(names.iter().map(|&name| name.to_owned()));
}

impl Node {
    /// RunPodSandbox.
    ///
    /// # Errors
    /// What the daemon says.
    pub(crate) fn run_pod(
        &self,
        config: &proto::PodSandboxConfig,
    ) -> Result<String, tonic::Status> {
        let request = proto::RunPodSandboxRequest {
            config: Some(config.clone()),
            runtime_handler: self.handler.into(),
        };
        Ok(self.cri.run_pod_sandbox(request)?.pod_sandbox_id)
    }

    /// CreateContainer.
    ///
    /// # Errors
    /// What the daemon says.
    pub(crate) fn create(
        &self,
        pod: &str,
        pod_config: &proto::PodSandboxConfig,
        config: &proto::ContainerConfig,
    ) -> Result<String, tonic::Status> {
        let request = proto::CreateContainerRequest {
            pod_sandbox_id: pod.into(),
            config: Some(config.clone()),
            sandbox_config: Some(pod_config.clone()),
        };
        Ok(self.cri.create_container(request)?.container_id)
    }

    /// StartContainer.
    ///
    /// # Errors
    /// What the daemon says.
    pub(crate) fn start_container(&self, id: &str) -> Result<(), tonic::Status> {
        let request = proto::StartContainerRequest { container_id: id.into() };
        self.cri.start_container(request).map(drop)
    }

    /// CreateContainer and StartContainer.
    ///
    /// # Errors
    /// What the daemon says.
    pub(crate) fn launch_container(
        &self,
        pod: &str,
        pod_config: &proto::PodSandboxConfig,
        config: &proto::ContainerConfig,
    ) -> Result<String> {
        let id = self.create(pod, pod_config, config).context("CreateContainer")?;
        self.start_container(&id).context("StartContainer")?;
        if config.command == PATIENT && self.container_cgroup(pod, &id).exists() {
            self.wait_patient(pod, &id)?;
        }
        Ok(id)
    }

    /// Waits until a container of [`PATIENT`] heeds SIGTERM.
    ///
    /// # Errors
    /// It does not.
    pub(crate) fn wait_patient(&self, pod: &str, id: &str) -> Result<()> {
        kernel::wait_heeds_term(self.init_pid(pod, id)?)
    }

    /// A pod with one container that runs until it is told to end: pod id, container id.
    ///
    /// # Errors
    /// What the daemon says.
    pub(crate) fn patient_pod(&self, name: &str) -> Result<(String, String)> {
        let config = pod(self, name);
        let pod = self.run_pod(&config).context("RunPodSandbox")?;
        let id = self.launch_container(&pod, &config, &container("main", PATIENT))?;
        Ok((pod, id))
    }

    /// A pod with one container that runs a command to its end: its status and its log.
    ///
    /// # Errors
    /// What the daemon says, or that the command does not end.
    pub(crate) fn run_to_end(
        &self,
        name: &str,
        command: &[&str],
    ) -> Result<(proto::ContainerStatus, Vec<logs::Line>)> {
        let config = pod(self, name);
        let pod = self.run_pod(&config).context("RunPodSandbox")?;
        let id = self.launch_container(&pod, &config, &container("main", command))?;
        let status = self.wait_exited(&id)?;
        let lines = logs::read(&self.log_of(name, "main"))?;
        Ok((status, lines))
    }

    /// The log file of a container.
    pub(crate) fn log_of(&self, pod: &str, container: &str) -> PathBuf {
        self.path("logs").join(pod).join(format!("{container}.log"))
    }

    /// ContainerStatus.
    ///
    /// # Errors
    /// What the daemon says.
    pub(crate) fn container(&self, id: &str) -> Result<proto::ContainerStatus> {
        let request =
            proto::ContainerStatusRequest { container_id: id.into(), ..Default::default() };
        self.cri.container_status(request)?.status.context("no status in the answer")
    }

    /// PodSandboxStatus.
    ///
    /// # Errors
    /// What the daemon says.
    pub(crate) fn pod(&self, id: &str) -> Result<proto::PodSandboxStatus> {
        let request =
            proto::PodSandboxStatusRequest { pod_sandbox_id: id.into(), ..Default::default() };
        self.cri.pod_sandbox_status(request)?.status.context("no status in the answer")
    }

    /// Waits until a container is EXITED.
    ///
    /// # Errors
    /// It does not end.
    pub(crate) fn wait_exited(&self, id: &str) -> Result<proto::ContainerStatus> {
        eventually("the container is EXITED", || {
            let status = self.container(id)?;
            Ok((status.state() == proto::ContainerState::ContainerExited).then_some(status))
        })
    }

    /// ExecSync: standard output, standard error, exit code.
    ///
    /// # Errors
    /// What the daemon says.
    pub(crate) fn exec(
        &self,
        id: &str,
        command: &[&str],
        timeout_seconds: i64,
    ) -> Result<(String, String, i32), tonic::Status> {
        let answer = self.cri.exec_sync(proto::ExecSyncRequest {
            container_id: id.into(),
            cmd: command.iter().map(|&word| word.to_owned()).collect(),
            timeout: timeout_seconds,
        })?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok((text(answer.stdout), text(answer.stderr), answer.exit_code))
    }

    /// ExecSync of a command that must succeed: its standard output, trimmed.
    ///
    /// # Errors
    /// What the daemon says, or the command's exit code.
    pub(crate) fn exec_ok(&self, id: &str, command: &[&str]) -> Result<String> {
        let (out, err, code) = self.exec(id, command, 0)?;
        ensure!(code == 0, "{command:?} ended with {code}: {err}");
        Ok(out.trim().to_owned())
    }

    /// StopContainer.
    ///
    /// # Errors
    /// What the daemon says.
    pub(crate) fn stop_container(&self, id: &str, grace: Duration) -> Result<(), tonic::Status> {
        let timeout = i64::try_from(grace.as_secs()).unwrap_or(i64::MAX);
        let request = proto::StopContainerRequest { container_id: id.into(), timeout };
        self.cri.stop_container(request).map(drop)
    }

    /// StopPodSandbox and RemovePodSandbox.
    ///
    /// # Errors
    /// What the daemon says.
    pub(crate) fn remove_pod(&self, id: &str) -> Result<()> {
        self.stop_pod(id).context("StopPodSandbox")?;
        let request = proto::RemovePodSandboxRequest { pod_sandbox_id: id.into() };
        self.cri.remove_pod_sandbox(request).context("RemovePodSandbox")?;
        Ok(())
    }

    /// StopPodSandbox.
    ///
    /// # Errors
    /// What the daemon says.
    pub(crate) fn stop_pod(&self, id: &str) -> Result<(), tonic::Status> {
        let request = proto::StopPodSandboxRequest { pod_sandbox_id: id.into() };
        self.cri.stop_pod_sandbox(request).map(drop)
    }

    /// The cgroup of a pod that was made without a cgroup parent.
    pub(crate) fn pod_cgroup(&self, pod: &str) -> PathBuf {
        let root = &self.machine.cgroup_root;
        match self.is_unit() {
            true => root.join("berth.slice").join(format!("berth-{pod}.scope")),
            false => root.join("berth").join(pod),
        }
    }

    /// The cgroup of a container of such a pod.
    pub(crate) fn container_cgroup(&self, pod: &str, id: &str) -> PathBuf {
        self.pod_cgroup(pod).join(id)
    }

    /// The pid of a container's first process: the oldest in its cgroup.
    ///
    /// # Errors
    /// It has none.
    pub(crate) fn init_pid(&self, pod: &str, id: &str) -> Result<i32> {
        let pids = kernel::pids_in(&self.container_cgroup(pod, id))?;
        let first = |pid: &i32| {
            let ids = kernel::status_field(*pid, "NSpid").unwrap_or_default();
            ids.split_whitespace().last() == Some("1")
        };
        pids.iter().copied().find(first).or_else(|| pids.first().copied()).context("no process")
    }

    /// The pid of a pod's pause.
    ///
    /// # Errors
    /// It has none.
    pub(crate) fn pause_pid(&self, pod: &str) -> Result<i32> {
        let pids = kernel::pids_in(&self.pod_cgroup(pod).join("pause"))?;
        pids.first().copied().context("no pause")
    }

    /// The pid of a pod's shim.
    ///
    /// # Errors
    /// It has none.
    pub(crate) fn shim_pid(&self, pod: &str) -> Result<i32> {
        let shims = if self.is_unit() { "system.slice/berth-shims.scope" } else { "berth-shims" };
        let group = self.machine.cgroup_root.join(shims).join(pod);
        kernel::pids_in(&group)?.first().copied().context("no shim")
    }
}
