//! RemoveContainer: stop it at once if it runs, then drop every trace.

use super::hooks;
use super::object::Container;
use super::state::Event;
use super::stop;
use crate::blocking;
use crate::bus::EventKind;
use crate::error::{AtStep, ErrorKind, StepFailed};
use crate::failpoint;
use crate::node::Node;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Removes a container. Works also when its image or log is gone.
///
/// # Errors
/// The step that failed; a repeat goes on from there.
pub async fn remove(node: &Arc<Node>, container: &Arc<Container>) -> Result<(), StepFailed> {
    // A start in flight ends first.
    drop(container.lane.lock().await);
    stop::stop(node, container, Duration::ZERO).await?;
    let _order = container.lane.lock().await;
    if container.step(node, Event::Remove).at("record the removal")?
        == Err(super::state::Refused::NotAllowed)
    {
        return Err(StepFailed {
            step: "remove",
            kind: ErrorKind::FailedPrecondition,
            source: "it was started again meanwhile".into(),
        });
    }
    forget(node, container).await?;
    container.tell(node, EventKind::Deleted);
    Ok(())
}

/// Drops the writable layer, the cgroup, the files and the record of a container that does not run.
///
/// # Errors
/// The step that failed.
pub async fn forget(node: &Arc<Node>, container: &Arc<Container>) -> Result<(), StepFailed> {
    hooks::run_poststop(node, container).await;
    if let Some(shim) = container.sandbox.shim() {
        // The shim keeps a few bytes for each container; one that is gone keeps none.
        shim.forget_container(&container.id).await.ok();
    }
    let (node, container) = (Arc::clone(node), Arc::clone(container));
    blocking::run("remove the container's files", move || {
        let id = &container.id;
        failpoint::refused("forget").at("forget the container")?;
        container.leaf(&node).remove().at("remove the container's cgroup")?;
        node.images.remove_snapshot(id).at("remove the container's writable layer")?;
        gone(std::fs::remove_dir_all(node.layout.restore(id)))
            .at("remove the container's process images")?;
        node.durable.remove(node.layout.durable_container(id));
        tell_leftovers(&node, &container);
        let exit = node.layout.exits(&container.sandbox.id).join(id.as_str());
        gone(std::fs::remove_file(exit)).at("remove the exit record")?;
        gone(std::fs::remove_file(node.layout.bundle_config(id))).at("remove config.json")?;
        // The record goes last: until then a start of the daemon finds it and finishes this.
        gone(std::fs::remove_file(node.layout.container_record(id))).at("remove the record")?;
        gone(std::fs::remove_dir_all(node.layout.container(id))).at("remove the container's folder")
    })
    .await
    .at("remove the container's files")?
}

/// What a runtime of the host still keeps of the container goes with the container's folder.
fn tell_leftovers(node: &Node, container: &Container) {
    if let Some(program) = container.sandbox.record().runtime
        && let Ok(mut left) = std::fs::read_dir(node.layout.handler(&container.id).join("state"))
        && left.any(|entry| entry.is_ok())
    {
        let (sandbox_id, container_id, program) =
            (&container.sandbox.id, &container.id, program.display());
        tracing::warn!(%sandbox_id, %container_id, %program, "removing what the runtime left");
    }
}

/// "Already gone" is success.
fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
