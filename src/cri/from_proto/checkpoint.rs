//! CheckpointContainer, CheckpointPod and RestorePod. No option exists yet, so each is refused by name.

use super::RequestError;
use super::container::container_config;
use super::sandbox::sandbox_config;
use super::text::{absolute, grace, id, native_handler};
use crate::cri::proto;
use crate::engine::{PodCheckpoint, PodRestore};
use std::collections::{BTreeMap, BTreeSet};

/// Where a container's state goes: nowhere in particular, or a file.
pub(crate) fn checkpoint_container(
    request: &proto::CheckpointContainerRequest,
) -> Result<&str, RequestError> {
    if !request.location.is_empty() {
        absolute("location", &request.location)?;
    }
    grace("timeout", request.timeout)?;
    id("container_id", &request.container_id)
}

/// Which containers of which pod go where. `deadline`: whether the caller gave one.
pub(crate) fn checkpoint_pod(
    request: &proto::CheckpointPodRequest,
    deadline: bool,
) -> Result<PodCheckpoint, RequestError> {
    let sandbox = id("pod_sandbox_id", &request.pod_sandbox_id)?.to_owned();
    let output = absolute("output_path", &request.output_path)?;
    no_options(&request.options)?;
    if request.container_ids.is_empty() {
        return Err(RequestError::missing("container_ids"));
    }
    let mut containers = BTreeSet::new();
    for (index, container) in request.container_ids.iter().enumerate() {
        let field = format!("container_ids[{index}]");
        if !containers.insert(id(&field, container)?.to_owned()) {
            return Err(RequestError::invalid(field, format!("{container:?} is given twice")));
        }
    }
    if !deadline {
        let reason = "the call needs one: its containers are paused until it ends";
        return Err(RequestError::invalid("deadline", reason));
    }
    Ok(PodCheckpoint { sandbox, output, containers })
}

/// What is to be made of which folder.
pub(crate) fn restore_pod(request: proto::RestorePodRequest) -> Result<PodRestore, RequestError> {
    let checkpoint = absolute("checkpoint_path", &request.checkpoint_path)?;
    native_handler("runtime_handler", &request.runtime_handler)?;
    no_options(&request.options)?;
    sandbox_config("config", request.config)?;
    if request.container_configs.is_empty() {
        return Err(RequestError::missing("container_configs"));
    }
    let mut names = BTreeSet::new();
    for (index, config) in request.container_configs.into_iter().enumerate() {
        let field = format!("container_configs[{index}]");
        let (config, _) = container_config(&field, Some(config))?;
        if !names.insert(config.name.clone()) {
            let reason = format!("{:?} is given twice", config.name);
            return Err(RequestError::invalid(format!("{field}.metadata.name"), reason));
        }
    }
    Ok(PodRestore { checkpoint })
}

fn no_options(options: &BTreeMap<String, String>) -> Result<(), RequestError> {
    match options.keys().next() {
        Some(option) => {
            let shown: String = option.chars().take(80).collect();
            Err(RequestError::invalid("options", format!("option {shown:?} is not known")))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> proto::CheckpointPodRequest {
        proto::CheckpointPodRequest {
            pod_sandbox_id: "a".repeat(64),
            output_path: "/checkpoints/one".into(),
            container_ids: vec!["b".repeat(64), "c".repeat(64)],
            options: BTreeMap::new(),
        }
    }

    type Change = fn(&mut proto::CheckpointPodRequest);

    #[test]
    fn a_checkpoint_of_a_pod_needs_a_folder_its_containers_and_a_deadline() {
        assert_eq!(checkpoint_pod(&pod(), true).unwrap().containers.len(), 2);
        let cases: [(&str, Change); 7] = [
            ("pod_sandbox_id", |r| r.pod_sandbox_id.clear()),
            ("output_path", |r| r.output_path.clear()),
            ("output_path", |r| r.output_path = "here".into()),
            ("output_path", |r| r.output_path = "/a/../b".into()),
            ("container_ids", |r| r.container_ids.clear()),
            ("container_ids[1]", |r| r.container_ids = vec!["x".into(), "x".into()]),
            ("options", |r| drop(r.options.insert("fast".into(), "yes".into()))),
        ];
        for (field, change) in cases {
            let mut request = pod();
            change(&mut request);
            let error = checkpoint_pod(&request, true).expect_err(field);
            assert!(error.to_string().starts_with(&format!("{field}: ")), "{error}");
        }
        let error = checkpoint_pod(&pod(), false).unwrap_err();
        assert!(error.to_string().starts_with("deadline: "), "{error}");
    }

    #[test]
    fn a_container_s_location_is_a_whole_path_or_none() {
        let request = |location: &str, timeout| proto::CheckpointContainerRequest {
            container_id: "b".into(),
            location: location.into(),
            timeout,
        };
        for (location, timeout) in [("", 0), ("/a/b.tar", 60)] {
            assert_eq!(checkpoint_container(&request(location, timeout)).unwrap(), "b");
        }
        for (location, timeout) in [("b.tar", 0), ("/a/../b.tar", 0), ("", -1)] {
            assert!(checkpoint_container(&request(location, timeout)).is_err(), "{location}");
        }
    }

    #[test]
    fn a_restore_needs_a_pod_and_containers_of_different_names() {
        let container = |name: &str| proto::ContainerConfig {
            metadata: Some(proto::ContainerMetadata { name: name.into(), attempt: 0 }),
            image: Some(proto::ImageSpec { image: "i".into(), ..Default::default() }),
            ..Default::default()
        };
        let metadata = proto::PodSandboxMetadata {
            name: "n".into(),
            uid: "u".into(),
            namespace: "s".into(),
            attempt: 0,
        };
        let good = proto::RestorePodRequest {
            checkpoint_path: "/checkpoints/one".into(),
            config: Some(proto::PodSandboxConfig {
                metadata: Some(metadata),
                ..Default::default()
            }),
            container_configs: vec![container("a"), container("b")],
            ..Default::default()
        };
        restore_pod(good.clone()).unwrap();
        let twice = vec![container("a"), container("a")];
        let handler = "no-such".to_owned();
        let bad = [
            proto::RestorePodRequest { checkpoint_path: "one".into(), ..good.clone() },
            proto::RestorePodRequest { config: None, ..good.clone() },
            proto::RestorePodRequest { container_configs: vec![], ..good.clone() },
            proto::RestorePodRequest { container_configs: twice, ..good.clone() },
            proto::RestorePodRequest { runtime_handler: handler, ..good.clone() },
            proto::RestorePodRequest { options: [("a".into(), "b".into())].into(), ..good },
        ];
        for request in bad {
            assert!(restore_pod(request.clone()).is_err(), "{request:?}");
        }
    }
}
