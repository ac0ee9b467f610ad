//! The tree that a container sees, compared with what umoci makes of the same image: an unpacker by
//! others, which extracts one layer over the other.

use super::digest::Digest;
use super::fixtures::{Head, Tar, World, block_on, gzip, make, write_layout};
use super::layers::View;
use crate::ids::{ContainerId, random_hex};
use std::fs;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use tar::EntryType::{Directory, Fifo, Regular};

/// Everything about each file, a line each.
fn describe(root: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut todo = vec![PathBuf::new()];
    while let Some(path) = todo.pop() {
        let full = root.join(&path);
        let meta = fs::symlink_metadata(&full).unwrap();
        let content = if meta.is_file() {
            Digest::of(&fs::read(&full).unwrap()).hex()[..8].to_owned()
        } else if meta.is_symlink() {
            fs::read_link(&full).unwrap().display().to_string()
        } else {
            String::new()
        };
        let mut xattrs: Vec<String> = xattr::list(&full)
            .unwrap()
            .map(|key| format!("{}={:?}", key.display(), xattr::get(&full, &key).unwrap()))
            .filter(|text| !text.starts_with("user.rootlesscontainers"))
            .collect();
        xattrs.sort();
        // By design a link to a lower layer is a copy, which is what overlayfs would make of it.
        let copied =
            ["usr/hard", "usr/harder", "usr/tool"].iter().any(|name| path == Path::new(name));
        let links = if meta.is_dir() || copied { 0 } else { meta.nlink() };
        // A directory that no layer describes has the time of its making.
        let time = if path.as_os_str().as_bytes().starts_with(b"made") || path == Path::new("") {
            0
        } else {
            meta.mtime() * 1_000_000_000 + meta.mtime_nsec()
        };
        lines.push(format!(
            "{} {:o} {}:{} {:x} {links} {time} {content} {xattrs:?}",
            path.display(),
            meta.mode(),
            meta.uid(),
            meta.gid(),
            meta.rdev(),
        ));
        if meta.is_dir() {
            for entry in fs::read_dir(&full).unwrap() {
                todo.push(path.join(entry.unwrap().file_name()));
            }
        }
    }
    lines.sort();
    lines
}

#[test]
fn a_container_sees_the_tree_that_umoci_unpacks() {
    let head = |mode, mtime| Head { mode, uid: 1000, gid: 2000, mtime };
    let capability: &[u8] = &[1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let base = Tar::new()
        .raw("./", Directory, head(0o755, 1_000_000_000), b"")
        .raw("tmp/", Directory, head(0o1777, 1_100_000_000), b"")
        .dir("usr", 0o755)
        .pax(&[("mtime", b"1234567890.987654321"), ("SCHILY.xattr.user.dir", b"1")])
        .dir("usr/lib", 0o751)
        .file("usr/lib/old", "old")
        .symlink("lib", "usr/lib")
        .pax(&[("SCHILY.xattr.security.capability", capability)])
        .raw("usr/tool", Regular, head(0o755, 5), b"tool")
        .raw("usr/suid", Regular, head(0o6755, 6), b"suid")
        .raw("usr/fifo", Fifo, head(0o600, 7), b"")
        .raw("usr/null", tar::EntryType::Char, head(0o666, 8), b"")
        .dir("gone", 0o755)
        .file("gone/a", "")
        .dir("opaque", 0o700)
        .file("opaque/hidden", "")
        .file("swap", "file")
        .dir("paws", 0o755)
        .file("paws/x", "")
        .dir("made-anew", 0o700)
        .file("made-anew/old", "")
        .dir("made-behind", 0o755)
        .dir("made-behind/it", 0o750)
        .file("made-behind/it/old", "")
        .symlink("way", "made-behind/it")
        .dir("described", 0o755)
        .symlink("to-described", "described")
        .build();
    let middle = Tar::new()
        .file("tmp/x", "1")
        .file("lib/new", "2")
        .link("usr/hard", "usr/tool")
        .link("usr/harder", "usr/hard")
        .file(".wh.gone", "")
        .dir("opaque", 0o711)
        .file("opaque/.wh..wh..opq", "")
        .file("opaque/seen", "")
        .dir("swap", 0o755)
        .file("swap/y", "")
        .file("paws", "file now")
        .file("made/on/the/way", "")
        .file(".wh.made-anew", "")
        .file("made-anew/new", "")
        .file("made-behind/.wh.it", "")
        .file("way/in", "")
        .dir("described", 0o700)
        .file("to-described/in", "")
        .dir("left", 0o755)
        .file("left/x", "linked to from without")
        .link("kept", "left/x")
        .file("left", "file now")
        .build();
    let top = Tar::new()
        .file("usr/lib/.wh.old", "")
        .dir("gone", 0o711)
        .file("gone/back", "")
        .file(&format!("tmp/{}", "n".repeat(90)), "long")
        .raw("usr/suid", Regular, head(0o4711, 9), b"replaced")
        .build();
    let world = World::new();
    let layout = world.path("layout");
    write_layout(&layout, &[("latest", &make(&[base, middle, top], gzip))]);
    let bundle = world.path("bundle");
    let umoci = Command::new("umoci")
        .args(["unpack", "--image", &format!("{}:latest", layout.display())])
        .arg(&bundle)
        .output()
        .expect("umoci is installed (make deps)");
    assert!(umoci.status.success(), "{}", String::from_utf8_lossy(&umoci.stderr));
    let image = block_on(world.images.import(&layout, None)).unwrap().remove(0).id;
    let id = ContainerId::parse(&random_hex().unwrap()).unwrap();
    world.images.prepare_snapshot(&image, &id, &[], None).unwrap();
    let mounted = world.images.mount_snapshot(&id, View::default()).unwrap();
    let ours = describe(Path::new(&format!("/proc/self/fd/{}/", mounted.as_raw_fd())));
    let theirs = describe(&bundle.join("rootfs"));
    assert_eq!(ours.len(), theirs.len());
    for (our, their) in ours.iter().zip(&theirs) {
        assert_eq!(our, their);
    }
}
