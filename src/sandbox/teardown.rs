//! The one undo of a sandbox: idempotent, goes on past errors, and finds out what exists.
//!
//! Used for a failed RunPodSandbox, for StopPodSandbox, and at start-up for what a killed daemon
//! left half-made. It leaves the record, the containers' records and the files; removal drops those.

use super::netns;
use super::object::Sandbox;
use crate::blocking;
use crate::error::{AtStep, StepFailed, chain};
use crate::failpoint;
use crate::node::{Node, kill_and_wait};
use std::sync::Arc;
use std::time::Duration;

/// How long the kernel may take to end killed processes before the teardown is reported as stuck.
const KILL_WITHIN: Duration = Duration::from_secs(10);

/// How long a shim may take to end by itself.
const SHIM_ENDS_WITHIN: Duration = Duration::from_secs(2);

/// What could not be undone.
#[derive(Debug, Default)]
pub struct Leftovers(Vec<StepFailed>);

impl Leftovers {
    /// Notes the outcome of one step.
    pub fn note(&mut self, outcome: Result<(), StepFailed>) {
        if let Err(failed) = outcome {
            self.0.push(failed);
        }
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All causes in one line; empty when there are none.
    pub fn text(&self) -> String {
        self.0.iter().map(|e| chain(e)).collect::<Vec<_>>().join("; ")
    }

    /// The first failure, with all of them told.
    ///
    /// # Errors
    /// When something is left.
    pub fn into_result(mut self) -> Result<(), StepFailed> {
        if self.0.is_empty() {
            return Ok(());
        }
        let text = self.text();
        let first = self.0.swap_remove(0);
        Err(StepFailed { step: first.step, kind: first.kind, source: text.into() })
    }
}

/// Takes everything down that runs or is mounted for a sandbox: network, containers' leftovers,
/// pause, shim, pin, cgroups.
pub async fn tear_down(node: &Arc<Node>, sandbox: &Sandbox) -> Leftovers {
    let mut left = Leftovers::default();
    left.note(failpoint::refused("teardown").at("take the pod down"));
    // First the orphaned plugins of an earlier daemon: an ADD must not race the DEL.
    left.note(end_helpers(node, sandbox).await);
    left.note(node.network.detach(&sandbox.id).await.at("detach the pod from its network"));
    if let Some(shim) = sandbox.shim()
        && let Err(error) = shim.shutdown().await
    {
        // Its cgroup is killed below; a shim that cannot answer is not trusted to end itself.
        tracing::warn!(sandbox_id = %sandbox.id, error = chain(&error), "shim did not shut down");
    }
    sandbox.set_shim(None);
    sandbox.forget_execs();
    left.note(remove_pin(node, sandbox).await);
    left.note(remove_cgroups(node, sandbox).await);
    left
}

async fn end_helpers(node: &Arc<Node>, sandbox: &Sandbox) -> Result<(), StepFailed> {
    let helpers = node.cgroups.helpers(&sandbox.id);
    blocking::run("end the sandbox's helpers", move || {
        kill_and_wait(&helpers, KILL_WITHIN)?;
        helpers.remove().at("remove the helpers' cgroup")
    })
    .await
    .at("end the sandbox's helpers")?
}

async fn remove_pin(node: &Arc<Node>, sandbox: &Sandbox) -> Result<(), StepFailed> {
    if !sandbox.record().pinned {
        return Ok(());
    }
    let path = node.layout.netns(&sandbox.id);
    blocking::run("unpin the network namespace", move || netns::unpin(&path))
        .await
        .at("unpin the network namespace")?
        .at("unpin the network namespace")
}

async fn remove_cgroups(node: &Arc<Node>, sandbox: &Sandbox) -> Result<(), StepFailed> {
    let pod = node.cgroups.pod(&sandbox.record().cgroup);
    let shim = node.cgroups.shim(&sandbox.id);
    blocking::run("remove the pod's cgroups", move || {
        kill_and_wait(&pod, KILL_WITHIN)?;
        pod.remove().at("remove the pod's cgroup")?;
        // The shim ends by itself once pause is gone; a stuck one is killed.
        if !shim.wait_empty(SHIM_ENDS_WITHIN).at("wait for the shim")? {
            kill_and_wait(&shim, KILL_WITHIN)?;
        }
        shim.remove().at("remove the shim's cgroup")
    })
    .await
    .at("remove the pod's cgroups")?
}
