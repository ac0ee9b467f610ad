//! What RunPodSandbox is asked for.

use super::labels::sandbox_labels;
use super::memory::MemoryRules;
use super::resources::pod_resources;
use super::security::{SecurityInput, sandbox_security};
use crate::cri::proto as cri;
use crate::kubelet::spec::{host_network, members, name, namespace, spec, uid};
use k8s_openapi::api::core::v1::{ContainerPort, Pod};
use std::path::Path;

/// What a sandbox's request is made of beside the pod.
#[derive(Clone, Copy, Debug)]
pub struct SandboxInput<'a> {
    /// How many sandboxes came before.
    pub attempt: u32,
    /// The pod's host name; ignored in the node's network.
    pub hostname: &'a str,
    /// The folder of the pod's logs.
    pub logs: &'a Path,
    /// What its resolv.conf says; none: the node's.
    pub dns: Option<&'a cri::DnsConfig>,
    /// The pod's cgroup; empty: the runtime's choice.
    pub cgroup_parent: &'a str,
    /// What memory means beside its limit.
    pub memory: MemoryRules,
    /// What the node adds to its security.
    pub security: SecurityInput<'a>,
}

/// What RunPodSandbox is asked for.
pub fn sandbox_config(pod: &Pod, input: &SandboxInput<'_>) -> cri::PodSandboxConfig {
    let ports = members(pod).into_iter().flat_map(|m| m.container.ports.iter().flatten());
    let mappings = ports.filter(|_| !host_network(pod)).filter_map(port_mapping);
    let context = spec(pod).security_context.as_ref();
    let sysctls = context.and_then(|context| context.sysctls.as_ref()).into_iter().flatten();
    cri::PodSandboxConfig {
        metadata: Some(cri::PodSandboxMetadata {
            name: name(pod).to_owned(),
            uid: uid(pod).to_owned(),
            namespace: namespace(pod).to_owned(),
            attempt: input.attempt,
        }),
        hostname: if host_network(pod) { String::new() } else { input.hostname.to_owned() },
        log_directory: input.logs.display().to_string(),
        dns_config: input.dns.cloned(),
        port_mappings: mappings.collect(),
        labels: sandbox_labels(pod),
        annotations: pod.metadata.annotations.clone().unwrap_or_default(),
        linux: Some(cri::LinuxPodSandboxConfig {
            cgroup_parent: input.cgroup_parent.to_owned(),
            security_context: Some(sandbox_security(pod, &input.security)),
            sysctls: sysctls.map(|s| (s.name.clone(), s.value.clone())).collect(),
            resources: Some(pod_resources(pod, input.memory)),
            ..cri::LinuxPodSandboxConfig::default()
        }),
        ..cri::PodSandboxConfig::default()
    }
}

/// A port that the host forwards; none for one that it does not.
fn port_mapping(port: &ContainerPort) -> Option<cri::PortMapping> {
    let protocol = match port.protocol.as_deref() {
        Some("UDP") => cri::Protocol::Udp,
        Some("SCTP") => cri::Protocol::Sctp,
        _ => cri::Protocol::Tcp,
    };
    Some(cri::PortMapping {
        protocol: protocol.into(),
        container_port: port.container_port,
        host_port: port.host_port.filter(|port| *port > 0)?,
        host_ip: port.host_ip.clone().unwrap_or_default(),
    })
}
