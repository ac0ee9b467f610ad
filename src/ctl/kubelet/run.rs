//! `berth run`: manifests are applied, and waited for until each container of their pods has been started.
//!
//! What can be said to fail before that ends the run, and takes back all that was applied; `berth apply` would
//! have the daemon go on trying.

use super::apply::{apply_bytes, read};
use super::delete::{ended, take_back};
use super::inventory::{Inventory, KeptPod};
use super::until::until;
use crate::clock::now_nanos;
use crate::ctl::commands::RunArgs;
use crate::ctl::connect::Daemon;
use crate::ctl::console::{Console, Format};
use crate::ctl::error::{CtlError, several};
use crate::ctl::format::short_id;
use crate::ctl::why::first_fault;
use crate::kubelet::api::{Object, decode};
use crate::kubelet::control::proto::{ApplyRequest, DeleteRequest, Manifest};
use crate::kubelet::spec::{full_name, name, namespace, spec, uid};
use crate::kubelet::status::{container_id, start_time};
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Runs the pods of a file.
pub(in crate::ctl) async fn run(
    args: &RunArgs,
    daemon: &Daemon,
    console: &mut Console,
) -> Result<(), CtlError> {
    let manifest = read(&args.file)?;
    let decoded = decode(&manifest)
        .map_err(|source| CtlError::Manifest { path: args.file.clone(), source })?;
    if !decoded.objects.iter().any(|object| matches!(object, Object::Pod(_))) {
        return Err(CtlError::NoPod { path: args.file.clone() });
    }
    let request = ApplyRequest { manifest, only_new: true };
    let applied = apply_bytes(request, ("run", &args.file), daemon, console).await?;
    let mut watched = Watched::of(&applied);
    let outcome = tokio::select! {
        outcome = until(daemon, |all| watched.outcome(all)) => outcome.and_then(|outcome| outcome),
        _ = tokio::signal::ctrl_c() => Err(CtlError::Interrupted),
    };
    let failure = match outcome {
        Ok(started) => return tell(args.output.output, &started, console),
        Err(failure) => failure,
    };
    let taken_back = tokio::select! {
        taken_back = take_back_all(&applied, &watched, daemon) => taken_back,
        // Who interrupts it again does not want to wait.
        _ = tokio::signal::ctrl_c() => Ok(()),
    };
    if let Err(undo) = taken_back {
        console.note(&format!("berth: take back what failed: {}", undo.line()));
    }
    Err(failure)
}

/// The pods of a run.
struct Watched {
    /// Their uids, and what they are called.
    pods: Vec<(String, String)>,
    /// Those that were seen, with the time of their start as it is known.
    seen: BTreeMap<String, Option<Time>>,
}

impl Watched {
    fn of(applied: &[Manifest]) -> Self {
        let pods = applied.iter().filter(|object| !object.uid.is_empty());
        let pods = pods.map(|pod| (pod.uid.clone(), pod.pods.join(" ")));
        Self { pods: pods.collect(), seen: BTreeMap::new() }
    }

    /// The pods when all of them have been started, or the first fault; `None`: neither yet.
    fn outcome(&mut self, all: &Inventory) -> Option<Result<Vec<KeptPod>, CtlError>> {
        let now = now_nanos() / 1_000_000_000;
        let mut running = Vec::new();
        for (uid, name) in &self.pods {
            let fault = match all.of_uid(uid) {
                Some(kept) if kept.pod.metadata.deletion_timestamp.is_some() => {
                    Some("somebody takes it back".to_owned())
                }
                Some(kept) => {
                    self.seen.insert(uid.clone(), start_time(&kept.pod).cloned());
                    if has_started(&kept.pod) {
                        running.push(kept.clone());
                        continue;
                    }
                    first_fault(kept, now)
                }
                None if self.seen.contains_key(uid) => {
                    Some("somebody has taken it back".to_owned())
                }
                // One that was applied just now need not be kept yet.
                None => None,
            };
            if let Some(fault) = fault {
                return Some(Err(CtlError::Fault { pod: name.clone(), fault }));
            }
        }
        (running.len() == self.pods.len()).then_some(Ok(running))
    }
}

/// Whether each of its app containers has been started, whatever became of it then.
fn has_started(pod: &Pod) -> bool {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    spec(pod).containers.iter().all(|container| {
        let mut all = statuses.into_iter().flatten();
        all.find(|status| status.name == container.name).is_some_and(was_started)
    })
}

fn was_started(status: &ContainerStatus) -> bool {
    let states = [&status.state, &status.last_state];
    let ran = |end: &ContainerStateTerminated| {
        let never = ["StartError", "ContainerCannotRun"];
        end.started_at.is_some() && !never.contains(&end.reason.as_deref().unwrap_or_default())
    };
    states
        .into_iter()
        .flatten()
        .any(|state| state.running.is_some() || state.terminated.as_ref().is_some_and(ran))
}

/// Takes back what was applied, and nothing that others have put in its place.
async fn take_back_all(
    applied: &[Manifest],
    watched: &Watched,
    daemon: &Daemon,
) -> Result<(), CtlError> {
    let mut failed = Vec::new();
    for object in applied {
        let Some(request) = DeleteRequest::of_origin(&object.origin) else { continue };
        let request = DeleteRequest { uid: object.uid.clone(), ..request };
        match take_back(request, daemon).await {
            // Somebody else has.
            Err(error) if error.exit_code() == 3 => {}
            Err(error) => failed.push(error),
            Ok(()) => {}
        }
    }
    for (uid, _) in &watched.pods {
        let start = watched.seen.get(uid).and_then(Option::as_ref);
        failed.extend(ended(daemon, uid, start).await.err());
    }
    several(failed)
}

fn tell(format: Format, started: &[KeptPod], console: &mut Console) -> Result<(), CtlError> {
    if format == Format::Table {
        return started
            .iter()
            .flat_map(|kept| lines(&kept.pod))
            .try_for_each(|line| console.line(&line));
    }
    let documents: Vec<Value> = started.iter().map(|kept| document(&kept.pod)).collect();
    match documents.as_slice() {
        [one] => console.document(format, one),
        _ => console.document(format, &documents),
    }
}

fn addresses(pod: &Pod) -> Vec<&str> {
    let ips = pod.status.as_ref().and_then(|status| status.pod_ips.as_ref());
    ips.into_iter().flatten().map(|ip| ip.ip.as_str()).collect()
}

/// Names and ids, in the order of the manifest.
fn containers(pod: &Pod) -> Vec<(&str, &str)> {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    let all = statuses
        .into_iter()
        .flatten()
        .map(|status| (status.name.as_str(), container_id(status).unwrap_or_default()));
    all.collect()
}

fn lines(pod: &Pod) -> Vec<String> {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default();
    let what = match phase {
        "Succeeded" | "Failed" => format!("has ended: {phase}"),
        _ => "runs".to_owned(),
    };
    let address = addresses(pod).first().map_or_else(String::new, |ip| format!(" (address {ip})"));
    let first = format!("pod {} {what}{address}", full_name(pod));
    let of = |(name, id): (&str, &str)| format!("  container {name} ({})", short_id(id));
    std::iter::once(first).chain(containers(pod).into_iter().map(of)).collect()
}

fn document(pod: &Pod) -> Value {
    let containers = containers(pod).into_iter();
    let containers: Vec<Value> =
        containers.map(|(name, id)| json!({ "name": name, "id": id })).collect();
    json!({
        "namespace": namespace(pod),
        "name": name(pod),
        "uid": uid(pod),
        "phase": pod.status.as_ref().and_then(|status| status.phase.as_deref()),
        "ips": addresses(pod),
        "containers": containers,
    })
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
