//! UpdateContainerResources: in place, on a created or running container.

use super::object::Container;
use super::state::State;
use crate::blocking;
use crate::cgroups::Resources;
use crate::error::{AtStep, ErrorKind, StepFailed, chain};
use crate::node::Node;
use crate::sandbox::resources::replacing;
use std::sync::Arc;

/// Applies what the request sets and leaves the rest as it is.
///
/// # Errors
/// FailedPrecondition when the container has ended; a refused value changes nothing.
pub async fn update(
    node: &Arc<Node>,
    container: &Arc<Container>,
    wanted: Resources,
) -> Result<(), StepFailed> {
    let _order = container.lane.lock().await;
    let was = container.record().resources;
    let merged = merge(was.clone(), wanted);
    let back = replacing(&merged, &was);
    match container.state() {
        State::Created => {}
        State::Running { .. } => apply(node, container, merged.clone()).await?,
        _ => {
            return Err(StepFailed {
                step: "update resources",
                kind: ErrorKind::FailedPrecondition,
                source: "the container is neither created nor running".into(),
            });
        }
    }
    let recorded =
        container.change(node, |record| record.resources = merged).at("record the new resources");
    if recorded.is_err()
        && matches!(container.state(), State::Running { .. })
        && let Err(left) = apply(node, container, back).await
    {
        tracing::error!(container_id = %container.id, error = chain(&left), "limits not taken back");
    }
    recorded
}

async fn apply(node: &Node, container: &Container, resources: Resources) -> Result<(), StepFailed> {
    const SET: &str = "set the container's limits";
    let leaf = container.leaf(node);
    blocking::run(SET, move || leaf.apply(&resources)).await.at(SET)?.at(SET)
}

/// Fields that are set replace; those that are not stay.
fn merge(old: Resources, new: Resources) -> Resources {
    let mut hugepage_limits = old.hugepage_limits;
    hugepage_limits.extend(new.hugepage_limits);
    let mut unified = old.unified;
    unified.extend(new.unified);
    Resources {
        cpu_shares: new.cpu_shares.or(old.cpu_shares),
        cpu_quota: new.cpu_quota.or(old.cpu_quota),
        cpu_period: new.cpu_period.or(old.cpu_period),
        memory_limit: new.memory_limit.or(old.memory_limit),
        memory_swap_limit: new.memory_swap_limit.or(old.memory_swap_limit),
        // Processes keep the adjustment they were started with, as with other runtimes.
        oom_score_adj: old.oom_score_adj,
        cpuset_cpus: new.cpuset_cpus.or(old.cpuset_cpus),
        cpuset_mems: new.cpuset_mems.or(old.cpuset_mems),
        hugepage_limits,
        unified,
        pids_limit: new.pids_limit.or(old.pids_limit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroups::Limit;

    #[test]
    fn what_an_update_does_not_set_stays() {
        let old = Resources {
            cpu_shares: Some(512),
            memory_limit: Some(Limit::Value(1 << 20)),
            ..Resources::default()
        };
        let new = Resources { memory_limit: Some(Limit::Max), ..Resources::default() };
        let merged = merge(old, new);
        assert_eq!(merged.cpu_shares, Some(512));
        assert_eq!(merged.memory_limit, Some(Limit::Max));
    }
}
