use super::*;
use crate::kubelet::volumes::test_node::Node;
use std::os::unix::fs::symlink;

#[test]
fn octal_digits_of_the_mount_table_are_read() {
    assert_eq!(unescape(br"/a\040b\134c\011"), "/a b\\c\t");
    assert_eq!(unescape(br"/a\04"), "/a\\04");
}

#[test]
fn a_tree_goes_and_what_its_links_lead_to_stays() {
    let temp = tempfile::tempdir().unwrap();
    let (tree, outside) = (temp.path().join("tree"), temp.path().join("outside"));
    fs::create_dir_all(tree.join("a/b/c")).unwrap();
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "").unwrap();
    fs::write(tree.join("a/file"), "").unwrap();
    symlink(&outside, tree.join("a/link")).unwrap();
    symlink("../../..", tree.join("a/b/up")).unwrap();
    assert!(remove_tree(&tree).is_empty());
    assert!(!tree.exists());
    assert!(outside.join("file").exists());
    assert!(remove_tree(&tree).is_empty(), "a second time there is nothing to do");
}

#[test]
fn a_link_in_the_place_of_the_folder_is_removed_itself() {
    let temp = tempfile::tempdir().unwrap();
    let outside = temp.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "").unwrap();
    symlink(&outside, temp.path().join("tree")).unwrap();
    assert!(remove_tree(&temp.path().join("tree")).is_empty());
    assert!(outside.join("file").exists());
    assert!(fs::symlink_metadata(temp.path().join("tree")).is_err());
}

/// Deeper than a path can name, and than a process may have files open.
#[test]
fn a_tree_of_any_depth_goes() {
    let node = Node::new();
    let tree = node.path("payload/tree");
    fs::create_dir(&tree).unwrap();
    let mut deepest = open_folder(&tree).unwrap();
    for _ in 0..3000 {
        nix::sys::stat::mkdirat(&deepest, "down", Mode::S_IRWXU).unwrap();
        nix::sys::stat::mkdirat(&deepest, "berth.deep.0", Mode::S_IRWXU).unwrap();
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
        deepest = openat(&deepest, "down", flags, Mode::empty()).unwrap();
    }
    let errors = remove_tree(&tree);
    assert!(errors.is_empty(), "{errors:?}");
    assert!(!tree.exists());
}

#[test]
fn a_mount_that_is_left_is_not_emptied() {
    let node = Node::new();
    let tree = node.path("tree");
    node.mount(&tree.join("sub/mounted"));
    fs::write(tree.join("sub/mounted/file"), "").unwrap();
    fs::write(tree.join("sub/other"), "").unwrap();
    let errors = remove_tree(&tree);
    assert!(!errors.is_empty());
    assert!(errors[0].to_string().contains("sub/mounted"), "{}", errors[0]);
    assert!(tree.join("sub/mounted/file").exists());
    assert!(!tree.join("sub/other").exists(), "it goes on past errors");
}

#[test]
fn everything_mounted_below_goes_newest_first() {
    let node = Node::new();
    let tree = node.path("a tree");
    // In each other, and on one another.
    for at in ["one", "one/in", "one/in", "two \\ odd"] {
        node.mount(&tree.join(at));
    }
    let before = node.mounts();
    let errors = unmount_below(&tree);
    assert!(errors.is_empty(), "{errors:?}");
    assert_eq!(node.mounts(), before - 4);
    assert!(unmount_below(&node.path("none")).is_empty());
}

/// What a hostPath has mounted in it must not go with a bind of it.
#[test]
fn a_bind_of_a_shared_mount_takes_nothing_else_with_it() {
    let node = Node::new();
    let (host, bind) = (node.path("host"), node.path("pod/bind"));
    node.mount(&host);
    let fd = open_folder(&host).unwrap();
    let shared = Change { propagation: Some(Propagation::Shared), ..Change::default() };
    mount::set_attributes(fd.as_fd(), shared, Reach::One).unwrap();
    fs::create_dir_all(&bind).unwrap();
    let copy = mount::clone_tree(fd.as_fd(), c"", Reach::One).unwrap();
    mount::attach(copy.as_fd(), open_folder(&bind).unwrap().as_fd()).unwrap();
    // Arrives in the bind, too.
    node.mount(&host.join("nested"));
    fs::write(host.join("nested/file"), "").unwrap();
    assert!(bind.join("nested/file").exists());
    let errors = unmount_below(&node.path("pod"));
    assert!(errors.is_empty(), "{errors:?}");
    assert!(!bind.join("nested").exists());
    assert!(host.join("nested/file").exists());
}
