//! UpdatePodSandboxResources: the limits of a pod's own cgroup, in place.
//!
//! A kubelet calls it after it has changed the cgroup above, with the whole of what the pod asks for
//! now: a part that is given replaces the one before, a part that is not stays.

use super::config::SandboxConfig;
use super::object::Sandbox;
use super::resources::{pod_limits, replacing};
use crate::blocking;
use crate::cgroups::Resources;
use crate::error::{AtStep, ErrorKind, StepFailed, chain};
use crate::node::Node;
use std::sync::Arc;

/// What is to change; `None` stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodResources {
    /// What the pod costs beside its containers.
    pub overhead: Option<Resources>,
    /// The sum of its containers' resources.
    pub resources: Option<Resources>,
}

/// Applies and records the change. The caller holds the sandbox's lane.
///
/// # Errors
/// FailedPrecondition when the sandbox is not ready, or uses more than a limit; a refused value
/// changes nothing.
pub async fn update(
    node: &Arc<Node>,
    sandbox: &Sandbox,
    change: PodResources,
) -> Result<(), StepFailed> {
    if !sandbox.is_ready() {
        return Err(StepFailed {
            step: "update resources",
            kind: ErrorKind::FailedPrecondition,
            source: "the sandbox is not ready".into(),
        });
    }
    let old = sandbox.config();
    let new = SandboxConfig {
        overhead: change.overhead.or_else(|| old.overhead.clone()),
        resources: change.resources.or_else(|| old.resources.clone()),
        ..(*old).clone()
    };
    let was = pod_limits(old.resources.as_ref(), old.overhead.as_ref());
    let wanted = pod_limits(new.resources.as_ref(), new.overhead.as_ref());
    apply(node, sandbox, replacing(&was, &wanted)).await?;
    let recorded =
        sandbox.change(node, |record| record.config = Arc::new(new)).at("record the new resources");
    if recorded.is_err()
        && let Err(left) = apply(node, sandbox, replacing(&wanted, &was)).await
    {
        tracing::error!(sandbox_id = %sandbox.id, error = chain(&left), "limits not taken back");
    }
    recorded
}

async fn apply(node: &Node, sandbox: &Sandbox, limits: Resources) -> Result<(), StepFailed> {
    let group = node.cgroups.pod(&sandbox.record().cgroup);
    blocking::run("set the pod's limits", move || group.apply(&limits))
        .await
        .at("set the pod's limits")?
        .at("set the pod's limits")
}
