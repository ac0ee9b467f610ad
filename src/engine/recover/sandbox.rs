//! One sandbox and its containers, from what is recorded to what is true.

use crate::blocking;
use crate::checkpoint;
use crate::container::object::Container;
use crate::container::state::{Event, State};
use crate::container::{exit, remove, start, stop};
use crate::engine::open::Engine;
use crate::engine::shim_events;
use crate::error::{AtStep, StepFailed, chain};
use crate::node::kill_and_wait;
use crate::sandbox::object::{Origin, Sandbox};
use crate::sandbox::state::Phase;
use crate::sandbox::{self, teardown};
use crate::shim::client::{Adopted, Begun, Held};
use std::sync::Arc;
use std::time::Duration;

/// Brings one sandbox to a state that verbs can go on from.
pub(crate) async fn recover(engine: &Engine, found: &Arc<Sandbox>) {
    let phase = found.phase();
    let _order = found.lane.lock().await;
    end_checkpoint(engine, found).await;
    let adopted = match phase {
        Phase::NotReady(_) | Phase::Stopped => None,
        _ => adopt(engine, found).await,
    };
    match phase {
        Phase::Creating => undo(engine, found).await,
        // All of a restore or nothing.
        _ if found.record().origin == Origin::Restoring => {
            half_made(engine, found).await;
            match engine.remove_in_lane(found).await {
                Ok(()) => tracing::info!(sandbox_id = %found.id, "half-made restore undone"),
                Err(error) => {
                    tracing::error!(sandbox_id = %found.id, error = chain(&error), "restore not undone");
                }
            }
        }
        Phase::Ready => match adopted {
            Some(adopted) if adopted.pause.is_some() => take_over(engine, found, &adopted).await,
            Some(_) => shim_events::lose(engine, found, "pause ended without being asked to").await,
            None => shim_events::lose(engine, found, "its shim ended without being asked to").await,
        },
        Phase::Stopping => {
            half_made(engine, found).await;
            let containers = engine.registry.containers_of(&found.id);
            note(found, sandbox::stop::stop(&engine.node, found, &containers).await);
        }
        Phase::NotReady(_) | Phase::Stopped => half_made(engine, found).await,
        Phase::Removing => {
            half_made(engine, found).await;
            if let Err(error) = engine.remove_in_lane(found).await {
                tracing::error!(sandbox_id = %found.id, error = chain(&error), "removal not finished");
            }
        }
    }
}

/// The connection to its shim, when that runs.
async fn adopt(engine: &Engine, found: &Sandbox) -> Option<Adopted> {
    // The orphaned helpers of the dead daemon first: nothing of theirs may race what comes now.
    let helpers = engine.node.cgroups.helpers(&found.id);
    let ended = blocking::run("end orphaned helpers", move || {
        kill_and_wait(&helpers, Duration::from_secs(10))?;
        // What is cloned into a cgroup that was ever killed dies: the next one is another.
        helpers.remove().at("remove the helpers' cgroup")
    })
    .await;
    if let Ok(Err(error)) = ended {
        tracing::error!(sandbox_id = %found.id, error = chain(&error), "orphaned helpers not ended");
    }
    let adopted = shim_events::adopt(engine, found).await;
    if adopted.is_none() {
        found.set_shim(None);
    }
    adopted
}

/// A checkpoint that was cut off: its criu ends by itself, its containers go on, what it wrote is removed.
async fn end_checkpoint(engine: &Engine, found: &Sandbox) {
    let containers = engine.registry.containers_of(&found.id);
    let leaves: Vec<_> = containers.iter().map(|c| c.leaf(&engine.node)).collect();
    let (node, id) = (Arc::clone(&engine.node), found.id.clone());
    let repaired =
        blocking::run("repair after a checkpoint", move || checkpoint::repair(&node, &id, &leaves))
            .await;
    note(found, repaired.at("repair after a checkpoint").and_then(|done| done));
}

/// A RunPodSandbox that was cut off.
async fn undo(engine: &Engine, found: &Arc<Sandbox>) {
    let left = teardown::tear_down(&engine.node, found).await;
    if left.is_empty() && sandbox::remove::forget(&engine.node, found).await.is_ok() {
        tracing::info!(sandbox_id = %found.id, "half-made sandbox undone");
        engine.registry.drop_sandbox(&found.id);
    } else {
        let why = format!("it was half-made when berth ended; not undone: {}", left.text());
        found.keep_failed(&engine.node, why);
    }
}

/// Commands whose callers died with the daemon: nobody would end them, or hear of their end. What a
/// command that has ended left in the background stays.
async fn end_execs(engine: &Engine, found: &Sandbox, adopted: &Adopted) {
    for (id, process) in &adopted.execs {
        let Some(container) = engine.registry.container(id) else { continue };
        let (leaf, process) = (container.leaf(&engine.node), process.clone());
        let pid = process.pid;
        let ended = blocking::run("end an orphaned command", move || {
            let slot = leaf.slot_of(process.pid).at("find the command's cgroup")?;
            match slot.filter(|_| process.alive()) {
                Some(slot) => kill_and_wait(&slot, Duration::from_secs(10)),
                None => Ok(()),
            }
        })
        .await
        .at("end an orphaned command")
        .and_then(|ended| ended);
        tracing::info!(container_id = %id, pid, "command without a caller ended");
        note(found, ended);
    }
}

/// A running pod.
async fn take_over(engine: &Engine, found: &Arc<Sandbox>, adopted: &Adopted) {
    end_execs(engine, found, adopted).await;
    half_made(engine, found).await;
    for container in engine.registry.containers_of(&found.id) {
        let told = adopted.containers.iter().find(|held| held.id == container.id);
        match container.state() {
            State::Starting { .. } => started_or_undone(engine, &container, told).await,
            State::Running { .. } if told.is_none() => {
                note(
                    found,
                    stop::settle(&engine.node, &container, "its shim does not know it").await,
                );
            }
            State::Running { .. } => stop::resume(&engine.node, &container),
            _ => {}
        }
    }
}

/// A StartContainer that was cut off: the shim knows how far it came.
async fn started_or_undone(engine: &Engine, container: &Arc<Container>, told: Option<&Held>) {
    let node = &engine.node;
    let outcome = match told {
        Some(Held { process: Some(process), left_out, .. }) => {
            let begun = Begun { process: process.clone(), left_out: left_out.clone() };
            start::record_begun(node, container, begun).at("record that it runs")
        }
        Some(Held { exit: Some(ended), .. }) => exit::record(node, container, ended).await,
        _ => undo_start(engine, container).await,
    };
    if let Err(error) = outcome {
        tracing::error!(container_id = %container.id, error = chain(&error), "half-made start not settled");
    }
}

async fn undo_start(engine: &Engine, container: &Arc<Container>) -> Result<(), StepFailed> {
    let _order = container.lane.lock().await;
    let leaf = container.leaf(&engine.node);
    blocking::run("undo a start", move || {
        kill_and_wait(&leaf, Duration::from_secs(10))?;
        leaf.remove().at("remove the container's cgroup")
    })
    .await
    .at("undo a start")??;
    if let Some(shim) = container.sandbox.shim() {
        shim.forget_container(&container.id).await.at("tell the shim")?;
    }
    container.step(&engine.node, Event::Undone).at("record that it is as before")?.ok();
    Ok(())
}

/// Containers whose creation or removal was cut off.
async fn half_made(engine: &Engine, found: &Sandbox) {
    for container in engine.registry.containers_of(&found.id) {
        if matches!(container.state(), State::Creating | State::Removing(_)) {
            let forgotten = remove::forget(&engine.node, &container).await;
            if forgotten.is_ok() {
                engine.registry.drop_container(&container.id);
            }
            note(found, forgotten);
        }
    }
}

fn note(found: &Sandbox, outcome: Result<(), StepFailed>) {
    if let Err(error) = outcome {
        tracing::error!(sandbox_id = %found.id, error = chain(&error), "recovery incomplete");
    }
}
