//! Exported images come back the same, also through umoci; damage is found, named, and repaired.

use super::fixtures::{
    Head, Made, Tar, World, block_on, docker_save, gzip, make, names_in, write_layout, zstd,
};
use super::info::ImageInfo;
use crate::config::ImageConfig;
use crate::error::ErrorKind;
use crate::ids::{ContainerId, random_hex};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

fn import(world: &World, made: &Made, names: &[&str]) -> ImageInfo {
    let dir = world.path(&format!("layout-{}", random_hex().unwrap()));
    write_layout(&dir, &names.iter().map(|name| (*name, made)).collect::<Vec<_>>());
    block_on(world.images.import(&dir, None)).unwrap().pop().unwrap()
}

/// Layers of every kind: by diff id, by chain id, with replaced files, one that repeats.
fn tars() -> Vec<Vec<u8>> {
    let base = Tar::new()
        .raw("./", tar::EntryType::Directory, Head { mode: 0o755, ..Head::default() }, b"")
        .dir("tmp", 0o1777)
        .dir("usr", 0o755)
        .dir("usr/lib", 0o755)
        .symlink("lib", "usr/lib")
        .file("usr/tool", "tool")
        .file("twice", "first")
        .file("twice", "second")
        .build();
    let middle = Tar::new()
        .file("tmp/x", "x")
        .file("lib/moved", "moved")
        .link("usr/hard", "usr/tool")
        .file("usr/.wh.old", "")
        .build();
    vec![base.clone(), middle, base]
}

fn layer_dir(world: &World, file: &str) -> PathBuf {
    let layers = world.layout.images().join("layers");
    let name =
        world.layer_folders().into_iter().find(|n| layers.join(n).join("d").join(file).exists());
    layers.join(name.unwrap())
}

#[test]
fn an_export_comes_back_to_the_same_image_from_a_folder_and_a_tar() {
    for (compress, name) in [(gzip as fn(&[u8]) -> Vec<u8>, "gzip"), (zstd, "zstd")] {
        let world = World::new();
        let made = make(&tars(), compress);
        let info = import(&world, &made, &["x.test/a:1", "x.test/b:2"]);
        for target in ["out", "out.tar"] {
            let path = world.path(target);
            let exported = block_on(world.images.export("x.test/a:1", &path)).unwrap();
            assert_eq!(exported.id, info.id);
            let other = World::new();
            let back = block_on(other.images.import(&path, None)).unwrap();
            assert_eq!(back.len(), 2, "one a tag");
            let back = other.images.find(back[1].id.as_str()).unwrap().unwrap();
            assert_eq!((&back.id, &back.repo_tags), (&info.id, &info.repo_tags), "{name}");
            // What came back is as exact: its own export is the same.
            let again = block_on(other.images.export(info.id.as_str(), &other.path("o"))).unwrap();
            assert_eq!(again.manifest, exported.manifest);
            assert_eq!(block_on(other.images.verify("x.test/b:2")).unwrap().problems, [""; 0]);
        }
        assert_eq!(world.half_made(), 0);
        let beside = names_in(world.dir.path());
        assert!(!beside.iter().any(|name| name.ends_with(".part")), "{beside:?}");
    }
}

#[test]
fn umoci_reads_an_export() {
    let world = World::new();
    import(&world, &make(&tars(), zstd), &["x.test/a:1"]);
    let out = world.path("out");
    block_on(world.images.export("x.test/a:1", &out)).unwrap();
    let umoci = Command::new("umoci")
        .args(["unpack", "--image", &format!("{}:1", out.display())])
        .arg(world.path("bundle"))
        .output()
        .expect("umoci is installed (make deps)");
    assert!(umoci.status.success(), "{}", String::from_utf8_lossy(&umoci.stderr));
    let root = world.path("bundle/rootfs");
    assert_eq!(fs::read_to_string(root.join("tmp/x")).unwrap(), "x");
    assert_eq!(fs::read_to_string(root.join("twice")).unwrap(), "second");
}

#[test]
fn kept_blobs_are_exported_as_they_came() {
    let world = World::with(&ImageConfig { keep_blobs: true, ..ImageConfig::default() });
    let made = make(&tars(), zstd);
    import(&world, &made, &["x.test/a:1"]);
    let exported = block_on(world.images.export("x.test/a:1", &world.path("out"))).unwrap();
    assert_eq!(exported.manifest, made.manifest_digest());
}

#[test]
fn an_image_of_docker_is_exported_and_one_that_is_not_there_is_not() {
    let world = World::new();
    let made = make(&tars()[..2], |bytes| bytes.to_vec());
    let file = world.path("saved.tar");
    fs::write(&file, docker_save(&["x.test/a:1"], &made)).unwrap();
    let info = block_on(world.images.import(&file, None)).unwrap().remove(0);
    let out = world.path("out");
    block_on(world.images.export("x.test/a:1", &out)).unwrap();
    let other = World::new();
    assert_eq!(block_on(other.images.import(&out, None)).unwrap()[0].id, info.id);
    // What is there is not overwritten.
    let error = block_on(world.images.export("x.test/a:1", &out)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    assert!(error.to_string().contains("there already"), "{error}");
    let error = block_on(world.images.export("absent", &world.path("n"))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(!world.path("n").exists());
}

#[test]
fn a_damaged_file_is_named_the_image_is_corrupt_and_an_import_brings_that_layer_alone() {
    let mut world = World::new();
    let tars = [tars()[0].clone(), tars()[1].clone()];
    let made = make(&tars, gzip);
    let info = import(&world, &made, &["x.test/a:1"]);
    let shares = import(&world, &make(&tars[..1], gzip), &["x.test/base:1"]);
    let whole = block_on(world.images.verify("x.test/a:1")).unwrap();
    assert!(whole.layers.iter().all(|layer| layer.problems.is_empty()), "{whole:?}");
    assert_eq!(whole.layers.len(), 2);
    let (good, bad) = (layer_dir(&world, "tmp/x"), layer_dir(&world, "twice"));
    let c = ContainerId::parse(&random_hex().unwrap()).unwrap();
    world.images.prepare_snapshot(&info.id, &c, &[], None).unwrap();
    fs::write(bad.join("d/twice"), "secoNd").unwrap();
    let found = block_on(world.images.verify("x.test/a:1")).unwrap();
    assert_eq!(found.layers[0].problems, ["/twice: its content has changed"]);
    assert_eq!(found.layers[1].problems, [""; 0]);
    for _ in 0..2 {
        // Every image that has the layer, also after a restart.
        let corrupt: Vec<bool> =
            world.images.list().iter().map(|image| image.corrupt.is_some()).collect();
        assert_eq!(corrupt, [true, true]);
        let error = block_on(world.images.export("x.test/a:1", &world.path("out"))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{error}");
        world.reopen();
    }
    // The container that has it goes on.
    world.images.mount_snapshot(&c, super::View::default()).unwrap();
    import(&world, &made, &["x.test/a:1"]);
    assert!(world.images.list().iter().all(|image| image.corrupt.is_none()));
    assert!(good.exists(), "what was whole came again");
    assert!(bad.exists(), "a container has it");
    let found = block_on(world.images.verify(shares.id.as_str())).unwrap();
    assert!(found.layers.iter().all(|layer| layer.problems.is_empty()), "{found:?}");
    world.reopen();
    assert!(bad.exists(), "a container may have it mounted");
    assert!(world.images.list().iter().all(|image| image.corrupt.is_none()));
    world.images.remove_snapshot(&c).unwrap();
    world.reopen();
    assert!(!bad.exists() && world.layer_folders().len() == 2);
}

#[test]
fn files_that_are_missing_or_too_many_and_damaged_documents_are_found() {
    let world = World::new();
    let made = make(&[Tar::new().file("a", "a").symlink("s", "a").build()], gzip);
    let info = import(&world, &made, &["x.test/a:1"]);
    let layer = layer_dir(&world, "a");
    let problems = || -> Vec<String> {
        let found = block_on(world.images.verify("x.test/a:1")).unwrap();
        found.layers.into_iter().flat_map(|l| l.problems).chain(found.problems).collect()
    };
    assert_eq!(problems(), [""; 0]);
    fs::write(layer.join("d/more"), "").unwrap();
    assert_eq!(problems(), ["/more: it is none of its files"]);
    fs::remove_file(layer.join("d/more")).unwrap();
    fs::remove_file(layer.join("d/s")).unwrap();
    assert_eq!(problems(), ["/s: it is gone"]);
    let blob = world.layout.images().join("blobs/sha256").join(info.id.as_str());
    fs::write(&blob, "{}").unwrap();
    assert!(problems().iter().any(|p| p.contains(&format!("blob sha256:{} is damaged", info.id))));
    let why = world.images.list()[0].corrupt.clone();
    assert!(why.is_some_and(|why| why.contains("configuration")));
    import(&world, &made, &["x.test/a:1"]);
    assert_eq!(problems(), [""; 0]);
    assert_eq!(world.images.list()[0].corrupt, None);
}

#[test]
fn a_description_tells_the_layers_and_who_shares_them() {
    let world = World::new();
    let all = tars();
    let made = make(&all[..2], gzip);
    import(&world, &made, &["x.test/a:1"]);
    import(&world, &make(&all[..1], gzip), &["x.test/b:1"]);
    let described = block_on(world.images.describe("x.test/a:1")).unwrap();
    assert_eq!(described.config, made.config);
    let layers: Vec<_> = described.layers.iter().map(|l| (l.diff_id.clone(), l.images)).collect();
    let digest = |tar: &[u8]| super::digest::Digest::of(tar);
    assert_eq!(layers, [(digest(&all[0]), 2), (digest(&all[1]), 1)]);
    assert!(described.layers.iter().all(|l| l.bytes > 0 && l.record_bytes > 0));
    let error = block_on(world.images.describe("absent")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}
