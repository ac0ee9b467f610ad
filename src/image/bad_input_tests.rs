//! Images that are wrong, and disks that are full: refused with the right kind and words, nothing
//! left behind, and the next attempt succeeds.

use super::digest::Digest;
use super::error::ImageError;
use super::fixtures::{Made, Tar, World, block_on, gzip, make, write_layout};
use super::images::Images;
use crate::config::ImageConfig;
use crate::error::{ErrorKind, chain};
use crate::store::Layout;
use crate::sys::mount::FsContext;
use serde_json::{Value, json};
use std::fs;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn good() -> Made {
    make(&[Tar::new().file("a", "a").build(), Tar::new().file("b", &"b".repeat(99)).build()], gzip)
}

fn put(dir: &Path, bytes: &[u8]) -> Value {
    let digest = Digest::of(bytes);
    fs::write(dir.join("blobs/sha256").join(digest.hex()), bytes).unwrap();
    json!({"digest": digest, "size": bytes.len()})
}

/// Points the layout's index to something else.
fn point(dir: &Path, mut entry: Value, media_type: &str) {
    entry["mediaType"] = json!(media_type);
    let index = json!({"schemaVersion": 2, "manifests": [entry]});
    fs::write(dir.join("index.json"), index.to_string()).unwrap();
}

/// The image with its documents changed, consistent but for that.
fn remade(dir: &Path, made: &Made, change: impl Fn(&mut Value, &mut Value)) {
    let mut manifest: Value = serde_json::from_slice(&made.manifest).unwrap();
    let mut config: Value = serde_json::from_slice(&made.config).unwrap();
    change(&mut manifest, &mut config);
    let described = put(dir, config.to_string().as_bytes());
    manifest["config"]["digest"] = described["digest"].clone();
    manifest["config"]["size"] = described["size"].clone();
    let entry = put(dir, manifest.to_string().as_bytes());
    point(dir, entry, "application/vnd.oci.image.manifest.v1+json");
}

#[test]
fn images_that_are_wrong_are_refused_and_the_next_import_succeeds() {
    type Damage = fn(&Path, &Made);
    let cases: Vec<(&str, Damage, ErrorKind, &str)> = vec![
        (
            "a manifest of 5 MB",
            |dir, made| {
                let long = "x".repeat(5 << 20);
                remade(dir, made, |m, _| m["annotations"] = json!({"long": long}));
            },
            ErrorKind::InvalidArgument,
            "bytes; at most 4194304",
        ),
        (
            "a manifest of 5 MB that claims to be small",
            |dir, made| {
                let long = "x".repeat(5 << 20);
                remade(dir, made, |m, _| m["annotations"] = json!({"long": long}));
                let index = fs::read_to_string(dir.join("index.json")).unwrap();
                let mut index: Value = serde_json::from_str(&index).unwrap();
                index["manifests"][0]["size"] = json!(1000);
                fs::write(dir.join("index.json"), index.to_string()).unwrap();
            },
            ErrorKind::InvalidArgument,
            "bytes; at most 4194304",
        ),
        (
            "indexes without an end",
            |dir, made| {
                let mut entry = put(dir, &made.manifest);
                for _ in 0..6 {
                    let index = json!({"schemaVersion": 2, "manifests": [entry]});
                    entry = put(dir, index.to_string().as_bytes());
                }
                point(dir, entry, OCI_INDEX);
            },
            ErrorKind::InvalidArgument,
            "without an end",
        ),
        (
            "an index that says it is itself",
            |dir, _| {
                let digest = Digest::of(b"itself");
                let entry = json!({"mediaType": OCI_INDEX, "digest": digest, "size": 100});
                let index = json!({"schemaVersion": 2, "manifests": [entry]});
                let path = dir.join("blobs/sha256").join(digest.hex());
                fs::write(path, index.to_string()).unwrap();
                point(dir, entry, OCI_INDEX);
            },
            ErrorKind::FailedPrecondition,
            "is damaged: expected",
        ),
        (
            "a config without rootfs",
            |dir, made| {
                remade(dir, made, |_, config| {
                    config.as_object_mut().unwrap().remove("rootfs");
                });
            },
            ErrorKind::InvalidArgument,
            "the config has no rootfs",
        ),
        (
            "fewer diff ids than layers",
            |dir, made| {
                remade(dir, made, |_, config| {
                    config["rootfs"]["diff_ids"].as_array_mut().unwrap().pop();
                });
            },
            ErrorKind::InvalidArgument,
            "1 diff ids for 2 layers",
        ),
        (
            "a layer of an unknown type",
            |dir, made| {
                remade(dir, made, |m, _| m["layers"][1]["mediaType"] = json!("text/html"));
            },
            ErrorKind::InvalidArgument,
            "unknown media type \"text/html\"",
        ),
        (
            "a foreign layer",
            |dir, made| {
                let kind = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
                remade(dir, made, |m, _| m["layers"][0]["mediaType"] = json!(kind));
            },
            ErrorKind::InvalidArgument,
            "is foreign",
        ),
        (
            "an artifact",
            |dir, made| {
                remade(dir, made, |m, _| m["config"]["mediaType"] = json!("application/x.wasm"));
            },
            ErrorKind::InvalidArgument,
            "an artifact (application/x.wasm)",
        ),
        (
            "a layer whose gzip ends early, its digest right",
            |dir, made| {
                let cut = put(dir, &made.layers[1][..made.layers[1].len() - 12]);
                remade(dir, made, |m, _| {
                    m["layers"][1]["digest"] = cut["digest"].clone();
                    m["layers"][1]["size"] = cut["size"].clone();
                });
            },
            ErrorKind::InvalidArgument,
            "read the archive",
        ),
        (
            "a layer that is no archive",
            |dir, made| {
                let text = put(
                    dir,
                    "no archive at all, but long enough for a header ".repeat(99).as_bytes(),
                );
                remade(dir, made, |m, _| {
                    m["layers"][1]["digest"] = text["digest"].clone();
                    m["layers"][1]["size"] = text["size"].clone();
                });
            },
            ErrorKind::InvalidArgument,
            "read the archive",
        ),
        (
            "a layer that is smaller than promised",
            |dir, made| {
                remade(dir, made, |m, _| m["layers"][1]["size"] = json!(100_000));
            },
            ErrorKind::FailedPrecondition,
            "expected 100000 bytes",
        ),
    ];
    for (name, damage, kind, words) in cases {
        let world = World::new();
        let made = good();
        let dir = world.path("layout");
        write_layout(&dir, &[("x:latest", &made)]);
        damage(&dir, &made);
        let error = block_on(world.images.import(&dir, None)).unwrap_err();
        let text = chain(&error);
        assert!(text.contains(words), "{name}: {text}");
        assert_eq!(error.kind(), kind, "{name}: {text}");
        assert!(world.images.list().is_empty(), "{name}");
        // Not even the layer that was whole.
        assert_eq!((world.half_made(), world.layer_folders().len()), (0, 0), "{name}");
        write_layout(&dir, &[("x:latest", &made)]);
        assert_eq!(block_on(world.images.import(&dir, None)).unwrap().len(), 1, "{name}");
    }
}

#[test]
fn zeros_behind_the_end_of_an_archive_are_bounded() {
    let config = ImageConfig { max_layer_bytes: 2 << 20, ..ImageConfig::default() };
    let world = World::with(&config);
    let mut bomb = Tar::new().file("a", "a").build();
    bomb.resize(8 << 20, 0);
    let dir = world.path("layout");
    write_layout(&dir, &[("x:latest", &make(&[bomb], gzip))]);
    let error = block_on(world.images.import(&dir, None)).unwrap_err();
    assert!(chain(&error).contains("the padding, are too large"), "{}", chain(&error));
    assert_eq!((world.half_made(), world.layer_folders().len()), (0, 0));
}

/// A store on a file system of its own, which nobody else sees.
struct Small {
    root: PathBuf,
    images: Images,
    layout: Layout,
    _mount: OwnedFd,
}

impl Small {
    fn new() -> Self {
        let context = FsContext::open(c"tmpfs").unwrap();
        context.set(c"size", c"16m").unwrap();
        let mount = context.mount(0).unwrap();
        let root = PathBuf::from(format!("/proc/self/fd/{}/", mount.as_raw_fd()));
        let layout = Layout::new(root.join("run"), root.join("state"));
        layout.create().unwrap();
        let config = ImageConfig { keep_blobs: true, ..ImageConfig::default() };
        let images = Images::open(&config, &layout).unwrap();
        Self { root, images, layout, _mount: mount }
    }

    /// Takes all space but this.
    fn leave(&self, bytes: u64) {
        fs::remove_file(self.root.join("filler")).ok();
        let stat = nix::sys::statvfs::statvfs(&self.root).unwrap();
        let free = stat.blocks_available() * stat.fragment_size();
        let file = fs::File::create(self.root.join("filler")).unwrap();
        let take = i64::try_from(free.saturating_sub(bytes)).unwrap();
        nix::fcntl::fallocate(&file, nix::fcntl::FallocateFlags::empty(), 0, take.max(1)).unwrap();
    }

    fn leftovers(&self) -> Vec<String> {
        let images = self.layout.images();
        let of = |folder: &str| super::fixtures::names_in(&images.join(folder));
        let mut all = of("layers");
        all.retain(|name| name != "empty");
        [all, of("ingest"), of("records"), of("blobs/sha256")].concat()
    }
}

#[test]
fn a_disk_that_fills_up_anywhere_fails_the_import_cleanly() {
    let source = World::new();
    let noise: Vec<u8> =
        (0..3u32 << 20).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    let many = (0..300).fold(Tar::new(), |tar, n| tar.file(&format!("d/{n}"), "small"));
    let large =
        Tar::new().raw("large", tar::EntryType::Regular, super::fixtures::Head::default(), &noise);
    let dir = source.path("layout");
    write_layout(&dir, &[("x:latest", &make(&[many.build(), large.build()], gzip))]);
    let small = Small::new();
    let import = || -> Result<_, ImageError> { block_on(small.images.import(&dir, None)) };
    let mut failed = 0;
    for free in [0, 8 << 10, 64 << 10, 512 << 10, 1 << 20, 3 << 20, 4 << 20] {
        small.leave(free);
        let Err(error) = import() else { break };
        assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{free}: {}", chain(&error));
        assert!(chain(&error).contains("No space left"), "{free}: {}", chain(&error));
        assert!(small.images.list().is_empty(), "{free}");
        assert_eq!(small.leftovers(), [""; 0], "{free}");
        failed += 1;
    }
    assert!(failed >= 5, "the disk was never full: {failed}");
    fs::remove_file(small.root.join("filler")).unwrap();
    let imported = import().unwrap();
    assert_eq!(imported.len(), 1);
    // An export that meets a full disk leaves nothing, either.
    small.leave(256 << 10);
    let out = small.root.join("out.tar");
    let error = block_on(small.images.export("x", &out)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{}", chain(&error));
    let beside = super::fixtures::names_in(&small.root);
    assert_eq!(beside, ["filler", "run", "state"]);
}
