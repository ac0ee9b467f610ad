//! emptyDir, hostPath and parts of volumes.

use super::lifecycle::NETWORK;
use crate::harness::kubelet::{Shown, host_folder, kubelet, patient, pod, sh, with};
use crate::harness::{Node, Test, eventually, kernel, own};
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use std::os::unix::fs::{MetadataExt as _, symlink};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        own("an_empty_dir_is_shared_and_outlives_its_containers", NETWORK, kubelet, empty_dir),
        own("an_empty_dir_of_memory_is_a_tmpfs_of_its_size", NETWORK, kubelet, memory),
        own("a_host_path_is_what_its_type_says", NETWORK, kubelet, host_paths),
        own("a_part_of_a_volume_stays_within_it", NETWORK, kubelet, parts),
        own("a_part_is_named_by_the_environment", NETWORK, kubelet, named_part),
        own("what_is_read_only_is_not_written", NETWORK, kubelet, read_only),
        own("what_is_mounted_in_a_host_path_stays_when_the_pod_ends", NETWORK, kubelet, below),
    ]
}

fn mounts(container: Value, mounts: Value) -> Value {
    with(container, json!({"volumeMounts": mounts}))
}

fn empty_dir(node: &mut Node) -> Result<()> {
    let at = json!([{"name": "shared", "mountPath": "/shared"}]);
    let script = "echo start >>/shared/starts; trap 'exit 0' TERM; sleep 100000 & wait";
    let spec = json!({
        "containers": [mounts(sh("a", script), at.clone()), mounts(patient("b"), at)],
        "volumes": [{"name": "shared", "emptyDir": {}}],
    });
    node.manifest("dir.yaml", &pod("dir", spec))?;
    let shown = node.wait_ready("dir")?;
    let b = shown.id("b");
    ensure!(node.exec_ok(&b, &["stat", "-c", "%a", "/shared"])? == "777");
    eventually("a's note", || {
        Ok((node.exec_ok(&b, &["cat", "/shared/starts"])? == "start").then_some(()))
    })?;
    let first = node.first_pid(&shown, "a")?;
    kernel::wait_heeds_term(first)?;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(first), nix::sys::signal::Signal::SIGTERM)?;
    node.wait_for("dir", "a is restarted", |shown| shown.restarts("a") == 1 && shown.running("a"))?;
    eventually("a's second note", || {
        Ok((node.exec_ok(&b, &["cat", "/shared/starts"])? == "start\nstart").then_some(()))
    })
}

fn memory(node: &mut Node) -> Result<()> {
    let at = json!([{"name": "shared", "mountPath": "/shared"}]);
    let spec = json!({
        "containers": [mounts(patient("main"), at)],
        "volumes": [{"name": "shared", "emptyDir": {"medium": "Memory", "sizeLimit": "3Mi"}}],
    });
    node.manifest("dir.yaml", &pod("dir", spec))?;
    let shown = node.wait_ready("dir")?;
    let first = node.first_pid(&shown, "main")?;
    let mounts = kernel::mounts(&first.to_string())?;
    let own = mounts.iter().find(|mount| mount.point == "/shared").context("no mount")?;
    ensure!(own.kind == "tmpfs" && own.super_options.contains("size=3072k"), "{own:?}");
    let fill = ["dd", "if=/dev/zero", "of=/shared/file", "bs=1M", "count=4"];
    let (_, words, code) = node.exec(&shown.id("main"), &fill, 0)?;
    ensure!(code != 0 && words.contains("No space left"), "{code}: {words}");
    Ok(())
}

fn host_paths(node: &mut Node) -> Result<()> {
    let folder = node.volume("host")?;
    std::fs::write(folder.join("file"), "text")?;
    std::fs::create_dir(folder.join("dir"))?;
    let socket = std::os::unix::net::UnixListener::bind(folder.join("socket"))?;
    // Name, type, and what is found instead where it is wrong.
    let rows = [
        ("file", "File", None),
        ("dir", "Directory", None),
        ("socket", "Socket", None),
        ("new-dir/deep", "DirectoryOrCreate", None),
        ("new-file", "FileOrCreate", None),
        ("dir", "", None),
        ("file", "Directory", Some("file")),
        ("dir", "File", Some("dir")),
        ("nothing", "Directory", Some("nothing")),
        ("nothing", "File", Some("nothing")),
        ("file", "Socket", Some("file")),
        ("file", "CharDevice", Some("file")),
        ("file", "BlockDevice", Some("file")),
    ];
    for (index, (name, kind, _)) in rows.iter().enumerate() {
        let at = json!([{"name": "host", "mountPath": "/host"}]);
        let path = folder.join(name);
        let spec = json!({
            "containers": [mounts(patient("main"), at)],
            "volumes": [{"name": "host", "hostPath": {"path": path, "type": kind}}],
        });
        let pod_name = format!("host{index}");
        node.manifest(&format!("{pod_name}.yaml"), &pod(&pod_name, spec))?;
    }
    for (index, (name, kind, wrong)) in rows.iter().enumerate() {
        let pod_name = format!("host{index}");
        let Some(found) = wrong else {
            node.wait_ready(&pod_name).with_context(|| format!("{name} as {kind:?}"))?;
            continue;
        };
        let shown = node.wait_for(&pod_name, "the mount is refused", |shown| {
            shown.event("FailedMount").is_some()
        })?;
        let (_, told) = shown.event("FailedMount").unwrap_or_default();
        ensure!(told.contains(name) && told.contains(found), "{name} as {kind:?}: {told}");
    }
    ensure!(std::fs::metadata(folder.join("new-dir/deep"))?.mode() & 0o7777 == 0o755);
    ensure!(std::fs::metadata(folder.join("new-file"))?.mode() & 0o7777 == 0o644);
    ensure!(!folder.join("nothing").exists(), "it was made");
    drop(socket);
    Ok(())
}

fn parts(node: &mut Node) -> Result<()> {
    let folder = node.volume("host")?;
    std::fs::create_dir(folder.join("good"))?;
    std::fs::write(folder.join("good/file"), "text")?;
    symlink("/etc", folder.join("evil"))?;
    let of = |name: &str, part: &str| {
        let at = json!([{"name": "host", "mountPath": "/part", "subPath": part}]);
        let spec = json!({
            "containers": [mounts(patient("main"), at)],
            "volumes": [host_folder("host", &folder)],
        });
        node.manifest(&format!("{name}.yaml"), &pod(name, spec))
    };
    of("good", "good")?;
    of("new", "made/here")?;
    of("evil", "evil")?;
    let sees = |shown: &Shown, command: &[&str]| node.exec_ok(&shown.id("main"), command);
    let good = node.wait_ready("good")?;
    ensure!(sees(&good, &["cat", "/part/file"])? == "text");
    let new = node.wait_ready("new")?;
    sees(&new, &["touch", "/part/file"])?;
    ensure!(folder.join("made/here/file").exists(), "the part is elsewhere");
    // A link that leads out is not followed: what it may not show is the node's /etc.
    let evil = node.wait_for("evil", "it is refused", |shown| {
        shown.waiting("main") == "CreateContainerConfigError"
    })?;
    ensure!(evil.id("main").is_empty(), "{evil:?}");
    Ok(())
}

fn named_part(node: &mut Node) -> Result<()> {
    let folder = node.volume("host")?;
    let at = json!([{"name": "host", "mountPath": "/part", "subPathExpr": "of-$(NAME)"}]);
    let name = json!({"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}});
    let main = with(mounts(patient("main"), at), json!({"env": [name]}));
    let spec = json!({"containers": [main], "volumes": [host_folder("host", &folder)]});
    node.manifest("named.yaml", &pod("named", spec))?;
    let shown = node.wait_ready("named")?;
    node.exec_ok(&shown.id("main"), &["touch", "/part/file"])?;
    ensure!(folder.join("of-named-node/file").exists(), "{:?}", kernel::names_in(&folder));
    Ok(())
}

fn read_only(node: &mut Node) -> Result<()> {
    let folder = node.volume("host")?;
    let at = json!([
        {"name": "host", "mountPath": "/host", "readOnly": true},
        {"name": "own", "mountPath": "/own", "readOnly": true},
    ]);
    let spec = json!({
        "containers": [mounts(patient("main"), at)],
        "volumes": [host_folder("host", &folder), {"name": "own", "emptyDir": {}}],
    });
    node.manifest("reader.yaml", &pod("reader", spec))?;
    let id = node.wait_ready("reader")?.id("main");
    for file in ["/host/file", "/own/file"] {
        let (_, words, code) = node.exec(&id, &["touch", file], 0)?;
        ensure!(code != 0 && words.contains("Read-only"), "{file}: {code}: {words}");
    }
    Ok(())
}

fn below(node: &mut Node) -> Result<()> {
    let folder = node.volume("host")?;
    let mounted = crate::harness::scene::Tmpfs::at(&folder.join("inner"), "1m")?;
    std::fs::write(folder.join("inner/file"), "text")?;
    let at = json!([{"name": "host", "mountPath": "/host"},
        {"name": "host", "mountPath": "/part", "subPath": "inner"}]);
    let spec = json!({
        "containers": [mounts(patient("main"), at)], "volumes": [host_folder("host", &folder)],
    });
    node.manifest("below.yaml", &pod("below", spec))?;
    let id = node.wait_ready("below")?.id("main");
    ensure!(node.exec_ok(&id, &["cat", "/part/file"])? == "text");
    node.remove_manifest("below.yaml")?;
    node.wait_gone("below")?;
    ensure!(kernel::read(folder.join("inner/file"))? == "text", "the host lost its mount");
    mounted.remove()
}
