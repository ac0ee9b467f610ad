//! StopPodSandbox: end the containers at once, take everything down, keep the records.

use super::object::Sandbox;
use super::state::Event;
use super::teardown::{Leftovers, tear_down};
use crate::container::object::Container;
use crate::container::{hooks, stop};
use crate::error::{AtStep, StepFailed};
use crate::node::Node;
use std::sync::Arc;
use std::time::Duration;

/// Stops a sandbox. The caller holds its lane. Repeats succeed; a stop that left something behind
/// is carried out again.
///
/// # Errors
/// What could not be undone; the sandbox stays `Stopping`, and a repeat goes on from there.
pub async fn stop(
    node: &Arc<Node>,
    sandbox: &Arc<Sandbox>,
    containers: &[Arc<Container>],
) -> Result<(), StepFailed> {
    if sandbox.step(node, Event::Stop).at("record the stop")?.is_err() {
        return Ok(());
    }
    let mut left = Leftovers::default();
    end_containers(node, containers, &mut left).await;
    let undone = tear_down(node, sandbox).await;
    left.note(undone.into_result());
    // While something of the pod may still run, none of its containers has ended.
    left.into_result()?;
    for container in containers {
        stop::settle(node, container, "its pod was stopped").await?;
    }
    sandbox.step(node, Event::Stopped).at("record that the sandbox stopped")?.ok();
    Ok(())
}

/// SIGKILL to all of them side by side; their exit records are written when this returns.
async fn end_containers(node: &Arc<Node>, containers: &[Arc<Container>], left: &mut Leftovers) {
    let mut ending = tokio::task::JoinSet::new();
    for container in containers {
        let (node, container) = (Arc::clone(node), Arc::clone(container));
        ending.spawn(async move {
            // A start in flight ends first; it then runs, or has failed.
            drop(container.lane.lock().await);
            stop::stop(&node, &container, Duration::ZERO).await?;
            // As long as the cgroup is there that they run in.
            let _order = container.lane.lock().await;
            hooks::run_poststop(&node, &container).await;
            Ok(())
        });
    }
    while let Some(ended) = ending.join_next().await {
        match ended {
            Ok(outcome) => left.note(outcome),
            Err(error) => tracing::error!(%error, "stopping a container was cut off"),
        }
    }
}
