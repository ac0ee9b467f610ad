use super::*;
use crate::kubelet::volumes::payload::File;
use crate::kubelet::volumes::test_node::Node;
use proptest::prelude::*;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

fn payload(files: &[(&str, &str)]) -> Payload {
    let file = |bytes: &str| File { bytes: bytes.into(), mode: 0o644, user: 0 };
    files.iter().map(|(path, bytes)| ((*path).to_owned(), file(bytes))).collect()
}

/// The names in a folder.
fn list(root: &Path) -> Vec<String> {
    let names = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

/// What containers see.
fn visible(root: &Path) -> Vec<String> {
    list(root).into_iter().filter(|name| !name.starts_with("..")).collect()
}

fn generations(root: &Path) -> usize {
    list(root).iter().filter(|name| is_generation(name)).count()
}

fn text(path: PathBuf) -> String {
    fs::read_to_string(path).unwrap()
}

#[test]
fn files_are_seen_through_links_to_the_data() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("v");
    let written =
        write(&root, &payload(&[("a", "1"), ("x/y/z", "2"), ("x/w", "3")]), None).unwrap();
    assert_eq!(written, Written::Changed);
    assert_eq!(visible(&root), ["a", "x"]);
    assert_eq!(fs::read_link(root.join("x")).unwrap(), Path::new("..data/x"));
    let target = fs::read_link(root.join("..data")).unwrap();
    assert!(target.to_str().unwrap().starts_with("..g."), "{target:?}");
    assert_eq!((text(root.join("a")), text(root.join("x/y/z"))), ("1".into(), "2".into()));
}

#[test]
fn the_same_payload_is_not_written_again() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("v");
    let one = payload(&[("a", "1"), ("x/y", "2")]);
    write(&root, &one, None).unwrap();
    let before = fs::read_link(root.join("..data")).unwrap();
    assert_eq!(write(&root, &one, None).unwrap(), Written::Same);
    assert_eq!(fs::read_link(root.join("..data")).unwrap(), before);
}

#[test]
fn any_difference_is_written() {
    let one = || payload(&[("a", "1"), ("x/y", "2")]);
    let mut mode = one();
    mode.get_mut("a").unwrap().mode = 0o600;
    let mut owner = one();
    owner.get_mut("a").unwrap().user = 7;
    let rows = [
        ("content", payload(&[("a", "1"), ("x/y", "3")]), None),
        ("a file more", payload(&[("a", "1"), ("x/y", "2"), ("x/z", "")]), None),
        ("a file less", payload(&[("a", "1")]), None),
        ("a mode", mode, None),
        ("an owner", owner, None),
        ("a group", one(), Some(7)),
        ("nothing left", Payload::new(), None),
    ];
    for (row, other, group) in rows {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("v");
        write(&root, &one(), None).unwrap();
        assert_eq!(write(&root, &other, group).unwrap(), Written::Changed, "{row}");
        assert_eq!(write(&root, &other, group).unwrap(), Written::Same, "{row}");
        assert_eq!(read(&root.join("..data")).unwrap(), wanted(&other, group), "{row}");
        assert_eq!(visible(&root), names(&other).into_iter().collect::<Vec<_>>(), "{row}");
    }
}

#[test]
fn a_generation_outlives_the_next_one_by_one_call() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("v");
    write(&root, &payload(&[("a", "1")]), None).unwrap();
    let before = root.join(fs::read_link(root.join("..data")).unwrap());
    write(&root, &payload(&[("a", "2")]), None).unwrap();
    assert_eq!(text(before.join("a")), "1", "for those who have just followed the link");
    write(&root, &payload(&[("a", "2")]), None).unwrap();
    assert!(!before.exists());
    assert_eq!(generations(&root), 1);
}

#[test]
fn a_group_may_read_what_is_written_for_it() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("v");
    let mut files = payload(&[("x/a", "1")]);
    files.get_mut("x/a").unwrap().mode = 0o600;
    write(&root, &files, Some(4711)).unwrap();
    for (path, mode) in [("", 0o2777), ("..data/", 0o2755), ("x/", 0o2755), ("x/a", 0o640)] {
        let metadata = fs::metadata(root.join(path)).unwrap();
        assert_eq!((metadata.gid(), metadata.mode() & 0o7777), (4711, mode), "{path}");
    }
}

#[test]
fn a_file_may_become_a_folder_and_back() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("v");
    for files in [payload(&[("a", "1")]), payload(&[("a/b", "2")]), payload(&[("a", "3")])] {
        write(&root, &files, None).unwrap();
        assert_eq!(read(&root.join("..data")).unwrap(), wanted(&files, None));
    }
}

/// What a crash may leave: a generation half written, a link that was to be renamed, names of before.
#[test]
fn leftovers_of_a_crash_are_repaired() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("v");
    let files = payload(&[("a", "1"), ("b", "2")]);
    write(&root, &files, None).unwrap();
    fs::create_dir_all(root.join("..g.half/x")).unwrap();
    std::os::unix::fs::symlink("..g.half", root.join("..data_tmp")).unwrap();
    std::os::unix::fs::symlink("..data/old", root.join("old")).unwrap();
    fs::remove_file(root.join("b")).unwrap();
    assert_eq!(write(&root, &files, None).unwrap(), Written::Same);
    assert_eq!(visible(&root), ["a", "b"]);
    assert_eq!(generations(&root), 1);
    fs::remove_file(root.join("..data")).unwrap();
    assert_eq!(
        write(&root, &files, None).unwrap(),
        Written::Changed,
        "without data all is written"
    );
}

fn read_in(folder: &OwnedFd, name: &str) -> String {
    let flags = nix::fcntl::OFlag::O_RDONLY;
    let file = nix::fcntl::openat(folder.as_fd(), name, flags, nix::sys::stat::Mode::empty());
    io::read_to_string(fs::File::from(file.unwrap())).unwrap()
}

/// A reader whose pass meets at most one update: after each, the writer waits for the end of the pass that
/// is under way. It opens the data once and reads both files from there, as a careful program does, and each
/// by its visible name, as any does.
#[test]
fn a_reader_never_sees_a_mixture_or_a_missing_file() {
    const UPDATES: u64 = 1000;
    let node = Node::new();
    let root = Arc::new(node.path("payload/v"));
    let files = |n: u64| {
        let text = n.to_string();
        payload(&[("one", &text), ("folder/two", &text)])
    };
    write(&root, &files(0), None).unwrap();
    let (passes, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let reader = {
        let (root, passes, done) = (Arc::clone(&root), Arc::clone(&passes), Arc::clone(&done));
        std::thread::spawn(move || {
            let mut seen = 0;
            while !done.load(Ordering::SeqCst) {
                let flags = nix::fcntl::OFlag::O_DIRECTORY;
                let data =
                    nix::fcntl::open(&root.join("..data"), flags, nix::sys::stat::Mode::empty());
                let data = data.unwrap();
                let (one, two) = (read_in(&data, "one"), read_in(&data, "folder/two"));
                assert_eq!(one, two, "a mixture");
                let now: u64 = one.parse().unwrap();
                assert!(now >= seen, "back from {seen} to {now}");
                seen = now;
                text(root.join("one"));
                text(root.join("folder/two"));
                passes.fetch_add(1, Ordering::SeqCst);
            }
        })
    };
    for n in 1..=UPDATES {
        write(&root, &files(n), None).unwrap();
        let begun = passes.load(Ordering::SeqCst);
        while passes.load(Ordering::SeqCst) == begun && !reader.is_finished() {
            std::thread::yield_now();
        }
    }
    done.store(true, Ordering::SeqCst);
    reader.join().unwrap();
    assert_eq!(text(root.join("one")), UPDATES.to_string());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn after_any_updates_the_volume_is_the_last_payload(
        updates in prop::collection::vec(
            prop::collection::btree_map("[ab]/[ab]|[cd]", "[a-z]{0,3}", 0..4), 1..6),
    ) {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("v");
        for update in updates {
            let files: Vec<_> = update.iter().map(|(p, b)| (p.as_str(), b.as_str())).collect();
            let files = payload(&files);
            write(&root, &files, None).unwrap();
            prop_assert_eq!(read(&root.join("..data")).unwrap(), wanted(&files, None));
            let links: Vec<_> = names(&files).into_iter().map(str::to_owned).collect();
            prop_assert_eq!(visible(&root), links);
            prop_assert!(generations(&root) <= 2);
        }
    }
}
