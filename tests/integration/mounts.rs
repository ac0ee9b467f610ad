//! Mounts of a container, as the kernel lists them and as probes feel them.

use crate::harness::scene::{Made, Scene, Tmpfs, as_is, bind};
use crate::harness::{Node, Test, eventually, kernel, pod, shared};
use anyhow::{Context as _, Result, ensure};
use berth::cri::proto;
use std::path::Path;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        shared("a_bind_mount_is_writable_or_not_as_asked", &[], access),
        shared("the_status_lists_mounts_as_they_were_asked_for", &[], told),
        shared("a_missing_source_is_made", &[], missing_source),
        shared("a_source_that_cannot_be_opened_is_named", &[], bad_source),
        shared("read_only_all_the_way_down_when_asked", &[], recursive),
        shared("a_read_only_root_refuses_writes", &[], readonly_root),
        shared("masked_paths_are_empty_and_read_only_paths_refuse_writes", &[], hidden),
        shared("the_hosts_mount_table_does_not_grow_with_a_pod", &[], table),
        shared("a_symlink_in_a_destination_stays_inside", &[], symlink),
        shared("what_is_asked_for_replaces_what_berth_mounts", &[], replaced),
    ]
}

fn has_option(mount: &kernel::Mount, option: &str) -> bool {
    mount.options.split(',').any(|o| o == option)
}

/// Whether a file can be made in a folder of a container.
fn writable(made: &Made<'_>, folder: &str) -> Result<bool> {
    let script = format!("touch {folder}/probe 2>&1");
    let (out, _, code) = made.node.exec(&made.id, &["sh", "-c", &script], 0)?;
    ensure!(code == 0 || out.contains("Read-only file system"), "{folder}: {out}");
    Ok(code == 0)
}

fn access(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "access")?;
    let (rw, ro) = (node.volume("access-rw")?, node.volume("access-ro")?);
    std::fs::write(ro.join("file"), "from the host\n")?;
    let made = scene.start("main", pod::PATIENT, |c| {
        let readonly = proto::Mount { readonly: true, ..bind(&ro, "/ro") };
        c.mounts = vec![bind(&rw, "/rw"), readonly, bind(&ro.join("file"), "/etc/one-file")];
    })?;
    ensure!(writable(&made, "/rw")?, "/rw is not writable");
    ensure!(rw.join("probe").exists(), "what was written is not on the host");
    ensure!(!writable(&made, "/ro")?, "/ro is writable");
    ensure!(!ro.join("probe").exists(), "it is on the host");
    for (point, option) in [("/rw", "rw"), ("/ro", "ro"), ("/etc/one-file", "rw")] {
        let found = made.mount_at(point)?.with_context(|| format!("no mount at {point}"))?;
        ensure!(has_option(&found, option), "{point} is not {option}: {found:?}");
        ensure!(found.propagation.is_empty(), "{point} is not private: {found:?}");
    }
    ensure!(
        node.exec_ok(&made.id, &["cat", "/ro/file", "/etc/one-file"])?
            == "from the host\nfrom the host"
    );
    Ok(())
}

/// A kubelet compares them with what it asked for.
fn told(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "told-mounts")?;
    let folder = node.volume("told")?;
    std::os::unix::fs::symlink(&folder, node.path("volumes/link"))?;
    let from = |name: &str, at: &str| bind(&node.path("volumes").join(name), at);
    let asked = vec![
        from("told", "/plain"),
        // Neither the link nor the slash is resolved, here or there.
        from("link/", "/through/"),
        proto::Mount { readonly: true, ..from("told", "/read-only") },
        proto::Mount { readonly: true, recursive_read_only: true, ..from("told", "/recursive") },
        proto::Mount {
            propagation: proto::MountPropagation::PropagationHostToContainer.into(),
            ..from("told", "/slave")
        },
        proto::Mount {
            host_path: "/dev".into(),
            container_path: "/host-dev".into(),
            ..from("", "")
        },
    ];
    let created = scene.create("main", pod::PATIENT, |c| c.mounts.clone_from(&asked))?;
    let listed = node.container(&created)?.mounts;
    ensure!(listed == asked, "listed {listed:?}");
    // Control: nothing that berth itself mounts is among them.
    let plain = scene.create("plain", pod::PATIENT, as_is)?;
    ensure!(node.container(&plain)?.mounts.is_empty(), "{:?}", node.container(&plain)?.mounts);
    Ok(())
}

fn missing_source(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "missing-source")?;
    let source = node.path("volumes/missing/deep");
    ensure!(!source.exists(), "it is there already");
    let made = scene.start("main", pod::PATIENT, |c| c.mounts = vec![bind(&source, "/v")])?;
    ensure!(source.is_dir(), "it was not made");
    ensure!(writable(&made, "/v")? && source.join("probe").exists(), "it is another folder");
    Ok(())
}

fn bad_source(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "bad-source")?;
    let folder = node.volume("bad-source")?;
    let link = folder.join("loop");
    std::os::unix::fs::symlink(&link, &link)?;
    std::fs::write(folder.join("file"), "")?;
    let rows = [
        ("loops", link.clone(), "Too many levels of symbolic links"),
        ("below-a-file", folder.join("file/below"), "Not a directory"),
    ];
    for (name, source, words) in rows {
        let change = |c: &mut proto::ContainerConfig| c.mounts = vec![bind(&source, "/v")];
        let error = match scene.create(name, pod::PATIENT, change) {
            Ok(id) => node.start_container(&id).err(),
            Err(error) => Some(error),
        };
        let text = error.with_context(|| format!("{name} starts"))?.message().to_owned();
        ensure!(text.contains(words), "{name}: no {words:?} in {text}");
        ensure!(
            text.contains(&*source.to_string_lossy()),
            "{name}: the source is not named: {text}"
        );
    }
    let good = |c: &mut proto::ContainerConfig| c.mounts = vec![bind(&folder, "/v")];
    scene.start("control", pod::PATIENT, good).map(drop)
}

fn recursive(node: &Node) -> Result<()> {
    let folder = node.volume("recursive")?;
    let nested = Tmpfs::at(&folder.join("nested"), "1m")?;
    let scene = Scene::new(node, "recursive")?;
    let start = |name: &str, recursive_read_only: bool| {
        scene.start(name, pod::PATIENT, |c| {
            let mount = proto::Mount { readonly: true, recursive_read_only, ..bind(&folder, "/v") };
            c.mounts = vec![mount];
        })
    };
    let (deep, control) = (start("deep", true)?, start("control", false)?);
    ensure!(!writable(&deep, "/v")? && !writable(&control, "/v")?, "/v is writable");
    ensure!(!writable(&deep, "/v/nested")?, "the mount below is writable");
    ensure!(writable(&control, "/v/nested")?, "the mount below is read-only without being asked");
    node.remove_all()?;
    drop(nested);
    Ok(())
}

fn readonly_root(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "readonly-root")?;
    let asks = |c: &mut proto::ContainerConfig| pod::security(c).readonly_rootfs = true;
    let made = scene.start("main", pod::PATIENT, asks)?;
    let root = made.mount_at("/")?.context("no root")?;
    ensure!(has_option(&root, "ro") && root.kind == "overlay", "{root:?}");
    for (folder, expected) in [("/", false), ("/tmp", false), ("/etc", false), ("/dev/shm", true)] {
        ensure!(writable(&made, folder)? == expected, "{folder}: not {expected}");
    }
    let control = scene.start("control", pod::PATIENT, as_is)?;
    ensure!(writable(&control, "/tmp")? && writable(&control, "/")?, "a writable root is not");
    Ok(())
}

fn hidden(node: &Node) -> Result<()> {
    let scene = Scene::new(node, "hidden")?;
    let own = |paths: &[&str]| paths.iter().map(|&p| p.to_owned()).collect::<Vec<_>>();
    let made = scene.start("main", pod::PATIENT, |c| {
        let security = pod::security(c);
        security.masked_paths = own(&["/etc/passwd", "/www", "/proc/timer_list", "/no/such"]);
        security.readonly_paths = own(&["/tmp", "/proc/sys", "/no/such"]);
    })?;
    let control = scene.start("control", pod::PATIENT, as_is)?;
    let script = "wc -c </etc/passwd; ls /www | wc -l; wc -c </proc/timer_list";
    let hidden = node.exec_ok(&made.id, &["sh", "-c", script])?;
    ensure!(hidden == "0\n0\n0", "{hidden:?}");
    let (plain, ..) = node.exec(&control.id, &["sh", "-c", script], 0)?;
    let plain: Vec<&str> = plain.lines().collect();
    ensure!(plain[0] != "0" && plain[1] == "1", "the control: {plain:?}");
    ensure!(!writable(&made, "/tmp")? && writable(&control, "/tmp")?, "/tmp");
    for (made, expected) in [(&made, true), (&control, false)] {
        let found = made.mount_at("/proc/sys")?.is_some_and(|m| has_option(&m, "ro"));
        ensure!(found == expected, "/proc/sys is read-only: {found}");
    }
    // Unmounting a cover needs a capability that is not there.
    let (_, _, code) = node.exec(&made.id, &["umount", "/etc/passwd"], 0)?;
    ensure!(code != 0, "the cover came off");
    Ok(())
}

fn table(node: &Node) -> Result<()> {
    let points = || -> Result<Vec<String>> {
        let daemon = node.pid()?.to_string();
        Ok(kernel::mounts(&daemon)?
            .into_iter()
            .map(|m| format!("{} {}", m.kind, m.point))
            .collect())
    };
    let before = points()?;
    let folder = node.volume("table")?;
    let scene = Scene::new(node, "table")?;
    for name in ["one", "two", "three"] {
        scene.start(name, pod::PATIENT, |c| c.mounts = vec![bind(&folder, "/v")])?;
    }
    let after = points()?;
    let grown: Vec<&String> = after.iter().filter(|point| !before.contains(point)).collect();
    ensure!(grown.len() <= 1, "{grown:?}");
    ensure!(grown.iter().all(|point| point.starts_with("nsfs ")), "{grown:?}");
    // The shim's own table holds nothing of the host's.
    let shim = kernel::mounts(&node.shim_pid(&scene.pod)?.to_string())?;
    let below = node.path("");
    ensure!(!shim.iter().any(|m| Path::new(&m.point).starts_with(&below)), "{shim:?}");
    ensure!(shim.len() < 20, "{} mounts in the shim's namespace: {shim:?}", shim.len());
    eventually("and none is on the way", || Ok((points()? == after).then_some(())))
}

fn symlink(node: &Node) -> Result<()> {
    let (volume, outside) = (node.volume("symlink")?, node.volume("outside")?);
    let payload = node.volume("payload")?;
    std::fs::write(payload.join("file"), "payload\n")?;
    // Inside the container, /v/link leads to a path that exists on the host.
    std::os::unix::fs::symlink(&outside, volume.join("link"))?;
    let up = Path::new("../../../../../../../..").join(outside.strip_prefix("/")?);
    std::os::unix::fs::symlink(up, volume.join("up"))?;
    let scene = Scene::new(node, "symlink")?;
    for (name, link) in [("absolute", "link"), ("upwards", "up")] {
        let made = scene.start(name, pod::PATIENT, |c| {
            c.mounts = vec![bind(&volume, "/v"), bind(&payload, &format!("/v/{link}/in"))];
        })?;
        let inside = format!("{}/in/file", outside.display());
        ensure!(node.exec_ok(&made.id, &["cat", &inside])? == "payload", "{name}");
        let left = kernel::names_in(&outside);
        ensure!(left.is_empty(), "{name}: made on the host: {left:?}");
    }
    Ok(())
}

fn replaced(node: &Node) -> Result<()> {
    use nix::sys::stat::{Mode, SFlag, makedev, mknod};
    let (files, dev) = (node.volume("replaced")?, node.volume("replaced-dev")?);
    let shm = node.volume("replaced-shm")?;
    std::fs::write(files.join("hosts"), "192.0.2.1 from-the-volume\n")?;
    let null = dev.join("null");
    mknod(&null, SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), makedev(1, 3))?;
    std::fs::write(dev.join("marker"), "the volume's\n")?;
    let before = kernel::names_in(&dev);
    let scene = Scene::new(node, "replaced")?;
    let single = scene.start("single", pod::PATIENT, |c| {
        c.mounts = vec![bind(&files.join("hosts"), "/etc/hosts"), bind(&shm, "/dev/shm")];
    })?;
    ensure!(node.exec_ok(&single.id, &["cat", "/etc/hosts"])? == "192.0.2.1 from-the-volume");
    ensure!(writable(&single, "/dev/shm")? && shm.join("probe").exists(), "another /dev/shm");
    ensure!(node.exec_ok(&single.id, &["ls", "/dev/null"])? == "/dev/null", "the rest of /dev");
    let whole = scene.start("whole", pod::PATIENT, |c| c.mounts = vec![bind(&dev, "/dev")])?;
    ensure!(node.exec_ok(&whole.id, &["cat", "/dev/marker"])? == "the volume's");
    let below = kernel::mounts(&whole.init()?.to_string())?;
    let below: Vec<_> = below.into_iter().filter(|m| m.point.starts_with("/dev")).collect();
    ensure!(below.len() == 1, "more than the volume at /dev: {below:?}");
    // Nothing of a container's own /dev is made on the host.
    ensure!(kernel::names_in(&dev) == before, "on the host: {:?}", kernel::names_in(&dev));
    let control = scene.start("control", pod::PATIENT, |_| {})?;
    let hosts = node.exec_ok(&control.id, &["cat", "/etc/hosts"])?;
    ensure!(!hosts.contains("from-the-volume") && hosts.contains("localhost"), "{hosts}");
    ensure!(node.exec_ok(&control.id, &["ls", "/dev/shm"])?.is_empty(), "the volume's /dev/shm");
    ensure!(node.exec(&control.id, &["cat", "/dev/marker"], 0)?.2 != 0, "the volume's /dev");
    Ok(())
}
