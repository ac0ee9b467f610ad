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
use crate::ctl::error::CtlError;
use crate::ctl::format::short_id;
use crate::ctl::why::first_fault;
use crate::kubelet::api::{Decoded, Object, decode};
use crate::kubelet::control::proto::{ApplyRequest, DeleteRequest};
use crate::kubelet::spec::{full_name, name, namespace, spec, uid};
use crate::kubelet::status::container_id;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod};
use serde_json::{Value, json};

/// Runs the pods of a file.
pub(in crate::ctl) async fn run(
    args: &RunArgs,
    daemon: &Daemon,
    console: &mut Console,
) -> Result<(), CtlError> {
    let manifest = read(&args.file)?;
    let decoded = decode(&manifest)
        .map_err(|source| CtlError::Manifest { path: args.file.clone(), source })?;
    let pods = pods(&decoded);
    if pods.is_empty() {
        return Err(CtlError::NoPod { path: args.file.clone() });
    }
    let request = ApplyRequest { manifest, only_new: true };
    let applied = apply_bytes(request, ("run", &args.file), daemon, console).await?;
    let objects: Vec<DeleteRequest> =
        applied.iter().filter_map(|object| DeleteRequest::of_origin(&object.origin)).collect();
    let outcome = tokio::select! {
        outcome = until(daemon, |all| outcome(all, &pods)) => outcome?,
        _ = tokio::signal::ctrl_c() => Err(CtlError::Interrupted),
    };
    match outcome {
        Ok(started) => tell(args.output.output, &started, console),
        Err(failure) => {
            if let Err(undo) = take_back_all(objects, &pods, daemon).await {
                console.note(&format!("berth: take back what failed: {}", undo.line()));
            }
            Err(failure)
        }
    }
}

/// Namespace and name of a pod.
type Name = (String, String);

fn pods(decoded: &Decoded) -> Vec<Name> {
    let names = decoded.objects.iter().filter_map(|object| match object {
        Object::Pod(pod) => Some((namespace(pod).to_owned(), name(pod).to_owned())),
        _ => None,
    });
    names.collect()
}

/// The pods when all of them have been started, or the first fault; `None`: neither yet.
fn outcome(all: &Inventory, names: &[Name]) -> Option<Result<Vec<KeptPod>, CtlError>> {
    let now = now_nanos() / 1_000_000_000;
    let mut started = Vec::new();
    for (namespace, name) in names {
        // One that was applied just now need not be kept yet.
        let kept = all.find(namespace, name)?;
        if has_started(&kept.pod) {
            started.push(kept.clone());
        } else if let Some(fault) = first_fault(kept, now) {
            return Some(Err(CtlError::Fault { pod: full_name(&kept.pod), fault }));
        }
    }
    (started.len() == names.len()).then_some(Ok(started))
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

async fn take_back_all(
    objects: Vec<DeleteRequest>,
    pods: &[Name],
    daemon: &Daemon,
) -> Result<(), CtlError> {
    for object in objects {
        take_back(object, daemon).await?;
    }
    for (namespace, name) in pods {
        ended(daemon, namespace, name).await?;
    }
    Ok(())
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
