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
use crate::store;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why the objects of another boot do not run.
const REBOOTED: &str = "the node was rebooted";

/// Loads all records into the registry. Nothing is signalled or removed here.
pub(crate) fn load(engine: &Engine) {
    let node = &engine.node;
    for (record, this_boot) in
        all::<SandboxRecord>(&node.layout.sandboxes(), &node.layout.durable_sandboxes(), |id| {
            node.layout.durable_sandboxes().join(format!("{id}.json"))
        })
    {
        add_sandbox(engine, record, this_boot);
    }
    for (record, this_boot) in
        all::<ContainerRecord>(&node.layout.containers(), &node.layout.durable_containers(), |id| {
            node.layout.durable_containers().join(format!("{id}.json"))
        })
    {
        add_container(engine, record, this_boot);
    }
}

/// Live records, then the durable ones of objects that have no live one. A durable record of this
/// boot without a live one belongs to a removal that was cut off, and is dropped.
fn all<T: DeserializeOwned>(
    live_dir: &Path,
    durable_dir: &Path,
    durable_of: impl Fn(&str) -> PathBuf,
) -> Vec<(T, bool)> {
    let mut found = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    for entry in std::fs::read_dir(live_dir).into_iter().flatten().flatten() {
        let id = entry.file_name().to_string_lossy().into_owned();
        match store::load::<T>(&entry.path().join("record.json")) {
            Ok(Some(loaded)) => {
                seen.insert(durable_of(&id));
                found.push((loaded.value, loaded.this_boot));
            }
            // Cut off before its first record, or after its last: nothing else exists of it.
            Ok(None) => {
                std::fs::remove_dir_all(entry.path()).ok();
            }
            Err(error) => tracing::error!(error = chain(&error), "record not read; left as it is"),
        }
    }
    for path in store::load_dir(durable_dir).unwrap_or_default() {
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
    found
}

fn add_sandbox(engine: &Engine, mut record: SandboxRecord, this_boot: bool) {
    let node = &engine.node;
    if !this_boot {
        record.phase = match record.phase {
            Phase::Removing => Phase::Removing,
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
    std::fs::create_dir_all(node.layout.exits(&record.id)).ok();
    let sandbox = Arc::new(Sandbox::new(record));
    note(sandbox.change(node, |_| {}));
    engine.registry.add_sandbox(sandbox);
}

fn add_container(engine: &Engine, mut record: ContainerRecord, this_boot: bool) {
    let node = &engine.node;
    let Some(sandbox) = engine.registry.sandbox(&record.sandbox) else {
        tracing::warn!(container_id = %record.id, "container without a sandbox; dropped");
        forget_files(node, &record);
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
        State::Created | State::Starting | State::Running { .. } => {
            State::Exited(Exit::unknown(state.started_at_nanos(), clock::now_nanos(), REBOOTED))
        }
    }
}

fn forget_files(node: &Node, record: &ContainerRecord) {
    node.durable.remove(node.layout.durable_container(&record.id));
    std::fs::remove_dir_all(node.layout.container(&record.id)).ok();
}

fn note(outcome: Result<(), store::StoreError>) {
    if let Err(error) = outcome {
        tracing::error!(error = chain(&error), "record not written");
    }
}
