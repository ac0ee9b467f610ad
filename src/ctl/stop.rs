//! `berth stop` and `berth rm`.

use super::commands::{RmArgs, StopArgs};
use super::connect::Daemon;
use super::console::Console;
use super::error::{CtlError, several};
use super::pod::{GRACE_ANNOTATION, RUN_LABEL, logs_dir, pod_dir};
use super::resolve::{Inventory, Named, container_name, pod_name};
use crate::cri::proto as cri;
use futures::future::join_all;
use std::io;
use std::path::{Path, PathBuf};

/// Seconds to end in, where nobody says.
const DEFAULT_GRACE_SECONDS: i64 = 30;

/// Stops pods and containers, all at once.
pub(super) async fn stop(
    args: &StopArgs,
    daemon: &Daemon,
    console: &mut Console,
) -> Result<(), CtlError> {
    let all = Inventory::read(daemon).await?;
    let grace = args.time.map(i64::from);
    let results = join_all(args.names.iter().map(|name| async {
        match named(&all, name)? {
            Named::Pod(pod) => stop_pod(daemon, &all, pod, grace).await,
            Named::Container(container) => stop_container(daemon, container, grace).await,
        }
    }));
    finish(&args.names, results.await, console)
}

/// Removes pods and containers, one after the other.
pub(super) async fn remove(
    args: &RmArgs,
    daemon: &Daemon,
    state: &Path,
    console: &mut Console,
) -> Result<(), CtlError> {
    let all = Inventory::read(daemon).await?;
    let mut results = Vec::new();
    for name in &args.names {
        results.push(remove_one(name, args.force, &all, daemon, state).await);
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
    let own = container.annotations.get(GRACE_ANNOTATION).and_then(|text| text.parse().ok());
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
    all: &Inventory,
    daemon: &Daemon,
    state: &Path,
) -> Result<(), CtlError> {
    let running = |what: &str| CtlError::Refused {
        problem: format!("{what} {name:?} is running"),
        hint: "`berth stop` it first, or use `berth rm --force`",
    };
    match named(all, name)? {
        Named::Pod(pod) => {
            if pod.state() == cri::PodSandboxState::SandboxReady && !force {
                return Err(running("pod"));
            }
            remove_pod(daemon, pod, state).await
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

/// Stops and removes a sandbox, and the folders that `berth run` made for it.
pub(super) async fn remove_pod(
    daemon: &Daemon,
    pod: &cri::PodSandbox,
    state: &Path,
) -> Result<(), CtlError> {
    // Also one that is stopped: what an earlier stop left is taken down now.
    stop_sandbox(daemon, pod).await?;
    let request = cri::RemovePodSandboxRequest { pod_sandbox_id: pod.id.clone() };
    let answer = daemon.runtime.clone().remove_pod_sandbox(request).await;
    answer.map_err(CtlError::rpc("remove", format!("pod {}", pod_name(pod))))?;
    for folder in folders(pod, state) {
        remove_folder(&folder)?;
    }
    Ok(())
}

/// The folders of a pod that `berth run` made; none for others.
fn folders(pod: &cri::PodSandbox, state: &Path) -> Vec<PathBuf> {
    let Some(metadata) = pod.metadata.as_ref().filter(|_| pod.labels.contains_key(RUN_LABEL))
    else {
        return Vec::new();
    };
    // Anybody may write a label: what is removed must be below the state folder.
    let one_name =
        |text: &str| !text.is_empty() && text != "." && text != ".." && !text.contains('/');
    let parts = [&metadata.uid, &metadata.namespace, &metadata.name];
    if !parts.iter().all(|part| one_name(part)) {
        return Vec::new();
    }
    vec![
        pod_dir(state, &metadata.uid),
        logs_dir(state, &metadata.namespace, &metadata.name, &metadata.uid),
    ]
}

/// One that is not there is removed already.
pub(super) fn remove_folder(folder: &Path) -> Result<(), CtlError> {
    match std::fs::remove_dir_all(folder) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(CtlError::file("remove", folder)(e)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::resolve::tests::pod;

    #[test]
    fn only_folders_of_pods_that_berth_ran_are_removed() {
        let mut mine = pod("p1", "ns", "web", false);
        let metadata = mine.metadata.as_mut().unwrap();
        metadata.uid = "u-1".into();
        assert!(folders(&mine, Path::new("/state")).is_empty());
        mine.labels.insert(RUN_LABEL.to_owned(), "true".to_owned());
        assert_eq!(
            folders(&mine, Path::new("/state")),
            [PathBuf::from("/state/pods/u-1"), PathBuf::from("/state/logs/ns_web_u-1")]
        );
        for odd in ["", "..", "../x", "/etc"] {
            mine.metadata.as_mut().unwrap().uid = odd.into();
            assert!(folders(&mine, Path::new("/state")).is_empty(), "{odd:?}");
        }
    }

    #[test]
    fn a_folder_that_is_gone_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("a");
        std::fs::create_dir_all(folder.join("b")).unwrap();
        remove_folder(&folder).unwrap();
        remove_folder(&folder).unwrap();
        assert!(!folder.exists());
    }
}
