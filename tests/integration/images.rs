//! Images: archives in both forms, names in every form, removal, disk use.

use crate::harness::image::{BUSYBOX, add_file, digest, find, gzip, remove, spec, write_layout_as};
use crate::harness::pod::{container, pod};
use crate::harness::{Node, Test, eventually, kernel, logs, shared};
use anyhow::{Context as _, Result, ensure};
use berth::cri::proto;
use serde_json::json;
use std::path::{Path, PathBuf};
use tonic::Code;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        shared("an_oci_layout_in_a_folder_is_imported", &[], oci_folder),
        shared("a_docker_save_archive_is_imported_and_run", &[], docker_save),
        shared("an_image_is_found_by_every_form_of_its_names", &[], names),
        shared("an_image_that_is_not_there_has_no_status", &[], absent),
        shared("removal_by_one_tag_removes_all", &[], remove_by_any_tag),
        shared("removal_leaves_a_running_container_alone", &[], remove_in_use),
        shared("disk_use_follows_images", &[], fs_info),
        shared("a_tag_moves_to_the_image_imported_last", &[], moved_tag),
    ]
}

/// A layer with the static busybox and a file that tells images apart.
fn layer(marker: &str, fill: usize) -> Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    add_file(&mut tar, "bin/busybox", &std::fs::read("/bin/busybox")?, 0o755)?;
    add_file(&mut tar, "marker", marker.as_bytes(), 0o644)?;
    if fill > 0 {
        add_file(&mut tar, "fill", &vec![7; fill], 0o644)?;
    }
    Ok(tar.into_inner()?)
}

/// An archive as `docker save` writes it: an uncompressed layer. The image's id.
fn write_docker_save(path: &Path, tags: &[&str], layer: &[u8]) -> Result<String> {
    let config = serde_json::to_vec(&json!({
        "architecture": "amd64",
        "os": "linux",
        "config": { "Entrypoint": ["/bin/busybox"], "Cmd": ["cat", "/marker"], "User": "7:8" },
        "rootfs": { "type": "layers", "diff_ids": [digest(layer)] },
    }))?;
    let id = digest(&config).replace("sha256:", "");
    let manifest = json!([{
        "Config": format!("{id}.json"),
        "RepoTags": tags,
        "Layers": ["1/layer.tar"],
    }]);
    let mut tar = tar::Builder::new(std::fs::File::create(path)?);
    add_file(&mut tar, &format!("{id}.json"), &config, 0o644)?;
    add_file(&mut tar, "1/layer.tar", layer, 0o644)?;
    add_file(&mut tar, "manifest.json", &serde_json::to_vec(&manifest)?, 0o644)?;
    tar.into_inner()?;
    Ok(id)
}

/// Imports a docker-save archive of a small image; its id.
fn import(node: &Node, marker: &str, tags: &[&str]) -> Result<String> {
    let file = node.path(&format!("{marker}.tar"));
    let id = write_docker_save(&file, tags, &layer(marker, 0)?)?;
    node.import(&file)?;
    Ok(id)
}

fn list(node: &Node) -> Result<Vec<proto::Image>> {
    Ok(node.cri.list_images(proto::ListImagesRequest::default())?.images)
}

fn layers(node: &Node) -> Vec<String> {
    kernel::names_in(&node.state_dir().join("images/layers"))
}

fn oci_folder(node: &Node) -> Result<()> {
    let name = "folder.test/a/b:1";
    let content = layer("folder", 0)?;
    let file = node.path("folder.tar");
    write_layout_as(&file, name, &content, &gzip(&content)?)?;
    let folder: PathBuf = node.path("layout");
    std::fs::create_dir_all(&folder)?;
    tar::Archive::new(std::fs::File::open(&file)?).unpack(&folder)?;
    let told = node.import(&folder)?;
    ensure!(told.contains(name), "{told}");
    let image = find(node, name)?.context("not there")?;
    ensure!(image.repo_tags == [name], "{image:?}");
    let wanted = "folder.test/a/b@sha256:";
    ensure!(image.repo_digests.iter().any(|d| d.starts_with(wanted)), "{image:?}");
    // The source may go once it is imported.
    std::fs::remove_dir_all(&folder)?;
    let config = pod(node, "from-folder");
    let sandbox = node.run_pod(&config)?;
    let mut c = container("main", &["/bin/busybox", "cat", "/marker"]);
    c.image = spec(name);
    let id = node.launch_container(&sandbox, &config, &c)?;
    ensure!(node.wait_exited(&id)?.exit_code == 0);
    let lines = logs::read(&node.log_of("from-folder", "main"))?;
    ensure!(lines.len() == 1 && lines[0].text == "folder", "{lines:?}");
    node.remove_pod(&sandbox)?;
    Ok(remove(node, name)?)
}

fn docker_save(node: &Node) -> Result<()> {
    let id = import(node, "saved", &["saved.test/x:1", "saved.test/y:2"])?;
    let all = list(node)?;
    let image = all.iter().find(|image| image.id == format!("sha256:{id}")).context("not there")?;
    ensure!(image.repo_tags == ["saved.test/x:1", "saved.test/y:2"], "{image:?}");
    ensure!(image.uid.as_ref().is_some_and(|uid| uid.value == 7), "{image:?}");
    ensure!(image.size > 0 && !image.pinned, "{image:?}");
    // Entrypoint, Cmd and user come from the image.
    let config = pod(node, "from-saved");
    let sandbox = node.run_pod(&config)?;
    let mut c = container("main", &[]);
    c.image = spec("saved.test/y:2");
    let made = node.launch_container(&sandbox, &config, &c)?;
    let status = node.wait_exited(&made)?;
    ensure!(status.exit_code == 0, "{status:?}");
    ensure!(status.image_id == format!("sha256:{id}") || status.image_id == id, "{status:?}");
    let user = status.user.and_then(|user| user.linux).context("no user")?;
    ensure!((user.uid, user.gid) == (7, 8), "{user:?}");
    let lines = logs::read(&node.log_of("from-saved", "main"))?;
    ensure!(logs::stream(&lines, "stdout").trim_end() == "saved", "{lines:?}");
    node.remove_pod(&sandbox)?;
    Ok(remove(node, &id)?)
}

fn names(node: &Node) -> Result<()> {
    let id = import(node, "named", &["docker.io/library/named:latest"])?;
    let whole = format!("sha256:{id}");
    let forms = [
        "named",
        "named:latest",
        "library/named",
        "docker.io/named",
        "docker.io/library/named:latest",
        &id,
        &whole,
        &id[..12],
        &whole[..20],
    ];
    for form in forms {
        let image = find(node, form)?.with_context(|| format!("{form} is not found"))?;
        ensure!(image.id == whole, "{form}: {image:?}");
        ensure!(image.repo_tags == ["docker.io/library/named:latest"], "{form}: {image:?}");
        let filter = proto::ImageFilter { image: spec(form) };
        let request = proto::ListImagesRequest { filter: Some(filter) };
        let listed = node.cri.list_images(request)?.images;
        ensure!(listed.len() == 1 && listed[0].id == whole, "{form}: {listed:?}");
    }
    let request = proto::ImageStatusRequest { image: spec("named"), verbose: true };
    let info = node.cri.image_status(request)?.info;
    ensure!(info.values().any(|text| text.contains("Entrypoint") || text.contains("entrypoint")));
    Ok(remove(node, "named")?)
}

fn absent(node: &Node) -> Result<()> {
    // "If the image is not present, returns a response with ImageStatusResponse.Image set to nil."
    for name in ["absent", "absent.test/x:y", "ffffffffffff", &format!("sha256:{}", "0".repeat(64))]
    {
        ensure!(find(node, name)?.is_none(), "{name}");
        // "This call is idempotent, and must not return an error if the image has been removed."
        remove(node, name).with_context(|| format!("remove {name}"))?;
    }
    for name in ["", "a b", "x@sha256:12"] {
        let answer =
            node.cri.image_status(proto::ImageStatusRequest { image: spec(name), verbose: false });
        let code = answer.map_or_else(|status| status.code(), |_| Code::Ok);
        ensure!(code == Code::InvalidArgument, "{name:?}: {code:?}");
    }
    Ok(())
}

fn remove_by_any_tag(node: &Node) -> Result<()> {
    let before = (list(node)?, layers(node));
    for by in ["gone.test/a:1", "gone.test/b:2"] {
        import(node, "gone", &["gone.test/a:1", "gone.test/b:2"])?;
        ensure!(layers(node).len() == before.1.len() + 1, "{:?}", layers(node));
        remove(node, by)?;
        for tag in ["gone.test/a:1", "gone.test/b:2"] {
            ensure!(find(node, tag)?.is_none(), "{tag} is left");
        }
        ensure!((list(node)?, layers(node)) == before, "something is left");
        remove(node, by)?;
    }
    ensure!(find(node, BUSYBOX)?.is_some(), "another image went, too");
    Ok(())
}

fn remove_in_use(node: &Node) -> Result<()> {
    let before = layers(node);
    let image = import(node, "in-use", &["in-use.test/x:1"])?;
    let config = pod(node, "user");
    let sandbox = node.run_pod(&config)?;
    let mut c = container("main", &["/bin/busybox", "sleep", "100000"]);
    c.image = spec("in-use.test/x:1");
    let id = node.launch_container(&sandbox, &config, &c)?;
    remove(node, "in-use.test/x:1")?;
    ensure!(find(node, &image)?.is_none());
    let marker = node.exec_ok(&id, &["/bin/busybox", "cat", "/marker"])?;
    ensure!(marker == "in-use", "{marker}");
    let status = node.container(&id)?;
    ensure!(status.image_id.contains(&image), "{status:?}");
    // A second container of it cannot be made.
    c.metadata = Some(proto::ContainerMetadata { name: "second".into(), attempt: 0 });
    let second = node.create(&sandbox, &config, &c);
    ensure!(second.err().map(|status| status.code()) == Some(Code::NotFound));
    ensure!(layers(node).len() == before.len() + 1, "the layer went from under the container");
    node.remove_pod(&sandbox)?;
    eventually("the layer goes with its last user", || Ok((layers(node) == before).then_some(())))
}

fn fs_info(node: &Node) -> Result<()> {
    const FILL: u64 = 4 << 20;
    let used = || -> Result<(u64, u64)> {
        let info = node.cri.image_fs_info(proto::ImageFsInfoRequest::default())?;
        let usage = info.image_filesystems.first().context("no file system of images")?;
        ensure!(!info.container_filesystems.is_empty(), "no file system of containers");
        let mountpoint = &usage.fs_id.as_ref().context("no mountpoint")?.mountpoint;
        ensure!(node.state_dir().starts_with(mountpoint) || Path::new(mountpoint).exists());
        ensure!(usage.timestamp > 0, "{usage:?}");
        let value = |v: &Option<proto::UInt64Value>| v.as_ref().map_or(0, |v| v.value);
        Ok((value(&usage.used_bytes), value(&usage.inodes_used)))
    };
    let before = used()?;
    ensure!(before.0 > 1 << 20 && before.1 > 10, "busybox is bigger: {before:?}");
    let file = node.path("big.tar");
    write_docker_save(&file, &["big.test/x:1"], &layer("big", usize::try_from(FILL)?)?)?;
    node.import(&file)?;
    let with = used()?;
    ensure!(with.0 >= before.0 + FILL, "{before:?} {with:?}");
    ensure!(with.1 >= before.1 + 3, "{before:?} {with:?}");
    remove(node, "big.test/x:1")?;
    eventually("the space is free again", || Ok((used()? == before).then_some(())))
}

fn moved_tag(node: &Node) -> Result<()> {
    let old = import(node, "old", &["moved.test/x:1"])?;
    let new = import(node, "new", &["moved.test/x:1"])?;
    let found = find(node, "moved.test/x:1")?.context("not there")?;
    ensure!(found.id == format!("sha256:{new}"), "{found:?}");
    let left = find(node, &old)?.context("the old image is gone without being removed")?;
    ensure!(left.repo_tags.is_empty(), "{left:?}");
    for id in [&old, &new] {
        remove(node, id)?;
    }
    Ok(())
}
