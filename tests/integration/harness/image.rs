//! An image made from the machine's static busybox: an OCI layout in a tar file; and images by name.

use super::node::Node;
use anyhow::{Context as _, Result, ensure};
use berth::cri::proto;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use tonic::Status;

/// The name under which it is imported.
pub(crate) const BUSYBOX: &str = "berth.test/busybox:latest";
/// The image of another runtime's sandboxes.
pub(crate) const PAUSE: &str = "berth.test/pause:latest";
/// What its web page says.
pub(crate) const PAGE: &str = "hello from a pod\n";

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1000:web:/home/web:/bin/sh\n";
const GROUP: &str = "root:x:0:\nweb:x:1000:\nextra:x:2000:web\n";

/// Writes the image to `path`.
///
/// # Errors
/// busybox is missing or the file cannot be written.
pub(crate) fn write_busybox(path: &Path) -> Result<()> {
    write_busybox_as(path, BUSYBOX, &json!({}))
}

/// Writes the image under another name, with further keys in its configuration's `config`.
///
/// # Errors
/// busybox is missing or the file cannot be written.
pub(crate) fn write_busybox_as(path: &Path, name: &str, further: &Value) -> Result<()> {
    let layer = busybox_layer()?;
    write_named(path, name, further, &layer, &gzip(&layer)?)
}

/// Writes an image of sandboxes, whose process waits.
///
/// # Errors
/// As [`write_busybox`].
pub(crate) fn write_pause(path: &Path) -> Result<()> {
    let waits = json!({ "Entrypoint": ["sleep", "1000000"], "Cmd": [] });
    write_busybox_as(path, PAUSE, &waits)
}

/// Compresses a layer.
///
/// # Errors
/// Never, into memory.
pub(crate) fn gzip(layer: &[u8]) -> Result<Vec<u8>> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(layer)?;
    Ok(gzip.finish()?)
}

/// Writes an OCI layout with one layer; `packed` is what `layer` was compressed to.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn write_layout(path: &Path, layer: &[u8], packed: &[u8]) -> Result<()> {
    write_layout_as(path, BUSYBOX, layer, packed)
}

/// [`write_layout`] under another name.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn write_layout_as(path: &Path, name: &str, layer: &[u8], packed: &[u8]) -> Result<()> {
    write_named(path, name, &json!({}), layer, packed)
}

fn write_named(
    path: &Path,
    name: &str,
    further: &Value,
    layer: &[u8],
    packed: &[u8],
) -> Result<()> {
    let mut process = json!({
        "Env": ["PATH=/bin:/usr/bin", "FROM_IMAGE=yes"],
        "Cmd": ["sh"],
        "Labels": { "made-by": "integration" },
    });
    if let (Some(process), Some(further)) = (process.as_object_mut(), further.as_object()) {
        process.extend(further.clone());
    }
    let config = serde_json::to_vec(&json!({
        "architecture": "amd64",
        "os": "linux",
        "config": process,
        "rootfs": { "type": "layers", "diff_ids": [digest(layer)] },
        "history": [{ "created_by": "berth tests" }],
    }))?;
    let manifest = serde_json::to_vec(&json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar+gzip", packed)],
    }))?;
    let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest);
    if let Some(entry) = entry.as_object_mut() {
        entry.insert(
            "annotations".into(),
            json!({
                "org.opencontainers.image.ref.name": name,
                "io.containerd.image.name": name,
            }),
        );
    }
    let index = serde_json::to_vec(&json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [entry],
    }))?;

    let mut tar = tar::Builder::new(std::fs::File::create(path)?);
    add_file(&mut tar, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#, 0o644)?;
    add_file(&mut tar, "index.json", &index, 0o644)?;
    for blob in [&config[..], &manifest[..], packed] {
        let name = digest(blob).replace("sha256:", "blobs/sha256/");
        add_file(&mut tar, &name, blob, 0o644)?;
    }
    tar.into_inner()?.sync_all()?;
    Ok(())
}

/// `/bin/busybox`, a link for each of its applets, users, a page, empty folders.
fn busybox_layer() -> Result<Vec<u8>> {
    let busybox = std::fs::read("/bin/busybox").context("read /bin/busybox")?;
    let listed = Command::new("/bin/busybox").arg("--list").output().context("busybox --list")?;
    ensure!(listed.status.success(), "busybox --list failed");
    let mut tar = tar::Builder::new(Vec::new());
    for folder in ["bin", "dev", "etc", "home", "home/web", "proc", "root", "sys", "www"] {
        add_folder(&mut tar, folder, 0o755)?;
    }
    add_folder(&mut tar, "tmp", 0o1777)?;
    add_file(&mut tar, "bin/busybox", &busybox, 0o755)?;
    for applet in String::from_utf8(listed.stdout)?.lines().filter(|name| *name != "busybox") {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_mode(0o777);
        tar.append_link(&mut header, format!("bin/{applet}"), "busybox")?;
    }
    add_file(&mut tar, "etc/passwd", PASSWD.as_bytes(), 0o644)?;
    add_file(&mut tar, "etc/group", GROUP.as_bytes(), 0o644)?;
    add_file(&mut tar, "www/index.html", PAGE.as_bytes(), 0o644)?;
    add_file(&mut tar, "not-a-program", b"text\n", 0o644)?;
    Ok(tar.into_inner()?)
}

/// Adds a file to an archive.
///
/// # Errors
/// The archive cannot be written.
pub(crate) fn add_file<W: std::io::Write>(
    tar: &mut tar::Builder<W>,
    name: &str,
    content: &[u8],
    mode: u32,
) -> Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(u64::try_from(content.len())?);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_mode(mode);
    tar.append_data(&mut header, name, content).with_context(|| format!("add {name}"))
}

fn add_folder<W: std::io::Write>(tar: &mut tar::Builder<W>, name: &str, mode: u32) -> Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Directory);
    header.set_size(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_mode(mode);
    tar.append_data(&mut header, name, &[][..]).with_context(|| format!("add {name}"))
}

fn descriptor(media_type: &str, blob: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": digest(blob), "size": blob.len() })
}

/// `sha256:` and the hexadecimal digest.
pub(crate) fn digest(blob: &[u8]) -> String {
    let hex: String = Sha256::digest(blob).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// An image's name as requests have it.
pub(crate) fn spec(name: &str) -> Option<proto::ImageSpec> {
    Some(proto::ImageSpec { image: name.into(), ..Default::default() })
}

/// The image of that name, if it is there.
pub(crate) fn find(node: &Node, name: &str) -> Result<Option<proto::Image>> {
    let request = proto::ImageStatusRequest { image: spec(name), verbose: false };
    Ok(node.cri.image_status(request)?.image)
}

/// RemoveImage.
pub(crate) fn remove(node: &Node, name: &str) -> Result<(), Status> {
    node.cri.remove_image(proto::RemoveImageRequest { image: spec(name) }).map(drop)
}
