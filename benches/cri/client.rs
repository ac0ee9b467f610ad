//! The CRI verbs of the course, one method each, with the requests that a kubelet would make.

use anyhow::{Context as _, Result};
use berth::cri::proto::{self, image_service_client, runtime_service_client};
use hyper_util::rt::TokioIo;
use std::path::Path;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

/// The seconds that a process gets to heed its stop signal; none of the course needs them.
const GRACE_SECONDS: i64 = 30;

/// One connection to an endpoint. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    runtime: runtime_service_client::RuntimeServiceClient<Channel>,
    images: image_service_client::ImageServiceClient<Channel>,
}

/// A pod as the client knows it.
#[derive(Clone, Debug)]
pub(crate) struct Pod {
    pub(crate) id: String,
    pub(crate) name: String,
    config: proto::PodSandboxConfig,
}

/// What a command reads.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Input {
    Nothing,
    Piped,
}

/// What is different from container to container.
struct Wanted<'a> {
    image: &'a str,
    name: &'a str,
    command: &'a [&'a str],
    resources: Option<proto::LinuxContainerResources>,
}

impl Client {
    pub(crate) async fn connect(socket: &Path) -> Result<Self> {
        let path = socket.to_owned();
        let connector = tower::service_fn(move |_| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        let channel = Endpoint::from_static("http://localhost")
            .connect_with_connector(connector)
            .await
            .with_context(|| format!("connect to {}", socket.display()))?;
        Ok(Self {
            runtime: runtime_service_client::RuntimeServiceClient::new(channel.clone())
                .max_decoding_message_size(usize::MAX),
            images: image_service_client::ImageServiceClient::new(channel)
                .max_decoding_message_size(usize::MAX),
        })
    }

    /// The runtime's name and version.
    pub(crate) async fn version(&self) -> Result<String> {
        let request = proto::VersionRequest { version: String::new() };
        let reply = self.runtime.clone().version(request).await.context("Version")?.into_inner();
        Ok(format!("{} {}", reply.runtime_name, reply.runtime_version))
    }

    pub(crate) async fn pull_image(&self, image: &str) -> Result<()> {
        let request = proto::PullImageRequest { image: Some(spec(image)), ..Default::default() };
        self.images.clone().pull_image(request).await.context("PullImage")?;
        Ok(())
    }

    pub(crate) async fn remove_image(&self, image: &str) -> Result<()> {
        let request = proto::RemoveImageRequest { image: Some(spec(image)) };
        self.images.clone().remove_image(request).await.context("RemoveImage")?;
        Ok(())
    }

    pub(crate) async fn list_images(&self) -> Result<usize> {
        let request = proto::ListImagesRequest::default();
        let reply = self.images.clone().list_images(request).await.context("ListImages")?;
        Ok(reply.into_inner().images.len())
    }

    pub(crate) async fn run_pod(&self, name: &str, logs: &Path) -> Result<Pod> {
        let config = proto::PodSandboxConfig {
            metadata: Some(proto::PodSandboxMetadata {
                name: name.to_owned(),
                uid: format!("uid-{name}"),
                namespace: "bench".to_owned(),
                attempt: 0,
            }),
            hostname: name.to_owned(),
            log_directory: logs.join(name).display().to_string(),
            linux: Some(proto::LinuxPodSandboxConfig {
                security_context: Some(proto::LinuxSandboxSecurityContext {
                    namespace_options: Some(namespaces()),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        };
        let request = proto::RunPodSandboxRequest {
            config: Some(config.clone()),
            runtime_handler: String::new(),
        };
        let reply = self.runtime.clone().run_pod_sandbox(request).await.context("RunPodSandbox")?;
        Ok(Pod { id: reply.into_inner().pod_sandbox_id, name: name.to_owned(), config })
    }

    pub(crate) async fn stop_pod(&self, pod: &Pod) -> Result<()> {
        let request = proto::StopPodSandboxRequest { pod_sandbox_id: pod.id.clone() };
        self.runtime.clone().stop_pod_sandbox(request).await.context("StopPodSandbox")?;
        Ok(())
    }

    pub(crate) async fn remove_pod(&self, pod: &Pod) -> Result<()> {
        let request = proto::RemovePodSandboxRequest { pod_sandbox_id: pod.id.clone() };
        self.runtime.clone().remove_pod_sandbox(request).await.context("RemovePodSandbox")?;
        Ok(())
    }

    /// A container with limits on CPU time, memory and processes, whose process heeds SIGTERM.
    pub(crate) async fn create_container(
        &self,
        pod: &Pod,
        image: &str,
        name: &str,
    ) -> Result<String> {
        let limits = proto::LinuxContainerResources {
            cpu_period: 100_000,
            cpu_quota: 50_000,
            cpu_shares: 256,
            memory_limit_in_bytes: 64 << 20,
            ..Default::default()
        };
        self.create(pod, Wanted { image, name, command: &["/heed"], resources: Some(limits) }).await
    }

    /// The same without limits.
    pub(crate) async fn create_unlimited(
        &self,
        pod: &Pod,
        image: &str,
        name: &str,
    ) -> Result<String> {
        self.create(pod, Wanted { image, name, command: &["/heed"], resources: None }).await
    }

    /// A container without limits that writes `mib` MiB of lines of 100 bytes, and ends.
    pub(crate) async fn create_writer(
        &self,
        pod: &Pod,
        image: &str,
        name: &str,
        mib: u64,
    ) -> Result<String> {
        let line = "x".repeat(99);
        let script = format!("busybox yes {line} | busybox head -c {}", mib << 20);
        let command = &["/bin/sh", "-c", &script];
        self.create(pod, Wanted { image, name, command, resources: None }).await
    }

    async fn create(&self, pod: &Pod, wanted: Wanted<'_>) -> Result<String> {
        let Wanted { image, name, command, resources } = wanted;
        let config = proto::ContainerConfig {
            metadata: Some(proto::ContainerMetadata { name: name.to_owned(), attempt: 0 }),
            image: Some(spec(image)),
            command: command.iter().map(|&word| word.to_owned()).collect(),
            log_path: format!("{name}/0.log"),
            linux: Some(proto::LinuxContainerConfig {
                resources,
                security_context: Some(proto::LinuxContainerSecurityContext {
                    namespace_options: Some(namespaces()),
                    ..Default::default()
                }),
            }),
            ..Default::default()
        };
        let request = proto::CreateContainerRequest {
            pod_sandbox_id: pod.id.clone(),
            config: Some(config),
            sandbox_config: Some(pod.config.clone()),
        };
        let reply =
            self.runtime.clone().create_container(request).await.context("CreateContainer")?;
        Ok(reply.into_inner().container_id)
    }

    pub(crate) async fn start_container(&self, id: &str) -> Result<()> {
        let request = proto::StartContainerRequest { container_id: id.to_owned() };
        self.runtime.clone().start_container(request).await.context("StartContainer")?;
        Ok(())
    }

    /// Waits until the container has ended with 0.
    pub(crate) async fn ended(&self, id: &str) -> Result<()> {
        loop {
            let request =
                proto::ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
            let reply = self.runtime.clone().container_status(request).await;
            let status = reply.context("ContainerStatus")?.into_inner().status.unwrap_or_default();
            if status.state() == proto::ContainerState::ContainerExited {
                let (code, why) = (status.exit_code, status.message);
                anyhow::ensure!(code == 0, "the container ended with {code}: {why}");
                return Ok(());
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn remove_container(&self, id: &str) -> Result<()> {
        let request = proto::RemoveContainerRequest { container_id: id.to_owned() };
        self.runtime.clone().remove_container(request).await.context("RemoveContainer")?;
        Ok(())
    }

    /// `true` in the container; anything but its exit code 0 is an error.
    pub(crate) async fn exec_true(&self, id: &str) -> Result<()> {
        let request = proto::ExecSyncRequest {
            container_id: id.to_owned(),
            cmd: vec!["/bin/true".to_owned()],
            timeout: 60,
        };
        let reply = self.runtime.clone().exec_sync(request).await.context("ExecSync")?.into_inner();
        anyhow::ensure!(reply.exit_code == 0, "true ended with {}", reply.exit_code);
        Ok(())
    }

    /// A URL for one session of a command, with its output and perhaps its input.
    pub(crate) async fn exec_url(&self, id: &str, cmd: &[&str], input: Input) -> Result<String> {
        let request = proto::ExecRequest {
            container_id: id.to_owned(),
            cmd: cmd.iter().map(|&word| word.to_owned()).collect(),
            stdin: matches!(input, Input::Piped),
            stdout: true,
            ..Default::default()
        };
        Ok(self.runtime.clone().exec(request).await.context("Exec")?.into_inner().url)
    }

    pub(crate) async fn stop_container(&self, id: &str) -> Result<()> {
        let request =
            proto::StopContainerRequest { container_id: id.to_owned(), timeout: GRACE_SECONDS };
        self.runtime.clone().stop_container(request).await.context("StopContainer")?;
        Ok(())
    }

    pub(crate) async fn list_containers(&self) -> Result<usize> {
        let request = proto::ListContainersRequest::default();
        let reply =
            self.runtime.clone().list_containers(request).await.context("ListContainers")?;
        Ok(reply.into_inner().containers.len())
    }

    /// The instances of the containers of a kept pod, the oldest first.
    pub(crate) async fn instances(&self, pod: &str) -> Result<Vec<proto::ContainerStatus>> {
        let list = proto::ListContainersRequest::default();
        let reply = self.runtime.clone().list_containers(list).await.context("ListContainers")?;
        let mut all = Vec::new();
        for container in reply.into_inner().containers {
            // Its own name, and the node's.
            let of = container.labels.get("io.kubernetes.pod.name").map(String::as_str);
            if of.and_then(|name| name.strip_suffix("-bench")) != Some(pod) {
                continue;
            }
            let request =
                proto::ContainerStatusRequest { container_id: container.id, verbose: false };
            // One that is gone since is not there.
            if let Ok(reply) = self.runtime.clone().container_status(request).await {
                all.extend(reply.into_inner().status);
            }
        }
        all.sort_by_key(|status| status.metadata.as_ref().map(|metadata| metadata.attempt));
        Ok(all)
    }

    pub(crate) async fn list_pods(&self) -> Result<usize> {
        let request = proto::ListPodSandboxRequest::default();
        let reply =
            self.runtime.clone().list_pod_sandbox(request).await.context("ListPodSandbox")?;
        Ok(reply.into_inner().items.len())
    }

    pub(crate) async fn list_container_stats(&self) -> Result<usize> {
        let request = proto::ListContainerStatsRequest::default();
        let reply = self
            .runtime
            .clone()
            .list_container_stats(request)
            .await
            .context("ListContainerStats")?;
        Ok(reply.into_inner().stats.len())
    }
}

fn spec(image: &str) -> proto::ImageSpec {
    proto::ImageSpec { image: image.to_owned(), ..Default::default() }
}

/// The kubelet's usual choice: everything of the pod but the pid namespace.
fn namespaces() -> proto::NamespaceOption {
    proto::NamespaceOption {
        network: proto::NamespaceMode::Pod.into(),
        pid: proto::NamespaceMode::Container.into(),
        ipc: proto::NamespaceMode::Pod.into(),
        ..Default::default()
    }
}
