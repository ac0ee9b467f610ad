//! A pod that the runtime has and no source wants: what is known of it is what its containers say themselves.

use crate::cri::proto;
use crate::kubelet::request::{Identity, PRE_STOP_ANNOTATION, TERMINATION_GRACE_ANNOTATION};
use k8s_openapi::api::core::v1::{Container, Lifecycle, Pod, PodSpec};

/// The pod of a sandbox with its containers, as far as it is needed to end it: names, grace, preStop hooks.
/// None for a sandbox that is no pod's.
pub fn orphan_pod(sandbox: &proto::PodSandbox, containers: &[proto::Container]) -> Option<Pod> {
    let identity = Identity::read(&sandbox.labels)?;
    let own = containers.iter().filter(|container| container.pod_sandbox_id == sandbox.id);
    let mut spec = PodSpec::default();
    for container in own {
        let text = |key: &str| container.annotations.get(key);
        spec.termination_grace_period_seconds = text(TERMINATION_GRACE_ANNOTATION)
            .and_then(|seconds| seconds.parse().ok())
            .or(spec.termination_grace_period_seconds);
        let hook = text(PRE_STOP_ANNOTATION).and_then(|hook| serde_json::from_str(hook).ok());
        spec.containers.push(Container {
            name: container.metadata.as_ref().map(|m| m.name.clone()).unwrap_or_default(),
            lifecycle: hook.map(|hook| Lifecycle { pre_stop: Some(hook), ..Lifecycle::default() }),
            ..Container::default()
        });
    }
    let mut pod = Pod { spec: Some(spec), ..Pod::default() };
    pod.metadata.uid = Some(identity.uid);
    pod.metadata.namespace = Some(identity.namespace);
    pod.metadata.name = Some(identity.name);
    pod.metadata.annotations = Some(sandbox.annotations.clone());
    Some(pod)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubelet::spec::{grace, uid};
    use std::collections::BTreeMap;

    #[test]
    fn what_is_needed_to_end_a_pod_is_in_its_containers() {
        let texts = |rows: &[(&str, &str)]| -> BTreeMap<String, String> {
            rows.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
        };
        let sandbox = proto::PodSandbox {
            id: "s".into(),
            labels: texts(&[
                ("io.kubernetes.pod.name", "p"),
                ("io.kubernetes.pod.namespace", "n"),
                ("io.kubernetes.pod.uid", "u"),
            ]),
            ..proto::PodSandbox::default()
        };
        let container = proto::Container {
            pod_sandbox_id: "s".into(),
            metadata: Some(proto::ContainerMetadata { name: "c".into(), attempt: 3 }),
            annotations: texts(&[
                ("io.kubernetes.pod.terminationGracePeriod", "7"),
                ("io.kubernetes.container.preStopHandler", r#"{"exec":{"command":["x"]}}"#),
            ]),
            ..proto::Container::default()
        };
        let pod = orphan_pod(&sandbox, &[container]).unwrap();
        assert_eq!((uid(&pod), grace(&pod).as_secs()), ("u", 7));
        let containers = &pod.spec.as_ref().unwrap().containers;
        let hook = containers[0].lifecycle.as_ref().unwrap().pre_stop.as_ref().unwrap();
        assert_eq!(hook.exec.as_ref().unwrap().command.as_deref(), Some(&["x".to_owned()][..]));
        assert!(orphan_pod(&proto::PodSandbox::default(), &[]).is_none());
    }
}
