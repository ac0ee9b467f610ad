//! Names as people type them → the one pod or container that is meant.

use super::connect::Daemon;
use super::error::CtlError;
use super::format::short_id;
use crate::cri::proto as cri;

/// Everything that can be named.
#[derive(Clone, Debug, Default)]
pub(super) struct Inventory {
    /// All sandboxes.
    pub(super) pods: Vec<cri::PodSandbox>,
    /// All containers.
    pub(super) containers: Vec<cri::Container>,
}

/// What a name means.
#[derive(Clone, Copy, Debug)]
pub(super) enum Named<'a> {
    Pod(&'a cri::PodSandbox),
    Container(&'a cri::Container),
}

impl Inventory {
    /// Asks the daemon.
    pub(super) async fn read(daemon: &Daemon) -> Result<Self, CtlError> {
        let mut runtime = daemon.runtime.clone();
        let pods = runtime
            .list_pod_sandbox(cri::ListPodSandboxRequest::default())
            .await
            .map_err(CtlError::rpc("list", "pods"))?
            .into_inner()
            .items;
        let containers = runtime
            .list_containers(cri::ListContainersRequest::default())
            .await
            .map_err(CtlError::rpc("list", "containers"))?
            .into_inner()
            .containers;
        Ok(Self { pods, containers })
    }

    /// The sandbox of a container.
    pub(super) fn pod_of(&self, container: &cri::Container) -> Option<&cri::PodSandbox> {
        self.pods.iter().find(|pod| pod.id == container.pod_sandbox_id)
    }

    /// The pod that is meant.
    pub(super) fn pod(&self, name: &str) -> Result<&cri::PodSandbox, CtlError> {
        match pick(name, self.pod_candidates(name))? {
            Some(Named::Pod(pod)) => Ok(pod),
            _ => Err(CtlError::NotFound { what: "pod", name: name.to_owned() }),
        }
    }

    /// The container that is meant.
    pub(super) fn container(&self, name: &str) -> Result<&cri::Container, CtlError> {
        match pick(name, self.container_candidates(name))? {
            Some(Named::Container(container)) => Ok(container),
            _ => Err(CtlError::NotFound { what: "container", name: name.to_owned() }),
        }
    }

    /// The pod or the container that is meant; `None` when there is neither.
    pub(super) fn any(&self, name: &str) -> Result<Option<Named<'_>>, CtlError> {
        let mut candidates = self.pod_candidates(name);
        candidates.extend(self.container_candidates(name));
        pick(name, candidates)
    }

    fn pod_candidates(&self, name: &str) -> Vec<Candidate<'_>> {
        let rank = |pod: &cri::PodSandbox| {
            let Pod { namespace, name: own } = pod_name(pod);
            if pod.id == name {
                Some(Rank::Id)
            } else if name == own || name.split_once('/') == Some((namespace, own)) {
                Some(Rank::Name)
            } else {
                is_prefix(name, &pod.id).then_some(Rank::Prefix)
            }
        };
        let candidate = |pod| {
            let rank = rank(pod)?;
            let alive = pod.state() == cri::PodSandboxState::SandboxReady;
            let Pod { namespace, name } = pod_name(pod);
            let text = format!("pod {namespace}/{name} ({})", short_id(&pod.id));
            Some(Candidate { rank, alive, text, named: Named::Pod(pod) })
        };
        self.pods.iter().filter_map(candidate).collect()
    }

    fn container_candidates(&self, name: &str) -> Vec<Candidate<'_>> {
        let parts: Vec<&str> = name.split('/').collect();
        let candidate = |container| {
            let own = container_name(container);
            let Pod { namespace, name: pod } =
                self.pod_of(container).map_or(Pod { namespace: "", name: "" }, pod_name);
            let named = match parts.as_slice() {
                [one] => *one == own,
                [in_pod, one] => *in_pod == pod && *one == own,
                [in_namespace, in_pod, one] => {
                    *in_namespace == namespace && *in_pod == pod && *one == own
                }
                _ => false,
            };
            let rank = if container.id == name {
                Rank::Id
            } else if named {
                Rank::Name
            } else if is_prefix(name, &container.id) {
                Rank::Prefix
            } else {
                return None;
            };
            let alive = container.state() == cri::ContainerState::ContainerRunning;
            let text = format!("container {namespace}/{pod}/{own} ({})", short_id(&container.id));
            Some(Candidate { rank, alive, text, named: Named::Container(container) })
        };
        self.containers.iter().filter_map(candidate).collect()
    }
}

/// How well a name fits; a better fit hides worse ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Id,
    Name,
    Prefix,
}

struct Candidate<'a> {
    rank: Rank,
    alive: bool,
    text: String,
    named: Named<'a>,
}

/// The best fit. Of several equal ones, the only one that is alive.
fn pick<'a>(name: &str, mut all: Vec<Candidate<'a>>) -> Result<Option<Named<'a>>, CtlError> {
    let Some(best) = all.iter().map(|candidate| candidate.rank).min() else { return Ok(None) };
    all.retain(|candidate| candidate.rank == best);
    if all.iter().filter(|candidate| candidate.alive).count() == 1 {
        all.retain(|candidate| candidate.alive);
    }
    match all.as_slice() {
        [one] => Ok(Some(one.named)),
        _ => {
            let texts: Vec<String> = all.into_iter().map(|candidate| candidate.text).collect();
            Err(CtlError::Ambiguous { name: name.to_owned(), candidates: texts.join(", ") })
        }
    }
}

fn is_prefix(text: &str, id: &str) -> bool {
    !text.is_empty() && id.starts_with(text)
}

/// A pod's namespace and name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pod<'a> {
    pub(super) namespace: &'a str,
    pub(super) name: &'a str,
}

impl std::fmt::Display for Pod<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Who a sandbox is.
pub(super) fn pod_name(pod: &cri::PodSandbox) -> Pod<'_> {
    match &pod.metadata {
        Some(metadata) => Pod { namespace: &metadata.namespace, name: &metadata.name },
        None => Pod { namespace: "", name: "" },
    }
}

/// A container's name in its pod.
pub(super) fn container_name(container: &cri::Container) -> &str {
    container.metadata.as_ref().map_or("", |metadata| &metadata.name)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use cri::{ContainerState, PodSandboxState};

    pub(crate) fn pod(id: &str, namespace: &str, name: &str, ready: bool) -> cri::PodSandbox {
        let state =
            if ready { PodSandboxState::SandboxReady } else { PodSandboxState::SandboxNotready };
        cri::PodSandbox {
            id: id.into(),
            metadata: Some(cri::PodSandboxMetadata {
                name: name.into(),
                namespace: namespace.into(),
                ..Default::default()
            }),
            state: state.into(),
            ..Default::default()
        }
    }

    pub(crate) fn container(id: &str, pod: &str, name: &str, running: bool) -> cri::Container {
        let state = if running {
            ContainerState::ContainerRunning
        } else {
            ContainerState::ContainerExited
        };
        cri::Container {
            id: id.into(),
            pod_sandbox_id: pod.into(),
            metadata: Some(cri::ContainerMetadata { name: name.into(), attempt: 0 }),
            state: state.into(),
            ..Default::default()
        }
    }

    fn inventory() -> Inventory {
        Inventory {
            pods: vec![
                pod("aa11", "default", "web", true),
                pod("aa22", "shop", "web", true),
                pod("bb33", "default", "db", false),
                pod("bb44", "default", "db", true),
            ],
            containers: vec![
                container("cc11", "aa11", "server", true),
                container("cc22", "aa22", "server", true),
                container("cc33", "bb33", "db", false),
                container("dd44", "bb44", "db", true),
                container("ee55", "aa11", "aa11", true),
            ],
        }
    }

    #[test]
    fn pods_are_found_by_id_name_and_prefix() {
        let all = inventory();
        for (name, expected) in [
            ("aa11", Some("aa11")),
            ("default/web", Some("aa11")),
            ("shop/web", Some("aa22")),
            ("aa1", Some("aa11")),
            // Two of one name: the one that is ready.
            ("db", Some("bb44")),
            ("web", None),
            ("aa", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(all.pod(name).ok().map(|pod| pod.id.as_str()), expected, "{name:?}");
        }
    }

    #[test]
    fn containers_are_found_by_id_name_path_and_prefix() {
        let all = inventory();
        for (name, expected) in [
            ("cc11", Some("cc11")),
            ("shop/web/server", Some("cc22")),
            ("web/server", None),
            ("server", None),
            ("db", Some("dd44")),
            ("db/db", Some("dd44")),
            ("d", Some("dd44")),
            ("cc", None),
            ("default/web/none", None),
        ] {
            let found = all.container(name).ok().map(|container| container.id.as_str());
            assert_eq!(found, expected, "{name:?}");
        }
    }

    #[test]
    fn an_ambiguous_name_lists_what_it_may_be() {
        let error = inventory().pod("web").unwrap_err().to_string();
        assert_eq!(
            error,
            "\"web\" is ambiguous: it may be pod default/web (aa11), pod shop/web (aa22)"
        );
        let error = inventory().any("db").unwrap_err().to_string();
        assert!(error.contains("pod default/db") && error.contains("container default/db/db"));
    }

    #[test]
    fn an_id_goes_before_a_name() {
        let all = inventory();
        assert!(matches!(all.any("aa11"), Ok(Some(Named::Pod(pod))) if pod.id == "aa11"));
        assert!(matches!(all.any("server"), Err(CtlError::Ambiguous { .. })));
        assert!(matches!(all.any("nothing"), Ok(None)));
    }
}
