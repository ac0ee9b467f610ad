//! Exports are read by skopeo, and what skopeo writes of them is the same image again: an engine's
//! code by others, which verifies each digest on its way.

use super::digest::Digest;
use super::fixtures::{Head, Made, Tar, World, block_on, gzip, make, names_in, write_layout, zstd};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;

fn copy(options: &[&str], from: &str, to: &str) {
    let skopeo = Command::new("skopeo")
        .args(["--insecure-policy", "copy", "--quiet"])
        .args(options)
        .args([from, to])
        .output()
        .expect("skopeo is installed (make deps)");
    let errors = String::from_utf8_lossy(&skopeo.stderr);
    assert!(skopeo.status.success(), "{from} to {to}: {errors}");
}

/// Three layers, one of which needs those below it and one of which repeats.
fn image(compress: fn(&[u8]) -> Vec<u8>) -> Made {
    let base = Tar::new()
        .raw("./", tar::EntryType::Directory, Head { mode: 0o755, ..Head::default() }, b"")
        .dir("tmp", 0o1777)
        .dir("usr", 0o755)
        .file("usr/tool", &"tool ".repeat(5000))
        .file("twice", "first")
        .file("twice", "second")
        .build();
    let middle =
        Tar::new().file("tmp/x", "x").link("usr/hard", "usr/tool").file("usr/.wh.old", "").build();
    make(&[base.clone(), middle, base], compress)
}

/// Imports an archive into a store of its own: the image is `made`, and whole.
fn is_the_same(path: &Path, made: &Made) {
    let world = World::new();
    let back = block_on(world.images.import(path, None)).unwrap();
    assert_eq!(back.len(), 1, "{}", path.display());
    assert_eq!(back[0].id.as_str(), made.id(), "{}", path.display());
    let verified = block_on(world.images.verify(&made.id())).unwrap();
    assert_eq!(verified.problems, [""; 0]);
    assert_eq!(verified.layers.len(), 3);
    assert!(verified.layers.iter().all(|layer| layer.problems.is_empty()), "{verified:?}");
}

/// The media types of the layers in a layout's only manifest.
fn layer_types(layout: &Path) -> Vec<String> {
    let read = |path: &Path| -> Value { serde_json::from_slice(&fs::read(path).unwrap()).unwrap() };
    let index = read(&layout.join("index.json"));
    let digest = index["manifests"][0]["digest"].as_str().unwrap().replace(':', "/");
    let manifest = read(&layout.join("blobs").join(digest));
    let layers = manifest["layers"].as_array().unwrap();
    layers.iter().map(|layer| layer["mediaType"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn skopeo_reads_an_export_and_what_it_writes_is_the_same_image() {
    for compress in [gzip as fn(&[u8]) -> Vec<u8>, zstd] {
        let (world, made) = (World::new(), image(compress));
        let layout = world.path("layout");
        write_layout(&layout, &[("x.test/a:1", &made)]);
        block_on(world.images.import(&layout, None)).unwrap();
        let (folder, file) = (world.path("out"), world.path("out.tar"));
        let path = |name: &str| world.path(name).display().to_string();
        let exported = block_on(world.images.export("x.test/a:1", &folder)).unwrap();
        block_on(world.images.export("x.test/a:1", &file)).unwrap();

        // A folder of blobs, each named by its digest.
        copy(&[], &format!("oci-archive:{}:1", path("out.tar")), &format!("dir:{}", path("dir")));
        let manifest = fs::read(world.path("dir/manifest.json")).unwrap();
        assert_eq!(Digest::of(&manifest), exported.manifest);
        let blobs: Vec<String> =
            names_in(&world.path("dir")).into_iter().filter(|name| name.len() == 64).collect();
        assert_eq!(blobs.len(), 3, "two layers and the configuration: {blobs:?}");
        for blob in &blobs {
            let bytes = fs::read(world.path("dir").join(blob)).unwrap();
            assert_eq!(Digest::of(&bytes).hex(), blob);
        }
        assert!(blobs.contains(&made.id()));

        let saved = format!("docker-archive:{}:x.test/a:1", path("saved.tar"));
        copy(&[], &format!("oci:{}:1", path("out")), &saved);
        is_the_same(&world.path("saved.tar"), &made);
        for (kind, options) in [("gzip", &[][..]), ("zstd", &["--dest-compress-format", "zstd"])] {
            let target = format!("again-{kind}");
            copy(options, &format!("oci:{}:1", path("out")), &format!("oci:{}:1", path(&target)));
            let types = layer_types(&world.path(&target));
            assert!(types.iter().all(|found| found.ends_with(kind)), "{kind}: {types:?}");
            is_the_same(&world.path(&target), &made);
        }
    }
}

#[test]
fn skopeo_refuses_an_export_that_was_changed() {
    let (world, made) = (World::new(), image(gzip));
    let layout = world.path("layout");
    write_layout(&layout, &[("x.test/a:1", &made)]);
    block_on(world.images.import(&layout, None)).unwrap();
    let out = world.path("out");
    block_on(world.images.export("x.test/a:1", &out)).unwrap();
    let blobs = out.join("blobs/sha256");
    let layer = names_in(&blobs).into_iter().map(|name| blobs.join(name)).find(|path| {
        let bytes = fs::read(path).unwrap();
        bytes.starts_with(&[0x1f, 0x8b])
    });
    let layer = layer.unwrap();
    let mut bytes = fs::read(&layer).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&layer, bytes).unwrap();
    let skopeo = Command::new("skopeo")
        .args(["--insecure-policy", "copy", "--quiet"])
        .arg(format!("oci:{}:1", out.display()))
        .arg(format!("dir:{}", world.path("dir").display()))
        .output()
        .expect("skopeo is installed (make deps)");
    let errors = String::from_utf8_lossy(&skopeo.stderr);
    assert!(!skopeo.status.success() && errors.contains("igest"), "{errors}");
}
