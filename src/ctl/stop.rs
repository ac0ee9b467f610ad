//! `berth stop` and `berth rm`.

use super::commands::{RmArgs, StopArgs};
use super::connect::Daemon;
use super::console::Console;
use super::error::{CtlError, several};
use super::kubelet::Inventory as KeptPods;
use super::resolve::{Inventory, Named, container_name, pod_name};
use crate::cri::proto as cri;
use crate::kubelet::observed::POD_UID_LABEL;
use crate::kubelet::request::TERMINATION_GRACE_ANNOTATION;
use crate::kubelet::spec::uid;
use futures::future::join_all;

/// Seconds to end in, where nobody says.
const DEFAULT_GRACE_SECONDS: i64 = 30;

/// Stops pods and containers, all at once.
pub(super) async fn stop(
    args: &StopArgs,
    daemon: &Daemon,
    console: &mut Console,
) -> Result<(), CtlError> {
    let all = Inventory::read(daemon).await?;
    let kept = KeptPods::read_if_any(daemon).await?.unwrap_or_default();
    let grace = args.time.map(i64::from);
    let results = join_all(args.names.iter().map(|name| async {
        match named(&all, name)? {
            Named::Pod(pod) => {
                refuse_kept(pod, &kept)?;
                stop_pod(daemon, &all, pod, grace).await
            }
            Named::Container(container) => stop_container(daemon, container, grace).await,
        }
    }));
    finish(&args.names, results.await, console)
}

/// Removes pods and containers, one after the other.
pub(super) async fn remove(
    args: &RmArgs,
    daemon: &Daemon,
    console: &mut Console,
) -> Result<(), CtlError> {
    let all = Inventory::read(daemon).await?;
    let kept = KeptPods::read_if_any(daemon).await?.unwrap_or_default();
    let mut results = Vec::new();
    for name in &args.names {
        results.push(remove_one(name, args.force, (&all, &kept), daemon).await);
    }
    finish(&args.names, results, console)
}

fn finish(
    names: &[String],
    results: Vec<Result<(), CtlError>>,
    console: &mut Console,
) -> Result<(), CtlError> {
    let mut failed = Vec::new();
    for (name, result) in names.iter().zip(results) {
        match result {
            Ok(()) => console.line(name)?,
            Err(error) => failed.push(error),
        }
    }
    several(failed)
}

fn named<'a>(all: &'a Inventory, name: &str) -> Result<Named<'a>, CtlError> {
    let missing = || CtlError::NotFound { what: "pod or container", name: name.to_owned() };
    all.any(name)?.ok_or_else(missing)
}

/// A pod that the kubelet half keeps would be made again.
fn refuse_kept(pod: &cri::PodSandbox, kept: &KeptPods) -> Result<(), CtlError> {
    let of = pod.labels.get(POD_UID_LABEL);
    match kept.0.iter().find(|kept| of.is_some_and(|of| of == uid(&kept.pod))) {
        None => Ok(()),
        Some(_) => Err(CtlError::Refused {
            problem: format!("pod {} is kept by the kubelet half", pod_name(pod)),
            hint: "`berth delete pod` takes it back; one of a manifest is removed there",
        }),
    }
}

async fn stop_pod(
    daemon: &Daemon,
    all: &Inventory,
    pod: &cri::PodSandbox,
    grace: Option<i64>,
) -> Result<(), CtlError> {
    let running = all.containers.iter().filter(|container| {
        container.pod_sandbox_id == pod.id
            && container.state() == cri::ContainerState::ContainerRunning
    });
    let stopped = join_all(running.map(|container| stop_container(daemon, container, grace)));
    let failed: Vec<CtlError> = stopped.await.into_iter().filter_map(Result::err).collect();
    // The sandbox is stopped even so: it ends what did not end by itself.
    stop_sandbox(daemon, pod).await?;
    several(failed)
}

async fn stop_container(
    daemon: &Daemon,
    container: &cri::Container,
    grace: Option<i64>,
) -> Result<(), CtlError> {
    let own =
        container.annotations.get(TERMINATION_GRACE_ANNOTATION).and_then(|text| text.parse().ok());
    let request = cri::StopContainerRequest {
        container_id: container.id.clone(),
        timeout: grace.or(own).unwrap_or(DEFAULT_GRACE_SECONDS).max(0),
    };
    let answer = daemon.runtime.clone().stop_container(request).await;
    let subject = format!("container {}", container_name(container));
    answer.map(drop).map_err(CtlError::rpc("stop", subject))
}

async fn stop_sandbox(daemon: &Daemon, pod: &cri::PodSandbox) -> Result<(), CtlError> {
    let request = cri::StopPodSandboxRequest { pod_sandbox_id: pod.id.clone() };
    let answer = daemon.runtime.clone().stop_pod_sandbox(request).await;
    answer.map(drop).map_err(CtlError::rpc("stop", format!("pod {}", pod_name(pod))))
}

async fn remove_one(
    name: &str,
    force: bool,
    (all, kept): (&Inventory, &KeptPods),
    daemon: &Daemon,
) -> Result<(), CtlError> {
    let running = |what: &str| CtlError::Refused {
        problem: format!("{what} {name:?} is running"),
        hint: "`berth stop` it first, or use `berth rm --force`",
    };
    match named(all, name)? {
        Named::Pod(pod) => {
            refuse_kept(pod, kept)?;
            if pod.state() == cri::PodSandboxState::SandboxReady && !force {
                return Err(running("pod"));
            }
            remove_pod(daemon, pod).await
        }
        Named::Container(container) => {
            if container.state() == cri::ContainerState::ContainerRunning && !force {
                return Err(running("container"));
            }
            let request = cri::RemoveContainerRequest { container_id: container.id.clone() };
            let answer = daemon.runtime.clone().remove_container(request).await;
            let subject = format!("container {}", container_name(container));
            answer.map(drop).map_err(CtlError::rpc("remove", subject))
        }
    }
}

/// Stops and removes a sandbox.
async fn remove_pod(daemon: &Daemon, pod: &cri::PodSandbox) -> Result<(), CtlError> {
    // Also one that is stopped: what an earlier stop left is taken down now.
    stop_sandbox(daemon, pod).await?;
    let request = cri::RemovePodSandboxRequest { pod_sandbox_id: pod.id.clone() };
    let answer = daemon.runtime.clone().remove_pod_sandbox(request).await;
    answer.map_err(CtlError::rpc("remove", format!("pod {}", pod_name(pod))))?;
    Ok(())
}
