//! CreateContainer's copy of its sandbox's configuration.
//!
//! Callers make it anew for each container, from what they know of the pod by then: it says once
//! more which pod it is and which namespaces it has, where the logs go now, and whether a container of
//! the pod is privileged by now. What it says beside that was for the sandbox alone, and may have
//! changed since: labels, annotations, resolvers, limits.

use super::RequestError;
use super::sandbox::namespaces;
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
    let context = linux.security_context.unwrap_or_default();
    if let Some(options) = context.namespace_options {
        let field = format!("{field}.linux.security_context.namespace_options");
        same_namespaces(&field, options, sandbox)?;
    }
    met.privileged |= context.privileged;
    Ok(met)
}

/// They cannot change under a pod: a copy that says so is another pod's. One without a word of them is
/// that of a client that leaves them to the sandbox.
fn same_namespaces(
    field: &str,
    given: proto::NamespaceOption,
    sandbox: &SandboxConfig,
) -> Result<(), RequestError> {
    let at = |name: &str| format!("{field}.{name}");
    let (given, userns) = namespaces(field, Some(given))?;
    same(&at("network"), &given.network, &sandbox.namespaces.network)?;
    same(&at("pid"), &given.pid, &sandbox.namespaces.pid)?;
    same(&at("ipc"), &given.ipc, &sandbox.namespaces.ipc)?;
    if userns != sandbox.userns {
        return Err(RequestError::invalid(at("userns_options"), "is not the sandbox's"));
    }
    Ok(())
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

    const NODE: i32 = proto::NamespaceMode::Node as i32;

    fn options(c: &mut proto::PodSandboxConfig) -> &mut proto::NamespaceOption {
        let context = c.linux.get_or_insert_default().security_context.get_or_insert_default();
        context.namespace_options.get_or_insert_default()
    }

    #[test]
    fn a_copy_of_the_same_pod_changes_nothing() {
        let (sandbox, made) = met(|_| {}).unwrap();
        // In so many words, and in none.
        let nodes = proto::UserNamespace { mode: NODE, ..Default::default() };
        for same in [Some(nodes), None] {
            let (mut given, mut container) = (pod(), container());
            options(&mut given).userns_options = same;
            let met = pod_again("again", Some(given), &sandbox, &mut container);
            assert_eq!(met, Ok(sandbox.clone()));
        }
        assert_eq!(Ok(sandbox.clone()), sandbox_config("config", Some(pod())));
        assert_eq!(made, container());
        for none in [None, Some(proto::PodSandboxConfig::default())] {
            assert_eq!(pod_again("again", none, &sandbox, &mut container()), Ok(sandbox.clone()));
        }
    }

    #[test]
    fn a_copy_of_another_pod_is_refused_by_its_field() {
        let rows: [(&str, Change); 11] = [
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
            ("again.linux.security_context.namespace_options.network: Node, ", |c| {
                options(c).network = NODE;
            }),
            ("again.linux.security_context.namespace_options.pid: Container, ", |c| {
                options(c).pid = proto::NamespaceMode::Container.into();
            }),
            ("again.linux.security_context.namespace_options.ipc: Node, ", |c| {
                options(c).ipc = NODE;
            }),
            ("again.linux.security_context.namespace_options.target_id: ", |c| {
                options(c).target_id = "x".into();
            }),
            ("again.linux.security_context.namespace_options.userns_options: ", |c| {
                let map = || vec![proto::IdMapping { host_id: 9, container_id: 0, length: 9 }];
                let (uids, gids) = (map(), map());
                options(c).userns_options = Some(proto::UserNamespace { mode: 0, uids, gids });
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
