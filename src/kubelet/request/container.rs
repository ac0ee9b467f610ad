//! What CreateContainer is asked for.

use super::labels::{DEFAULT_MESSAGE_PATH, container_annotations, container_labels};
use super::memory::MemoryRules;
use super::resources::container_resources;
use super::security::{ImageUser, SecurityInput, container_security};
use crate::cri::proto as cri;
use crate::kubelet::node::NodeFacts;
use crate::kubelet::spec::Member;
use k8s_openapi::api::core::v1::Pod;
use std::path::Path;

/// What a container's request is made of beside the pod.
#[derive(Clone, Copy, Debug)]
pub struct ContainerInput<'a> {
    /// How many starts came before.
    pub restarts: u32,
    /// The image, as the runtime knows it.
    pub image_ref: &'a str,
    /// Whom it runs as.
    pub user: &'a ImageUser,
    /// The entrypoint, expanded; empty: the image's.
    pub command: &'a [String],
    /// The arguments, expanded.
    pub args: &'a [String],
    /// The environment.
    pub env: &'a [(String, String)],
    /// Volumes, and the pod's own files.
    pub mounts: &'a [cri::Mount],
    /// The file of its termination message, on the host.
    pub message_file: &'a Path,
    /// The id of the container whose processes it is to see; none: those that the pod says.
    pub target: Option<&'a str>,
    /// The node.
    pub node: &'a NodeFacts,
    /// What its memory means beside its limit.
    pub memory: MemoryRules,
    /// Bytes of swap that the node has now.
    pub swap_bytes: u64,
    /// What the node adds to its security.
    pub security: SecurityInput<'a>,
}

/// What CreateContainer is asked for.
pub fn container_config(
    pod: &Pod,
    member: Member<'_>,
    input: &ContainerInput<'_>,
) -> cri::ContainerConfig {
    let container = member.container;
    let named = container.image.clone().unwrap_or_default();
    let message = container.termination_message_path.as_deref().unwrap_or(DEFAULT_MESSAGE_PATH);
    let mut mounts = input.mounts.to_vec();
    if let Some(ids) = input.security.userns {
        // Of images the runtime makes mounts of its own.
        for mount in mounts.iter_mut().filter(|mount| mount.image.is_none()) {
            mount.uid_mappings.clone_from(&ids.uids);
            mount.gid_mappings.clone_from(&ids.gids);
        }
    }
    if !message.is_empty() && !mounts.iter().any(|mount| mount.container_path == message) {
        mounts.push(cri::Mount {
            container_path: message.to_owned(),
            host_path: input.message_file.display().to_string(),
            ..cri::Mount::default()
        });
    }
    let signal = container.lifecycle.as_ref().and_then(|l| l.stop_signal.as_deref());
    let signal = signal.and_then(|s| cri::Signal::from_str_name(&format!("SIGNAL_{s}")));
    let env = input.env.iter();
    let resources = container_resources(pod, member, input.node, input.memory, input.swap_bytes);
    let mut security = container_security(pod, container, input.user, &input.security);
    if let (Some(target), Some(options)) = (input.target, &mut security.namespace_options) {
        options.pid = cri::NamespaceMode::Target.into();
        target.clone_into(&mut options.target_id);
    }
    cri::ContainerConfig {
        metadata: Some(cri::ContainerMetadata {
            name: container.name.clone(),
            attempt: input.restarts,
        }),
        image: Some(cri::ImageSpec {
            image: input.image_ref.to_owned(),
            user_specified_image: named,
            ..cri::ImageSpec::default()
        }),
        command: input.command.to_vec(),
        args: input.args.to_vec(),
        working_dir: container.working_dir.clone().unwrap_or_default(),
        envs: env
            .map(|(key, value)| cri::KeyValue { key: key.clone(), value: value.clone().into() })
            .collect(),
        mounts,
        labels: container_labels(pod, member),
        annotations: container_annotations(pod, member, input.restarts),
        log_path: log_path(&container.name, input.restarts),
        stdin: container.stdin.unwrap_or(false),
        stdin_once: container.stdin_once.unwrap_or(false),
        tty: container.tty.unwrap_or(false),
        linux: Some(cri::LinuxContainerConfig {
            resources: Some(resources),
            security_context: Some(security),
        }),
        stop_signal: signal.unwrap_or(cri::Signal::RuntimeDefault).into(),
        ..cri::ContainerConfig::default()
    }
}

/// A container's log, below the folder of the pod's.
fn log_path(container: &str, restarts: u32) -> String {
    format!("{container}/{restarts}.log")
}
