//! Looks at the node again and again, and shows it.

use super::changes::changes;
use super::look::{Runtime, System};
use super::make::{Input, node, without_heartbeats};
use crate::blocking;
use crate::cgroups::swap_bytes;
use crate::error::chain;
use crate::kubelet::board::EventKind;
use crate::kubelet::worker::Host;
use crate::store::replace;
use k8s_openapi::api::core::v1::Node;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tracing::warn;

/// How often the node is looked at.
const LOOK: Duration = Duration::from_secs(10);
/// After how long it is written although nothing but the time is another.
const WRITE: Duration = Duration::from_secs(300);
/// How long the runtime may take to tell its state.
const WITHIN: Duration = Duration::from_secs(5);

/// Who keeps the object.
pub struct NodeKeeper {
    /// What all workers work with.
    pub host: Arc<Host>,
    /// Where it is written: `node.json`.
    pub file: PathBuf,
    /// The port of the HTTP API, if it is on TCP.
    pub port: Option<u16>,
}

/// Keeps the object, for ever.
pub async fn keep(keeper: NodeKeeper) {
    let NodeKeeper { host, file, port } = keeper;
    let of = file.clone();
    let read = blocking::run("read the node", move || (System::read(Path::new("/")), last(&of)));
    let (system, mut previous) = read.await.unwrap_or_default();
    let mut shutdown = host.shutting_down.subscribe();
    let mut pressure = host.pressure.subscribe();
    let mut written: Option<(Node, Instant)> = None;
    let starting = (EventKind::Normal, "Starting", "Starting the kubelet half.".to_owned());
    host.board.node_event(&host.node.name, starting);
    loop {
        let runtime = tokio::time::timeout(WITHIN, Runtime::ask(&*host.cri)).await;
        let runtime = match runtime {
            Ok(Ok(runtime)) => Ok(runtime),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no answer within {} s", WITHIN.as_secs())),
        };
        let problems = problems(&host);
        let made = node(&Input {
            facts: &host.node,
            system: &system,
            swap_bytes: swap().await,
            runtime: runtime.as_ref().map_err(String::as_str),
            port,
            pressure: *pressure.borrow_and_update(),
            problems: &problems,
            previous: previous.as_ref(),
            now: SystemTime::now(),
        });
        for what in changes(previous.as_ref(), &made) {
            host.board.node_event(&host.node.name, what);
        }
        host.board.set_node(made.clone());
        let plain = without_heartbeats(&made);
        let due = written.as_ref().is_none_or(|(last, at)| *last != plain || at.elapsed() >= WRITE);
        if due && write(&file, &made).await {
            written = Some((plain, Instant::now()));
        }
        previous = Some(made);
        tokio::select! {
            _ = shutdown.changed() => {}
            _ = pressure.changed() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// What stands against keeping pods, beside the runtime.
fn problems(host: &Host) -> Vec<String> {
    let still = host.pulse.still_for(Instant::now());
    let still = still.map(|long| format!("pods were not synced for {} s", long.as_secs()));
    let ending = host.shutting_down.borrow().then(|| "node is shutting down".to_owned());
    still.into_iter().chain(ending).collect()
}

/// Bytes of swap that the node has now; none where that cannot be told.
async fn swap() -> u64 {
    let read = blocking::run("read the node's swap", swap_bytes).await;
    let read = read.map_err(|error| error.to_string());
    read.and_then(|read| read.map_err(|error| error.to_string())).unwrap_or_else(|error| {
        warn!(error, "/proc/swaps cannot be read: the node is told to have no swap");
        0
    })
}

/// The node as the last run wrote it.
fn last(file: &Path) -> Option<Node> {
    serde_json::from_slice(&std::fs::read(file).ok()?).ok()
}

/// Writes the object; whether that succeeded.
async fn write(file: &Path, made: &Node) -> bool {
    let mut text = serde_json::to_vec_pretty(made).unwrap_or_default();
    text.push(b'\n');
    let file = file.to_owned();
    let written = blocking::run("write the node", move || replace(&file, &text)).await;
    match written {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            warn!(error = %chain(&error), "the node's status was not written");
            false
        }
        Err(error) => {
            warn!(%error, "the node's status was not written");
            false
        }
    }
}
