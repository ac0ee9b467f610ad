//! Start-up is recovery: load what is recorded, compare it with what runs, finish or undo.
//!
//! What makes this legal: the lock of the state folder is held, so no other daemon acts; every
//! intent is on disk before its first effect; a process is known by boot id, pid and start time,
//! so nothing of another boot, and no recycled pid, is ever signalled.
//!
//! | found | done |
//! |---|---|
//! | sandbox of another boot | NOTREADY; its containers EXITED, 255, Unknown, unless they had ended |
//! | sandbox `Creating` | undone and forgotten |
//! | sandbox of a RestorePod at work | removed with its containers |
//! | sandbox `Ready`, shim answers | adopted |
//! | sandbox `Ready`, shim gone | pod's cgroup killed, NOTREADY, containers Unknown |
//! | sandbox `Stopping`, `Removing` | finished |
//! | container `Creating`, `Removing` | forgotten |
//! | container `Starting` | as the shim knows it: running, ended, or undone to CREATED |
//! | command in a container | killed with its slot: its caller is gone |
//! | container `Running` with a stop | the stop goes on with what is left of its grace |
//! | shim that does not answer | after ten seconds only its own pod's verbs go on being refused |

mod load;
mod sandbox;

use super::open::Engine;
use crate::error::{AtStep as _, chain};
use crate::ids::{ContainerId, SandboxId};
use crate::node::kill_and_wait;
use crate::sandbox::object::Sandbox;
use crate::store::Layout;
use std::sync::Arc;
use std::time::Duration;

pub(crate) use load::load;

/// How long all wait for the slowest shim.
const OTHERS_WAIT: Duration = Duration::from_secs(10);

/// While this is there, verbs of the sandbox are refused.
struct Recovering(Arc<Sandbox>);

impl Recovering {
    fn begin(sandbox: &Arc<Sandbox>) -> Self {
        sandbox.set_recovering(true);
        Self(Arc::clone(sandbox))
    }
}

impl Drop for Recovering {
    fn drop(&mut self) {
        self.0.set_recovering(false);
    }
}

/// Brings every loaded object to a state that verbs can go on from. Goes on past errors and logs
/// them: one broken pod must not keep the others from being served. `all_read`: whether every record
/// could be read; when not, what seems to belong to nobody may belong to one of those, and stays.
pub(crate) async fn recover(engine: &Engine, all_read: bool) {
    if all_read {
        // Before any pod is taken down: rules are made from what the network knows.
        recover_network(engine).await;
    }
    let mut each = Vec::new();
    for found in engine.registry.sandboxes() {
        let engine = engine.clone();
        let recovering = Recovering::begin(&found);
        each.push(engine.node.clone().tasks.spawn(async move {
            sandbox::recover(&engine, &found).await;
            drop(recovering);
        }));
    }
    // One that takes longer goes on, and only its own verbs wait for it.
    let limit = crate::failpoint::within(OTHERS_WAIT);
    match tokio::time::timeout(limit, futures::future::join_all(each)).await {
        Ok(done) => {
            for error in done.into_iter().filter_map(Result::err) {
                tracing::error!(%error, "recovery of a sandbox was cut off");
            }
        }
        Err(_) => {
            let sandboxes = engine.registry.sandboxes();
            for late in sandboxes.iter().filter(|sandbox| sandbox.recovering()) {
                tracing::warn!(sandbox_id = %late.id, "its recovery takes longer; the others are served");
            }
        }
    }
    if all_read {
        drop_leftovers(engine).await;
    } else {
        tracing::error!("records could not be read; leftovers stay until they can");
    }
}

/// Process images of containers that are gone, and parts of checkpoints that were cut off by the end of a boot.
fn drop_files(layout: &Layout, containers: &[ContainerId]) -> Vec<String> {
    let live: Vec<_> = containers.iter().map(|id| layout.restore(id)).collect();
    let entries = |folder| std::fs::read_dir(folder).into_iter().flatten().flatten();
    let restores = entries(layout.restores()).map(|e| e.path()).filter(|p| !live.contains(p));
    let parts = entries(layout.checkpoints()).map(|e| e.path());
    let parts = parts.filter(|p| p.extension().is_some_and(|e| e == "part"));
    let all = restores.chain(parts).map(|path| {
        let removed = match path.is_dir() {
            true => std::fs::remove_dir_all(&path),
            false => std::fs::remove_file(&path),
        };
        match removed {
            Ok(()) => format!("removed {}", path.display()),
            Err(e) => format!("remove {}: {e}", path.display()),
        }
    });
    all.collect()
}

async fn recover_network(engine: &Engine) {
    let known: Vec<SandboxId> = engine.registry.sandboxes().iter().map(|s| s.id.clone()).collect();
    match engine.node.network.recover(&known).await {
        Ok(done) if !done.is_empty() => tracing::info!(?done, "network leftovers removed"),
        Ok(_) => {}
        Err(error) => tracing::error!(error = chain(&error), "network not recovered"),
    }
}

/// What belongs to no recorded object: orphaned shims, helpers and scopes, writable layers.
async fn drop_leftovers(engine: &Engine) {
    let live: Vec<SandboxId> = engine.registry.sandboxes().iter().map(|s| s.id.clone()).collect();
    let containers: Vec<ContainerId> =
        engine.registry.containers().iter().map(|c| c.id.clone()).collect();
    let node = Arc::clone(&engine.node);
    let done = crate::blocking::run("remove leftovers", move || {
        let mut done = node.images.retain_snapshots(&containers);
        done.extend(drop_files(&node.layout, &containers));
        let known = |id: &SandboxId| live.contains(id) || node.network.owns(id);
        for id in node.cgroups.owned_sandboxes().into_iter().filter(|id| !known(id)) {
            for leaf in [node.cgroups.helpers(&id), node.cgroups.shim(&id)] {
                match kill_and_wait(&leaf, Duration::from_secs(10)) {
                    Ok(()) => drop(leaf.remove()),
                    Err(error) => {
                        tracing::error!(sandbox_id = %id, error = chain(&error), "orphan not ended");
                    }
                }
            }
            done.push(format!("processes of the unknown sandbox {id}"));
        }
        for (id, pod) in node.cgroups.scopes().into_iter().filter(|(id, _)| !known(id)) {
            let ended = kill_and_wait(&pod, Duration::from_secs(10))
                .and_then(|()| pod.remove().at("remove the pod's scope"));
            match ended {
                Ok(()) => done.push(format!("the scope of the unknown sandbox {id}")),
                Err(error) => {
                    tracing::error!(sandbox_id = %id, error = chain(&error), "orphan not ended");
                }
            }
        }
        done
    })
    .await;
    if let Ok(done) = done
        && !done.is_empty()
    {
        tracing::info!(?done, "leftovers removed");
    }
}
