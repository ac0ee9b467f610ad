//! Layers mounted together by the kernel, seen through the mount's descriptor; both ways of
//! mounting.

use super::fixtures::{Head, Made, Tar, World, block_on, gzip, make, write_layout};
use super::images::Images;
use super::layers::View;
use super::overlay::Way;
use super::store::Store;
use crate::config::ImageConfig;
use crate::ids::{ContainerId, ImageId, random_hex};
use std::fs;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use tar::EntryType::{Directory, Regular};

fn import(world: &World, tars: &[Vec<u8>]) -> ImageId {
    import_made(world, &make(tars, gzip))
}

fn import_made(world: &World, made: &Made) -> ImageId {
    let dir = world.path("layout");
    fs::remove_dir_all(&dir).ok();
    write_layout(&dir, &[("test:latest", made)]);
    block_on(world.images.import(&dir, None)).unwrap().remove(0).id
}

/// A mounted container; its files by `/proc/self/fd`.
struct Mounted {
    id: ContainerId,
    root: PathBuf,
    _fd: OwnedFd,
}

fn mount(images: &Images, image: &ImageId) -> Mounted {
    let id = ContainerId::parse(&random_hex().unwrap()).unwrap();
    images.prepare_snapshot(image, &id, &[], None).unwrap();
    remount(images, id)
}

fn remount(images: &Images, id: ContainerId) -> Mounted {
    let fd = images.mount_snapshot(&id, View::default()).unwrap();
    let root = PathBuf::from(format!("/proc/self/fd/{}/", fd.as_raw_fd()));
    Mounted { id, root, _fd: fd }
}

impl Mounted {
    fn names(&self, path: &str) -> Vec<String> {
        super::fixtures::names_in(&self.root.join(path))
    }

    fn meta(&self, path: &str) -> fs::Metadata {
        fs::symlink_metadata(self.root.join(path)).unwrap()
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.root.join(path)).unwrap()
    }
}

fn host_mounts() -> usize {
    fs::read_to_string("/proc/self/mountinfo").unwrap().lines().count()
}

/// The ways of mounting that this kernel has.
#[expect(clippy::print_stderr, reason = "a way that is not tested is named")]
fn ways() -> Vec<Way> {
    let release = nix::sys::utsname::uname().unwrap().release().to_string_lossy().into_owned();
    let mut numbers = release.split('.').map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap(), numbers.next().unwrap());
    // overlayfs has lowerdir+ since then.
    if version < (6, 8) {
        eprintln!("skipped: mounts by lowerdir+: Linux {release} has none");
        return vec![Way::MountData];
    }
    vec![Way::LowerPlus, Way::MountData]
}

/// A store in `world` that mounts in a given way.
fn by(way: Way, world: &World) -> Images {
    let store = Store::open(&world.layout.images()).unwrap().with_way(way);
    Images::with_store(&ImageConfig::default(), &world.layout, store).unwrap()
}

#[test]
fn whiteouts_and_opaque_directories_hide_what_is_below_in_both_ways_of_mounting() {
    let world = World::new();
    let image = import(
        &world,
        &[
            Tar::new()
                .dir("a", 0o755)
                .file("a/keep", "")
                .file("a/drop", "")
                .dir("b", 0o755)
                .file("b/old", "")
                .dir("c", 0o755)
                .file("c/old", "")
                .build(),
            Tar::new()
                .dir("a", 0o755)
                .file("a/.wh.drop", "")
                .dir("b", 0o755)
                .file("b/.wh..wh..opq", "")
                .file("b/new", "")
                .file(".wh.c", "")
                .build(),
            Tar::new().dir("c", 0o755).file("c/back", "").build(),
        ],
    );
    for way in ways() {
        let before = host_mounts();
        let mounted = mount(&by(way, &world), &image);
        assert_eq!(host_mounts(), before, "{way:?}");
        assert_eq!(mounted.names("a"), ["keep"], "{way:?}");
        assert_eq!(mounted.names("b"), ["new"], "{way:?}");
        assert_eq!(mounted.names("c"), ["back"], "{way:?}");
        assert_eq!(mounted.names(""), ["a", "b", "c"], "{way:?}");
        // What is written stays in the container's own layer.
        fs::write(mounted.root.join("a/own"), "x").unwrap();
        fs::remove_file(mounted.root.join("a/keep")).unwrap();
        let upper = world.layout.snapshots().join(mounted.id.as_str()).join("fs/a");
        assert!(fs::symlink_metadata(upper.join("keep")).unwrap().file_type().is_char_device());
        assert_eq!(fs::read_to_string(upper.join("own")).unwrap(), "x");
    }
}

// Applied one after the other, the second layer would find /tmp with its sticky bit.
#[test]
fn a_directory_that_a_layer_does_not_mention_keeps_what_it_was() {
    let world = World::new();
    let head = Head { mode: 0o1777, uid: 11, gid: 12, mtime: 1_500_000_000 };
    let base = Tar::new()
        .raw("tmp", Directory, head, b"")
        .pax(&[("SCHILY.xattr.user.mark", b"deep"), ("mtime", b"1500000001.5")])
        .raw("tmp/deep", Directory, Head { mode: 0o2750, ..head }, b"")
        .build();
    let middle = Tar::new().file("other", "").build();
    let image = import(
        &world,
        &[base, middle, Tar::new().file("tmp/deep/x", "").file("new/y", "").build()],
    );
    let mounted = mount(&world.images, &image);
    let tmp = mounted.meta("tmp");
    assert_eq!(
        (tmp.mode() & 0o7777, tmp.uid(), tmp.gid(), tmp.mtime()),
        (0o1777, 11, 12, 1_500_000_000)
    );
    let deep = mounted.meta("tmp/deep");
    assert_eq!((deep.mode() & 0o7777, deep.uid()), (0o2750, 11));
    assert_eq!((deep.mtime(), deep.mtime_nsec()), (1_500_000_001, 500_000_000));
    let mark = xattr::get(mounted.root.join("tmp/deep"), "user.mark").unwrap();
    assert_eq!(mark.as_deref(), Some(&b"deep"[..]));
    // In no layer below: root's, like any directory that is made on the way.
    let new = mounted.meta("new");
    assert_eq!((new.mode() & 0o7777, new.uid()), (0o755, 0));
}

#[test]
fn the_same_layer_above_others_takes_their_metadata_and_is_shared_where_it_can_be() {
    let world = World::new();
    let base = |mode| Tar::new().dir("tmp", mode).build();
    let top = Tar::new().file("tmp/x", "").build();
    let whole = Tar::new().dir("opt", 0o700).file("opt/x", "").build();
    let one = import(&world, &[base(0o1777), top.clone(), whole.clone()]);
    let two = import(&world, &[base(0o700), top, whole]);
    // Two bases, the incomplete layer above each, and the complete one once.
    assert_eq!(world.layer_folders().len(), 5);
    let mode = |image| mount(&world.images, image).meta("tmp").mode() & 0o7777;
    assert_eq!((mode(&one), mode(&two)), (0o1777, 0o700));
}

#[test]
fn a_hard_link_to_a_lower_layer_becomes_a_copy_with_everything() {
    let world = World::new();
    let head = Head { mode: 0o4755, uid: 3, gid: 4, mtime: 1_400_000_000 };
    let base = Tar::new()
        .dir("bin", 0o755)
        .pax(&[("SCHILY.xattr.user.a", b"b")])
        .raw("bin/tool", Regular, head, b"content")
        .symlink("alias", "bin")
        .symlink("bin/sym", "tool")
        .build();
    let top = Tar::new()
        .dir("bin", 0o755)
        .link("bin/one", "bin/tool")
        .link("bin/two", "/alias/tool")
        .link("bin/three", "bin/one")
        .link("bin/sym2", "bin/sym")
        .file("bin/own", "own")
        .link("bin/own2", "bin/own")
        .build();
    let image = import(&world, &[base, top]);
    let mounted = mount(&world.images, &image);
    for name in ["bin/one", "bin/two", "bin/three"] {
        let meta = mounted.meta(name);
        assert_eq!((meta.mode() & 0o7777, meta.uid(), meta.gid()), (0o4755, 3, 4), "{name}");
        assert_eq!(meta.mtime(), 1_400_000_000, "{name}");
        assert_eq!(mounted.read(name), "content", "{name}");
        let attribute = xattr::get(mounted.root.join(name), "user.a").unwrap();
        assert_eq!(attribute.as_deref(), Some(&b"b"[..]), "{name}");
        assert_eq!(meta.nlink(), 3, "{name}: one copy, linked");
    }
    assert_eq!(mounted.meta("bin/own2").ino(), mounted.meta("bin/own").ino());
    assert_eq!(fs::read_link(mounted.root.join("bin/sym2")).unwrap(), Path::new("tool"));
}

#[test]
fn a_hard_link_to_nothing_is_refused_with_its_name() {
    let world = World::new();
    for tars in [
        vec![Tar::new().link("a", "nowhere").build()],
        vec![Tar::new().file("x", "").build(), Tar::new().link("a", "nowhere").build()],
        vec![Tar::new().symlink("s", "/etc").build(), Tar::new().link("a", "s/passwd").build()],
    ] {
        let dir = world.path("layout");
        fs::remove_dir_all(&dir).ok();
        write_layout(&dir, &[("test:latest", &make(&tars, gzip))]);
        let error = block_on(world.images.import(&dir, None)).unwrap_err();
        let text = crate::error::chain(&error);
        assert!(text.contains("entry \"a\" is refused"), "{text}");
        assert_eq!((world.images.list().len(), world.half_made()), (0, 0));
    }
}

// Debian's and other merged-/usr bases have /lib as a symlink, and layers that name lib/x alone.
#[test]
fn files_below_a_symlink_of_a_lower_layer_land_where_it_leads() {
    let world = World::new();
    let base = Tar::new()
        .dir("usr", 0o755)
        .dir("usr/lib", 0o711)
        .file("usr/lib/old", "")
        .symlink("lib", "usr/lib")
        .symlink("abs", "/usr/lib/sub")
        .symlink("out", "../../../..")
        .build();
    let top = Tar::new()
        .file("lib/new", "n")
        .file("lib/deep/er", "d")
        .file("abs/x", "s")
        .file("out/escaped", "e")
        .build();
    let image = import(&world, &[base, top]);
    let mounted = mount(&world.images, &image);
    assert_eq!(mounted.names("usr/lib"), ["deep", "new", "old", "sub"]);
    assert_eq!(fs::read_link(mounted.root.join("lib")).unwrap(), Path::new("usr/lib"));
    assert_eq!(mounted.read("usr/lib/sub/x"), "s");
    assert_eq!(mounted.meta("usr/lib").mode() & 0o777, 0o711);
    // The root is where a symlink that leads out ends.
    assert_eq!(mounted.names(""), ["abs", "escaped", "lib", "out", "usr"]);
}

#[test]
fn a_directory_entry_replaces_a_symlink_and_an_opaque_root_hides_everything() {
    let world = World::new();
    let base = Tar::new().dir("real", 0o755).file("real/x", "").symlink("l", "real").build();
    let image = import(&world, &[base.clone(), Tar::new().dir("l", 0o755).file("l/y", "").build()]);
    let mounted = mount(&world.images, &image);
    assert_eq!((mounted.names("l"), mounted.names("real")), (vec!["y".into()], vec!["x".into()]));
    let image = import(&world, &[base, Tar::new().file(".wh..wh..opq", "").file("z", "").build()]);
    assert_eq!(mount(&world.images, &image).names(""), ["z"]);
}

#[test]
fn the_root_directory_is_the_images_and_repeated_and_empty_layers_mount() {
    let world = World::new();
    let empty = Tar::new().build();
    let head = Head { mode: 0o751, uid: 1, gid: 2, mtime: 77 };
    let base = Tar::new().raw("./", Directory, head, b"").file("./x", "").build();
    let image = import(&world, &[empty.clone(), base.clone(), empty.clone(), base, empty.clone()]);
    let mounted = mount(&world.images, &image);
    let root = mounted.meta("");
    assert_eq!((root.mode() & 0o7777, root.uid(), root.gid(), root.mtime()), (0o751, 1, 2, 77));
    assert_eq!(mounted.names(""), ["x"]);
    let image = import(&world, &[empty]);
    let mounted = mount(&world.images, &image);
    assert_eq!(mounted.meta("").permissions().mode() & 0o7777, 0o755);
    let image = import(&world, &[]);
    assert_eq!(mount(&world.images, &image).names("").len(), 0);
}

#[test]
fn a_hundred_and_thirty_layers_mount_in_both_ways() {
    let world = World::new();
    let tars: Vec<_> = (0..130)
        .map(|n| Tar::new().file(&format!("f{n}"), "").file("top", &n.to_string()).build())
        .collect();
    let image = import(&world, &tars);
    for way in ways() {
        let mounted = mount(&by(way, &world), &image);
        assert_eq!(
            (mounted.names("").len(), mounted.read("top")),
            (131, "129".to_owned()),
            "{way:?}"
        );
    }
}

#[test]
fn a_state_folder_with_a_long_and_odd_name_mounts_in_both_ways() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("a,b:c\\d").join("l".repeat(200));
    let layout = crate::store::Layout::new(dir.path().join("run"), state);
    layout.create().unwrap();
    let images = Images::open(&ImageConfig::default(), &layout).unwrap();
    let world = World { dir, layout, images };
    let image = import(&world, &[Tar::new().file("x", "1").build()]);
    for way in ways() {
        let mounted = mount(&by(way, &world), &image);
        fs::write(mounted.root.join("y"), "").unwrap();
        assert_eq!(mounted.names(""), ["x", "y"], "{way:?}");
    }
}

#[test]
fn a_snapshot_outlives_its_image_and_a_restart_and_then_everything_goes() {
    let mut world = World::new();
    let image = import(&world, &[Tar::new().file("x", "1").build()]);
    let mounted = mount(&world.images, &image);
    fs::write(mounted.root.join("y"), "2").unwrap();
    let id = mounted.id.clone();
    drop(mounted);
    block_on(world.images.remove("test")).unwrap();
    assert!(world.images.list().is_empty());
    world.reopen();
    let mounted = remount(&world.images, id.clone());
    assert_eq!(mounted.names(""), ["x", "y"]);
    drop(mounted);
    assert_eq!(world.images.retain_snapshots(std::slice::from_ref(&id)), Vec::<String>::new());
    assert_eq!(world.images.retain_snapshots(&[]).len(), 1);
    assert_eq!(world.layer_folders().len(), 0);
    world.images.remove_snapshot(&id).unwrap();
    assert!(world.images.mount_snapshot(&id, View::default()).is_err());
}

#[test]
fn preparing_is_repeatable_but_not_over_another_image() {
    let world = World::new();
    let one = import(&world, &[Tar::new().file("x", "1").build()]);
    let two = import(&world, &[Tar::new().file("x", "2").build()]);
    let id = ContainerId::parse(&random_hex().unwrap()).unwrap();
    for _ in 0..2 {
        world.images.prepare_snapshot(&one, &id, &[], None).unwrap();
    }
    assert!(world.images.prepare_snapshot(&two, &id, &[], None).is_err());
    let unknown = ImageId::parse(&"0".repeat(64)).unwrap();
    let error = world.images.prepare_snapshot(&unknown, &id, &[], None).unwrap_err();
    assert_eq!(error.kind(), crate::error::ErrorKind::NotFound);
    world.images.remove_snapshot(&id).unwrap();
    world.images.prepare_snapshot(&two, &id, &[], None).unwrap();
}

#[test]
fn usage_counts_the_writable_layer_alone() {
    let world = World::new();
    let image = import(&world, &[Tar::new().file("big", &"x".repeat(1 << 20)).build()]);
    let mounted = mount(&world.images, &image);
    fs::write(mounted.root.join("own"), vec![1; 300_000]).unwrap();
    let usage = world.images.snapshot_usage(&mounted.id).unwrap();
    assert!((300_000..400_000).contains(&usage.used_bytes), "{usage:?}");
    assert_eq!(usage.inodes_used, 2);
    // Measured again only after some seconds.
    fs::write(mounted.root.join("more"), "").unwrap();
    assert_eq!(world.images.snapshot_usage(&mounted.id).unwrap(), usage);
    assert!(world.images.fs_info().unwrap().used_bytes >= 1 << 20);
}
