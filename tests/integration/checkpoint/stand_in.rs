//! A program in criu's place, and requests.

use crate::harness::scene::Scene;
use crate::harness::{Node, kernel, pod, sent};
use anyhow::{Context as _, Result, ensure};
use berth::cri::proto;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tonic::Status;

/// Dumps nothing. While there is a file `hold` it waits; with `fail` its second call fails; with `clash` there is a
/// folder where an archive is to be, and with `thaw` it lets its container go on; `version` is what it says of itself.
/// What the kernel says of the pod's containers at each call is in `seen`.
const STAND_IN: &str = r#"#!/bin/sh
here=$(dirname "$0")
case $1 in
    check) exit 0 ;;
    --version) cat "$here/version" 2>/dev/null || echo "Version: 4.1.1"; exit 0 ;;
esac
verb=$1
while [ $# -gt 0 ]; do
    case $1 in
        --freeze-cgroup) group=$2 ;;
        --images-dir) images=$2 ;;
        --work-dir) work=$2 ;;
    esac
    shift
done
echo "$verb" >>"$here/calls"
if [ "$verb" = restore ]; then
    echo "(00.1) Error (criu/x.c:1): no such luck" >"$work/log"
    exit 1
fi
for one in "$group"/../*/cgroup.events; do
    case $one in */pause/*) ;; *) grep frozen "$one" >>"$here/seen" ;; esac
done
echo image >"$images/inventory.img"
while [ -e "$here/hold" ]; do sleep 0.1; done
[ ! -e "$here/clash" ] || mkdir "$work/rootfs-diff.tar"
[ ! -e "$here/thaw" ] || echo 0 >"$group/cgroup.freeze"
if [ -e "$here/fail" ] && [ "$(wc -l <"$here/calls")" -ge 2 ]; then
    echo "(00.1) Error (criu/x.c:1): no such luck" >"$work/dump.log"
    exit 1
fi
"#;

/// Starts the daemon anew with this program as criu.
pub(super) fn use_criu(node: &mut Node, criu: &Path) -> Result<()> {
    node.stop()?;
    let config = std::fs::read_to_string(node.config_file())?;
    let config = config.split("[checkpoint]").next().unwrap_or_default().to_owned();
    std::fs::write(node.config_file(), format!("{config}\n[checkpoint]\ncriu = {criu:?}\n"))?;
    node.launch()
}

/// The folder of the program in criu's place.
pub(super) fn stand_in(node: &mut Node) -> Result<PathBuf> {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = node.path("stand-in");
    std::fs::create_dir_all(&folder)?;
    let program = folder.join("criu");
    std::fs::write(&program, STAND_IN)?;
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755))?;
    use_criu(node, &program)?;
    Ok(folder)
}

/// A request for a checkpoint of these containers into an empty folder.
pub(super) fn into(
    scene: &Scene<'_>,
    folder: &Path,
    containers: &[&String],
) -> proto::CheckpointPodRequest {
    proto::CheckpointPodRequest {
        pod_sandbox_id: scene.pod.clone(),
        output_path: folder.to_string_lossy().into_owned(),
        container_ids: containers.iter().map(|&id| id.clone()).collect(),
        ..Default::default()
    }
}

/// CheckpointPod by a caller that waits so long.
pub(super) fn ask(
    node: &Node,
    request: proto::CheckpointPodRequest,
    limit: Duration,
) -> Result<(), Status> {
    sent::record(&request);
    let mut client = node.cri.runtime();
    let mut request = tonic::Request::new(request);
    request.set_timeout(limit);
    node.cri.wait(async move { client.checkpoint_pod(request).await }).map(drop)
}

/// Whether the kernel has a container's processes stand still.
pub(super) fn frozen(node: &Node, pod: &str, id: &str) -> Result<bool> {
    let group = node.container_cgroup(pod, id);
    Ok(kernel::counter(&group.join("cgroup.events"), "frozen")? == 1)
}

/// The containers run, and do what they are asked.
pub(super) fn all_go_on(node: &Node, pod: &str, containers: &[&String]) -> Result<()> {
    for id in containers {
        ensure!(!frozen(node, pod, id)?, "{id} stands still");
        ensure!(node.exec_ok(id, &["echo", "alive"])? == "alive", "{id} does not answer");
    }
    Ok(())
}

/// A request for a pod from a checkpoint.
pub(super) fn from(
    node: &Node,
    folder: &Path,
    name: &str,
    containers: Vec<proto::ContainerConfig>,
) -> proto::RestorePodRequest {
    proto::RestorePodRequest {
        checkpoint_path: folder.to_string_lossy().into_owned(),
        config: Some(pod::pod(node, name)),
        container_configs: containers,
        ..Default::default()
    }
}

/// Every file below a folder, with its size and time.
pub(super) fn files(folder: &Path) -> Result<Vec<String>> {
    use std::os::unix::fs::MetadataExt as _;
    let mut all = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| format!("list {folder:?}"))? {
            let entry = entry?;
            let found = entry.metadata()?;
            if found.is_dir() {
                folders.push(entry.path());
            }
            all.push(format!("{:?} {} {}", entry.path(), found.len(), found.mtime_nsec()));
        }
    }
    all.sort();
    Ok(all)
}
