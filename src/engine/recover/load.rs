//! Records into objects.

use crate::clock;
use crate::container::object::{Container, ContainerRecord};
use crate::container::state::{Exit, State};
use crate::engine::open::Engine;
use crate::engine::registry::Holder;
use crate::error::chain;
use crate::node::Node;
use crate::sandbox::object::{Sandbox, SandboxRecord};
use crate::sandbox::state::Phase;
use crate::store::{self, StoreError};
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

/// Why the objects of another boot do not run.
const REBOOTED: &str = "the node was rebooted";

/// Loads all records into the registry; whether all could be read. Nothing is signalled here.
///
/// # Errors
/// When the folder of records cannot be listed: an empty list would be a lie.
pub(crate) fn load(engine: &Engine) -> Result<bool, StoreError> {
    let layout = &engine.node.layout;
    let mut all_read = true;
    let found =
        all::<SandboxRecord>(&layout.sandboxes(), &layout.durable_sandboxes(), &mut all_read)?;
    for (record, this_boot) in found {
        add_sandbox(engine, record, this_boot);
    }
    let found =
        all::<ContainerRecord>(&layout.containers(), &layout.durable_containers(), &mut all_read)?;
    for (record, this_boot) in found {
        add_container(engine, record, this_boot, all_read);
    }
    Ok(all_read)
}

/// Live records, then the durable ones of objects that have no live one. A durable record of this
/// boot without a live one belongs to a removal that was cut off, and is dropped.
fn all<T: DeserializeOwned>(
    live_dir: &Path,
    durable_dir: &Path,
    all_read: &mut bool,
) -> Result<Vec<(T, bool)>, StoreError> {
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    let listed = |e| StoreError::new("list", live_dir, e);
    for entry in std::fs::read_dir(live_dir).map_err(listed)? {
        let folder = entry.map_err(listed)?;
        let durable = durable_dir.join(format!("{}.json", folder.file_name().to_string_lossy()));
        match store::load::<T>(&folder.path().join("record.json")) {
            Ok(Some(loaded)) => {
                seen.insert(durable);
                found.push((loaded.value, loaded.this_boot));
            }
            // Cut off before its first record, or after its last: nothing else exists of it.
            Ok(None) => {
                std::fs::remove_dir_all(folder.path()).ok();
            }
            Err(error) => {
                tracing::error!(error = chain(&error), "record not read; its copy is tried");
                if let Ok(Some(copy)) = store::load::<T>(&durable) {
                    found.push((copy.value, copy.this_boot));
                } else {
                    *all_read = false;
                }
                seen.insert(durable);
            }
        }
    }
    for path in store::load_dir(durable_dir)? {
        if seen.contains(&path) {
            continue;
        }
        match store::load::<T>(&path) {
            Ok(Some(loaded)) if !loaded.this_boot => found.push((loaded.value, false)),
            Ok(_) => drop(store::remove(&path)),
            Err(error) => {
                tracing::error!(error = chain(&error), "durable record damaged; set aside");
                std::fs::rename(&path, path.with_extension("damaged")).ok();
            }
        }
    }
    Ok(found)
}

fn add_sandbox(engine: &Engine, mut record: SandboxRecord, this_boot: bool) {
    let node = &engine.node;
    if !this_boot {
        record.phase = match record.phase {
            phase @ (Phase::Removing | Phase::Stopped) => phase,
            _ => Phase::NotReady(REBOOTED.into()),
        };
        record.shim = None;
        record.pause = None;
    }
    engine.registry.names().insert(
        record.config.metadata.reservation(),
        Holder {
            id: record.id.to_string(),
            request_hash: record.request_hash.clone(),
            flight: None,
        },
    );
    if let Some(labels) = &record.labels {
        node.selinux.adopt(&record.id, labels);
    }
    std::fs::create_dir_all(node.layout.exits(&record.id)).ok();
    let sandbox = Arc::new(Sandbox::new(record));
    note(sandbox.change(node, |_| {}));
    engine.registry.add_sandbox(sandbox);
}

fn add_container(engine: &Engine, mut record: ContainerRecord, this_boot: bool, all_read: bool) {
    let node = &engine.node;
    let Some(sandbox) = engine.registry.sandbox(&record.sandbox) else {
        tracing::warn!(container_id = %record.id, all_read, "container without a sandbox");
        if all_read {
            forget_files(node, &record);
        }
        return;
    };
    if !this_boot {
        record.state = after_reboot(record.state);
        record.kill_at_nanos = None;
    }
    engine.registry.names().insert(
        format!("{}_{}_{}", record.config.name, record.config.attempt, record.sandbox),
        Holder {
            id: record.id.to_string(),
            request_hash: record.request_hash.clone(),
            flight: None,
        },
    );
    std::fs::create_dir_all(node.layout.container(&record.id)).ok();
    let container = Arc::new(Container::new(sandbox, record));
    note(container.change(node, |_| {}));
    engine.registry.add_container(container);
}

/// What ran is gone, and nobody saw how it ended.
fn after_reboot(state: State) -> State {
    match state {
        State::Creating => State::Removing(None),
        State::Exited(_) | State::Removing(_) => state,
        State::Created | State::Starting { .. } | State::Running { .. } => {
            State::Exited(Exit::unknown(state.started_at_nanos(), clock::now_nanos(), REBOOTED))
        }
    }
}

fn forget_files(node: &Node, record: &ContainerRecord) {
    node.durable.remove(node.layout.durable_container(&record.id));
    std::fs::remove_dir_all(node.layout.container(&record.id)).ok();
}

fn note(outcome: Result<(), StoreError>) {
    if let Err(error) = outcome {
        tracing::error!(error = chain(&error), "record not written");
    }
}
