//! What the kubelet half keeps, as the command line works with it.

use super::args::NamespacesArgs;
use crate::ctl::connect::Daemon;
use crate::ctl::error::CtlError;
use crate::kubelet::api::CONFIG_SOURCE;
use crate::kubelet::board::{Event, EventKind};
use crate::kubelet::control::proto;
use crate::kubelet::source::Source;
use crate::kubelet::spec::{full_name, name, namespace, spec, uid};
use k8s_openapi::api::core::v1::Pod;
use tonic::{Code, Status};

/// A pod that is kept, with its status.
#[derive(Clone, Debug)]
pub(in crate::ctl) struct KeptPod {
    pub(in crate::ctl) pod: Pod,
    /// The file or address it comes from; empty: it was applied.
    pub(in crate::ctl) origin: String,
    /// The oldest first.
    pub(in crate::ctl) events: Vec<Event>,
}

/// All pods that are kept, by namespace and name.
#[derive(Clone, Debug, Default)]
pub(in crate::ctl) struct Inventory(pub(in crate::ctl) Vec<KeptPod>);

impl Inventory {
    /// Asks the daemon; no pods of one that has no kubelet half, or not yet.
    pub(in crate::ctl) async fn read_if_any(daemon: &Daemon) -> Result<Option<Self>, CtlError> {
        match Self::read(daemon).await {
            Ok(all) => Ok(Some(all)),
            Err(CtlError::Rpc { status, .. }) if keeps_none(&status) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Asks the daemon.
    pub(in crate::ctl) async fn read(daemon: &Daemon) -> Result<Self, CtlError> {
        let answer = daemon.pods.clone().list_pods(proto::ListPodsRequest {}).await;
        let answer = answer.map_err(CtlError::rpc("list", "pods"))?.into_inner();
        let pods = answer.pods.into_iter().map(kept).collect::<Result<Vec<_>, _>>()?;
        Ok(Self::sorted(pods))
    }

    pub(super) fn sorted(mut pods: Vec<KeptPod>) -> Self {
        pods.sort_by_key(|kept| full_name(&kept.pod));
        Self(pods)
    }

    /// The pod that is meant: by its name, else by its name without the node's at its end.
    pub(in crate::ctl) fn find(&self, in_namespace: &str, given: &str) -> Option<&KeptPod> {
        let of = self.0.iter().filter(|kept| namespace(&kept.pod) == in_namespace);
        of.clone()
            .find(|kept| name(&kept.pod) == given)
            .or_else(|| of.clone().find(|kept| is_named(&kept.pod, given)))
    }

    /// A pod that was applied, or is being ended after it was taken back, by its whole name.
    pub(super) fn find_applied(&self, in_namespace: &str, given: &str) -> Option<&KeptPod> {
        let applied = |kept: &&KeptPod| source_of(&kept.pod) == Some(Source::Local.name());
        let mut of = self.0.iter().filter(applied);
        of.find(|kept| namespace(&kept.pod) == in_namespace && name(&kept.pod) == given)
    }

    /// A pod by its uid.
    pub(super) fn of_uid(&self, of: &str) -> Option<&KeptPod> {
        self.0.iter().find(|kept| uid(&kept.pod) == of)
    }

    /// The pod that is meant.
    ///
    /// # Errors
    /// [`CtlError::NotFound`].
    pub(in crate::ctl) fn pod(
        &self,
        in_namespace: &str,
        given: &str,
    ) -> Result<&KeptPod, CtlError> {
        self.find(in_namespace, given).ok_or_else(|| missing(in_namespace, given))
    }
}

/// Whether an answer is that of a daemon without a kubelet half, or not yet with one.
fn keeps_none(status: &Status) -> bool {
    matches!(status.code(), Code::FailedPrecondition | Code::Unavailable | Code::Unimplemented)
}

/// The error for a pod that is not there.
pub(in crate::ctl) fn missing(in_namespace: &str, given: &str) -> CtlError {
    CtlError::NotFound { what: "kept pod", name: format!("{in_namespace}/{given}") }
}

/// Which pods a list is of.
#[derive(Clone, Debug)]
pub(super) struct Which<'a> {
    /// `None`: all.
    pub(super) namespace: Option<&'a str>,
    /// `None`: all.
    pub(super) name: Option<&'a str>,
}

impl<'a> Which<'a> {
    pub(super) fn of(namespaces: &'a NamespacesArgs, name: Option<&'a str>) -> Self {
        Self { namespace: namespaces.only(), name }
    }

    /// Whether the pod is among them.
    pub(super) fn has(&self, pod: &Pod) -> bool {
        self.namespace.is_none_or(|of| of == namespace(pod))
            && self.name.is_none_or(|of| of == name(pod) || is_named(pod, of))
    }
}

/// Whether the pod's name is `given` and the node's.
fn is_named(pod: &Pod, given: &str) -> bool {
    let node = spec(pod).node_name.as_deref().unwrap_or_default();
    let written = name(pod).strip_suffix(node).and_then(|text| text.strip_suffix('-'));
    !node.is_empty() && written == Some(given)
}

/// The kind of source that a pod says it comes from.
pub(super) fn source_of(pod: &Pod) -> Option<&str> {
    pod.metadata.annotations.as_ref()?.get(CONFIG_SOURCE).map(String::as_str)
}

/// A pod from its JSON.
pub(super) fn pod(json: &str) -> Result<Pod, CtlError> {
    serde_json::from_str(json).map_err(|_| CtlError::Format("a v1 Pod"))
}

fn kept(of: proto::Pod) -> Result<KeptPod, CtlError> {
    let events = of.events.into_iter().map(event).collect();
    Ok(KeptPod { pod: pod(&of.json)?, origin: of.origin, events })
}

/// An event as the kubelet half has it.
pub(super) fn event(of: proto::Event) -> Event {
    Event {
        kind: if of.r#type == "Warning" { EventKind::Warning } else { EventKind::Normal },
        reason: of.reason,
        message: of.message,
        pod: of.pod,
        container: Some(of.container).filter(|name| !name.is_empty()),
        count: of.count,
        first_nanos: of.first,
        last_nanos: of.last,
        node: Some(of.node).filter(|name| !name.is_empty()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::kubelet::test_pods::kept;
    use serde_json::json;

    fn named(namespace: &str, name: &str) -> KeptPod {
        kept(json!({
            "metadata": {"namespace": namespace, "name": name},
            "spec": {"nodeName": "n1", "containers": []},
        }))
    }

    #[test]
    fn a_pod_is_found_with_and_without_the_nodes_name() {
        let all = Inventory(vec![
            named("default", "web-n1"),
            named("shop", "web-n1"),
            named("default", "db-n1"),
            named("default", "db"),
        ]);
        for (namespace, given, expected) in [
            ("default", "web-n1", Some("default/web-n1")),
            ("default", "web", Some("default/web-n1")),
            ("shop", "web", Some("shop/web-n1")),
            // An exact name goes first.
            ("default", "db", Some("default/db")),
            ("default", "we", None),
            ("default", "", None),
            ("other", "web", None),
        ] {
            let found = all.find(namespace, given).map(|kept| full_name(&kept.pod));
            assert_eq!(found.as_deref(), expected, "{namespace}/{given}");
        }
    }

    #[test]
    fn a_list_is_of_a_namespace_or_of_all_and_of_a_name() {
        let (pod, other) = (named("default", "web-n1").pod, named("shop", "db-n1").pod);
        for (namespace, name, expected) in [
            (Some("default"), None, [true, false]),
            (None, None, [true, true]),
            (None, Some("db"), [false, true]),
            (Some("default"), Some("web-n1"), [true, false]),
        ] {
            let which = Which { namespace, name };
            assert_eq!([which.has(&pod), which.has(&other)], expected, "{which:?}");
        }
    }
}
