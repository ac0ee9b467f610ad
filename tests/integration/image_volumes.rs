//! Images as volumes: what a container sees of one, what it may not do, and how long it is kept.

use crate::harness::image::{add_file, find, gzip, remove, spec, write_layout_as};
use crate::harness::machine::Machine;
use crate::harness::scene::{Made, Scene, as_is, bind};
use crate::harness::{Node, Options, Test, eventually, kernel, own, pod, shared};
use anyhow::{Context as _, Result, ensure};
use berth::cri::proto;
use tonic::Code;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        shared("an_image_is_mounted_and_nobody_writes_to_it", &[], mounted),
        shared("a_sub_path_is_found_inside_the_image", &[], sub_path),
        shared("an_image_volume_that_cannot_be_had_is_told_so", &[], refused),
        shared("an_image_that_is_a_volume_stays", &[], kept),
        own("an_image_volume_outlives_a_kill", &[], options, recovered),
    ]
}

fn options(_: &Machine) -> Options {
    Options::default()
}

/// An image with files, and links that lead in and out of it. Its name.
fn import(node: &Node, name: &str) -> Result<String> {
    let mut tar = tar::Builder::new(Vec::new());
    add_file(&mut tar, "marker", name.as_bytes(), 0o644)?;
    add_file(&mut tar, "dir/file", b"in the image\n", 0o644)?;
    for (link, to) in [("inside", "/dir"), ("up", "../../../../../dir"), ("out", "/etc")] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        header.set_mode(0o777);
        tar.append_link(&mut header, link, to)?;
    }
    let layer = tar.into_inner()?;
    let reference = format!("volume.test/{name}:1");
    let file = node.path(&format!("{name}.tar"));
    write_layout_as(&file, &reference, &layer, &gzip(&layer)?)?;
    node.import(&file)?;
    std::fs::remove_file(&file)?;
    Ok(reference)
}

fn volume(image: &str, sub_path: &str, at: &str) -> proto::Mount {
    proto::Mount {
        container_path: at.into(),
        image: spec(image),
        image_sub_path: sub_path.into(),
        readonly: true,
        ..Default::default()
    }
}

/// Whether a file can be made in a folder of a container.
fn writable(made: &Made<'_>, folder: &str) -> Result<bool> {
    let script = format!("touch {folder}/probe 2>&1");
    let (out, _, code) = made.node.exec(&made.id, &["sh", "-c", &script], 0)?;
    ensure!(code == 0 || out.contains("Read-only file system"), "{folder}: {out}");
    Ok(code == 0)
}

fn mounted(node: &Node) -> Result<()> {
    let name = import(node, "mounted")?;
    let control = node.volume("mounted-control")?;
    let before = kernel::mounts(&node.pid()?.to_string())?.len();
    let scene = Scene::new(node, "image-mounted")?;
    let made = scene.start("main", pod::PATIENT, |c| {
        c.mounts = vec![volume(&name, "", "/image"), bind(&control, "/control")];
        pod::add_capabilities(c, &["SYS_ADMIN"]);
    })?;
    ensure!(node.exec_ok(&made.id, &["cat", "/image/marker"])? == "mounted");
    ensure!(!writable(&made, "/image")? && !writable(&made, "/image/dir")?, "it is writable");
    ensure!(writable(&made, "/control")?, "the control is not writable");
    let found = made.mount_at("/image")?.context("no mount at /image")?;
    ensure!(found.kind == "overlay" && found.propagation.is_empty(), "{found:?}");
    ensure!(found.options.split(',').any(|o| o == "ro"), "{found:?}");
    // Without an upper layer there is nothing to write to, whatever the mount's options are.
    node.exec(&made.id, &["mount", "-o", "remount,bind,rw", "/image"], 0)?;
    ensure!(!writable(&made, "/image")?, "a remount made it writable");
    // The host sees nothing of it.
    eventually("the host's mount table is as before", || {
        let now = kernel::mounts(&node.pid()?.to_string())?;
        let grown = now.iter().filter(|m| m.kind != "nsfs").count();
        Ok((grown <= before).then_some(()))
    })?;
    let told = made.status()?.mounts;
    let image = told[0].image.as_ref().context("the status tells no image")?;
    let digest = find(node, &name)?.context("no image")?.repo_digests[0].clone();
    ensure!(image.image == name && image.image_ref == digest, "{image:?}, not {digest}");
    ensure!(told[0].readonly && told[0].host_path.is_empty(), "{told:?}");
    ensure!(told[1].image.is_none(), "the control has an image: {told:?}");
    node.remove_all()?;
    Ok(remove(node, &name)?)
}

fn sub_path(node: &Node) -> Result<()> {
    let name = import(node, "parts")?;
    let scene = Scene::new(node, "image-parts")?;
    let made = scene.start("main", pod::PATIENT, |c| {
        c.mounts = vec![
            volume(&name, "dir", "/dir"),
            volume(&name, "inside/", "/inside"),
            volume(&name, "up", "/up"),
            volume(&name, "dir/file", "/one-file"),
        ];
    })?;
    for path in ["/dir/file", "/inside/file", "/up/file", "/one-file"] {
        ensure!(node.exec_ok(&made.id, &["cat", path])? == "in the image", "{path}");
    }
    ensure!(!writable(&made, "/dir")?, "/dir is writable");
    let told = made.status()?.mounts;
    ensure!(told[1].image_sub_path == "inside", "{told:?}");
    // The rest of the image is not there.
    let (out, ..) = node.exec(&made.id, &["ls", "/dir", "/dir/.."], 0)?;
    ensure!(!out.contains("marker"), "{out}");
    node.remove_all()?;
    Ok(remove(node, &name)?)
}

fn refused(node: &Node) -> Result<()> {
    let name = import(node, "refused")?;
    let scene = Scene::new(node, "image-refused")?;
    let rows = [
        ("missing image", "volume.test/no-such:1", "", Code::NotFound, "no-such"),
        ("missing part", name.as_str(), "no/such", Code::InvalidArgument, "no/such"),
        // It leads to the image's own /etc, which is not there, and not to the host's.
        ("outside", name.as_str(), "out/passwd", Code::InvalidArgument, "out/passwd"),
        ("below a file", name.as_str(), "marker/x", Code::InvalidArgument, "marker/x"),
    ];
    for (row, image, part, code, words) in rows {
        let error = scene
            .create("main", pod::PATIENT, |c| c.mounts = vec![volume(image, part, "/image")])
            .err()
            .with_context(|| format!("{row}: created"))?;
        // The word that a kubelet makes a waiting reason of.
        ensure!(error.message().starts_with("ImageVolumeMountFailed: "), "{row}: {error}");
        ensure!(error.message().contains(words) && error.code() == code, "{row}: {error:?}");
    }
    let listed = node.cri.list_containers(proto::ListContainersRequest::default())?.containers;
    ensure!(listed.is_empty(), "left: {listed:?}");
    scene.create("main", pod::PATIENT, |c| c.mounts = vec![volume(&name, "dir", "/image")])?;
    node.remove_all()?;
    Ok(remove(node, &name)?)
}

fn kept(node: &Node) -> Result<()> {
    let layers = node.layers();
    let (used, unused) = (import(node, "used")?, import(node, "unused")?);
    let scene = Scene::new(node, "image-kept")?;
    let made =
        scene.start("main", pod::PATIENT, |c| c.mounts = vec![volume(&used, "", "/image")])?;
    let error = remove(node, &used).err().context("a volume was removed")?;
    ensure!(error.code() == Code::FailedPrecondition, "{error:?}");
    ensure!(error.message().contains(&made.id), "the container is not named: {error}");
    for (name, expected) in [(&used, true), (&unused, false)] {
        let image = find(node, name)?.context("it is gone")?;
        ensure!(image.pinned == expected, "{name}: pinned is {}", image.pinned);
    }
    remove(node, &unused).context("the control")?;
    ensure!(find(node, &unused)?.is_none(), "the control is still there");
    ensure!(node.exec_ok(&made.id, &["cat", "/image/marker"])? == "used");
    node.remove_all()?;
    remove(node, &used).context("after its user is gone")?;
    ensure!(node.layers() == layers, "layers are left: {:?}", node.layers());
    Ok(())
}

fn recovered(node: &mut Node) -> Result<()> {
    let name = import(node, "recovered")?;
    let (running, created) = {
        let scene = Scene::new(node, "image-recovered")?;
        let asks = |c: &mut proto::ContainerConfig| c.mounts = vec![volume(&name, "dir", "/image")];
        let running = scene.start("running", pod::PATIENT, asks)?.id;
        scene.start("control", pod::PATIENT, as_is)?;
        (running, scene.create("created", pod::PATIENT, asks)?)
    };
    node.kill()?;
    node.launch()?;
    ensure!(node.exec_ok(&running, &["cat", "/image/file"])? == "in the image");
    ensure!(remove(node, &name).is_err(), "it is no volume any more");
    node.start_container(&created)?;
    ensure!(node.exec_ok(&created, &["cat", "/image/file"])? == "in the image");
    node.remove_all()?;
    Ok(remove(node, &name)?)
}
