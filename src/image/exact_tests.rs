//! Each attribute of a file that is changed on disk is named by a verification, and nothing else is.

use super::fixtures::{Head, Tar, World, block_on, gzip, make, write_layout};
use super::layers::View;
use crate::ids::{ContainerId, ImageId, random_hex};
use nix::sys::stat::{Mode, SFlag, UtimensatFlags, makedev, mknod, utimensat};
use nix::sys::time::TimeSpec;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, lchown, symlink};
use std::path::Path;
use tar::EntryType::{Block, Char, Directory, Fifo, Regular};

const CAPABILITY: &[u8] = &[1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const OTHER: &[u8] = &[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// A GNU tar's sparse file: 8 KiB, the last 4 of which are in the archive.
fn sparse(name: &str) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let file = fs::File::create(dir.path().join(name)).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[7; 4096], 1 << 20).unwrap();
    let mut tar = std::process::Command::new("tar");
    tar.args(["--format=gnu", "--sparse", "-cf", "-", "-C"]).arg(dir.path()).arg(name);
    tar.output().unwrap().stdout
}

fn tars() -> Vec<Vec<u8>> {
    let head = |mode| Head { mode, uid: 1000, gid: 2000, mtime: 1_500_000_000 };
    let base = Tar::new()
        .raw("./", Directory, head(0o755), b"")
        .raw("tmp/", Directory, head(0o1777), b"")
        .pax(&[("mtime", b"1234567890.987654321"), ("SCHILY.xattr.user.dir", b"1")])
        .dir("usr", 0o751)
        .dir("usr/lib", 0o2755)
        .symlink("lib", "usr/lib")
        .pax(&[("SCHILY.xattr.security.capability", CAPABILITY)])
        .raw("usr/tool", Regular, head(0o755), b"tool")
        .pax(&[("SCHILY.xattr.user.note", b"note"), ("mtime", b"1.5")])
        .raw("file", Regular, head(0o4711), b"content")
        .link("hard", "file")
        .raw("twin", Regular, head(0o600), b"")
        .raw("twin2", Regular, head(0o600), b"")
        .raw("null", Char, head(0o666), b"")
        .raw("disk", Block, head(0o660), b"")
        .raw("pipe", Fifo, head(0o600), b"")
        .file("replaced", "first")
        .link("other", "replaced")
        .file("replaced", "second")
        .dir("gone", 0o700)
        .dir("emptied", 0o700)
        .dir("behind", 0o755)
        .symlink("way", "behind")
        .build();
    let upper = Tar::new()
        .file("tmp/x", "x")
        .file("lib/moved", "moved")
        .link("usr/hard", "usr/tool")
        .link("usr/harder", "usr/hard")
        .file(".wh.gone", "")
        .file("emptied/.wh..wh..opq", "")
        .file("made/on/the/way", "")
        .file(".wh.behind", "")
        .file("way/in", "")
        .build();
    vec![base, upper, sparse("holes")]
}

fn import(world: &World) -> ImageId {
    let layout = world.path("layout");
    fs::remove_dir_all(&layout).ok();
    write_layout(&layout, &[("x.test/a:1", &make(&tars(), gzip))]);
    block_on(world.images.import(&layout, None)).unwrap().remove(0).id
}

/// The problems of each layer.
fn problems(world: &World) -> Vec<Vec<String>> {
    let verified = block_on(world.images.verify("x.test/a:1")).unwrap();
    assert_eq!(verified.problems, [""; 0]);
    assert_eq!(world.half_made(), 0, "a skeleton stays");
    verified.layers.into_iter().map(|layer| layer.problems).collect()
}

fn remake(path: &Path, make: impl FnOnce(&Path)) {
    fs::remove_file(path).unwrap();
    make(path);
}

fn node(path: &Path, kind: SFlag, major: u64, minor: u64, mode: u32) {
    mknod(path, kind, Mode::empty(), makedev(major, minor)).unwrap();
    chown(path, Some(1000), Some(2000)).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A change to a file: its layer, its name, what is done to it, and what is told.
type Row = (usize, &'static str, fn(&Path), &'static str);

const CHANGES: &[Row] = &[
    (0, "twin", |p| remake(p, |p| symlink("x", p).unwrap()), "it is a symlink; it was a file"),
    (
        0,
        "twin",
        |p| chown(p, Some(1000), Some(7)).unwrap(),
        "its owner is 1000:7; it was 1000:2000",
    ),
    (0, "lib", |p| lchown(p, Some(5), None).unwrap(), "its owner is 5:0; it was 0:0"),
    (
        0,
        "file",
        |p| fs::set_permissions(p, fs::Permissions::from_mode(0o711)).unwrap(),
        "its mode is 0711; it was 4711",
    ),
    (
        0,
        "usr/lib",
        |p| fs::set_permissions(p, fs::Permissions::from_mode(0o755)).unwrap(),
        "its mode is 0755; it was 2755",
    ),
    (0, "file", |p| touch(p, 1, 500_000_001), "its time is 1.500000001; it was 1.500000000"),
    (
        0,
        "usr",
        |p| touch(p, 1_234_567_890, 0),
        "its time is 1234567890.000000000; it was 1234567890.987654321",
    ),
    (0, "lib", |p| touch(p, 3, 0), "its time is 3.000000000; it was 1600000000.000000000"),
    (
        0,
        "file",
        |p| xattr::set(p, "user.note", b"nota").unwrap(),
        "its extended attribute user.note has changed",
    ),
    (
        0,
        "usr",
        |p| xattr::remove(p, "user.dir").unwrap(),
        "its extended attribute user.dir is gone",
    ),
    (
        0,
        "usr/tool",
        |p| xattr::set(p, "security.capability", OTHER).unwrap(),
        "its extended attribute security.capability has changed",
    ),
    (
        0,
        "file",
        |p| xattr::set(p, "security.capability", CAPABILITY).unwrap(),
        "its extended attribute security.capability is new",
    ),
    (
        0,
        "lib",
        |p| remake(p, |p| symlink("usr/lid", p).unwrap()),
        "it leads to usr/lid; it led to usr/lib",
    ),
    (
        0,
        "null",
        |p| remake(p, |p| node(p, SFlag::S_IFCHR, 1, 5, 0o666)),
        "its device number is 1:5; it was 1:3",
    ),
    (
        0,
        "disk",
        |p| remake(p, |p| node(p, SFlag::S_IFCHR, 1, 3, 0o660)),
        "it is a character device; it was a block device",
    ),
    (
        0,
        "hard",
        |p| {
            let whole = fs::read(p).unwrap();
            let was = fs::metadata(p).unwrap();
            remake(p, |p| fs::write(p, whole).unwrap());
            chown(p, Some(was.uid()), Some(was.gid())).unwrap();
            fs::set_permissions(p, was.permissions()).unwrap();
            xattr::set(p, "user.note", b"note").unwrap();
        },
        "it is no hard link to /file any more",
    ),
    (
        0,
        "twin2",
        |p| remake(p, |p| fs::hard_link(p.with_file_name("twin"), p).unwrap()),
        "it is a hard link to /twin; it was none",
    ),
    (0, "twin", |p| fs::write(p, "new").unwrap(), "it has 3 bytes; it had 0"),
    (0, "file", |p| fs::write(p, "CONTENT").unwrap(), "its content has changed"),
    (0, "usr/new", |p| fs::write(p, "").unwrap(), "it is none of its files"),
    (0, "pipe", |p| fs::remove_file(p).unwrap(), "it is gone"),
    (
        1,
        "tmp",
        |p| fs::set_permissions(p, fs::Permissions::from_mode(0o777)).unwrap(),
        "its mode is 0777; it was 1777",
    ),
    (1, "usr", |p| touch(p, 5, 0), "its time is 5.000000000; it was 1234567890.987654321"),
    (
        1,
        "usr/hard",
        |p| {
            fs::write(p, "TOOL").unwrap();
            // The kernel takes it away.
            xattr::set(p, "security.capability", CAPABILITY).unwrap();
        },
        "its content has changed",
    ),
    (1, "gone", |p| fs::remove_file(p).unwrap(), "it is gone"),
    (1, "gone", |p| remake(p, |p| fs::write(p, "").unwrap()), "it is a file; it was a whiteout"),
    (
        1,
        "emptied",
        |p| xattr::remove(p, "trusted.overlay.opaque").unwrap(),
        "its extended attribute trusted.overlay.opaque is gone",
    ),
    (
        1,
        "made",
        |p| fs::set_permissions(p, fs::Permissions::from_mode(0o700)).unwrap(),
        "its mode is 0700; it was 0755",
    ),
    (
        2,
        "holes",
        |p| {
            let file = fs::File::options().write(true).open(p).unwrap();
            std::os::unix::fs::FileExt::write_all_at(&file, b"!", 8192).unwrap();
        },
        "its content has changed",
    ),
];

fn touch(path: &Path, seconds: i64, nanos: i64) {
    let time = TimeSpec::new(seconds, nanos);
    utimensat(nix::fcntl::AT_FDCWD, path, &time, &time, UtimensatFlags::NoFollowSymlink).unwrap();
}

/// Does something to a file, and hides it: it and its directory have their times again.
fn change(path: &Path, work: fn(&Path), told: &str) {
    let folder = path.parent().unwrap();
    let of =
        |path: &Path| fs::symlink_metadata(path).ok().map(|meta| (meta.mtime(), meta.mtime_nsec()));
    let (own, its) = (of(path), of(folder));
    work(path);
    if let (Some((seconds, nanos)), Some(_)) = (own, of(path))
        && !told.contains("its time")
    {
        touch(path, seconds, nanos);
    }
    if let Some((seconds, nanos)) = its {
        touch(folder, seconds, nanos);
    }
}

#[test]
fn each_attribute_that_was_changed_is_named_and_nothing_else() {
    for (layer, name, work, told) in CHANGES {
        let world = World::new();
        import(&world);
        let image = world.images.named("x.test/a:1").unwrap();
        let folder = world.images.store().layers.folder_of(&image.layers[*layer]);
        change(&folder.join("d").join(name), *work, told);
        let mut wanted = vec![Vec::new(); 3];
        // The others of a hard link are changed with it.
        let names: &[&str] = match *name {
            "file" => &["file", "hard"],
            "usr/hard" => &["usr/hard"],
            _ => &[name],
        };
        for name in names.iter().filter(|name| !(told.contains("content") && **name == "hard")) {
            wanted[*layer].push(format!("/{name}: {told}"));
        }
        assert_eq!(problems(&world), wanted, "{name}: {told}");
        assert!(world.images.list()[0].corrupt.is_some(), "{name}: {told}");
        import(&world);
        assert_eq!(problems(&world), vec![Vec::<String>::new(); 3], "after {name}: {told}");
    }
}

#[test]
fn what_is_as_it_was_is_not_named() {
    let mut world = World::new();
    let image = import(&world);
    let whole = vec![Vec::<String>::new(); 3];
    assert_eq!(problems(&world), whole);
    // Used, written over, by a container; and after a restart.
    let id = ContainerId::parse(&random_hex().unwrap()).unwrap();
    world.images.prepare_snapshot(&image, &id, &[], None).unwrap();
    let mounted = world.images.mount_snapshot(&id, View::default()).unwrap();
    let root =
        Path::new("/proc/self/fd").join(std::os::fd::AsRawFd::as_raw_fd(&mounted).to_string());
    assert_eq!(fs::read_to_string(root.join("hard")).unwrap(), "content");
    fs::write(root.join("hard"), "of the container").unwrap();
    fs::remove_file(root.join("tmp/x")).unwrap();
    fs::rename(root.join("twin"), root.join("usr/lib/twin")).unwrap();
    assert_eq!(problems(&world), whole);
    world.reopen();
    assert_eq!(problems(&world), whole);
    // What the host gives files is not an image's.
    let layer = &world.images.named("x.test/a:1").unwrap().layers[0];
    let file = world.images.store().layers.folder_of(layer).join("d/twin");
    let label = xattr::set(&file, "security.selinux", b"system_u:object_r:any_t:s0");
    if label.is_ok() {
        assert_eq!(problems(&world), whole);
    }
    drop(mounted);
    world.images.remove_snapshot(&id).unwrap();
}

#[test]
fn damage_of_a_layer_is_not_that_of_those_above() {
    let world = World::new();
    import(&world);
    let image = world.images.named("x.test/a:1").unwrap();
    let base = world.images.store().layers.folder_of(&image.layers[0]).join("d");
    // All of it was inherited or copied by the layer above.
    fs::set_permissions(base.join("tmp"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(base.join("usr/tool"), "evil").unwrap();
    fs::remove_file(base.join("lib")).unwrap();
    let found = problems(&world);
    assert!(!found[0].is_empty() && found[1].is_empty() && found[2].is_empty(), "{found:?}");
    let all = found[0].join("\n");
    for told in ["/tmp: its mode", "/usr/tool: its content", "/lib: it is gone"] {
        assert!(all.contains(told), "{all}");
    }
}
