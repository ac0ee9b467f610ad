//! Archives imported into a store of the test's own: what becomes visible, and what does not.

use super::error::ImageError;
use super::fixtures::{
    Head, Made, Tar, World, block_on, docker_save, gzip, make, names_in, tar_of, write_layout, zstd,
};
use super::info::{ImageInfo, Phase};
use crate::config::ImageConfig;
use crate::error::ErrorKind;
use std::fs;
use std::path::Path;

fn plain(bytes: &[u8]) -> Vec<u8> {
    bytes.to_vec()
}

fn two_layers() -> Vec<Vec<u8>> {
    vec![
        Tar::new().dir("etc", 0o755).file("etc/a", "1").file("top", "").build(),
        Tar::new().dir("etc", 0o755).file("etc/b", "2").build(),
    ]
}

fn import(world: &World, path: &Path) -> Result<Vec<ImageInfo>, ImageError> {
    block_on(world.images.import(path, None))
}

fn import_made(world: &World, name: &str, made: &Made) -> ImageInfo {
    let dir = world.path(&format!("layout-{}", made.id()));
    write_layout(&dir, &[(name, made)]);
    import(world, &dir).unwrap().remove(0)
}

#[test]
fn an_oci_layout_is_imported_from_a_folder_and_from_a_tar_in_every_compression() {
    for (name, compress) in
        [("plain", plain as fn(&[u8]) -> Vec<u8>), ("gzip", gzip), ("zstd", zstd)]
    {
        let world = World::new();
        let made = make(&two_layers(), compress);
        let dir = world.path("layout");
        write_layout(&dir, &[("example.test/a:1", &made)]);
        let from_folder = import(&world, &dir).unwrap();
        let folders = world.layer_folders();
        for (kind, bytes) in [
            ("tar", tar_of(&dir)),
            ("tar.gz", gzip(&tar_of(&dir))),
            ("tar.zst", zstd(&tar_of(&dir))),
        ] {
            let file = world.path("layout.tar");
            fs::write(&file, bytes).unwrap();
            assert_eq!(import(&world, &file).unwrap(), from_folder, "{name} {kind}");
        }
        let [info] = from_folder.as_slice() else { panic!("{from_folder:?}") };
        assert_eq!(info.id.as_str(), made.id());
        assert_eq!(info.repo_tags, ["example.test/a:1"]);
        assert_eq!(info.repo_digests, [format!("example.test/a@{}", made.manifest_digest())]);
        assert_eq!((info.config.user.as_str(), info.config.working_dir.as_str()), ("7:8", "/w"));
        assert_eq!(info.config.stop_signal.as_deref(), Some("SIGINT"));
        assert_eq!(info.config.env, [("PATH".to_owned(), "/bin".to_owned())]);
        assert_eq!(info.config.volumes, ["/v"]);
        assert_eq!(world.images.list(), from_folder, "one entry an id");
        // Imported four times, unpacked once.
        assert_eq!((world.layer_folders(), folders.len()), (folders.clone(), 2), "{name}");
        assert_eq!(world.half_made(), 0);
        // Documents stay, compressed layers go.
        assert_eq!(names_in(&world.layout.images().join("blobs/sha256")).len(), 2);
        assert_eq!(world.images.config_json(&info.id).unwrap(), made.config);
    }
}

#[test]
fn keep_blobs_keeps_the_compressed_layers() {
    let world = World::with(&ImageConfig { keep_blobs: true, ..ImageConfig::default() });
    import_made(&world, "x:latest", &make(&two_layers(), gzip));
    assert_eq!(names_in(&world.layout.images().join("blobs/sha256")).len(), 4);
    block_on(world.images.remove("x")).unwrap();
    assert_eq!(names_in(&world.layout.images().join("blobs/sha256")).len(), 0);
}

#[test]
fn a_docker_archive_is_imported_with_all_its_tags() {
    let world = World::new();
    let made = make(&two_layers(), plain);
    let file = world.path("saved.tar");
    fs::write(&file, docker_save(&["busybox:1", "example.test/b:2"], &made)).unwrap();
    let imported = import(&world, &file).unwrap();
    assert_eq!(imported[0].id.as_str(), made.id());
    assert_eq!(imported[0].repo_tags, ["docker.io/library/busybox:1", "example.test/b:2"]);
    assert_eq!(world.images.find("busybox:1").unwrap(), Some(imported[0].clone()));
}

#[test]
fn an_archive_of_several_images_is_imported_whole_and_a_bare_tag_is_named_after_it() {
    let world = World::new();
    let one = make(&two_layers(), gzip);
    let two = make(&two_layers()[..1], gzip);
    let dir = world.path("things");
    write_layout(&dir, &[("latest", &one), ("docker.io/library/two:2", &two)]);
    let imported = import(&world, &dir).unwrap();
    let tags: Vec<_> = imported.iter().flat_map(|i| i.repo_tags.clone()).collect();
    assert_eq!(tags, ["docker.io/library/things:latest", "docker.io/library/two:2"]);
    // The layer that both have is there once.
    assert_eq!(world.layer_folders().len(), 2);
}

#[test]
fn damaged_and_foreign_archives_are_refused_and_leave_nothing() {
    let made = make(&two_layers(), gzip);
    let layer = super::digest::Digest::of(&made.layers[1]);
    let blob = format!("blobs/sha256/{}", layer.hex());
    type Damage = Box<dyn Fn(&Path)>;
    let cases: Vec<(&str, Damage, &str)> = vec![
        (
            "a byte flipped",
            Box::new({
                let blob = blob.clone();
                move |dir| {
                    let mut bytes = fs::read(dir.join(&blob)).unwrap();
                    let at = bytes.len() / 2;
                    bytes[at] ^= 0x40;
                    fs::write(dir.join(&blob), bytes).unwrap();
                }
            }),
            "is damaged",
        ),
        (
            "cut off",
            Box::new({
                let blob = blob.clone();
                move |dir| {
                    let bytes = fs::read(dir.join(&blob)).unwrap();
                    fs::write(dir.join(&blob), &bytes[..bytes.len() - 20]).unwrap();
                }
            }),
            "is damaged",
        ),
        (
            "longer",
            Box::new({
                let blob = blob.clone();
                move |dir| {
                    let mut bytes = fs::read(dir.join(&blob)).unwrap();
                    bytes.extend_from_slice(&[0; 1000]);
                    fs::write(dir.join(&blob), bytes).unwrap();
                }
            }),
            "bytes promised",
        ),
        (
            "missing layer",
            Box::new({
                let blob = blob.clone();
                move |dir| fs::remove_file(dir.join(&blob)).unwrap()
            }),
            "is missing",
        ),
        (
            "layer is a symlink",
            Box::new(move |dir| {
                fs::rename(dir.join(&blob), dir.join("elsewhere")).unwrap();
                std::os::unix::fs::symlink("../../elsewhere", dir.join(&blob)).unwrap();
            }),
            "open",
        ),
        (
            "not an index",
            Box::new(|dir| fs::write(dir.join("index.json"), "{}").unwrap()),
            "schema",
        ),
        (
            "no index",
            Box::new(|dir| fs::remove_file(dir.join("index.json")).unwrap()),
            "neither an OCI layout",
        ),
    ];
    for (name, damage, expected) in cases {
        let world = World::new();
        let dir = world.path("layout");
        write_layout(&dir, &[("x:latest", &made)]);
        damage(&dir);
        let error = crate::error::chain(&import(&world, &dir).unwrap_err());
        assert!(error.contains(expected), "{name}: {error}");
        assert!(world.images.list().is_empty(), "{name}");
        assert_eq!(world.half_made(), 0, "{name}");
    }
    let world = World::new();
    fs::write(world.path("text"), "no archive at all").unwrap();
    assert_eq!(import(&world, &world.path("text")).unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(import(&world, &world.path("absent")).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn a_diff_id_that_does_not_match_is_refused() {
    let world = World::new();
    let mut made = make(&two_layers(), gzip);
    // The blob is what the manifest says, but not what the config says.
    made.layers = make(&[two_layers()[1].clone(), two_layers()[0].clone()], gzip).layers;
    let other = make(&[two_layers()[1].clone(), two_layers()[0].clone()], gzip);
    let mut manifest: serde_json::Value = serde_json::from_slice(&made.manifest).unwrap();
    let theirs: serde_json::Value = serde_json::from_slice(&other.manifest).unwrap();
    manifest["layers"] = theirs["layers"].clone();
    made.manifest = manifest.to_string().into_bytes();
    let dir = world.path("layout");
    write_layout(&dir, &[("x:latest", &made)]);
    let error = import(&world, &dir).unwrap_err();
    assert!(error.to_string().starts_with("uncompressed layer"), "{error}");
    assert!(world.images.list().is_empty());
}

#[test]
fn an_import_that_is_dropped_half_way_leaves_nothing_visible() {
    let mut world = World::new();
    let big = Tar::new().file("big", &"x".repeat(64 << 20)).build();
    let made = make(&[two_layers()[0].clone(), big], plain);
    let dir = world.path("layout");
    write_layout(&dir, &[("x:latest", &made)]);
    block_on(async {
        let (sender, mut events) = tokio::sync::mpsc::unbounded_channel();
        let import = world.images.import(&dir, Some(sender));
        let half = async {
            while let Some(event) = events.recv().await {
                if event.current_bytes > 0 && event.total_bytes > 1 << 20 {
                    return;
                }
            }
            panic!("no progress was told");
        };
        tokio::select! {
            result = import => panic!("finished first: {result:?}"),
            () = half => {}
        }
    });
    assert!(world.images.list().is_empty());
    // The runtime waited for its blocking threads, and they cleaned up.
    assert_eq!(world.half_made(), 0);
    world.reopen();
    assert_eq!(world.layer_folders().len(), 0, "what was committed and is not used is collected");
    assert_eq!(import(&world, &dir).unwrap().len(), 1);
}

#[test]
fn images_survive_a_restart_and_one_that_lost_a_layer_is_named_and_comes_again() {
    let mut world = World::new();
    let (one, two) = (make(&two_layers(), gzip), make(&two_layers()[..1], gzip));
    import_made(&world, "one:latest", &one);
    import_made(&world, "two:latest", &two);
    let before = world.images.list();
    world.reopen();
    assert_eq!(world.images.list(), before);
    // A layer that only `one` has.
    let records = world.layout.images().join("layers");
    let only = world
        .layer_folders()
        .into_iter()
        .find(|name| records.join(name).join("d/etc/b").exists())
        .unwrap();
    let kept: Vec<_> = world.layer_folders().into_iter().filter(|name| *name != only).collect();
    fs::remove_dir_all(records.join(only)).unwrap();
    world.reopen();
    let corrupt = world.images.find("one").unwrap().unwrap();
    let diff_id = super::digest::Digest::of(&two_layers()[1]).to_string();
    assert!(corrupt.corrupt.as_ref().is_some_and(|why| why.contains(&diff_id)), "{corrupt:?}");
    assert_eq!(world.images.find("two").unwrap().unwrap().corrupt, None);
    let id = crate::ids::ContainerId::parse(&crate::ids::random_hex().unwrap()).unwrap();
    let refused = world.images.prepare_snapshot(&corrupt.id, &id, &[], None).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::FailedPrecondition);
    assert!(refused.to_string().contains("is corrupt"), "{refused}");
    // What is there is kept, and what is missing comes again, alone.
    let dir = world.path("again");
    write_layout(&dir, &[("one:latest", &one)]);
    let (sender, mut events) = tokio::sync::mpsc::unbounded_channel();
    block_on(world.images.import(&dir, Some(sender))).unwrap();
    let mut ends = Vec::new();
    while let Ok(event) = events.try_recv() {
        if matches!(event.phase, Phase::Present | Phase::Done) {
            ends.push(event.phase);
        }
    }
    assert_eq!(ends, [Phase::Present, Phase::Done]);
    assert!(kept.iter().all(|name| world.layer_folders().contains(name)));
    world.images.prepare_snapshot(&corrupt.id, &id, &[], None).unwrap();
    world.reopen();
    assert!(world.images.list().iter().all(|image| image.corrupt.is_none()));
    assert_eq!(world.images.list().len(), 2);
}

#[test]
fn a_tag_that_moves_leaves_the_old_image_without_it() {
    let mut world = World::new();
    let (old, new) = (make(&two_layers(), gzip), make(&two_layers()[..1], gzip));
    import_made(&world, "x:1", &old);
    import_made(&world, "x:1", &new);
    for _ in 0..2 {
        assert_eq!(world.images.find("x:1").unwrap().unwrap().id.as_str(), new.id());
        let left = world.images.find(&old.id()).unwrap().unwrap();
        assert_eq!((left.repo_tags.len(), left.repo_digests.len()), (0, 1));
        world.reopen();
    }
}

#[test]
fn removing_any_name_removes_all_of_them_and_what_nobody_uses() {
    let world = World::new();
    let (one, two) = (make(&two_layers(), gzip), make(&two_layers()[..1], gzip));
    import_made(&world, "a:1", &one);
    let dir = world.path("again");
    write_layout(&dir, &[("b:2", &one)]);
    import(&world, &dir).unwrap();
    import_made(&world, "c:latest", &two);
    assert_eq!(world.images.find("a:1").unwrap().unwrap().repo_tags.len(), 2);
    block_on(async {
        let (images, id) = (&world.images, one.id());
        let remove = |name: &'static str| images.remove(name);
        let results = tokio::join!(
            remove("a:1"),
            remove("b:2"),
            images.remove(&id),
            remove("a:1"),
            remove("never-was")
        );
        assert!(matches!(results, (Ok(()), Ok(()), Ok(()), Ok(()), Ok(()))), "{results:?}");
    });
    assert_eq!(world.images.list().len(), 1);
    assert_eq!(world.images.find("b:2").unwrap(), None);
    // `c` shares one layer with it.
    assert_eq!(world.layer_folders().len(), 1);
    assert!(world.images.fs_info().unwrap().used_bytes > 0);
    block_on(world.images.remove("c")).unwrap();
    assert_eq!(world.layer_folders().len(), 0);
    assert_eq!(world.images.fs_info().unwrap().used_bytes, 0);
}

#[test]
fn progress_names_every_layer_and_ends_with_the_image() {
    let world = World::new();
    let made = make(&two_layers(), gzip);
    let dir = world.path("layout");
    write_layout(&dir, &[("x:latest", &made)]);
    let (sender, mut events) = tokio::sync::mpsc::unbounded_channel();
    block_on(world.images.import(&dir, Some(sender))).unwrap();
    let mut all = Vec::new();
    while let Ok(event) = events.try_recv() {
        assert_eq!(event.image, "docker.io/library/x:latest");
        all.push((event.layer, event.phase, event.current_bytes));
    }
    for layer in &made.layers {
        let done =
            (Some(super::digest::Digest::of(layer).to_string()), Phase::Done, layer.len() as u64);
        assert!(all.contains(&done), "{all:?}");
    }
    assert_eq!(all.last().unwrap(), &(None, Phase::Complete, 0));
}

#[test]
fn a_layer_larger_than_permitted_is_refused() {
    let world = World::with(&ImageConfig { max_layer_bytes: 1 << 20, ..ImageConfig::default() });
    // Two megabytes of zeros: two kilobytes compressed.
    let bomb = Tar::new()
        .raw("zeros", tar::EntryType::Regular, Head::default(), &vec![0; 2 << 20])
        .build();
    let dir = world.path("layout");
    write_layout(&dir, &[("x", &make(&[bomb], gzip))]);
    let error = import(&world, &dir).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{error}");
    assert_eq!(world.half_made(), 0);
}
