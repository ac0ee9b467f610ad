//! Layers unpacked into a folder, on the real file system, as root.

use super::fixtures::{Head, Tar, names_in};
use super::tar_record::Recorder;
use super::tree::Tree;
use super::unpack::{Limits, OPAQUE, UnpackError, Unpacked, unpack};
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const LIMITS: Limits = Limits { bytes: 1 << 30, entries: 10_000 };

/// The parent of the layer's folder: what an escape would reach.
struct Case {
    outside: TempDir,
    layer: PathBuf,
}

fn case() -> Case {
    let outside = tempfile::tempdir().unwrap();
    let layer = outside.path().join("layer");
    fs::create_dir(&layer).unwrap();
    fs::write(outside.path().join("victim"), "untouched").unwrap();
    Case { outside, layer }
}

impl Case {
    fn run(&self, tar: Tar) -> Result<Unpacked, UnpackError> {
        unpack(&tar.build()[..], &Tree::open(&self.layer).unwrap(), LIMITS, Recorder::default())
    }

    fn assert_nothing_escaped(&self) {
        assert_eq!(names_in(self.outside.path()), ["layer", "victim"]);
        assert_eq!(fs::read_to_string(self.outside.path().join("victim")).unwrap(), "untouched");
        assert_eq!(fs::metadata(self.outside.path().join("victim")).unwrap().nlink(), 1);
    }

    fn meta(&self, name: &str) -> fs::Metadata {
        fs::symlink_metadata(self.layer.join(name)).unwrap()
    }

    fn is_whiteout(&self, name: &str) -> bool {
        let meta = self.meta(name);
        meta.file_type().is_char_device() && meta.rdev() == 0
    }

    fn is_opaque(&self, name: &str) -> bool {
        xattr::get(self.layer.join(name), OPAQUE).unwrap() == Some(b"y".to_vec())
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.layer.join(name)).unwrap()
    }
}

fn kind(entry_type: tar::EntryType, mode: u32) -> (tar::EntryType, Head) {
    (entry_type, Head { mode, uid: 5, gid: 6, mtime: 1234 })
}

#[test]
fn owner_mode_time_and_kind_are_exact() {
    let case = case();
    let mut tar = Tar::new();
    for (name, (entry_type, head)) in [
        ("d/", kind(tar::EntryType::Directory, 0o3750)),
        ("d/suid", kind(tar::EntryType::Regular, 0o4755)),
        ("d/null", kind(tar::EntryType::Char, 0o666)),
        ("d/disk", kind(tar::EntryType::Block, 0o660)),
        ("d/fifo", kind(tar::EntryType::Fifo, 0o600)),
    ] {
        tar = tar.raw(name, entry_type, head, b"");
    }
    tar =
        tar.raw("d/link", tar::EntryType::Symlink, kind(tar::EntryType::Symlink, 0o777).1, b"suid");
    let unpacked = case.run(tar).unwrap();
    super::settle::settle(unpacked, &Tree::open(&case.layer).unwrap(), None).unwrap();
    for (name, mode) in [
        ("d", 0o3750),
        ("d/suid", 0o4755),
        ("d/null", 0o666),
        ("d/disk", 0o660),
        ("d/fifo", 0o600),
        ("d/link", 0o777),
    ] {
        let meta = case.meta(name);
        let seen = (meta.mode() & 0o7777, meta.uid(), meta.gid(), meta.mtime());
        assert_eq!(seen, (mode, 5, 6, 1234), "{name}");
    }
    assert_eq!(case.meta("d/null").rdev(), libc::makedev(1, 3));
    assert!(case.meta("d/disk").file_type().is_block_device());
    assert!(case.meta("d/fifo").file_type().is_fifo());
}

#[test]
fn blank_fields_of_a_header_are_zeros() {
    let case = case();
    let mut tar = Tar::new();
    for (name, entry_type, fill) in [
        ("nul", tar::EntryType::Regular, 0),
        ("spaces", tar::EntryType::Regular, b' '),
        ("device", tar::EntryType::Char, b' '),
    ] {
        tar = tar.blank(name, entry_type, fill);
    }
    let unpacked = case.run(tar).unwrap();
    super::settle::settle(unpacked, &Tree::open(&case.layer).unwrap(), None).unwrap();
    for name in ["nul", "spaces", "device"] {
        let meta = case.meta(name);
        let seen = (meta.mode() & 0o7777, meta.uid(), meta.gid(), meta.mtime(), meta.rdev());
        assert_eq!(seen, (0, 0, 0, 0, 0), "{name}");
    }
}

#[test]
fn pax_times_ids_names_and_attributes_are_applied() {
    let case = case();
    let capability = [1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let long = format!("d/{}", "n".repeat(200));
    let tar = Tar::new()
        .pax(&[("mtime", b"1500000000.123456789")])
        .dir("d", 0o755)
        .pax(&[
            ("path", long.as_bytes()),
            ("uid", b"3000000"),
            ("mtime", b"-1.5"),
            ("SCHILY.xattr.security.capability", &capability),
            ("SCHILY.xattr.user.note", b"text"),
            ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
        ])
        .file("short", "x");
    let unpacked = case.run(tar).unwrap();
    super::settle::settle(unpacked, &Tree::open(&case.layer).unwrap(), None).unwrap();
    let meta = case.meta("d");
    assert_eq!((meta.mtime(), meta.mtime_nsec()), (1_500_000_000, 123_456_789));
    let meta = case.meta(&long);
    assert_eq!((meta.uid(), meta.mtime(), meta.mtime_nsec()), (3_000_000, -2, 500_000_000));
    let path = case.layer.join(&long);
    assert_eq!(xattr::get(&path, "security.capability").unwrap().unwrap(), capability);
    assert_eq!(xattr::get(&path, "user.note").unwrap().unwrap(), b"text");
    // Names that would steer overlayfs are left out.
    assert_eq!(xattr::list(&path).unwrap().count(), 2);
}

#[test]
fn whiteouts_become_devices_and_opaque_marks() {
    let case = case();
    let unpacked = case
        .run(
            Tar::new()
                .dir("a", 0o755)
                .file("a/.wh.gone", "")
                .dir("b", 0o755)
                .file("b/.wh..wh..opq", "")
                .file("b/kept", "")
                .file(".wh..wh.plnk", ""),
        )
        .unwrap();
    assert!(case.is_whiteout("a/gone"));
    assert!(case.is_opaque("b"));
    assert_eq!(names_in(&case.layer.join("b")), ["kept"]);
    assert_eq!(names_in(&case.layer), ["a", "b"]);
    assert!(!unpacked.needs_lower());
}

// layer.md: whiteout files apply to lower layers only, in whatever order they come.
#[test]
fn a_whiteout_never_hides_its_own_layer() {
    let case = case();
    case.run(
        Tar::new()
            .file("file", "new")
            .file(".wh.file", "")
            .dir("later", 0o755)
            .file("later/x", "")
            .file(".wh.later", "")
            .file(".wh.before", "")
            .dir("before", 0o755)
            .file(".wh.implied", "")
            .file("implied/x", ""),
    )
    .unwrap();
    assert_eq!(case.read("file"), "new");
    for dir in ["later", "before", "implied"] {
        assert!(case.meta(dir).is_dir() && case.is_opaque(dir), "{dir}");
    }
}

#[test]
fn hostile_names_and_links_stay_inside() {
    for (name, tar) in [
        ("dot dot", Tar::new().file("../victim", "x").file("a/../../../victim", "x")),
        ("absolute", Tar::new().file("/victim", "x")),
        ("symlink out", Tar::new().symlink("s", "..").file("s/victim", "x")),
        ("symlink to an absolute path", Tar::new().symlink("s", "/").file("s/victim", "x")),
        (
            "symlink through a symlink",
            Tar::new().symlink("a", "../..").symlink("b", "a/..").file("b/victim", "x"),
        ),
        ("file over a symlink", Tar::new().symlink("v", "../victim").file("v", "x")),
        ("directory over a symlink", Tar::new().symlink("v", "..").dir("v", 0o777)),
        (
            "mode of a symlink's target",
            Tar::new().raw(
                "v",
                tar::EntryType::Symlink,
                Head { mode: 0o000, uid: 9, gid: 9, mtime: 0 },
                b"../victim",
            ),
        ),
        ("whiteout out", Tar::new().file("../.wh.victim", "")),
        ("opaque out", Tar::new().symlink("s", "..").file("s/.wh..wh..opq", "")),
        (
            "device through a symlink",
            Tar::new().symlink("s", "..").raw(
                "s/victim",
                tar::EntryType::Char,
                Head::default(),
                b"",
            ),
        ),
        (
            "device as a directory",
            Tar::new().raw("n", tar::EntryType::Char, Head::default(), b"").file("n/x", ""),
        ),
    ] {
        let case = case();
        let before = fs::metadata(case.outside.path().join("victim")).unwrap();
        // Whether it is refused or kept inside, nothing outside changes.
        case.run(tar).ok();
        case.assert_nothing_escaped();
        let after = fs::metadata(case.outside.path().join("victim")).unwrap();
        assert_eq!((before.mode(), before.uid()), (after.mode(), after.uid()), "{name}");
        assert_eq!(xattr::get(case.outside.path(), OPAQUE).unwrap(), None, "{name}");
    }
}

#[test]
fn a_hard_link_to_a_file_outside_links_inside_or_not_at_all() {
    let case = case();
    for target in ["../victim", "/victim", "s/../../victim"] {
        let tar = Tar::new().symlink("s", "/").link("stolen", target);
        // Inside there is no such file: it is left for the layers below.
        let unpacked = case.run(tar).unwrap();
        assert_eq!(unpacked.outward.len(), 1, "{target}");
    }
    // Through a symlink that leads out, the target is looked for inside.
    case.run(Tar::new().symlink("up", "..").file("victim", "own").link("mine", "up/victim"))
        .unwrap();
    assert_eq!(case.read("mine"), "own");
    case.assert_nothing_escaped();
}

#[test]
fn senseless_entries_are_refused_by_name() {
    for (name, tar) in [
        ("dot dot at the end", Tar::new().dir("a/..", 0o755)),
        ("root as a file", Tar::new().file("./", "x")),
        ("whiteout of nothing", Tar::new().file(".wh.", "")),
        ("whiteout of dot dot", Tar::new().file(".wh...", "")),
        ("link to itself", Tar::new().file("a", "").link("a", "a")),
        ("link to a directory", Tar::new().dir("d", 0o755).link("a", "d")),
        ("link to the root", Tar::new().link("a", "/")),
        ("pax sparse", Tar::new().pax(&[("GNU.sparse.major", b"1")]).file("a", "")),
    ] {
        let error = case().run(tar).unwrap_err();
        assert!(matches!(error, UnpackError::Refused { .. }), "{name}: {error}");
    }
    let error = case().run(Tar::new().file("f", "").file("f/x", "")).unwrap_err();
    assert!(matches!(error, UnpackError::Entry { .. }), "{error}");
}

#[test]
fn a_later_entry_replaces_an_earlier_one() {
    let case = case();
    let unpacked = case
        .run(
            Tar::new()
                .dir("d", 0o755)
                .file("d/x", "")
                .file("e/f/x", "")
                .file("d", "file now")
                .file("e", "file now")
                .dir("m", 0o700)
                .file("m/kept", "")
                .dir("m", 0o711),
        )
        .unwrap();
    assert_eq!((case.read("d"), case.read("e")), ("file now".into(), "file now".into()));
    assert_eq!(case.meta("m").mode() & 0o777, 0o711);
    assert!(case.layer.join("m/kept").exists());
    assert_eq!(unpacked.invented.len(), 0);
    assert_eq!(unpacked.times.keys().collect::<Vec<_>>(), [Path::new("m")]);
}

#[test]
fn size_and_number_of_entries_are_bounded() {
    let bytes = Tar::new().file("a", "0123456789").file("b", "0123456789").build();
    let run = |limits| {
        let case = case();
        unpack(&bytes[..], &Tree::open(&case.layer).unwrap(), limits, Recorder::default()).map(drop)
    };
    run(Limits { bytes: 20, entries: 2 }).unwrap();
    for limits in [Limits { bytes: 19, entries: 2 }, Limits { bytes: 20, entries: 1 }] {
        assert!(matches!(run(limits).unwrap_err(), UnpackError::Limit { .. }));
    }
}

#[test]
fn headers_that_would_fill_the_memory_are_refused() {
    let name = "n".repeat(3 << 20);
    let tar = Tar::new().pax(&[("path", name.as_bytes())]).file("a", "");
    assert!(matches!(case().run(tar).unwrap_err(), UnpackError::Archive(_)));
}

#[test]
fn a_truncated_archive_is_an_error() {
    let bytes = Tar::new().file("a", &"x".repeat(5000)).build();
    for length in [100, 600, 3000] {
        let case = case();
        let result = unpack(
            &bytes[..length],
            &Tree::open(&case.layer).unwrap(),
            LIMITS,
            Recorder::default(),
        );
        assert!(matches!(result.unwrap_err(), UnpackError::Archive(_)), "{length}");
    }
}

#[test]
fn a_sparse_file_of_gnu_tar_keeps_its_holes() {
    let case = case();
    let source = case.outside.path().join("sparse");
    let file = fs::File::create(&source).unwrap();
    file.set_len(8 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"data", 4 << 20).unwrap();
    let out = std::process::Command::new("tar")
        .args(["--sparse", "--format=gnu", "-cf", "-", "sparse"])
        .current_dir(case.outside.path())
        .output()
        .unwrap();
    assert!(out.status.success() && out.stdout.len() < 1 << 20);
    unpack(&out.stdout[..], &Tree::open(&case.layer).unwrap(), LIMITS, Recorder::default())
        .unwrap();
    let (made, original) = (case.layer.join("sparse"), fs::read(&source).unwrap());
    assert!(fs::read(&made).unwrap() == original);
    assert!(fs::metadata(&made).unwrap().blocks() * 512 < 1 << 20);
}
