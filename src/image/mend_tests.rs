//! What images lost on disk comes again from a real docker-registry, and nothing else is asked for.

use super::archive::Archive;
use super::assemble::{Plan, Source, planned};
use super::digest::Digest;
use super::fixtures::{Made, Tar, World, block_on, gzip, make, names_in, write_layout};
use super::images::Images;
use super::manifest::{Document, parse_document};
use super::progress::Listeners;
use super::registry_fixture::{Fault, Proxy, Registry};
use crate::config::ImageConfig;
use crate::error::ErrorKind;
use crate::ids::ImageId;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

fn image() -> Made {
    let file = |name: &str| Tar::new().file(name, &name.repeat(1000)).build();
    make(&[file("one"), file("two"), file("three")], gzip)
}

fn layer_dir(world: &World, file: &str) -> PathBuf {
    let layers = world.layout.images().join("layers");
    let name =
        world.layer_folders().into_iter().find(|n| layers.join(n).join("d").join(file).exists());
    layers.join(name.unwrap())
}

/// A world with the image, pulled by the tag `v1`.
fn pulled(registry: &Registry, proxy: &Proxy, made: &Made) -> (World, ImageId, String) {
    registry.push("a/b", "v1", made);
    let world = World::new();
    let name = format!("{}/a/b:v1", proxy.address);
    let id = block_on(world.images.pull(&name, None, None)).unwrap();
    (world, id, name)
}

fn blob(bytes: &[u8]) -> String {
    format!("/v2/a/b/blobs/{}", Digest::of(bytes))
}

/// What is asked for by `work`, sorted.
fn asked(proxy: &Proxy, work: impl FnOnce()) -> Vec<String> {
    let before = proxy.targets().len();
    work();
    let mut asked = proxy.targets().split_off(before);
    asked.sort();
    asked
}

fn is_whole(world: &World, name: &str) {
    let verified = block_on(world.images.verify(name)).unwrap();
    assert_eq!(verified.problems, [""; 0]);
    assert!(verified.layers.iter().all(|layer| layer.problems.is_empty()), "{verified:?}");
    assert!(world.images.list().iter().all(|image| image.corrupt.is_none()));
}

#[test]
fn layers_that_are_damaged_or_half_are_fetched_again_and_nothing_else() {
    let (registry, made) = (Registry::start(), image());
    let proxy = Proxy::start(&registry, Fault::None, "");
    let (mut world, id, name) = pulled(&registry, &proxy, &made);
    let before = world.images.find(&name).unwrap().unwrap();
    let used = world.images.store().get(&id).unwrap().used_nanos();
    let whole = layer_dir(&world, "one");
    // One is half: it has no record. Of another a file is damaged, as a verification finds.
    fs::remove_file(layer_dir(&world, "two").join("layer.json")).unwrap();
    fs::write(layer_dir(&world, "three").join("d/three"), "x").unwrap();
    block_on(world.images.verify(&name)).unwrap();
    world.reopen();
    assert!(world.images.list()[0].corrupt.is_some());
    let mut wanted = vec![blob(&made.layers[1]), blob(&made.layers[2])];
    wanted.sort();
    assert_eq!(asked(&proxy, || block_on(world.images.mend())), wanted);
    is_whole(&world, &name);
    assert!(whole.exists() && world.layer_folders().len() == 3, "{:?}", world.layer_folders());
    assert_eq!(world.images.find(&name).unwrap().unwrap(), before);
    assert_eq!(world.images.store().get(&id).unwrap().used_nanos(), used);
    world.reopen();
    is_whole(&world, &name);
    // What is whole is not asked for.
    assert_eq!(asked(&proxy, || block_on(world.images.mend())), [""; 0]);
    assert_eq!(world.half_made(), 0);
}

#[test]
fn documents_are_fetched_where_they_are_damaged() {
    let (registry, made) = (Registry::start(), image());
    let proxy = Proxy::start(&registry, Fault::None, "");
    let (mut world, id, name) = pulled(&registry, &proxy, &made);
    let blobs = world.layout.images().join("blobs/sha256");
    fs::write(blobs.join(id.as_str()), "{}").unwrap();
    world.reopen();
    assert!(world.images.list()[0].corrupt.is_some());
    let config = vec![blob(&made.config)];
    assert_eq!(asked(&proxy, || block_on(world.images.mend())), config);
    is_whole(&world, &name);
    for document in names_in(&blobs) {
        fs::remove_file(blobs.join(document)).unwrap();
    }
    world.reopen();
    let manifest = format!("/v2/a/b/manifests/{}", made.manifest_digest());
    let both = [config, vec![manifest]].concat();
    assert_eq!(asked(&proxy, || block_on(world.images.mend())), both);
    is_whole(&world, &name);
}

#[test]
fn an_image_stays_corrupt_and_named_when_nobody_has_what_it_lost() {
    let (registry, made) = (Registry::start(), image());
    let proxy = Proxy::start(&registry, Fault::None, "");
    let (mut world, _, name) = pulled(&registry, &proxy, &made);
    // An image of an archive has no registry, whatever it is called.
    let layout = world.path("layout");
    let own = make(&[Tar::new().file("own", "own").build()], gzip);
    let imported = format!("{}/a/c:v1", proxy.address);
    write_layout(&layout, &[(&imported, &own)]);
    block_on(world.images.import(&layout, None)).unwrap();
    for file in ["one", "own"] {
        fs::remove_dir_all(layer_dir(&world, file)).unwrap();
    }
    world.reopen();
    drop(registry);
    let asked = asked(&proxy, || block_on(world.images.mend()));
    assert!(!asked.iter().any(|target| target.contains("a/c")), "{asked:?}");
    for name in [&name, &imported] {
        let image = world.images.find(name).unwrap().unwrap();
        assert!(image.corrupt.is_some_and(|why| why.contains("is missing on disk")), "{name}");
    }
    assert_eq!(world.layer_folders().len(), 2);
}

#[test]
fn an_image_whose_record_is_damaged_is_named_by_its_id_until_it_comes_again() {
    let mut world = World::new();
    let (made, layout) = (image(), world.path("layout"));
    write_layout(&layout, &[("x.test/a:1", &made)]);
    block_on(world.images.import(&layout, None)).unwrap();
    let record = world.layout.images().join(format!("records/{}.json", made.id()));
    let damage = |record: &PathBuf| {
        let mut bytes = fs::read(record).unwrap();
        let last = bytes.len() - 10;
        bytes[last] ^= 1;
        fs::write(record, bytes).unwrap();
    };
    damage(&record);
    for _ in 0..2 {
        world.reopen();
        let all = world.images.list();
        assert_eq!((all.len(), all[0].id.as_str(), all[0].repo_tags.len()), (1, &*made.id(), 0));
        let why = all[0].corrupt.clone().unwrap();
        assert!(why.starts_with("its record is damaged on disk: "), "{why}");
        let verified = block_on(world.images.verify(&made.id())).unwrap();
        assert!(verified.problems.contains(&why), "{verified:?}");
        let error = block_on(world.images.export(&made.id(), &world.path("out"))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{error}");
        block_on(world.images.mend());
    }
    assert!(world.images.find("x.test/a:1").unwrap().is_none());
    block_on(world.images.import(&layout, None)).unwrap();
    world.reopen();
    is_whole(&world, "x.test/a:1");
    assert_eq!(world.images.list().len(), 1);
    // It can be removed without being read.
    damage(&record);
    world.reopen();
    block_on(world.images.remove(&made.id())).unwrap();
    world.reopen();
    assert!(world.images.list().is_empty());
    assert_eq!(names_in(record.parent().unwrap()), [""; 0]);
}

#[test]
fn the_policy_decides_about_what_is_fetched_again() {
    let (registry, made) = (Registry::start(), image());
    let proxy = Proxy::start(&registry, Fault::None, "");
    let (mut world, _, name) = pulled(&registry, &proxy, &made);
    fs::remove_dir_all(layer_dir(&world, "two")).unwrap();
    let policy = world.path("policy.toml");
    fs::write(&policy, "default = \"reject\"\n").unwrap();
    let config = ImageConfig { policy: Some(policy), ..ImageConfig::default() };
    world.images = Images::open(&config, &world.layout).unwrap();
    assert_eq!(asked(&proxy, || block_on(world.images.mend())), [""; 0]);
    assert!(world.images.list()[0].corrupt.is_some());
    // The control: without one it comes.
    world.reopen();
    assert_eq!(asked(&proxy, || block_on(world.images.mend())), [blob(&made.layers[1])]);
    is_whole(&world, &name);
}

#[test]
fn an_image_that_is_removed_meanwhile_stays_removed() {
    let (world, made) = (World::new(), image());
    let layout = world.path("layout");
    write_layout(&layout, &[("x.test/a:1", &made)]);
    let archive = Archive::open(&layout, &world.images.store().content, u64::MAX).unwrap();
    let source = Source::Archive(Arc::new(archive));
    let Document::Manifest(manifest) = parse_document("", &made.manifest).unwrap() else {
        panic!("no manifest");
    };
    let plan = planned("x", made.manifest.clone(), &manifest, made.config.clone()).unwrap();
    let plan = Plan { mends: true, ..plan };
    let listeners = Listeners::default();
    let done = block_on(world.images.assembler().assemble(&source, plan, &listeners));
    assert_eq!(done.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(world.images.list().is_empty() && world.layer_folders().is_empty());
    assert_eq!(names_in(&world.layout.images().join("blobs/sha256")), [""; 0]);
}
