//! A sandbox and a container in it, for tests.

use super::from_proto::{container_config, sandbox_config};
use super::proto;
use crate::engine::view::{ContainerState, ContainerView, SandboxView};
use crate::ids::{ContainerId, ImageId, SandboxId};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(in crate::cri) fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect()
}

pub(in crate::cri) fn sandbox() -> SandboxView {
    let config = proto::PodSandboxConfig {
        metadata: Some(proto::PodSandboxMetadata {
            name: "n".into(),
            uid: "u".into(),
            namespace: "s".into(),
            attempt: 0,
        }),
        labels: labels(&[("app", "web"), ("tier", "front")]),
        ..proto::PodSandboxConfig::default()
    };
    SandboxView {
        id: SandboxId::parse(&"ab".repeat(32)).unwrap(),
        config: Arc::new(sandbox_config("config", Some(config)).unwrap()),
        handler: String::new(),
        ready: true,
        created_at_nanos: 1,
        ips: vec![],
        netns: None,
        pause_pid: None,
        shim_pid: None,
        cgroup: String::new(),
        message: String::new(),
        left_out: Vec::new(),
    }
}

pub(in crate::cri) fn container() -> ContainerView {
    let config = proto::ContainerConfig {
        metadata: Some(proto::ContainerMetadata { name: "c".into(), attempt: 0 }),
        image: Some(proto::ImageSpec { image: "i".into(), ..Default::default() }),
        labels: labels(&[("app", "web")]),
        ..proto::ContainerConfig::default()
    };
    ContainerView {
        id: ContainerId::parse(&"cd".repeat(32)).unwrap(),
        sandbox: sandbox().id,
        config: Arc::new(container_config("config", Some(config)).unwrap().0),
        image_id: ImageId::parse(&"0".repeat(64)).unwrap(),
        image_ref: String::new(),
        volumes: Vec::new(),
        state: ContainerState::Exited,
        pid: None,
        created_at_nanos: 1,
        started_at_nanos: 0,
        finished_at_nanos: 0,
        exit_code: 0,
        reason: String::new(),
        message: String::new(),
        left_out: Vec::new(),
        log_path: None,
        user: None,
        resources: Default::default(),
        stop_signal: "SIGTERM".into(),
        bundle: "/b".into(),
    }
}
