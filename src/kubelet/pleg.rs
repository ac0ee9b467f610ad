//! Pod lifecycle events: which pods to look at, because something happened to them in the runtime.
//!
//! A runtime's own events are followed: an exit is one event away from its restart. When the stream breaks, or is
//! too slow, every pod is looked at and the stream taken up again. A runtime without events is asked for its lists,
//! once a second, and pods whose containers or sandboxes are in other states are looked at.

use super::request::Identity;
use crate::clock::ticks;
use crate::cri::client::Cri;
use crate::cri::proto;
use crate::error::ErrorKind;
use futures::StreamExt as _;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;
use tracing::{debug, warn};

/// How often a runtime without events is asked.
const RELIST: Duration = Duration::from_secs(1);
/// After how long a stream that broke is taken up again.
const AGAIN: Duration = Duration::from_millis(500);

/// What to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stir {
    /// One pod, by its uid.
    Pod(String),
    /// All of them.
    All,
}

/// Tells of pods to look at, for ever.
pub async fn watch(cri: Arc<dyn Cri>, stirs: UnboundedSender<Stir>) {
    loop {
        match cri.events().await {
            Ok(mut events) => {
                // What happened before the stream was there.
                stirs.send(Stir::All).ok();
                while let Some(event) = events.next().await {
                    match event {
                        Ok(event) => {
                            if let Some(uid) = pod_of(event) {
                                stirs.send(Stir::Pod(uid)).ok();
                            }
                        }
                        Err(status) if status.code() == tonic::Code::Unimplemented => {
                            debug!("the runtime has no events: it is asked for its lists");
                            return relist(cri, stirs).await;
                        }
                        Err(status) => {
                            warn!(error = status.message(), "the runtime's events broke off");
                            break;
                        }
                    }
                }
            }
            Err(error) if error.kind() == ErrorKind::Unimplemented => {
                return relist(cri, stirs).await;
            }
            Err(error) => warn!(%error, "the runtime's events cannot be followed"),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// The pod of an event.
fn pod_of(event: proto::ContainerEventResponse) -> Option<String> {
    let metadata = event.pod_sandbox_status?.metadata?;
    Some(metadata.uid).filter(|uid| !uid.is_empty())
}

/// The states of a pod's parts, by id.
type States = BTreeMap<String, i32>;

/// Asks for lists, for ever.
async fn relist(cri: Arc<dyn Cri>, stirs: UnboundedSender<Stir>) {
    let mut known: BTreeMap<String, States> = BTreeMap::new();
    let mut pulse = ticks(RELIST);
    loop {
        pulse.tick().await;
        let sandboxes = cri.list_pod_sandbox(proto::ListPodSandboxRequest::default()).await;
        let containers = cri.list_containers(proto::ListContainersRequest::default()).await;
        let (sandboxes, containers) = match (sandboxes, containers) {
            (Ok(sandboxes), Ok(containers)) => (sandboxes.items, containers.containers),
            (Err(error), _) | (_, Err(error)) => {
                warn!(%error, "the runtime gives no lists");
                continue;
            }
        };
        let seen = states(&sandboxes, &containers);
        for uid in changed(&known, &seen) {
            stirs.send(Stir::Pod(uid)).ok();
        }
        known = seen;
    }
}

fn states(
    sandboxes: &[proto::PodSandbox],
    containers: &[proto::Container],
) -> BTreeMap<String, States> {
    let mut all: BTreeMap<String, States> = BTreeMap::new();
    let parts = sandboxes
        .iter()
        .map(|sandbox| (&sandbox.labels, &sandbox.id, sandbox.state))
        .chain(containers.iter().map(|c| (&c.labels, &c.id, c.state)));
    for (labels, id, state) in parts {
        if let Some(identity) = Identity::read(labels) {
            all.entry(identity.uid).or_default().insert(id.clone(), state);
        }
    }
    all
}

/// The pods that are not as they were.
fn changed(known: &BTreeMap<String, States>, seen: &BTreeMap<String, States>) -> Vec<String> {
    let gone = known.keys().filter(|uid| !seen.contains_key(*uid));
    let other = seen.iter().filter(|(uid, states)| known.get(*uid) != Some(*states));
    gone.chain(other.map(|(uid, _)| uid)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_looked_at_when_a_part_of_it_is_new_gone_or_in_another_state() {
        let pods = |rows: &[(&str, &str, i32)]| {
            let mut all: BTreeMap<String, States> = BTreeMap::new();
            for (uid, id, state) in rows {
                all.entry((*uid).into()).or_default().insert((*id).into(), *state);
            }
            all
        };
        let before = pods(&[
            ("same", "a", 1),
            ("ended", "b", 1),
            ("gone", "c", 1),
            ("less", "d", 1),
            ("less", "e", 1),
        ]);
        let after = pods(&[("same", "a", 1), ("ended", "b", 2), ("new", "f", 1), ("less", "d", 1)]);
        let mut found = changed(&before, &after);
        found.sort();
        assert_eq!(found, ["ended", "gone", "less", "new"]);
    }
}
