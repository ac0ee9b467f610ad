//! CheckpointContainer, CheckpointPod and RestorePod. No option exists yet, so each is refused by name.

use super::RequestError;
use super::container::container_config;
use super::fits::fit;
use super::sandbox::sandbox_config;
use super::text::{absolute, grace, id, native_handler};
use crate::cri::proto;
use crate::engine::{ContainerCheckpoint, PodCheckpoint, PodRestore};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Where a container's state goes: nowhere in particular, or a file.
pub(crate) fn checkpoint_container(
    request: &proto::CheckpointContainerRequest,
) -> Result<ContainerCheckpoint, RequestError> {
    let location = match request.location.as_str() {
        "" => None,
        location => Some(absolute("location", location)?),
    };
    if location.as_ref().is_some_and(|l| l.file_name().is_none() || request.location.ends_with('/'))
    {
        let reason = format!("{:?} names no file", request.location);
        return Err(RequestError::invalid("location", reason));
    }
    let limit = Some(grace("timeout", request.timeout)?).filter(|limit| !limit.is_zero());
    let container = id("container_id", &request.container_id)?.to_owned();
    Ok(ContainerCheckpoint { container, location, limit })
}

/// What a caller says how long it waits: up to eight digits and a unit (gRPC over HTTP/2, "Requests").
pub(crate) fn deadline(header: &str) -> Option<Duration> {
    let (digits, unit) = header.split_at_checked(header.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let n: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(n.saturating_mul(3600)),
        "M" => Duration::from_secs(n.saturating_mul(60)),
        "S" => Duration::from_secs(n),
        "m" => Duration::from_millis(n),
        "u" => Duration::from_micros(n),
        "n" => Duration::from_nanos(n),
        _ => return None,
    })
}

/// Which containers of which pod go where. `limit`: the caller's deadline, if it gave one.
pub(crate) fn checkpoint_pod(
    request: &proto::CheckpointPodRequest,
    limit: Option<Duration>,
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
    let reason = "the call needs one: its containers are paused until it ends";
    let limit = limit.ok_or_else(|| RequestError::invalid("deadline", reason))?;
    Ok(PodCheckpoint { sandbox, output, containers, limit })
}

/// What is to be made of which folder.
pub(crate) fn restore_pod(request: proto::RestorePodRequest) -> Result<PodRestore, RequestError> {
    let checkpoint = absolute("checkpoint_path", &request.checkpoint_path)?;
    native_handler("runtime_handler", &request.runtime_handler)?;
    no_options(&request.options)?;
    let pod = sandbox_config("config", request.config)?;
    if request.container_configs.is_empty() {
        return Err(RequestError::missing("container_configs"));
    }
    let (mut names, mut containers) = (BTreeSet::new(), Vec::new());
    for (index, config) in request.container_configs.into_iter().enumerate() {
        let field = format!("container_configs[{index}]");
        if let Some(image) = &config.image {
            native_handler(&format!("{field}.image.runtime_handler"), &image.runtime_handler)?;
        }
        let (mut config, asked) = container_config(&field, Some(config))?;
        fit(&mut config, asked, &pod)?;
        if !names.insert(config.name.clone()) {
            let reason = format!("{:?} is given twice", config.name);
            return Err(RequestError::invalid(format!("{field}.metadata.name"), reason));
        }
        containers.push(config);
    }
    Ok(PodRestore { checkpoint, config: pod, containers })
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

    const LIMIT: Option<Duration> = Some(Duration::from_secs(9));

    #[test]
    fn a_deadline_is_digits_and_a_unit() {
        for (header, millis) in
            [("5S", 5000), ("00000250m", 250), ("2M", 120_000), ("1H", 3_600_000)]
        {
            assert_eq!(deadline(header), Some(Duration::from_millis(millis)), "{header}");
        }
        for header in ["", "S", "5", "5x", "-5S", "123456789S", "5\u{fc}"] {
            assert_eq!(deadline(header), None, "{header}");
        }
    }

    type Change = fn(&mut proto::CheckpointPodRequest);

    #[test]
    fn a_checkpoint_of_a_pod_needs_a_folder_its_containers_and_a_deadline() {
        assert_eq!(checkpoint_pod(&pod(), LIMIT).unwrap().containers.len(), 2);
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
            let error = checkpoint_pod(&request, LIMIT).expect_err(field);
            assert!(error.to_string().starts_with(&format!("{field}: ")), "{error}");
        }
        let error = checkpoint_pod(&pod(), None).unwrap_err();
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
            let made = checkpoint_container(&request(location, timeout)).unwrap();
            assert_eq!((made.location.is_some(), made.limit.is_some()), (timeout > 0, timeout > 0));
        }
        for (location, timeout) in
            [("b.tar", 0), ("/a/", 0), ("/", 0), ("/a/../b.tar", 0), ("", -1)]
        {
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
