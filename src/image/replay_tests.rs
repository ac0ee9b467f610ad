//! Bytes in, bytes out: a layer's archive replayed from its tar record is the archive that came.

use super::digest::Digest;
use super::fixtures::{Head, Tar, names_in};
use super::replay::{ReplayError, replay};
use super::settle::settle;
use super::tar_record::{RECORD, Recorder};
use super::tree::Tree;
use super::unpack::{Limits, UnpackError, unpack};
use proptest::prelude::*;
use std::fs;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use tar::EntryType::{self, Block, Char, Directory, Fifo, GNUSparse, Link, Regular, Symlink};
use tempfile::TempDir;

const LIMITS: Limits = Limits { bytes: 1 << 30, entries: 100_000 };

/// A layer made of an archive.
struct Layer(TempDir);

impl Layer {
    fn try_of(tar: &[u8], lower: Option<&Tree>) -> Result<Self, UnpackError> {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("d")).unwrap();
        let tree = Tree::open(&dir.path().join("d")).unwrap();
        let recorder = Recorder::begin(dir.path()).unwrap();
        let unpacked = unpack(tar, &tree, LIMITS, recorder.clone())?;
        assert_eq!(unpacked.diff_id, Digest::of(tar));
        settle(unpacked, &tree, lower)?;
        recorder.finish().unwrap();
        Ok(Self(dir))
    }

    fn of(tar: &[u8]) -> Self {
        Self::try_of(tar, None).unwrap()
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    fn archive(&self) -> Vec<u8> {
        let mut out = Vec::new();
        assert_eq!(replay(self.0.path(), &mut out).unwrap(), []);
        out
    }

    fn damaged(&self) -> Vec<String> {
        let all = replay(self.0.path(), &mut std::io::sink()).unwrap();
        all.into_iter().map(|d| format!("{}: {}", d.path.display(), d.problem)).collect()
    }
}

#[track_caller]
fn assert_round_trip(name: &str, tar: &[u8]) {
    assert!(Layer::of(tar).archive() == tar, "{name}");
}

/// Everything that a tar can hold without tricks.
fn ordinary() -> Tar {
    Tar::new()
        .raw("./", Directory, Head { mode: 0o755, ..Head::default() }, b"")
        .dir("etc/", 0o750)
        .file("etc/passwd", "root:x:0:0::/:/bin/sh\n")
        .file("etc/empty", "")
        .file("etc/block", &"b".repeat(512))
        .file("etc/large", &"0123456789".repeat(50_000))
        .symlink("etc/mtab", "/proc/mounts")
        .link("etc/hard", "etc/passwd")
        .raw("dev/null", Char, Head::default(), b"")
        .raw("dev/loop", Block, Head::default(), b"")
        .raw("run/fifo", Fifo, Head { uid: 7, gid: 8, ..Head::default() }, b"")
        .file("var/.wh.gone", "")
        .file("opt/.wh..wh..opq", "")
        .file(".wh..wh.aufs", "")
}

#[test]
fn an_ordinary_layer_comes_back_byte_by_byte() {
    assert_round_trip("ordinary", &ordinary().build());
    assert_round_trip("empty", &Tar::new().build());
}

#[test]
fn long_names_pax_records_and_global_headers_come_back() {
    let long = format!("{}/{}", "d".repeat(200), "f".repeat(250));
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(4);
    header.set_mode(0o600);
    builder.append_data(&mut header, &long, &b"gnu1"[..]).unwrap();
    let mut link = tar::Header::new_gnu();
    link.set_entry_type(Link);
    link.set_size(0);
    builder.append_link(&mut link, "short", &long).unwrap();
    assert_round_trip("GNU long names", &builder.into_inner().unwrap());
    let tar = Tar::new()
        .raw("pax", EntryType::XGlobalHeader, Head::default(), b"20 comment=anything\n")
        .pax(&[
            ("path", long.as_bytes()),
            ("mtime", b"1700000000.123456789"),
            ("uid", b"70000"),
            ("SCHILY.xattr.user.note", b"\x00\xff odd"),
        ])
        .file("cut", "content")
        .pax(&[("size", b"7")])
        .file("sized", "content");
    assert_round_trip("pax", &tar.build());
}

#[test]
fn what_an_archive_repeats_or_replaces_is_kept_beside_the_tree() {
    let tar = Tar::new()
        .file("a", "first")
        .link("a2", "a")
        .file("a", "second")
        .file("a", "third")
        .dir("a", 0o755)
        .file("a/in", "nested one")
        .dir("a/deep", 0o755)
        .file("a/deep/er", "nested two")
        .file("a/in", "nested again")
        .file("a", "a file at last")
        .symlink("s", "a2")
        .file("s", "no symlink any more")
        .dir("real", 0o755)
        .symlink("way", "real")
        .file("way/x", "by the symlink")
        .file("real/x", "straight")
        .file("way", "the symlink is gone")
        .build();
    let layer = Layer::of(&tar);
    assert!(layer.archive() == tar);
    assert_eq!(fs::read_to_string(layer.path("d/a")).unwrap(), "a file at last");
    assert_eq!(fs::read_to_string(layer.path("d/a2")).unwrap(), "first");
    // What is beside the tree does not count as a link to what is in it.
    assert_eq!(fs::metadata(layer.path("d/a2")).unwrap().nlink(), 1);
    assert!(!names_in(&layer.path("x")).is_empty());
    // Without repeats there is nothing beside the tree.
    let layer = Layer::of(&ordinary().build());
    assert_eq!(names_in(layer.0.path()), ["d", "tar.zst"]);
}

#[test]
fn odd_ends_paddings_and_contents_come_back() {
    let plain = Tar::new().file("a", "abc").file("b", &"x".repeat(700)).build();
    let entries = &plain[..plain.len() - 1024];
    let mut garbage = plain.clone();
    garbage.extend_from_slice(&[0; 8 * 512]);
    garbage.extend_from_slice(b"not even a block");
    let mut dirty = plain.clone();
    // The padding after the three bytes of `a`.
    dirty[512 + 3..1024].fill(0xAA);
    for (name, tar) in [
        ("no end", entries.to_vec()),
        ("half an end", [entries, &[0; 512]].concat()),
        ("a long end", [entries, &[0; 20 * 512]].concat()),
        ("something after the end", garbage),
        ("dirty padding", dirty),
    ] {
        assert_round_trip(name, &tar);
    }
    let tar = Tar::new()
        .raw("dir", Directory, Head { mode: 0o755, ..Head::default() }, b"a folder with content")
        .raw("x/.wh.gone", Regular, Head::default(), b"a whiteout with content")
        .raw("fifo", Fifo, Head::default(), b"a FIFO with content");
    assert_round_trip("content of what has none", &tar.build());
}

#[test]
fn the_archives_of_gnu_tar_come_back_in_every_format() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    fs::create_dir_all(root.join("sub/deeper")).unwrap();
    fs::write(root.join("sub/file"), "content").unwrap();
    fs::hard_link(root.join("sub/file"), root.join("hard")).unwrap();
    std::os::unix::fs::symlink("sub/file", root.join("soft")).unwrap();
    let long = "n".repeat(90);
    for format in ["v7", "oldgnu", "gnu", "ustar", "pax"] {
        if format != "v7" {
            fs::create_dir_all(root.join("prefixed").join(&long)).unwrap();
            fs::write(root.join("prefixed").join(&long).join("x"), "long").unwrap();
        }
        // Holes: more than one header takes, and of every alignment.
        let file = fs::File::create(root.join("sparse")).unwrap();
        file.set_len(9 << 20).unwrap();
        for n in 0..40u64 {
            file.write_all_at(&[b'x'; 5000], n * 200_003).unwrap();
        }
        let sparse = matches!(format, "oldgnu" | "gnu").then_some("--sparse");
        let out = std::process::Command::new("tar")
            .args(["--create", "--file=-", &format!("--format={format}")])
            .args(sparse)
            .args(["-C", root.to_str().unwrap(), "."])
            .output()
            .unwrap();
        assert!(out.status.success(), "{format}: {}", String::from_utf8_lossy(&out.stderr));
        let layer = Layer::of(&out.stdout);
        assert!(layer.archive() == out.stdout, "{format}");
        let (made, original) = (layer.path("d/sparse"), root.join("sparse"));
        assert!(fs::read(made).unwrap() == fs::read(original).unwrap(), "{format}");
    }
}

#[test]
fn what_moves_to_where_a_lower_symlink_leads_is_still_found() {
    let lower = tempfile::tempdir().unwrap();
    fs::create_dir_all(lower.path().join("usr/lib/sub")).unwrap();
    std::os::unix::fs::symlink("usr/lib", lower.path().join("lib")).unwrap();
    let tar = Tar::new()
        .file("usr/lib/both", "by its own name")
        .file("usr/lib/sub/both", "deeper")
        .file("lib/both", "by the symlink, and later")
        .file("lib/sub/both", "deeper and later")
        .file("lib/one", "one")
        .build();
    let layer = Layer::try_of(&tar, Some(&Tree::open(lower.path()).unwrap())).unwrap();
    assert!(!layer.path("d/lib").exists());
    assert_eq!(fs::read_to_string(layer.path("d/usr/lib/one")).unwrap(), "one");
    assert!(layer.archive() == tar);
}

#[test]
fn a_damaged_file_is_named_and_a_damaged_record_is_an_error() {
    let tar = Tar::new()
        .file("kept", "kept")
        .file("changed", "some content")
        .file("cut", "some content")
        .file("gone", "some content")
        .file("swapped", "some content")
        .build();
    let layer = Layer::of(&tar);
    fs::write(layer.path("d/changed"), "some c0ntent").unwrap();
    fs::write(layer.path("d/cut"), "some").unwrap();
    fs::remove_file(layer.path("d/gone")).unwrap();
    // The same content, but it is not the layer's.
    fs::remove_file(layer.path("d/swapped")).unwrap();
    fs::write(layer.path("elsewhere"), "some content").unwrap();
    std::os::unix::fs::symlink("../elsewhere", layer.path("d/swapped")).unwrap();
    let damaged = layer.damaged();
    for (line, words) in damaged.iter().zip([
        "d/changed: its content has changed",
        "d/cut: it is shorter than it was",
        "d/gone: No such file",
        "d/swapped: Too many levels",
    ]) {
        assert!(line.starts_with(words), "{damaged:?}");
    }
    assert_eq!(damaged.len(), 4, "{damaged:?}");
    let record = layer.path(RECORD);
    let whole = fs::read(&record).unwrap();
    let result = |bytes: &[u8]| {
        fs::write(&record, bytes).unwrap();
        replay(layer.0.path(), &mut std::io::sink()).map(drop)
    };
    for at in [20, whole.len() / 2, whole.len() - 2] {
        let mut flipped = whole.clone();
        flipped[at] ^= 0x10;
        assert!(matches!(result(&flipped), Err(ReplayError::Record(_))), "a bit at {at}");
    }
    assert!(matches!(result(&whole[..whole.len() - 5]), Err(ReplayError::Record(_))));
    assert!(result(&[whole.clone(), whole.clone()].concat()).is_err());
    fs::remove_file(&record).unwrap();
    let none = replay(layer.0.path(), &mut std::io::sink());
    assert!(matches!(none, Err(ReplayError::NoRecord)));
}

#[test]
fn what_leaves_the_tree_takes_no_links_along_and_is_kept_once() {
    let tar = Tar::new()
        .dir("a", 0o755)
        .file("a/x", "has a name outside")
        .file("a/y", "two names inside")
        .link("a/z", "a/y")
        .file("a/empty", "")
        .link("out", "a/x")
        .link("out2", "a/x")
        .link("nothing", "a/empty")
        .file("a", "a file now")
        .file("out", "another")
        .build();
    let layer = Layer::of(&tar);
    assert!(layer.archive() == tar);
    let links = |name: &str| fs::metadata(layer.path(name)).unwrap().nlink();
    assert_eq!((links("d/out2"), links("d/nothing"), links("d/out")), (1, 1, 1));
    assert_eq!(fs::read_to_string(layer.path("d/out2")).unwrap(), "has a name outside");
    let content = "large".repeat(200_000);
    let mut tar = Tar::new().file("large", &content);
    for _ in 0..20 {
        tar = tar.link("name", "large").file("name", "x").dir("d", 0o755);
        tar = tar.link("d/name", "large").file("d", "y");
    }
    let tar = tar.build();
    let layer = Layer::of(&tar);
    assert!(layer.archive() == tar);
    let beside = super::usage::walk(&layer.path("x"), u64::MAX).unwrap().bytes;
    let once = content.len() as u64;
    assert!((once..2 * once).contains(&beside), "{beside} bytes beside one of {once}");
}

#[test]
fn the_record_of_a_large_layer_is_small() {
    let mut tar = Tar::new();
    for n in 0..500u32 {
        let content: String = (0..400u32).map(|i| (n * 7919 + i * i).to_string()).collect();
        tar = tar.file(&format!("usr/share/{n}"), &content);
    }
    let tar = tar.build();
    let layer = Layer::of(&tar);
    assert!(layer.archive() == tar);
    let record = fs::metadata(layer.path(RECORD)).unwrap().len();
    assert!(record * 50 < tar.len() as u64, "{record} of {}", tar.len());
}

/// Any entry over few names, so that they meet.
fn any_entry() -> impl Strategy<Value = (EntryType, usize, usize, usize)> {
    let kinds = prop::sample::select(vec![
        Regular, Regular, Regular, Directory, Symlink, Link, Fifo, Char, GNUSparse,
    ]);
    (kinds, 0..NAMES.len(), 0..NAMES.len(), 0..3000usize)
}

const NAMES: &[&str] =
    &["a", "b", "a/x", "a/y", "b/x", "a/x/z", "c/./x", "c", ".wh.b", "a/.wh.x", "a/.wh..wh..opq"];

fn build(entries: &[(EntryType, usize, usize, usize)]) -> Vec<u8> {
    entries
        .iter()
        .enumerate()
        .fold(Tar::new(), |tar, (number, (kind, name, target, size))| {
            let content = match kind {
                Symlink | Link => NAMES[*target].as_bytes().to_vec(),
                Regular => vec![u8::try_from(number % 250).unwrap() + 1; *size],
                _ => Vec::new(),
            };
            // A sparse entry needs its own header: see GNU tar's above. Here it is a long name.
            match kind {
                GNUSparse => tar.pax(&[("path", format!("p/{}", NAMES[*name]).as_bytes())]).raw(
                    "p",
                    Regular,
                    Head::default(),
                    &vec![7; *size],
                ),
                kind => tar.raw(NAMES[*name], *kind, Head::default(), &content),
            }
        })
        .build()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]
    #[test]
    fn any_archive_that_unpacks_comes_back(
        entries in prop::collection::vec(any_entry(), 0..25),
        tail in prop::collection::vec(any::<u8>(), 0..50),
    ) {
        let mut tar = build(&entries);
        tar.extend_from_slice(&tail);
        let lower = tempfile::tempdir().unwrap();
        fs::create_dir_all(lower.path().join("a/x")).unwrap();
        fs::write(lower.path().join("b"), "lower").unwrap();
        std::os::unix::fs::symlink("a", lower.path().join("c")).unwrap();
        let lower = Tree::open(lower.path()).unwrap();
        // What is refused is refused; what is taken is whole.
        if let Ok(layer) = Layer::try_of(&tar, Some(&lower)) {
            prop_assert!(layer.archive() == tar);
        }
    }
}

#[test]
fn most_archives_of_the_property_are_taken() {
    use proptest::strategy::ValueTree as _;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let any = prop::collection::vec(any_entry(), 0..8);
    let taken = (0..100)
        .filter(|_| {
            let entries = any.new_tree(&mut runner).unwrap().current();
            Layer::try_of(&build(&entries), None).is_ok()
        })
        .count();
    assert!(taken > 20, "{taken} of 100");
}
