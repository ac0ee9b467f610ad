//! Pulls from a real docker-registry, some through a proxy that breaks the connection.

use super::digest::Digest;
use super::error::ImageError;
use super::fixtures::{Made, Tar, World, block_on, gzip, make, zstd};
use super::info::Phase;
use super::registry_fixture::{Fault, Proxy, Registry};
use crate::config::ImageConfig;
use crate::error::ErrorKind;
use serde_json::json;
use std::time::Duration;

/// Bytes that do not compress, from a small generator.
fn noise(bytes: usize, seed: u64) -> String {
    let mut state = seed | 1;
    let mut text = String::with_capacity(bytes);
    while text.len() < bytes {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        text.push(char::from(b'!' + u8::try_from(state >> 58).unwrap()));
    }
    text
}

fn base() -> Vec<u8> {
    Tar::new().dir("d", 0o755).file("d/big", &noise(3 << 20, 7)).build()
}

fn image(seed: u64) -> Made {
    make(&[base(), Tar::new().dir("e", 0o755).file("e/own", &noise(1 << 20, seed)).build()], gzip)
}

fn blob(made: &Made, layer: usize) -> String {
    Digest::of(&made.layers[layer]).hex().to_owned()
}

#[test]
fn an_image_is_pulled_by_tag_and_by_digest() {
    let (registry, world) = (Registry::start(), World::new());
    let made = make(&[base(), Tar::new().file("x", "y").build()], zstd);
    registry.push("a/b", "v1", &made);
    let name = format!("{}/a/b", registry.address);
    block_on(async {
        let id = world.images.pull(&format!("{name}:v1"), None, None).await.unwrap();
        assert_eq!(id.as_str(), made.id());
        let by_digest = format!("{name}@{}", made.manifest_digest());
        let info = world.images.find(&by_digest).unwrap().unwrap();
        assert_eq!(info.id, id);
        assert_eq!(info.repo_tags, [format!("{name}:v1")]);
        assert_eq!(info.repo_digests, std::slice::from_ref(&by_digest));
        assert!(info.size > 3 << 20);
        assert_eq!(world.images.pull(&by_digest, None, None).await.unwrap(), id);
        assert_eq!(world.images.list(), [info]);
    });
    assert_eq!((world.half_made(), world.layer_folders().len()), (0, 2));
}

#[test]
fn of_an_index_the_image_for_this_machine_is_pulled() {
    let (registry, world) = (Registry::start(), World::new());
    let (own, other) = (image(1), image(2));
    let mut manifests = Vec::new();
    for (made, architecture) in [(&other, "riscv64"), (&own, "amd64")] {
        registry.push("multi", "part", made);
        manifests.push(json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": made.manifest_digest(), "size": made.manifest.len(),
            "platform": {"os": "linux", "architecture": architecture},
        }));
    }
    let kind = "application/vnd.oci.image.index.v1+json";
    let index = json!({"schemaVersion": 2, "mediaType": kind, "manifests": manifests}).to_string();
    registry.push_manifest("multi", "all", kind, index.as_bytes());
    let name = format!("{}/multi", registry.address);
    let id = block_on(world.images.pull(&format!("{name}:all"), None, None)).unwrap();
    assert_eq!(id.as_str(), own.id());
    let info = world.images.find(id.as_str()).unwrap().unwrap();
    assert_eq!(info.repo_digests, [format!("{name}@{}", Digest::of(index.as_bytes()))]);
}

#[test]
fn identical_pulls_in_flight_are_one_and_a_shared_layer_is_fetched_once() {
    let (registry, world) = (Registry::start(), World::new());
    let (one, two) = (image(1), image(2));
    registry.push("x", "1", &one);
    registry.push("x", "2", &two);
    let proxy = Proxy::start(&registry, Fault::None, "");
    let name = |tag: u8| format!("{}/x:{tag}", proxy.address);
    let (sender, mut events) = tokio::sync::mpsc::unbounded_channel();
    block_on(async {
        let (a, b, c, d) = (name(1), name(1), name(1), name(2));
        let results = tokio::join!(
            world.images.pull(&a, None, None),
            world.images.pull(&b, None, Some(sender)),
            world.images.pull(&c, None, None),
            world.images.pull(&d, None, None),
        );
        let id = |made: &Made| made.id();
        assert_eq!(results.0.unwrap().as_str(), id(&one));
        assert_eq!(results.1.unwrap().as_str(), id(&one));
        assert_eq!(results.2.unwrap().as_str(), id(&one));
        assert_eq!(results.3.unwrap().as_str(), id(&two));
    });
    assert_eq!(proxy.count("/manifests/1"), 1);
    for digest in [blob(&one, 0), blob(&one, 1), blob(&two, 1)] {
        assert_eq!(proxy.count(&digest), 1);
    }
    // Who joined hears of it, too.
    let mut phases = Vec::new();
    while let Ok(event) = events.try_recv() {
        phases.push(event.phase);
    }
    assert!(phases.contains(&Phase::Unpacking) && phases.last() == Some(&Phase::Complete));
}

#[test]
fn a_blob_that_breaks_off_is_resumed_where_it_broke() {
    let (registry, world) = (Registry::start(), World::new());
    let made = image(1);
    registry.push("x", "1", &made);
    let digest = blob(&made, 0);
    let proxy = Proxy::start(&registry, Fault::Cut(1_000_000), &digest);
    let pulled = block_on(world.images.pull(&format!("{}/x:1", proxy.address), None, None));
    assert_eq!(pulled.unwrap().as_str(), made.id());
    assert_eq!(proxy.count(&digest), 2);
    let whole = proxy.count("bytes=0-");
    assert!(proxy.count("bytes=") > whole, "the second request asks for the rest");
}

#[test]
fn content_that_changes_on_the_way_is_refused_and_the_next_pull_succeeds() {
    let (registry, world) = (Registry::start(), World::new());
    let made = image(1);
    registry.push("x", "1", &made);
    let manifest = "/manifests/1";
    let config = Digest::of(&made.config).hex().to_owned();
    for (name, picked, at) in [
        ("layer", blob(&made, 0), 800_000),
        ("config", config, 700),
        ("manifest", manifest.into(), 900),
    ] {
        let proxy = Proxy::start(&registry, Fault::Flip(at), &picked);
        let tag = format!("{}/x:1", proxy.address);
        let error = block_on(world.images.pull(&tag, None, None)).unwrap_err();
        assert_ne!(error.kind(), ErrorKind::Internal, "{name}: {}", crate::error::chain(&error));
        assert!(world.images.list().is_empty(), "{name}");
        assert_eq!(world.half_made(), 0, "{name}");
        let again = block_on(world.images.pull(&tag, None, None));
        assert_eq!(again.unwrap().as_str(), made.id(), "{name}");
        block_on(world.images.remove(&tag)).unwrap();
    }
}

#[test]
fn a_layer_that_a_mirror_has_damaged_is_fetched_from_the_registry() {
    let (registry, dir) = (Registry::start(), tempfile::tempdir().unwrap());
    let made = image(1);
    registry.push("x", "1", &made);
    let mirror = Proxy::start(&registry, Fault::Flip(800_000), &blob(&made, 0));
    let folder = dir.path().join("up.test");
    std::fs::create_dir(&folder).unwrap();
    let hosts =
        format!("server = \"http://{}\"\n[host.\"http://{}\"]\n", registry.address, mirror.address);
    std::fs::write(folder.join("hosts.toml"), hosts).unwrap();
    let config = ImageConfig { hosts_dirs: vec![dir.path().into()], ..ImageConfig::default() };
    let world = World::with(&config);
    let id = block_on(world.images.pull("up.test/x:1", None, None)).unwrap();
    assert_eq!(id.as_str(), made.id());
    assert_eq!((mirror.count(&blob(&made, 0)), world.half_made()), (1, 0));
}

#[test]
fn lists_and_look_ups_do_not_wait_for_a_pull_that_hangs_and_dropping_it_leaves_nothing() {
    let (registry, world) = (Registry::start(), World::new());
    let made = image(1);
    registry.push("x", "1", &made);
    let proxy = Proxy::start(&registry, Fault::Stall, &blob(&made, 0));
    let tag = format!("{}/x:1", proxy.address);
    block_on(async {
        let (sender, mut events) = tokio::sync::mpsc::unbounded_channel();
        let first = world.images.pull(&tag, None, Some(sender));
        let second = world.images.pull(&tag, None, None);
        let watch = async {
            // The small layer above comes through while the large one hangs.
            while let Some(event) = events.recv().await {
                if event.phase == Phase::Unpacking && event.current_bytes > 0 {
                    break;
                }
            }
            assert!(world.images.list().is_empty());
            assert_eq!(world.images.find(&tag).unwrap(), None);
        };
        let limit = Duration::from_secs(60);
        tokio::time::timeout(limit, async {
            tokio::select! {
                result = async { tokio::join!(first, second) } => panic!("finished: {result:?}"),
                () = watch => {}
            }
        })
        .await
        .unwrap();
    });
    assert_eq!((world.half_made(), world.images.list().len()), (0, 0));
    // The registry is well; only that one answer was lost.
    assert_eq!(block_on(world.images.pull(&tag, None, None)).unwrap().as_str(), made.id());
}

#[test]
fn when_one_of_two_waiters_leaves_the_other_still_gets_the_image() {
    let (registry, world) = (Registry::start(), World::new());
    let made = image(1);
    registry.push("x", "1", &made);
    let tag = format!("{}/x:1", registry.address);
    block_on(async {
        let (sender, mut events) = tokio::sync::mpsc::unbounded_channel();
        let mut first = Box::pin(world.images.pull(&tag, None, Some(sender)));
        let second = world.images.pull(&tag, None, None);
        // The first drives the pull until it is under way, then leaves.
        tokio::select! {
            result = &mut first => panic!("finished first: {result:?}"),
            _ = events.recv() => {}
        }
        let (pulled, ()) = tokio::join!(second, async { drop(first) });
        assert_eq!(pulled.unwrap().as_str(), made.id());
    });
}

#[test]
fn a_registry_without_the_image_or_without_an_answer_is_told_apart() {
    let (registry, world) = (Registry::start(), World::new());
    let pull = |name: String| block_on(world.images.pull(&name, None, None)).unwrap_err();
    let error = pull(format!("{}/absent:1", registry.address));
    assert_eq!(error.kind(), ErrorKind::NotFound, "{}", crate::error::chain(&error));
    let address = registry.address.clone();
    drop(registry);
    let error = pull(format!("{address}/absent:1"));
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", crate::error::chain(&error));
    let error = pull("Not A Reference".to_owned());
    assert!(matches!(error, ImageError::InvalidReference { .. }), "{error}");
}
