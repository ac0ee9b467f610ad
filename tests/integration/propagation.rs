//! Which mounts a container sees of the host, and the host of a container, as time goes on.

use crate::harness::machine::Machine;
use crate::harness::scene::{Scene, Tmpfs, bind};
use crate::harness::syscalls::profile;
use crate::harness::{Node, Options, Test, kernel, own, pod, shared};
use anyhow::{Context as _, Result, ensure};
use berth::cri::proto::security_profile::ProfileType;
use berth::cri::proto::{self, MountPropagation as Way};
use nix::mount::{MsFlags, mount};
use std::path::Path;
use std::process::Command;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        shared("a_volume_mounted_after_the_pod_began_is_seen", &[], late_volume),
        own("a_late_volume_is_seen_where_the_root_is_private", &[], private_root, late_private),
        shared("propagation_is_what_was_asked_for", &[], propagation),
        shared("propagation_that_the_source_cannot_give_is_an_error", &[], unshared_source),
    ]
}

fn private_root(_: &Machine) -> Options {
    let wrapper = ["unshare", "--mount", "--propagation", "private"].map(String::from).to_vec();
    Options { wrapper, ..Options::default() }
}

fn late_volume(node: &Node) -> Result<()> {
    let folder = node.volume("late")?;
    let scene = Scene::new(node, "late")?;
    let tmpfs = Tmpfs::at(&folder, "1m")?;
    std::fs::write(folder.join("file"), "late\n")?;
    let made = scene.start("main", pod::PATIENT, |c| c.mounts = vec![bind(&folder, "/v")])?;
    ensure!(node.exec_ok(&made.id, &["cat", "/v/file"])? == "late", "the folder below is seen");
    // Nothing of berth holds it.
    drop(made);
    node.remove_all()?;
    tmpfs.remove().context("the volume is busy after the pod is gone")
}

/// Runs a command in the daemon's mount namespace.
fn beside(node: &Node, script: &str) -> Result<()> {
    let target = node.pid()?.to_string();
    let output = Command::new("nsenter")
        .args(["--mount", "--target", &target, "sh", "-ec", script])
        .output()?;
    ensure!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn late_private(node: &mut Node) -> Result<()> {
    let node = &*node;
    let daemon = node.pid()?.to_string();
    let root = kernel::mounts(&daemon)?.into_iter().find(|m| m.point == "/").context("no root")?;
    ensure!(root.propagation.is_empty(), "the control: / is not private: {root:?}");
    let folder = node.volume("late")?;
    let path = folder.display();
    let scene = Scene::new(node, "late")?;
    beside(node, &format!("mount -t tmpfs volume {path}; echo late >{path}/file"))?;
    ensure!(!folder.join("file").exists(), "the control: it is in the daemon's namespace alone");
    let made = scene.start("main", pod::PATIENT, |c| c.mounts = vec![bind(&folder, "/v")])?;
    ensure!(node.exec_ok(&made.id, &["cat", "/v/file"])? == "late", "the folder below is seen");
    // A private source cannot send mounts on.
    let error = scene
        .start("slave", pod::PATIENT, |c| {
            let way = Way::PropagationHostToContainer.into();
            c.mounts = vec![proto::Mount { propagation: way, ..bind(&folder, "/v") }];
        })
        .err()
        .context("a private source sends mounts on")?;
    ensure!(format!("{error:#}").contains("shared or slave"), "{error:#}");
    node.remove_all()?;
    beside(node, &format!("umount {path}")).context("the volume is busy after the pod is gone")
}

fn propagation(node: &Node) -> Result<()> {
    let folder = node.volume("propagation")?;
    let base = Tmpfs::at(&folder, "1m")?;
    let inner = folder.join("from-the-host");
    std::fs::create_dir_all(&inner)?;
    std::fs::create_dir_all(folder.join("from-inside"))?;
    let scene = Scene::new(node, "propagation")?;
    let start = |name: &str, way: Way| {
        scene.start(name, pod::PATIENT, |c| {
            c.mounts = vec![proto::Mount { propagation: way.into(), ..bind(&folder, "/v") }];
            pod::add_capabilities(c, &["SYS_ADMIN"]);
            // The default AppArmor profile lets nobody mount.
            pod::security(c).apparmor = profile(ProfileType::Unconfined, "");
        })
    };
    let private = start("private", Way::PropagationPrivate)?;
    let slave = start("slave", Way::PropagationHostToContainer)?;
    let peer = start("peer", Way::PropagationBidirectional)?;
    for (made, prefix) in [(&private, ""), (&slave, "master:"), (&peer, "shared:")] {
        let found = made.mount_at("/v")?.context("no mount at /v")?;
        let same = if prefix.is_empty() { found.propagation.is_empty() } else { true };
        ensure!(same && found.propagation.starts_with(prefix), "{prefix:?}: {found:?}");
    }

    let late = Tmpfs::at(&inner, "1m")?;
    for (made, sees) in [(&private, false), (&slave, true), (&peer, true)] {
        let found = made.mount_at("/v/from-the-host")?;
        ensure!(found.is_some() == sees, "a mount of the host: {found:?}");
    }
    drop(late);

    let on_host = || -> Result<bool> {
        let point = folder.join("from-inside");
        Ok(kernel::mounts("self")?.iter().any(|m| Path::new(&m.point) == point))
    };
    for (made, arrives) in [(&private, false), (&slave, false), (&peer, true)] {
        node.exec_ok(&made.id, &["mount", "-t", "tmpfs", "inside", "/v/from-inside"])?;
        ensure!(on_host()? == arrives, "a mount of the container's on the host: {}", !arrives);
        node.exec_ok(&made.id, &["umount", "/v/from-inside"])?;
    }
    ensure!(!on_host()?, "it stayed on the host");
    node.remove_all()?;
    drop(base);
    Ok(())
}

fn unshared_source(node: &Node) -> Result<()> {
    let folder = node.volume("unshared")?;
    let base = Tmpfs::at(&folder, "1m")?;
    mount(None::<&str>, &folder, None::<&str>, MsFlags::MS_PRIVATE, None::<&str>)?;
    let scene = Scene::new(node, "unshared")?;
    let rows = [
        ("slave", Way::PropagationHostToContainer, "shared or slave"),
        ("peer", Way::PropagationBidirectional, "shared"),
    ];
    let asks = |way: Way| {
        let folder = folder.clone();
        move |c: &mut proto::ContainerConfig| {
            c.mounts = vec![proto::Mount { propagation: way.into(), ..bind(&folder, "/v") }];
        }
    };
    for (name, way, words) in rows {
        let id = scene.create(name, pod::PATIENT, asks(way))?;
        let error = node.start_container(&id).err().with_context(|| format!("{name} starts"))?;
        ensure!(error.message().contains(words), "{name}: no {words:?} in {error}");
        ensure!(error.message().contains("unshared"), "{name}: the path is not named: {error}");
        ensure!(node.container(&id)?.reason == "StartError", "{:?}", node.container(&id)?);
    }
    scene.start("control", pod::PATIENT, asks(Way::PropagationPrivate))?;
    node.remove_all()?;
    drop(base);
    Ok(())
}
