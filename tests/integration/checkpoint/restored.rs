//! criu itself: a process goes on in another pod where it was.

use super::stand_in::{all_go_on, ask, files, from, into, use_criu};
use crate::harness::machine::Need;
use crate::harness::scene::{Made, Scene, bind};
use crate::harness::{Node, Options, Test, eventually, kernel, own, pod};
use anyhow::{Context as _, Result, ensure};
use berth::cri::proto::{self, ContainerState};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) fn tests() -> Vec<Test> {
    let plain = |_: &crate::harness::machine::Machine| Options::default();
    vec![
        own("a_process_goes_on_where_it_was", &[Need::Criu], plain, goes_on),
        own("a_container_is_archived_and_runs_on", &[Need::Criu], plain, archived),
    ]
}

const LONG: Duration = Duration::from_secs(50);
/// Counts in its memory alone; ends with the count, cut to a byte, when asked.
const COUNTER: &str = "echo begun; echo kept >/kept; n=0; trap 'exit 7' TERM; \
    while true; do n=$((n + 1)); echo \"n=$n\"; sleep 0.1; done";

fn counter(node: &Node) -> Result<proto::ContainerConfig> {
    let mut config = pod::container("counter", &["sh", "-c", COUNTER]);
    config.mounts = vec![bind(&node.volume("shared")?, "/shared")];
    let security = pod::security(&mut config);
    security.no_new_privs = true;
    security.seccomp = Some(proto::SecurityProfile {
        profile_type: proto::security_profile::ProfileType::RuntimeDefault.into(),
        ..Default::default()
    });
    security.masked_paths = vec!["/proc/keys".into(), "/proc/acpi".into(), "/sys/firmware".into()];
    security.readonly_paths = vec!["/proc/sys".into()];
    Ok(config)
}

/// The counts in a log, in order.
fn counts(log: &Path) -> Result<Vec<u64>> {
    let lines = crate::harness::logs::read(log)?;
    Ok(lines.iter().filter_map(|line| line.text.strip_prefix("n=")?.parse().ok()).collect())
}

/// What the kernel says of a process that the daemon did not say itself.
fn shape(pid: i32) -> Result<BTreeSet<String>> {
    let fields = ["Uid", "Gid", "CapEff", "CapBnd", "CapPrm", "NoNewPrivs", "Seccomp", "Groups"];
    let mut all = BTreeSet::new();
    for field in fields {
        all.insert(format!("{field} {}", kernel::status_field(pid, field)?));
    }
    // Unreadable where the kernel has no labels.
    let label = kernel::read(format!("/proc/{pid}/attr/current")).unwrap_or_default();
    all.insert(format!("label {label}"));
    for mount in kernel::mounts(&pid.to_string())? {
        let options: BTreeSet<_> = mount.options.split(',').collect();
        // The cover of a masked file is another null device than before.
        let kind = match mount.kind.as_str() {
            "tmpfs" | "devtmpfs" => "memory",
            kind => kind,
        };
        all.insert(format!("mount {} {kind} {options:?}", mount.point));
    }
    Ok(all)
}

fn goes_on(node: &mut Node) -> Result<()> {
    let criu = node.machine.criu.clone().context("no criu")?;
    use_criu(node, &criu)?;
    let folder = node.volume("running")?;
    let scene = Scene::new(node, "running")?;
    let config = counter(node)?;
    let first = scene.start("counter", &[], |c| *c = config.clone())?;
    let other = scene.start("other", pod::PATIENT, |_| ())?.id;
    eventually("it counts", || Ok((counts(&first.log)?.last() > Some(&5)).then_some(())))?;
    let before = shape(node.init_pid(&scene.pod, &first.id)?)?;
    ask(node, into(&scene, &folder, &[&first.id, &other]), LONG)?;
    all_go_on(node, &scene.pod, &[&first.id, &other])?;
    let at = counts(&first.log)?.last().copied().unwrap_or_default();
    eventually("it counts on", || Ok((counts(&first.log)?.last() > Some(&at)).then_some(())))?;
    node.remove_pod(&scene.pod)?;

    let source = files(&folder)?;
    let containers = vec![config, pod::container("other", pod::PATIENT)];
    let made = node.cri.restore_pod(from(node, &folder, "back", containers))?;
    let id = made.restored_containers[0].container_id.clone();
    let (sandbox, log) = (made.pod_sandbox_id.clone(), node.path("logs/back/counter.log"));
    ensure!(node.container(&id)?.state() == ContainerState::ContainerCreated, "not CREATED");
    node.start_container(&id)?;
    node.start_container(&made.restored_containers[1].container_id)?;
    ensure!(node.container(&id)?.state() == ContainerState::ContainerRunning, "not RUNNING");
    eventually("it goes on", || Ok((counts(&log)?.len() > 3).then_some(())))?;
    let went = counts(&log)?;
    ensure!(went[0] > 1 && went[0] <= at + 1, "it was at {at} and went on with {}", went[0]);
    ensure!(!kernel::read(&log)?.contains("begun"), "it began anew");
    ensure!(files(&folder)? == source, "the checkpoint was changed");

    let (init, pause) = (node.init_pid(&sandbox, &id)?, node.pause_pid(&sandbox)?);
    for kind in ["net", "ipc", "uts"] {
        let (own, pods) = (kernel::namespace(init, kind)?, kernel::namespace(pause, kind)?);
        ensure!(own == pods, "{kind}: not the pod's");
    }
    for kind in ["mnt", "pid", "cgroup"] {
        let own = kernel::namespace(init, kind)?;
        ensure!(own != kernel::namespace(pause, kind)?, "{kind}: the pod's");
        ensure!(own != kernel::namespace(std::process::id().cast_signed(), kind)?, "{kind}");
    }
    let after = shape(init)?;
    let differ: Vec<_> = before.symmetric_difference(&after).collect();
    ensure!(differ.is_empty(), "not as it was: {differ:#?}");
    ensure!(kernel::status_field(init, "PPid")? == node.shim_pid(&sandbox)?.to_string(), "parent");
    let group = node.container_cgroup(&sandbox, &id);
    ensure!(kernel::pids_in(&group)?.contains(&init), "not in its cgroup");
    ensure!(node.exec_ok(&id, &["cat", "/kept"])? == "kept", "what it had written is gone");
    let seen = node.exec_ok(&id, &["cat", "/proc/self/cgroup"])?;
    ensure!(!seen.contains(&id), "its cgroup namespace has another root: {seen}");
    if node.machine.has(Need::PodNetwork) {
        let name = node.exec_ok(&id, &["hostname"])?;
        ensure!(name == "back", "criu has given the pod the host name {name}");
    }

    // It outlives the daemon, as any other, and its end is known.
    node.kill()?;
    node.launch()?;
    let left = kernel::names_in(&node.state_dir().join("restores"));
    ensure!(left.is_empty(), "process images are left: {left:?}");
    node.stop_container(&id, LONG)?;
    let status = node.wait_exited(&id)?;
    ensure!(status.exit_code == 7, "{status:?}");
    Ok(())
}

fn archived(node: &mut Node) -> Result<()> {
    let criu = node.machine.criu.clone().context("no criu")?;
    use_criu(node, &criu)?;
    let scene = Scene::new(node, "archived")?;
    let config = counter(node)?;
    let Made { id, log, .. } = scene.start("counter", &[], |c| *c = config)?;
    eventually("it counts", || Ok((counts(&log)?.last() > Some(&2)).then_some(())))?;
    // A command, as a probe is one: it stands still, too, and ends well.
    let mut client = node.cri.runtime();
    let command = proto::ExecSyncRequest {
        container_id: id.clone(),
        cmd: ["sh", "-c", "touch /begun; sleep 2; echo done"].map(str::to_owned).into(),
        timeout: 0,
    };
    let begun = node.cri.begin(async move { client.exec_sync(command).await });
    eventually("the command runs", || {
        Ok(node.exec_ok(&id, &["ls", "/begun"]).is_ok().then_some(()))
    })?;
    let file: PathBuf = node.path("counter.tar");
    node.cri.checkpoint_container(proto::CheckpointContainerRequest {
        container_id: id.clone(),
        location: file.to_string_lossy().into_owned(),
        timeout: 50,
    })?;
    let command = node.cri.finish(begun)?;
    ensure!(command.exit_code == 0 && command.stdout == b"done\n", "{command:?}");
    all_go_on(node, &scene.pod, &[&id])?;
    let at = counts(&log)?.last().copied();
    eventually("it counts on", || Ok((counts(&log)?.last().copied() > at).then_some(())))?;
    let listed = std::process::Command::new("tar").arg("-tf").arg(&file).output()?;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    for name in [
        "container.json",
        "config.dump",
        "spec.dump",
        "rootfs-diff.tar",
        "images/inventory.img",
        "images/pages-1.img",
    ] {
        ensure!(listed.lines().any(|line| line == format!("./{name}")), "{name}: {listed}");
    }
    Ok(())
}
