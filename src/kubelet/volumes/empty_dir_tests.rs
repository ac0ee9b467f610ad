use super::*;
use crate::kubelet::volumes::test_node::{Node, pod_with};
use serde_json::{Value, json};
use std::os::unix::fs::MetadataExt as _;

const MIB: u64 = 1 << 20;

fn plan_of(source: Value, rest: Value) -> Result<Plan, VolumeError> {
    let pod = pod_with(json!([{"name": "v", "emptyDir": source}]), rest);
    let node = Node::new();
    let volume = pod.spec.as_ref().unwrap().volumes.as_ref().unwrap().first().unwrap();
    plan("v", volume.empty_dir.as_ref(), &node.input(&pod))
}

fn limited(mib: &[u64]) -> Value {
    let container =
        |mib: &u64| json!({"name": "c", "resources": {"limits": {"memory": format!("{mib}Mi")}}});
    json!(mib.iter().map(container).collect::<Vec<_>>())
}

/// The node has 64 MiB for pods.
#[test]
fn memory_is_bounded_by_the_least_of_node_pod_and_limit() {
    let sidecar = json!([{"name": "s", "restartPolicy": "Always",
        "resources": {"limits": {"memory": "5Mi"}}}]);
    let rows = [
        ("the node", json!({}), json!({}), 64),
        ("the limit", json!({"sizeLimit": "3Mi"}), json!({}), 3),
        ("a limit above the node", json!({"sizeLimit": "1Gi"}), json!({}), 64),
        ("a limit of 0", json!({"sizeLimit": "0"}), json!({}), 64),
        ("the containers' sum", json!({}), json!({"containers": limited(&[10, 20])}), 30),
        (
            "the limit below the pod",
            json!({"sizeLimit": "3Mi"}),
            json!({"containers": limited(&[10])}),
            3,
        ),
        (
            "an init container above the sum",
            json!({}),
            json!({"containers": limited(&[10]), "initContainers": limited(&[40])}),
            40,
        ),
        (
            "a sidecar beside the others",
            json!({}),
            json!({"containers": limited(&[10]), "initContainers": sidecar}),
            15,
        ),
        (
            "one container without a limit",
            json!({}),
            json!({"containers": [limited(&[10])[0].clone(), {"name": "free"}]}),
            64,
        ),
        ("the pod's own limit", json!({}), json!({"resources": {"limits": {"memory": "7Mi"}}}), 7),
    ];
    for (row, source, rest, mib) in rows {
        let mut source = source;
        source["medium"] = json!("Memory");
        let size_bytes = Some(mib * MIB);
        assert_eq!(plan_of(source, rest).unwrap().medium, Medium::Memory { size_bytes }, "{row}");
    }
}

#[test]
fn huge_pages_are_of_the_size_that_the_pod_asks_for() {
    let asks = |names: &[&str]| {
        let limits: Value = names.iter().map(|name| ((*name).to_owned(), json!("4Mi"))).collect();
        json!({"containers": [{"name": "c", "resources": {"limits": limits}}]})
    };
    let (small, large) = ("hugepages-2Mi", "hugepages-1Gi");
    let rows = [
        ("HugePages", asks(&[small]), Ok(2 * MIB)),
        ("HugePages-2Mi", asks(&[small, large]), Ok(2 * MIB)),
        ("HugePages-1Gi", asks(&[small, large]), Ok(1 << 30)),
        ("HugePages", asks(&[small, large]), Err("several")),
        ("HugePages", asks(&[]), Err("asks for huge pages")),
        ("HugePages-1Gi", asks(&[small]), Err("no container asks for")),
        ("HugePages-x", asks(&[small]), Err("no page size")),
        ("Disk", asks(&[]), Err("is not a medium")),
    ];
    for (medium, rest, expected) in rows {
        let made = plan_of(json!({"medium": medium}), rest);
        match expected {
            Ok(page_bytes) => assert_eq!(made.unwrap().medium, Medium::HugePages { page_bytes }),
            Err(part) => {
                let error = made.unwrap_err().to_string();
                assert!(error.contains(part), "{medium}: {error}");
            }
        }
    }
}

fn set_up_in(node: &Node, source: Value, rest: Value) -> Result<(), VolumeError> {
    let pod = pod_with(json!([{"name": "v", "emptyDir": source}]), rest);
    node.volumes().set_up(&node.input(&pod))
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn a_folder_on_disk_is_open_to_all_and_keeps_its_content() {
    let node = Node::new();
    let path = node.pod_path("volumes/v");
    set_up_in(&node, json!({}), json!({})).unwrap();
    assert_eq!(mode(&path), 0o777);
    fs::write(path.join("file"), "kept").unwrap();
    // What a container did to it is not undone.
    set_mode(&path, 0o700).unwrap();
    set_up_in(&node, json!({}), json!({})).unwrap();
    assert_eq!(fs::read_to_string(path.join("file")).unwrap(), "kept");
    assert_eq!(mode(&path), 0o700);
}

#[test]
fn its_mode_and_group_are_the_pods() {
    let node = Node::new();
    let group = json!({"securityContext": {"fsGroup": 4711}});
    set_up_in(&node, json!({"mode": 0o1700}), group).unwrap();
    let metadata = fs::metadata(node.pod_path("volumes/v")).unwrap();
    assert_eq!((metadata.gid(), metadata.mode() & 0o7777), (4711, 0o3770));
}

#[test]
fn a_set_up_that_was_cut_off_is_finished() {
    let node = Node::new();
    let path = node.pod_path("volumes/v");
    fs::create_dir_all(&path).unwrap();
    set_mode(&path, 0o700).unwrap();
    set_up_in(&node, json!({}), json!({})).unwrap();
    assert_eq!(mode(&path), 0o777);
}

#[test]
fn memory_is_a_tmpfs_of_that_size_mounted_once() {
    let node = Node::new();
    let source = || json!({"medium": "Memory", "sizeLimit": "1Mi"});
    let path = node.pod_path("volumes/v");
    set_up_in(&node, source(), json!({})).unwrap();
    assert_eq!(crate::sys::fs::space(&path).unwrap().bytes, MIB);
    assert_eq!(mode(&path), 0o777);
    fs::write(path.join("file"), "kept").unwrap();
    let mounts = node.mounts();
    set_up_in(&node, source(), json!({})).unwrap();
    assert_eq!(node.mounts(), mounts);
    assert_eq!(fs::read_to_string(path.join("file")).unwrap(), "kept");
    let full = fs::write(path.join("large"), vec![1; 2 << 20]).unwrap_err();
    assert_eq!(full.raw_os_error(), Some(libc::ENOSPC));
}

/// As after a reboot: the mark is on disk, the mount is gone.
#[test]
fn memory_that_is_gone_is_mounted_again() {
    let node = Node::new();
    let source = || json!({"medium": "Memory", "sizeLimit": "1Mi"});
    set_up_in(&node, source(), json!({})).unwrap();
    assert!(super::super::remove::unmount_below(&node.path("pods")).is_empty());
    set_up_in(&node, source(), json!({})).unwrap();
    assert!(is_mount_point(&node.pod_path("volumes/v")).unwrap());
}

#[test]
fn huge_pages_are_a_hugetlbfs() {
    // A kernel without them has nothing to test.
    if !Path::new("/sys/kernel/mm/hugepages/hugepages-2048kB").exists() {
        return;
    }
    let node = Node::new();
    let asks =
        json!({"containers": [{"name": "c", "resources": {"limits": {"hugepages-2Mi": "2Mi"}}}]});
    set_up_in(&node, json!({"medium": "HugePages"}), asks).unwrap();
    let at = node.pod_path("volumes/v");
    let stat = nix::sys::statfs::statfs(&at).unwrap();
    assert_eq!(stat.filesystem_type(), nix::sys::statfs::HUGETLBFS_MAGIC);
    assert_eq!(u64::try_from(stat.block_size()).unwrap(), 2 * MIB);
    assert_eq!(mode(&at), 0o777);
}
