//! CreateContainer's copy of its sandbox's configuration.
//!
//! Callers make it anew for each container, from what they know of the pod by then: it says once
//! more which pod it is, where the logs go now, and whether a container of the pod is privileged by
//! now. What it says beside that was for the sandbox alone.

use super::RequestError;
use super::text::absolute;
use crate::container::config::ContainerConfig;
use crate::cri::proto;
use crate::sandbox::config::{SandboxConfig, SandboxMetadata};

/// The sandbox as a container meets it. Refuses a copy that is another pod's.
pub(crate) fn pod_again(
    field: &str,
    given: Option<proto::PodSandboxConfig>,
    sandbox: &SandboxConfig,
    container: &mut ContainerConfig,
) -> Result<SandboxConfig, RequestError> {
    let mut met = sandbox.clone();
    let Some(given) = given.filter(|given| *given != proto::PodSandboxConfig::default()) else {
        return Ok(met);
    };
    if let Some(metadata) = &given.metadata {
        same_pod(&format!("{field}.metadata"), metadata, &sandbox.metadata)?;
    }
    same(&format!("{field}.hostname"), &given.hostname, &sandbox.hostname)?;
    let linux = given.linux.unwrap_or_default();
    let parent = sandbox.cgroup_parent.as_deref().unwrap_or_default();
    same(&format!("{field}.linux.cgroup_parent"), &linux.cgroup_parent, parent)?;
    if !given.log_directory.is_empty() {
        let directory = absolute(&format!("{field}.log_directory"), &given.log_directory)?;
        container.log_directory =
            Some(directory).filter(|path| sandbox.log_directory.as_ref() != Some(path));
    }
    met.privileged |= linux.security_context.is_some_and(|context| context.privileged);
    Ok(met)
}

fn same_pod(
    field: &str,
    given: &proto::PodSandboxMetadata,
    sandbox: &SandboxMetadata,
) -> Result<(), RequestError> {
    same(&format!("{field}.name"), &given.name, &sandbox.name)?;
    same(&format!("{field}.uid"), &given.uid, &sandbox.uid)?;
    same(&format!("{field}.namespace"), &given.namespace, &sandbox.namespace)?;
    same(&format!("{field}.attempt"), &given.attempt, &sandbox.attempt)
}

fn same<A, B>(field: &str, given: &A, sandbox: &B) -> Result<(), RequestError>
where
    A: PartialEq<B> + std::fmt::Debug + ?Sized,
    B: std::fmt::Debug + ?Sized,
{
    if given == sandbox {
        return Ok(());
    }
    Err(RequestError::invalid(field, format!("{given:?}, but the sandbox has {sandbox:?}")))
}

#[cfg(test)]
mod tests {
    use super::super::{container_config, sandbox_config};
    use super::*;
    use std::path::Path;

    fn pod() -> proto::PodSandboxConfig {
        proto::PodSandboxConfig {
            metadata: Some(proto::PodSandboxMetadata {
                name: "n".into(),
                uid: "u".into(),
                namespace: "s".into(),
                attempt: 1,
            }),
            hostname: "h".into(),
            log_directory: "/logs/n".into(),
            ..Default::default()
        }
    }

    fn container() -> ContainerConfig {
        let config = proto::ContainerConfig {
            metadata: Some(proto::ContainerMetadata { name: "c".into(), attempt: 0 }),
            image: Some(proto::ImageSpec { image: "i".into(), ..Default::default() }),
            ..Default::default()
        };
        container_config("config", Some(config)).unwrap().0
    }

    type Change = fn(&mut proto::PodSandboxConfig);

    fn met(change: Change) -> Result<(SandboxConfig, ContainerConfig), RequestError> {
        let sandbox = sandbox_config("config", Some(pod())).unwrap();
        let (mut given, mut container) = (pod(), container());
        change(&mut given);
        pod_again("again", Some(given), &sandbox, &mut container).map(|met| (met, container))
    }

    #[test]
    fn a_copy_of_the_same_pod_changes_nothing() {
        let (sandbox, made) = met(|_| {}).unwrap();
        assert_eq!(Ok(sandbox.clone()), sandbox_config("config", Some(pod())));
        assert_eq!(made, container());
        for none in [None, Some(proto::PodSandboxConfig::default())] {
            assert_eq!(pod_again("again", none, &sandbox, &mut container()), Ok(sandbox.clone()));
        }
    }

    #[test]
    fn a_copy_of_another_pod_is_refused_by_its_field() {
        let rows: [(&str, Change); 6] = [
            ("again.metadata.name: ", |c| c.metadata.get_or_insert_default().name = "x".into()),
            ("again.metadata.uid: ", |c| c.metadata.get_or_insert_default().uid = "x".into()),
            ("again.metadata.namespace: ", |c| {
                c.metadata.get_or_insert_default().namespace = "x".into();
            }),
            ("again.metadata.attempt: ", |c| c.metadata.get_or_insert_default().attempt = 7),
            ("again.hostname: ", |c| c.hostname = "x".into()),
            ("again.linux.cgroup_parent: ", |c| {
                c.linux.get_or_insert_default().cgroup_parent = "/x".into();
            }),
        ];
        for (words, change) in rows {
            let error = met(change).unwrap_err().to_string();
            assert!(error.starts_with(words), "{error}");
        }
    }

    #[test]
    fn logs_and_privileges_are_those_of_the_copy() {
        let (sandbox, made) = met(|c| c.log_directory = "/logs/moved".into()).unwrap();
        assert_eq!(made.log_directory.as_deref(), Some(Path::new("/logs/moved")));
        assert!(!sandbox.privileged);
        let (sandbox, _) = met(|c| {
            let linux = c.linux.get_or_insert_default();
            linux.security_context.get_or_insert_default().privileged = true;
        })
        .unwrap();
        assert!(sandbox.privileged);
    }
}
