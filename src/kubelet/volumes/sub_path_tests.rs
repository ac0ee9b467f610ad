use super::*;
use crate::kubelet::volumes::test_node::Node;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What everybody waits for.
fn still() -> &'static blocking::Wanted {
    static STILL: std::sync::OnceLock<blocking::Wanted> = std::sync::OnceLock::new();
    STILL.get_or_init(blocking::Wanted::default)
}

fn wanted(sub_path: &str) -> Wanted<'_> {
    Wanted { container: "app", volume: "v", sub_path, missing: Missing::Create, still: still() }
}

fn volume(node: &Node) -> PathBuf {
    let root = node.path("v");
    fs::create_dir_all(&root).unwrap();
    root
}

/// Where it leads, as the kernel names it.
fn opened(root: &Path, sub_path: &str) -> Result<PathBuf, VolumeError> {
    use std::os::fd::AsRawFd as _;
    let root = open_root(root, OFlag::O_NOFOLLOW).unwrap();
    let found = open(root.as_fd(), &wanted(sub_path))?;
    Ok(fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd())).unwrap())
}

#[test]
fn links_are_followed_as_long_as_they_stay_inside() {
    let node = Node::new();
    let root = volume(&node);
    fs::create_dir_all(root.join("a/b")).unwrap();
    fs::write(root.join("a/b/file"), "").unwrap();
    symlink("a/b", root.join("in")).unwrap();
    symlink("../b/file", root.join("a/b/up")).unwrap();
    for (sub_path, leads) in
        [("a/b", "a/b"), ("in/file", "a/b/file"), ("in/up", "a/b/file"), ("in/new", "a/b/new")]
    {
        assert_eq!(opened(&root, sub_path).unwrap(), root.join(leads), "{sub_path}");
    }
}

#[test]
fn every_way_out_is_refused_by_the_part_that_leads_there() {
    let node = Node::new();
    let root = volume(&node);
    fs::create_dir_all(root.join("d")).unwrap();
    fs::write(root.join("file"), "").unwrap();
    for (link, target) in [
        ("abs", "/etc"),
        ("up", "../.."),
        ("d/up", "../../outside"),
        ("own", root.to_str().unwrap()),
        ("proc", "/proc/self/root"),
        ("dangling", "nowhere"),
        ("loop", "loop"),
    ] {
        symlink(target, root.join(link)).unwrap();
    }
    let out = "leads out of the volume";
    let rows = [
        ("abs", "abs", out),
        ("abs/passwd", "abs", out),
        ("abs/new", "abs", out),
        ("up", "up", out),
        ("d/up/x", "up", out),
        ("own", "own", out),
        ("proc/etc", "proc", out),
        ("dangling", "dangling", "is a symlink that leads nowhere"),
        ("dangling/x", "dangling", "is a symlink that leads nowhere"),
        ("loop", "loop", "is a symlink that leads nowhere"),
        ("file/x", "x", "is not in a directory"),
    ];
    for (sub_path, part, reason) in rows {
        let error = opened(&root, sub_path).unwrap_err().to_string();
        let expected = format!(
            "subPath {sub_path:?} of volume \"v\" for container \"app\": {part:?} {reason}"
        );
        assert_eq!(error, expected);
    }
    assert!(!node.path("outside").exists(), "nothing is made outside");
    assert!(!root.join("nowhere").exists());
}

#[test]
fn what_is_missing_is_made_with_the_mode_of_the_root() {
    let node = Node::new();
    let root = volume(&node);
    fs::set_permissions(&root, fs::Permissions::from_mode(0o2777)).unwrap();
    opened(&root, "a/b").unwrap();
    for path in ["a", "a/b"] {
        assert_eq!(fs::metadata(root.join(path)).unwrap().mode() & 0o7777, 0o2777, "{path}");
    }
}

#[test]
fn where_nothing_may_be_made_the_missing_part_is_named() {
    let node = Node::new();
    let root = open_root(&volume(&node), OFlag::O_NOFOLLOW).unwrap();
    let wanted = Wanted { missing: Missing::Refuse, ..wanted("key") };
    let error = open(root.as_fd(), &wanted).unwrap_err().to_string();
    assert!(error.ends_with(": \"key\" does not exist"), "{error}");
}

fn bound(node: &Node, root: &Path, sub_path: &str) -> PathBuf {
    let root = open_root(root, OFlag::O_NOFOLLOW).unwrap();
    let place = open(root.as_fd(), &wanted(sub_path)).unwrap();
    let target = node.path("binds/0");
    fs::create_dir_all(target.parent().unwrap()).unwrap();
    bind(place.as_fd(), &target, still()).unwrap();
    target
}

#[test]
fn a_bind_shows_the_place_and_stays_when_its_name_leads_elsewhere() {
    let node = Node::new();
    let root = volume(&node);
    fs::create_dir(root.join("d")).unwrap();
    fs::write(root.join("d/file"), "mine").unwrap();
    let target = bound(&node, &root, "d");
    fs::rename(root.join("d"), root.join("old")).unwrap();
    symlink("/etc", root.join("d")).unwrap();
    assert_eq!(fs::read_to_string(target.join("file")).unwrap(), "mine");
    assert!(!target.join("passwd").exists());
}

#[test]
fn the_same_place_is_bound_once_and_another_replaces_it() {
    let node = Node::new();
    let root = volume(&node);
    fs::create_dir(root.join("d")).unwrap();
    fs::write(root.join("file"), "1").unwrap();
    let before = node.mounts();
    for _ in 0..3 {
        bound(&node, &root, "d");
    }
    assert_eq!(node.mounts(), before + 1);
    // A file in the place of a folder, and a new file of the same name.
    let target = bound(&node, &root, "file");
    assert_eq!(fs::read_to_string(&target).unwrap(), "1");
    fs::write(root.join("new"), "2").unwrap();
    fs::rename(root.join("new"), root.join("file")).unwrap();
    assert_eq!(fs::read_to_string(bound(&node, &root, "file")).unwrap(), "2");
    assert_eq!(node.mounts(), before + 1);
}

/// A container of the volume swaps a folder for a link while another is being made: whatever is bound is
/// the folder.
#[test]
fn a_link_that_is_swapped_in_never_leads_out() {
    let node = Node::new();
    let root = volume(&node);
    fs::create_dir(root.join("real")).unwrap();
    fs::write(root.join("real/mark"), "").unwrap();
    symlink(node.path("outside"), root.join("evil")).unwrap();
    fs::create_dir_all(node.path("outside/sub")).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let attacker = {
        let (root, stop) = (root.clone(), Arc::clone(&stop));
        std::thread::spawn(move || {
            let (real, evil) = (root.join("real"), root.join("evil"));
            let flags = nix::fcntl::RenameFlags::RENAME_EXCHANGE;
            let mut swaps = 0u64;
            while !stop.load(Ordering::SeqCst) {
                nix::fcntl::renameat2(
                    nix::fcntl::AT_FDCWD,
                    &real,
                    nix::fcntl::AT_FDCWD,
                    &evil,
                    flags,
                )
                .unwrap();
                swaps += 1;
            }
            swaps
        })
    };
    let folder = open_root(&root, OFlag::O_NOFOLLOW).unwrap();
    let target = node.path("binds/0");
    fs::create_dir_all(target.parent().unwrap()).unwrap();
    let (mut inside, mut refused) = (0u64, 0u64);
    crate::testing::eventually("both outcomes are met", || {
        match open(folder.as_fd(), &wanted("real")) {
            Ok(place) => {
                bind(place.as_fd(), &target, still()).unwrap();
                assert!(target.join("mark").exists(), "bound something else");
                inside += 1;
            }
            Err(_) => refused += 1,
        }
        // What is made must be made inside, too.
        open(folder.as_fd(), &wanted("real/new/er")).ok();
        assert!(!node.path("outside/new").exists());
        inside > 200 && refused > 200
    });
    stop.store(true, Ordering::SeqCst);
    assert!(attacker.join().unwrap() > 0);
}

#[test]
fn nothing_is_made_or_bound_that_nobody_waits_for() {
    let node = Node::new();
    let root = volume(&node);
    fs::create_dir(root.join("there")).unwrap();
    let gone = blocking::Wanted::withdrawn();
    let at = open_root(&root, OFlag::O_NOFOLLOW).unwrap();
    let error = open(at.as_fd(), &Wanted { still: &gone, ..wanted("new") }).unwrap_err();
    assert!(matches!(error, VolumeError::Unwanted(_)), "{error}");
    assert!(!root.join("new").exists());
    let place = open(at.as_fd(), &Wanted { still: &gone, ..wanted("there") }).unwrap();
    let target = node.path("target");
    let error = bind(place.as_fd(), &target, &gone).unwrap_err();
    assert!(matches!(error, VolumeError::Unwanted(_)), "{error}");
    assert!(!target.exists());
    assert_eq!(node.mounts(), 1, "the node's own");
}
