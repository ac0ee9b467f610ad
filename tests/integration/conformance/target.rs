//! A runtime of whatever make: what a plain client of the interface can do with it, and what it
//! can see from inside of a container and in the host's /proc.

use crate::harness::cri::Cri;
use crate::harness::logs;
use crate::harness::machine::Need;
use crate::harness::pod::{PATIENT, container, namespaces};
use crate::harness::runtime::pid_of;
use crate::harness::{Node, eventually, kernel};
use anyhow::{Context as _, Result, ensure};
use berth::cri::proto;
use std::path::PathBuf;
use tonic::Status;

/// What another runtime makes of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    /// The same.
    Agrees,
    /// Something else: why. The case has to fail there.
    Differs(&'static str),
}

/// Fields that are sent, and their effects.
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) needs: &'static [Need],
    pub(super) peer: Peer,
    /// Against berth.
    pub(super) own: fn(&Node) -> Result<()>,
    /// Against any runtime.
    pub(super) run: fn(&Target<'_>) -> Result<()>,
}

/// The cases of a file: name, needs, peer, function.
macro_rules! cases {
    ($($name:literal, $needs:expr, $peer:expr, $function:path;)*) => {
        pub(super) fn cases() -> Vec<super::target::Case> {
            vec![$(super::target::Case {
                name: $name,
                needs: $needs,
                peer: $peer,
                own: |node| $function(&super::target::Target::of(node)),
                run: $function,
            }),*]
        }
    };
}
pub(super) use cases;

/// A runtime.
pub(super) struct Target<'a> {
    pub(super) cri: &'a Cri,
    /// A folder of the host's, for volumes and logs.
    pub(super) folder: PathBuf,
}

impl<'a> Target<'a> {
    /// The test's own daemon.
    pub(super) fn of(node: &'a Node) -> Self {
        Self { cri: &node.cri, folder: node.path("volumes") }
    }

    /// The request for a pod with all namespaces of its own.
    pub(super) fn pod_config(&self, name: &str) -> proto::PodSandboxConfig {
        proto::PodSandboxConfig {
            metadata: Some(proto::PodSandboxMetadata {
                name: name.into(),
                uid: format!("uid-{name}"),
                namespace: "conformance".into(),
                attempt: 0,
            }),
            hostname: name.into(),
            log_directory: self.folder.join("logs").join(name).to_string_lossy().into_owned(),
            linux: Some(proto::LinuxPodSandboxConfig {
                security_context: Some(proto::LinuxSandboxSecurityContext {
                    namespace_options: Some(namespaces(proto::NamespaceMode::Pod)),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    /// RunPodSandbox.
    pub(super) fn pod(
        &self,
        name: &str,
        change: impl FnOnce(&mut proto::PodSandboxConfig),
    ) -> Result<Pod<'_>> {
        let mut config = self.pod_config(name);
        change(&mut config);
        // As a kubelet does before.
        std::fs::create_dir_all(&config.log_directory)?;
        let request = proto::RunPodSandboxRequest {
            config: Some(config.clone()),
            runtime_handler: String::new(),
        };
        let id = self.cri.run_pod_sandbox(request).context("RunPodSandbox")?.pod_sandbox_id;
        Ok(Pod { target: self, config, id })
    }

    /// A folder for a volume, with a file in it.
    pub(super) fn volume(&self, name: &str) -> Result<PathBuf> {
        let path = self.folder.join(name);
        std::fs::create_dir_all(&path)?;
        std::fs::write(path.join("file"), "from the host\n")?;
        Ok(path)
    }

    /// A file with a text.
    pub(super) fn file(&self, name: &str, text: &str) -> Result<String> {
        let path = self.folder.join(name);
        std::fs::write(&path, text)?;
        Ok(path.to_string_lossy().into_owned())
    }
}

/// A READY pod. Whoever runs the cases removes it.
pub(super) struct Pod<'a> {
    pub(super) target: &'a Target<'a>,
    pub(super) config: proto::PodSandboxConfig,
    pub(super) id: String,
}

impl<'a> Pod<'a> {
    /// CreateContainer, of a shell that waits for SIGTERM.
    pub(super) fn create(
        &self,
        name: &str,
        change: impl FnOnce(&mut proto::ContainerConfig),
    ) -> Result<String, Status> {
        let mut config = container(name, PATIENT);
        change(&mut config);
        let request = proto::CreateContainerRequest {
            pod_sandbox_id: self.id.clone(),
            config: Some(config),
            sandbox_config: Some(self.config.clone()),
        };
        Ok(self.target.cri.create_container(request)?.container_id)
    }

    /// CreateContainer and StartContainer.
    pub(super) fn start(
        &self,
        name: &str,
        change: impl FnOnce(&mut proto::ContainerConfig),
    ) -> Result<Running<'a>> {
        let id = self.create(name, change).context("CreateContainer")?;
        let request = proto::StartContainerRequest { container_id: id.clone() };
        self.target.cri.start_container(request).context("StartContainer")?;
        let log = PathBuf::from(&self.config.log_directory).join(format!("{name}.log"));
        Ok(Running { target: self.target, id, log })
    }

    /// PodSandboxStatus.
    pub(super) fn status(&self) -> Result<proto::PodSandboxStatus> {
        let request = proto::PodSandboxStatusRequest {
            pod_sandbox_id: self.id.clone(),
            ..Default::default()
        };
        self.target.cri.pod_sandbox_status(request)?.status.context("no status")
    }

    /// The pid of its own process, by the verbose status.
    pub(super) fn pid(&self) -> Result<i32> {
        let pod_sandbox_id = self.id.clone();
        let request = proto::PodSandboxStatusRequest { pod_sandbox_id, verbose: true };
        pid_of(&self.target.cri.pod_sandbox_status(request)?.info)
    }
}

/// A container that was started.
pub(super) struct Running<'a> {
    pub(super) target: &'a Target<'a>,
    pub(super) id: String,
    pub(super) log: PathBuf,
}

impl Running<'_> {
    /// What a script in it prints, and its exit code.
    pub(super) fn run(&self, script: &str) -> Result<(String, i32)> {
        let request = proto::ExecSyncRequest {
            container_id: self.id.clone(),
            cmd: ["sh", "-c", script].map(String::from).into(),
            timeout: 60,
        };
        let answer = self.target.cri.exec_sync(request).context("ExecSync")?;
        Ok((String::from_utf8_lossy(&answer.stdout).trim_end().to_owned(), answer.exit_code))
    }

    /// What a script prints that succeeds.
    pub(super) fn ask(&self, script: &str) -> Result<String> {
        let (text, code) = self.run(script)?;
        ensure!(code == 0, "{script:?} ended with {code}: {text}");
        Ok(text)
    }

    /// A script prints a text.
    pub(super) fn says(&self, script: &str, expected: &str) -> Result<()> {
        let text = self.ask(script)?;
        ensure!(text == expected, "{script:?}: {text:?} instead of {expected:?}");
        Ok(())
    }

    /// ContainerStatus.
    pub(super) fn status(&self) -> Result<proto::ContainerStatus> {
        let request =
            proto::ContainerStatusRequest { container_id: self.id.clone(), ..Default::default() };
        self.target.cri.container_status(request)?.status.context("no status")
    }

    /// Waits until it is EXITED.
    pub(super) fn ended(&self) -> Result<proto::ContainerStatus> {
        eventually("the container is EXITED", || {
            let status = self.status()?;
            Ok((status.state() == proto::ContainerState::ContainerExited).then_some(status))
        })
    }

    /// The pid of its first process, by the verbose status.
    pub(super) fn pid(&self) -> Result<i32> {
        let request =
            proto::ContainerStatusRequest { container_id: self.id.clone(), verbose: true };
        pid_of(&self.target.cri.container_status(request)?.info)
    }

    /// A field of /proc/<pid>/status of its first process.
    pub(super) fn proc(&self, field: &str) -> Result<String> {
        kernel::status_field(self.pid()?, field)
    }

    /// Waits until the log has a line.
    pub(super) fn logs(&self, line: &str) -> Result<()> {
        eventually(&format!("the log has {line:?}"), || {
            let lines = logs::read(&self.log)?;
            Ok(lines.iter().any(|l| l.text.trim_end() == line).then_some(()))
        })
    }
}
