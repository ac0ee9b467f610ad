//! Making a pod's sandbox, and ending what must not go on with it.

use super::body::Body;
use super::host::Host;
use super::kill::Until;
use super::steps::Steps;
use crate::blocking::{BlockingError, Wanted};
use crate::cri::proto;
use crate::error::chain;
use crate::kubelet::board::EventKind;
use crate::kubelet::cgroups;
use crate::kubelet::files::{
    DnsWarning, FileError, HostnameError, dns, pod_hostname, read_resolv_conf,
};
use crate::kubelet::observed::Observed;
use crate::kubelet::request::{SandboxInput, SecurityInput, sandbox_config};
use crate::kubelet::spec::{name, namespace, spec, uid};
use crate::kubelet::userns::UsernsError;
use k8s_openapi::api::core::v1::Pod;
use std::path::Path;
use std::sync::Arc;

/// The servers behind systemd-resolved, which listens where pods cannot reach it.
const BEHIND_RESOLVED: &str = "/run/systemd/resolve/resolv.conf";

/// Why a sandbox could not even be asked for.
#[derive(Debug, thiserror::Error)]
pub(super) enum SandboxError {
    /// The pod's name in the network.
    #[error(transparent)]
    Hostname(#[from] HostnameError),
    /// Its resolver.
    #[error(transparent)]
    Resolver(#[from] FileError),
    /// The folder of its logs.
    #[error("create folder {path}")]
    Logs { path: std::path::PathBuf, source: std::io::Error },
    /// Its user namespace.
    #[error(transparent)]
    Userns(#[from] UsernsError),
    /// The node's swap, of which its containers get a share.
    #[error("read /proc/swaps")]
    Swap(#[source] std::io::Error),
    /// Its cgroup.
    #[error(transparent)]
    Cgroup(#[from] cgroups::QosError),
    /// The pod is to end.
    #[error(transparent)]
    Unwanted(#[from] BlockingError),
}

impl Body {
    /// Makes the pod's sandbox; whether that succeeded. What is begun is finished even if the round is cut, and
    /// the pod's end waits for it: the runtime does not list a sandbox that it is still making.
    pub(super) async fn create_sandbox(&mut self, attempt: u32) -> bool {
        let (host, pod) = (Arc::clone(&self.host), Arc::clone(&self.pod));
        let steps = self.steps.of_task();
        let made = async move { host.run_sandbox(pod, &steps, attempt).await };
        match self.steps.finish("make the pod's sandbox", made).await {
            Ok(Ok(warnings)) => {
                for warning in warnings {
                    self.event(EventKind::Warning, warning.reason(), warning.to_string());
                }
                self.failures.remove("");
                true
            }
            Ok(Err(message)) => self.sandbox_failed(&message),
            Err(error) => self.sandbox_failed(&error.to_string()),
        }
    }

    fn sandbox_failed(&mut self, message: &str) -> bool {
        let message = format!("Failed to create pod sandbox: {message}");
        self.event(EventKind::Warning, "FailedCreatePodSandBox", message.clone());
        self.failed("", "CreatePodSandboxError", &message)
    }

    /// Ends every container and sandbox of the pod, with the pod's own grace; whether that succeeded.
    pub(super) async fn stop_all(&mut self, observed: &Observed) -> bool {
        let killed = self.kill_all(observed, Until::within(self.own_grace())).await;
        let mut well = killed.is_ok();
        for sandbox in &observed.sandboxes {
            let request = proto::StopPodSandboxRequest { pod_sandbox_id: sandbox.id.clone() };
            if let Err(error) = self.host.cri.stop_pod_sandbox(request).await {
                self.event(EventKind::Warning, "FailedKillPod", error.message().to_owned());
                well = false;
            }
        }
        well
    }
}

impl Host {
    /// Prepares and makes a pod's sandbox; what is to be told of its DNS, or why there is none.
    async fn run_sandbox(
        self: Arc<Self>,
        pod: Arc<Pod>,
        steps: &Steps,
        attempt: u32,
    ) -> Result<Vec<DnsWarning>, String> {
        let of = Arc::clone(&pod);
        let made = steps.run(&self, "prepare the pod's sandbox", move |host, wanted| {
            host.prepare(&of, wanted)?;
            host.sandbox_request(&of, attempt, wanted)
        });
        let made = made.await.map_err(|error| error.to_string())?;
        let (config, warnings) = made.map_err(|error: SandboxError| chain(&error))?;
        steps.still().map_err(|error| error.to_string())?;
        let request = proto::RunPodSandboxRequest {
            config: Some(config),
            runtime_handler: spec(&pod).runtime_class_name.clone().unwrap_or_default(),
        };
        let ran = self.cri.run_pod_sandbox(request).await;
        ran.map(|_| warnings).map_err(|error| error.message().to_owned())
    }

    /// Makes what has to be there before a sandbox: the folder of logs, and the pod's cgroup.
    fn prepare(&self, pod: &Pod, wanted: &Wanted) -> Result<(), SandboxError> {
        let path = self.log_dir(namespace(pod), name(pod), uid(pod));
        wanted
            .effect(|| std::fs::create_dir_all(&path))?
            .map_err(|source| SandboxError::Logs { path, source })?;
        wanted.effect(|| self.cgroups.as_ref().map_or(Ok(()), |cgroups| cgroups.make(pod)))??;
        Ok(())
    }

    /// The request for a pod's sandbox, and what is to be told of its DNS.
    pub(super) fn sandbox_request(
        &self,
        pod: &Pod,
        attempt: u32,
        wanted: &Wanted,
    ) -> Result<(proto::PodSandboxConfig, Vec<DnsWarning>), SandboxError> {
        let settings = &self.settings;
        let named = pod_hostname(pod, &settings.dns.domain)?;
        let (_, host) = read_resolv_conf(&settings.resolv_conf, Path::new(BEHIND_RESOLVED))?;
        let resolvers = dns(pod, &settings.dns, &host);
        let userns = wanted.effect(|| self.userns.of(pod))??;
        let parent = self.cgroups.as_ref().map(|cgroups| cgroups.parent(pod)).unwrap_or_default();
        let input = SandboxInput {
            attempt,
            hostname: &named.kernel,
            logs: &self.log_dir(namespace(pod), name(pod), uid(pod)),
            dns: Some(&resolvers.config),
            cgroup_parent: &parent,
            memory: settings.memory,
            security: SecurityInput {
                profiles: &settings.seccomp_profiles,
                seccomp_default: settings.seccomp_default,
                userns: userns.as_ref(),
            },
        };
        Ok((sandbox_config(pod, &input), resolvers.warnings))
    }
}
