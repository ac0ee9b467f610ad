//! Labels and annotations by which a pod's parts are known to every tool of the field.

use crate::kubelet::observed::{HASH_ANNOTATION, POD_UID_LABEL, RESTART_COUNT_ANNOTATION};
use crate::kubelet::spec::{self, Member};
use k8s_openapi::api::core::v1::Pod;
use std::collections::BTreeMap;

/// The annotation with the path of a container's termination message, in the container.
pub const MESSAGE_PATH_ANNOTATION: &str = "io.kubernetes.container.terminationMessagePath";
/// The annotation with the policy of a container's termination message.
pub const MESSAGE_POLICY_ANNOTATION: &str = "io.kubernetes.container.terminationMessagePolicy";
/// The annotation with a container's preStop hook, JSON.
pub const PRE_STOP_ANNOTATION: &str = "io.kubernetes.container.preStopHandler";
/// The annotation with the grace of a pod that is being deleted, seconds.
pub const DELETION_GRACE_ANNOTATION: &str = "io.kubernetes.pod.deletionGracePeriod";
/// The annotation with a pod's own grace, seconds.
pub const TERMINATION_GRACE_ANNOTATION: &str = "io.kubernetes.pod.terminationGracePeriod";
const PORTS_ANNOTATION: &str = "io.kubernetes.container.ports";
const NAME_LABEL: &str = "io.kubernetes.pod.name";
const NAMESPACE_LABEL: &str = "io.kubernetes.pod.namespace";
const CONTAINER_LABEL: &str = "io.kubernetes.container.name";

/// Whose a sandbox or container is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The pod's uid.
    pub uid: String,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub name: String,
}

impl Identity {
    /// A pod's.
    pub fn of(pod: &Pod) -> Self {
        Self {
            uid: spec::uid(pod).to_owned(),
            namespace: spec::namespace(pod).to_owned(),
            name: spec::name(pod).to_owned(),
        }
    }

    /// What the labels of a sandbox or container say; none if they name no pod.
    pub fn read(labels: &BTreeMap<String, String>) -> Option<Self> {
        let text = |key: &str| labels.get(key).cloned();
        Some(Self {
            uid: text(POD_UID_LABEL)?,
            namespace: text(NAMESPACE_LABEL)?,
            name: text(NAME_LABEL)?,
        })
    }

    fn labels(&self) -> [(String, String); 3] {
        [
            (NAME_LABEL.to_owned(), self.name.clone()),
            (NAMESPACE_LABEL.to_owned(), self.namespace.clone()),
            (POD_UID_LABEL.to_owned(), self.uid.clone()),
        ]
    }
}

/// A sandbox's labels: the pod's own, and whose it is.
pub(super) fn sandbox_labels(pod: &Pod) -> BTreeMap<String, String> {
    let mut labels = pod.metadata.labels.clone().unwrap_or_default();
    labels.extend(Identity::of(pod).labels());
    labels
}

/// A container's labels.
pub(super) fn container_labels(pod: &Pod, member: Member<'_>) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::from(Identity::of(pod).labels());
    labels.insert(CONTAINER_LABEL.to_owned(), member.name().to_owned());
    labels
}

/// What a restarted kubelet has to know of a container.
pub(super) fn container_annotations(
    pod: &Pod,
    member: Member<'_>,
    restarts: u32,
) -> BTreeMap<String, String> {
    let container = member.container;
    let json = |value: serde_json::Result<String>| value.ok();
    let pre_stop = container.lifecycle.as_ref().and_then(|l| l.pre_stop.as_ref());
    let ports = container.ports.as_ref().filter(|ports| !ports.is_empty());
    let path = container.termination_message_path.clone();
    let policy = container.termination_message_policy.clone();
    let deletion = pod.metadata.deletion_grace_period_seconds;
    [
        (HASH_ANNOTATION, Some(spec::container_hash(container))),
        (RESTART_COUNT_ANNOTATION, Some(restarts.to_string())),
        (MESSAGE_PATH_ANNOTATION, Some(path.unwrap_or_else(|| DEFAULT_MESSAGE_PATH.to_owned()))),
        (MESSAGE_POLICY_ANNOTATION, Some(policy.unwrap_or_else(|| "File".to_owned()))),
        (PRE_STOP_ANNOTATION, pre_stop.and_then(|hook| json(serde_json::to_string(hook)))),
        (PORTS_ANNOTATION, ports.and_then(|ports| json(serde_json::to_string(ports)))),
        (DELETION_GRACE_ANNOTATION, deletion.map(|seconds| seconds.to_string())),
        (TERMINATION_GRACE_ANNOTATION, Some(spec::grace(pod).as_secs().to_string())),
    ]
    .into_iter()
    .filter_map(|(key, value)| Some((key.to_owned(), value?)))
    .collect()
}

/// Where a container writes its termination message if its specification does not say.
pub(super) const DEFAULT_MESSAGE_PATH: &str = "/dev/termination-log";
