//! RemovePodSandbox: the containers, then the sandbox, then every trace of it.

use super::object::Sandbox;
use super::state::Event;
use crate::blocking;
use crate::bus::EventKind;
use crate::error::{AtStep, StepFailed};
use crate::node::Node;
use std::io;
use std::sync::Arc;

/// Drops the record and the files of a stopped sandbox whose containers are gone. The caller holds
/// its lane.
///
/// # Errors
/// The step that failed; a repeat goes on from there.
pub async fn remove(node: &Arc<Node>, sandbox: &Sandbox) -> Result<(), StepFailed> {
    sandbox.step(node, Event::Remove).at("record the removal")?.ok();
    forget(node, sandbox).await?;
    sandbox.tell(node, EventKind::Deleted);
    Ok(())
}

/// Drops the record and the files.
///
/// # Errors
/// The step that failed.
pub async fn forget(node: &Arc<Node>, sandbox: &Sandbox) -> Result<(), StepFailed> {
    let (node, id) = (Arc::clone(node), sandbox.id.clone());
    blocking::run("remove the sandbox's files", move || {
        node.durable.remove(node.layout.durable_sandbox(&id));
        // The record goes last: until then a start of the daemon finds it and finishes this.
        let folder = node.layout.sandbox(&id);
        let record = node.layout.sandbox_record(&id);
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            if entry.path() == record {
                continue;
            }
            let removed = if entry.file_type().is_ok_and(|t| t.is_dir()) {
                std::fs::remove_dir_all(entry.path())
            } else {
                std::fs::remove_file(entry.path())
            };
            gone(removed)?;
        }
        gone(std::fs::remove_file(&record))?;
        gone(std::fs::remove_dir(&folder))?;
        node.selinux.release(&id);
        Ok::<_, io::Error>(())
    })
    .await
    .at("remove the sandbox's files")?
    .at("remove the sandbox's files")
}

/// "Already gone" is success.
fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
