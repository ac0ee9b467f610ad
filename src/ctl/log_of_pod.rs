//! Which container is meant by the name of a pod that the kubelet half keeps.

use super::commands::LogsArgs;
use super::connect::Daemon;
use super::console::Console;
use super::error::CtlError;
use super::kubelet::{Inventory, KeptPod, args::namespace_of, missing};
use crate::cri::proto as cri;
use crate::kubelet::observed::{POD_UID_LABEL, RESTART_COUNT_ANNOTATION};
use crate::kubelet::spec::{full_name, spec, uid};
use crate::kubelet::status::containers;
use k8s_openapi::api::core::v1::Pod;
use std::collections::BTreeMap;
use std::path::Path;

/// The annotation that names the container that is meant without a name, as users of `kubectl` know it.
const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

/// The id of the instance that is meant, and who has it; `None` when no pod is meant, but a container.
pub(super) async fn find(
    args: &LogsArgs,
    daemon: &Daemon,
    endpoint: Option<&Path>,
    console: &mut Console,
) -> Result<Option<(Daemon, String)>, CtlError> {
    let namespace = namespace_of(args.namespace.as_deref());
    let only_pods = args.namespace.is_some() || args.container.is_some() || args.previous;
    let all = if only_pods {
        Inventory::read(daemon).await?
    } else if let Some(all) = Inventory::read_if_any(daemon).await? {
        all
    } else {
        return Ok(None);
    };
    let Some(kept) = all.find(namespace, &args.name) else {
        return if only_pods { Err(missing(namespace, &args.name)) } else { Ok(None) };
    };
    let container = chosen(&kept.pod, args.container.as_deref())?;
    if let Some(others) = container.others {
        console.note(&format!("Defaulted container {:?} out of: {others}", container.name));
    }
    let label_selector = BTreeMap::from([(POD_UID_LABEL.to_owned(), uid(&kept.pod).to_owned())]);
    let filter = cri::ContainerFilter { label_selector, ..cri::ContainerFilter::default() };
    let request = cri::ListContainersRequest { filter: Some(filter) };
    let keeper = daemon.with_runtime(endpoint).await?;
    let answer = keeper.runtime.clone().list_containers(request).await;
    let instances = answer.map_err(CtlError::rpc("list", "containers"))?.into_inner().containers;
    let instance = instance(instances, container.name, usize::from(args.previous));
    let found = instance.ok_or_else(|| no_instance(kept, container.name, args.previous))?;
    Ok(Some((keeper, found)))
}

/// The container that is meant, and what it was chosen from.
#[derive(Debug, PartialEq, Eq)]
struct Chosen<'a> {
    name: &'a str,
    /// The names of all, if it was nobody's choice.
    others: Option<String>,
}

fn chosen<'a>(pod: &'a Pod, given: Option<&str>) -> Result<Chosen<'a>, CtlError> {
    let apps = spec(pod).containers.iter().map(|container| container.name.as_str());
    let init = spec(pod).init_containers.iter().flatten().map(|c| c.name.as_str());
    let added = spec(pod).ephemeral_containers.iter().flatten().map(|c| c.name.as_str());
    let all: Vec<&str> = apps.chain(init).chain(added).collect();
    if let Some(given) = given {
        let name = all.iter().find(|name| **name == given).ok_or_else(|| CtlError::Refused {
            problem: format!("pod {} has no container {given:?}", full_name(pod)),
            hint: "`berth describe pod` lists its containers",
        });
        return Ok(Chosen { name: name?, others: None });
    }
    let annotated = pod.metadata.annotations.as_ref().and_then(|all| all.get(DEFAULT_CONTAINER));
    let annotated = annotated.and_then(|want| all.iter().find(|name| *name == want));
    let first = annotated.or(all.first()).copied().ok_or_else(|| CtlError::Refused {
        problem: format!("pod {} has no containers", full_name(pod)),
        hint: "`berth describe pod` tells more",
    })?;
    let others = (annotated.is_none() && all.len() > 1).then(|| all.join(", "));
    Ok(Chosen { name: first, others })
}

/// The id of an instance of a container, counted back from the newest.
fn instance(mut all: Vec<cri::Container>, container: &str, back: usize) -> Option<String> {
    let restarts = |of: &cri::Container| -> u32 {
        let text = of.annotations.get(RESTART_COUNT_ANNOTATION);
        text.and_then(|text| text.parse().ok()).unwrap_or(0)
    };
    all.retain(|of| of.metadata.as_ref().is_some_and(|metadata| metadata.name == container));
    all.sort_by_key(|of| std::cmp::Reverse((restarts(of), of.created_at)));
    all.into_iter().nth(back).map(|of| of.id)
}

/// The error for an instance that there is not, or not any more.
fn no_instance(kept: &KeptPod, container: &str, previous: bool) -> CtlError {
    let pod = full_name(&kept.pod);
    if previous {
        return CtlError::Refused {
            problem: format!("container {container:?} of pod {pod} has no earlier instance"),
            hint: "it was not restarted, or the instance has been removed since",
        };
    }
    let status = kept.pod.status.as_ref();
    let own = status.into_iter().flat_map(containers).find(|status| status.name == container);
    let waits = own.and_then(|status| status.state.as_ref()?.waiting.as_ref()?.reason.as_deref());
    let why = waits.map_or_else(String::new, |reason| format!(": {reason}"));
    CtlError::Refused {
        problem: format!("container {container:?} of pod {pod} has not been started{why}"),
        hint: "`berth why` tells more",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::resolve::tests::container;
    use serde_json::{Value, json};

    fn pod(annotations: &Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "web", "annotations": annotations},
            "spec": {
                "initContainers": [{"name": "setup"}],
                "containers": [{"name": "main"}, {"name": "side"}],
            },
        }))
        .unwrap()
    }

    #[test]
    fn the_container_is_the_one_given_or_annotated_or_the_first() {
        let annotated = json!({DEFAULT_CONTAINER: "side"});
        for (annotations, given, name, others) in [
            (json!({}), Some("setup"), "setup", None),
            (annotated.clone(), Some("main"), "main", None),
            (annotated, None, "side", None),
            (json!({DEFAULT_CONTAINER: "gone"}), None, "main", Some("main, side, setup")),
            (json!({}), None, "main", Some("main, side, setup")),
        ] {
            let pod = pod(&annotations);
            let expected = Chosen { name, others: others.map(str::to_owned) };
            assert_eq!(chosen(&pod, given).unwrap(), expected, "{annotations} {given:?}");
        }
        let error = chosen(&pod(&json!({})), Some("x")).unwrap_err().to_string();
        assert_eq!(error, "pod default/web has no container \"x\"");
    }

    #[test]
    fn instances_are_counted_back_by_their_restarts() {
        let of = |id: &str, name: &str, restarts: &str, created| {
            let mut made = container(id, "p", name, false);
            made.annotations.insert(RESTART_COUNT_ANNOTATION.into(), restarts.into());
            cri::Container { created_at: created, ..made }
        };
        // The clock was set back between the second and the third.
        let all = [
            of("a", "c", "1", 5),
            of("b", "c", "2", 9),
            of("d", "c", "10", 7),
            of("x", "y", "20", 8),
        ];
        for (back, expected) in [(0, Some("d")), (1, Some("b")), (2, Some("a")), (3, None)] {
            assert_eq!(instance(all.to_vec(), "c", back).as_deref(), expected, "{back}");
        }
    }
}
