use super::*;
use crate::error::chain;
use crate::kubelet::volumes::test_node::{Node, UID, pod, pod_with};
use serde_json::{Value, from_value, json};
use std::os::unix::fs::{MetadataExt as _, symlink};

fn everything() -> Pod {
    pod(json!([
        {"name": "disk", "emptyDir": {}},
        {"name": "memory", "emptyDir": {"medium": "Memory"}},
        {"name": "map", "configMap": {"name": "m"}},
        {"name": "secret", "secret": {"secretName": "s"}},
        {"name": "image", "image": {"reference": "r"}},
    ]))
}

fn node() -> Node {
    let mut node = Node::new();
    node.put_map("m", json!({"a": "1", "b": "2"}));
    node.put_secret("s", json!({"token": "t"}));
    node
}

fn container(mounts: Value) -> Container {
    from_value(json!({"name": "app", "volumeMounts": mounts})).unwrap()
}

fn mounts(node: &Node, pod: &Pod, asked: Value) -> Result<Vec<proto::Mount>, VolumeError> {
    node.volumes().mounts(&node.input(pod), &container(asked), &[])
}

#[test]
fn the_nodes_tmpfs_is_mounted_once_and_is_roots_alone() {
    let node = Node::new();
    let before = node.mounts();
    fs::write(node.path("payload/kept"), "").unwrap();
    node.volumes().prepare_node().unwrap();
    assert_eq!(node.mounts(), before);
    assert!(node.path("payload/kept").exists(), "what a daemon before left is adopted");
    let stat = nix::sys::statfs::statfs(&node.path("payload")).unwrap();
    assert_eq!(stat.filesystem_type(), nix::sys::statfs::TMPFS_MAGIC);
    assert_eq!(fs::metadata(node.path("payload")).unwrap().mode() & 0o7777, 0o700);
}

#[test]
fn the_nodes_tmpfs_goes_when_no_pod_needs_it() {
    let node = Node::new();
    fs::create_dir(node.path("payload/uid")).unwrap();
    node.volumes().release_node().unwrap();
    assert_eq!(node.mounts(), 1, "a pod has files on it");
    fs::remove_dir(node.path("payload/uid")).unwrap();
    node.volumes().release_node().unwrap();
    assert_eq!(node.mounts(), 0);
    node.volumes().release_node().unwrap();
}

#[test]
fn written_volumes_cost_no_mount() {
    let node = node();
    let before = node.mounts();
    let pod = pod(json!([
        {"name": "map", "configMap": {"name": "m"}},
        {"name": "secret", "secret": {"secretName": "s"}},
    ]));
    node.volumes().set_up(&node.input(&pod)).unwrap();
    assert_eq!(fs::read_to_string(node.payload_path("secret/token")).unwrap(), "t");
    assert_eq!(node.mounts(), before);
}

#[test]
fn a_containers_mounts_lead_to_its_volumes_in_its_order() {
    let node = node();
    let pod = everything();
    node.volumes().set_up(&node.input(&pod)).unwrap();
    let names = ["map", "disk", "image", "memory"];
    let asked = names.map(|name| json!({"name": name, "mountPath": format!("/{name}")}));
    let made = mounts(&node, &pod, json!(asked)).unwrap();
    let paths: Vec<_> =
        made.iter().map(|m| (m.container_path.as_str(), m.host_path.clone())).collect();
    let text = |path: PathBuf| path.to_str().unwrap().to_owned();
    let expected = [
        ("/map", text(node.payload_path("map"))),
        ("/disk", text(node.pod_path("volumes/disk"))),
        ("/image", String::new()),
        ("/memory", text(node.pod_path("volumes/memory"))),
    ];
    assert_eq!(paths, expected);
    assert_eq!(made[2].image.as_ref().unwrap().image, "r");
}

#[test]
fn a_refresh_tells_what_changed_and_what_is_missing() {
    let mut node = node();
    let pod = everything();
    node.volumes().set_up(&node.input(&pod)).unwrap();
    let refreshed = node.volumes().refresh(&node.input(&pod));
    assert!(refreshed.changed.is_empty() && refreshed.failed.is_empty(), "{refreshed:?}");
    node.put_map("m", json!({"a": "new"}));
    assert_eq!(node.volumes().refresh(&node.input(&pod)).changed, ["map"]);
    assert_eq!(fs::read_to_string(node.payload_path("map/a")).unwrap(), "new");
    assert!(!node.payload_path("map/b").exists());
    // The files stay when their object goes, and the other volumes are refreshed.
    node.objects = Objects::default();
    node.put_secret("s", json!({"token": "other"}));
    let refreshed = node.volumes().refresh(&node.input(&pod));
    assert_eq!(refreshed.changed, ["secret"]);
    let failed: Vec<String> = refreshed.failed.iter().map(|e| chain(e)).collect();
    assert_eq!(failed, ["volume \"map\": ConfigMap shop/m does not exist"]);
    assert_eq!(fs::read_to_string(node.payload_path("map/a")).unwrap(), "new");
}

#[test]
fn a_place_in_a_volume_is_bound_and_does_not_follow_updates() {
    let mut node = node();
    let pod = everything();
    node.volumes().set_up(&node.input(&pod)).unwrap();
    let asked = json!([
        {"name": "map", "mountPath": "/a", "subPath": "a"},
        {"name": "disk", "mountPath": "/d", "subPath": "x/y"},
    ]);
    let made = mounts(&node, &pod, asked.clone()).unwrap();
    assert_eq!(made[0].host_path, node.pod_path("subpaths/app/0").to_str().unwrap());
    assert_eq!(fs::read_to_string(&made[0].host_path).unwrap(), "1");
    assert!(node.pod_path("volumes/disk/x/y").is_dir());
    for value in ["2", "3", "4"] {
        node.put_map("m", json!({"a": value}));
        assert_eq!(node.volumes().refresh(&node.input(&pod)).changed, ["map"]);
        assert_eq!(fs::read_to_string(&made[0].host_path).unwrap(), "1");
    }
    // The next container of the name sees what is there then.
    let again = mounts(&node, &pod, asked).unwrap();
    assert_eq!(again, made);
    assert_eq!(fs::read_to_string(&made[0].host_path).unwrap(), "4");
}

#[test]
fn a_place_in_a_host_path_may_be_reached_through_a_link_to_the_path() {
    let node = node();
    fs::create_dir_all(node.path("real/sub")).unwrap();
    fs::write(node.path("real/sub/file"), "host").unwrap();
    symlink("real", node.path("link")).unwrap();
    let pod =
        pod(json!([{"name": "h", "hostPath": {"path": node.path("link"), "type": "Directory"}}]));
    node.volumes().set_up(&node.input(&pod)).unwrap();
    let asked = json!([{"name": "h", "mountPath": "/h", "subPath": "sub"}]);
    let made = mounts(&node, &pod, asked).unwrap();
    assert_eq!(fs::read_to_string(Path::new(&made[0].host_path).join("file")).unwrap(), "host");
    node.volumes().tear_down(UID).unwrap();
    assert_eq!(fs::read_to_string(node.path("real/sub/file")).unwrap(), "host");
}

#[test]
fn what_a_container_cannot_mount_is_named() {
    let node = node();
    let pod = everything();
    node.volumes().set_up(&node.input(&pod)).unwrap();
    let rows = [
        (json!({"name": "none", "mountPath": "/x"}), "a volume that the pod does not have"),
        (json!({"name": "map", "mountPath": "/x", "subPath": "none"}), "\"none\" does not exist"),
        (json!({"name": "map", "mountPath": "/x", "subPath": "../x"}), "leads out of the volume"),
    ];
    for (asked, part) in rows {
        let error = mounts(&node, &pod, json!([asked])).unwrap_err().to_string();
        assert!(error.contains(part) && error.contains("\"app\""), "{error}");
    }
}

#[test]
fn a_set_up_names_the_volume_that_fails_and_can_be_repeated() {
    let mut node = Node::new();
    let pod =
        pod(json!([{"name": "disk", "emptyDir": {}}, {"name": "map", "configMap": {"name": "m"}}]));
    let error = node.volumes().set_up(&node.input(&pod)).unwrap_err();
    assert_eq!(chain(&error), "volume \"map\": ConfigMap shop/m does not exist");
    node.put_map("m", json!({"a": "1"}));
    node.volumes().set_up(&node.input(&pod)).unwrap();
    assert!(node.payload_path("map/a").exists());
}

#[test]
fn sources_that_need_a_driver_are_refused() {
    let node = Node::new();
    let pod = pod(json!([{"name": "v", "nfs": {"server": "s", "path": "/"}}]));
    let error = node.volumes().set_up(&node.input(&pod)).unwrap_err().to_string();
    assert_eq!(error, "volume \"v\": nfs is not supported");
}

#[test]
fn a_name_that_is_no_component_is_refused() {
    let node = node();
    for source in [json!({"emptyDir": {}}), json!({"configMap": {"name": "m"}})] {
        for name in ["..", "a/b", ""] {
            let mut volume = source.clone();
            volume["name"] = json!(name);
            let error = node.volumes().set_up(&node.input(&pod(json!([volume])))).unwrap_err();
            assert!(error.to_string().contains("is not a name"), "{error}");
        }
    }
    let mut pod = everything();
    for uid in [None, Some("../x".to_owned())] {
        pod.metadata.uid = uid;
        assert!(node.volumes().set_up(&node.input(&pod)).is_err());
    }
}

#[test]
fn a_tear_down_leaves_nothing_and_may_be_repeated() {
    let node = node();
    let before = node.mounts();
    let pod = everything();
    node.volumes().set_up(&node.input(&pod)).unwrap();
    let asked = json!([
        {"name": "map", "mountPath": "/a", "subPath": "a"},
        {"name": "memory", "mountPath": "/m", "subPath": "x"},
    ]);
    mounts(&node, &pod, asked).unwrap();
    assert_eq!(node.volumes().known().unwrap(), [UID]);
    for _ in 0..2 {
        node.volumes().tear_down(UID).unwrap();
        assert_eq!(node.mounts(), before);
        assert!(!node.pod_path("").exists() && !node.payload_path("").exists());
        assert!(node.volumes().known().unwrap().is_empty());
    }
}

#[test]
fn a_tear_down_takes_leftovers_that_nobody_remembers() {
    let node = node();
    let before = node.mounts();
    let pod = everything();
    node.volumes().set_up(&node.input(&pod)).unwrap();
    // Of a volume that the pod no longer names, and of a container's making in one.
    node.mount(&node.pod_path("volumes/forgotten"));
    node.mount(&node.pod_path("volumes/disk/deep/mounted"));
    fs::write(node.pod_path("volumes/disk/deep/mounted/file"), "").unwrap();
    node.volumes().tear_down(UID).unwrap();
    assert_eq!(node.mounts(), before);
    assert!(!node.pod_path("").exists());
}

#[test]
fn a_tear_down_after_a_half_made_set_up_leaves_nothing() {
    let node = Node::new();
    let before = node.mounts();
    let volumes = json!([
        {"name": "disk", "emptyDir": {}},
        {"name": "memory", "emptyDir": {"medium": "Memory"}},
        {"name": "map", "configMap": {"name": "none"}},
    ]);
    assert!(node.volumes().set_up(&node.input(&pod(volumes))).is_err());
    fs::create_dir_all(node.payload_path("map/..g.half")).unwrap();
    node.volumes().tear_down(UID).unwrap();
    assert_eq!(node.mounts(), before);
    assert!(node.volumes().known().unwrap().is_empty());
}

#[test]
fn links_in_a_volume_lead_a_tear_down_nowhere() {
    let node = node();
    let pod = everything();
    node.volumes().set_up(&node.input(&pod)).unwrap();
    fs::create_dir(node.path("outside")).unwrap();
    fs::write(node.path("outside/file"), "").unwrap();
    symlink(node.path("outside"), node.pod_path("volumes/disk/abs")).unwrap();
    symlink("../../../../outside", node.pod_path("volumes/disk/up")).unwrap();
    symlink(node.path("outside"), node.pod_path("volumes/link")).unwrap();
    node.volumes().tear_down(UID).unwrap();
    assert!(node.path("outside/file").exists());
}

#[test]
fn the_folder_stays_when_others_have_something_in_it() {
    let node = node();
    let pod = everything();
    node.volumes().set_up(&node.input(&pod)).unwrap();
    fs::write(node.pod_path("status.json"), "").unwrap();
    node.volumes().tear_down(UID).unwrap();
    assert_eq!(fs::read_dir(node.pod_path("")).unwrap().count(), 1);
}

#[test]
fn written_files_are_the_groups_to_read() {
    let node = node();
    let volumes = json!([{"name": "secret", "secret": {"secretName": "s", "defaultMode": 0o400}}]);
    let pod = pod_with(volumes, json!({"securityContext": {"fsGroup": 4711}}));
    node.volumes().set_up(&node.input(&pod)).unwrap();
    let metadata = fs::metadata(node.payload_path("secret/token")).unwrap();
    assert_eq!((metadata.gid(), metadata.mode() & 0o7777), (4711, 0o440));
}

#[test]
fn nothing_is_made_of_a_pod_that_nobody_waits_for() {
    let mut node = Node::new();
    node.put_map("m", json!({"key": "value"}));
    let host = node.path("host");
    let pod = pod(json!([
        {"name": "disk", "emptyDir": {}},
        {"name": "memory", "emptyDir": {"medium": "Memory"}},
        {"name": "map", "configMap": {"name": "m"}},
        {"name": "host", "hostPath": {"path": host, "type": "DirectoryOrCreate"}},
    ]));
    let volumes = node.volumes();
    node.wanted = crate::blocking::Wanted::withdrawn();
    for volume in 0..4 {
        let mut one = pod.clone();
        let all = one.spec.as_mut().unwrap().volumes.as_mut().unwrap();
        *all = vec![all.remove(volume)];
        let error = volumes.set_up(&node.input(&one)).unwrap_err();
        assert!(matches!(error, VolumeError::Unwanted(_)), "{volume}: {error}");
    }
    assert!(!node.pod_path("").exists() && !node.payload_path("").exists() && !host.exists());
    assert_eq!(node.mounts(), 1, "the node's own");
    // The control.
    node.wanted = crate::blocking::Wanted::default();
    volumes.set_up(&node.input(&pod)).unwrap();
    assert!(node.pod_path("volumes/disk").exists() && host.exists());
}

#[test]
fn an_empty_dir_that_cannot_be_counted_is_told() {
    let node = Node::new();
    let pod = pod(json!([
        {"name": "counted", "emptyDir": {}},
        {"name": "broken", "emptyDir": {}},
        {"name": "missing", "emptyDir": {}},
    ]));
    fs::create_dir_all(node.pod_path("volumes/counted")).unwrap();
    fs::write(node.pod_path("volumes/broken"), "").unwrap();
    let told = node.volumes().empty_dirs(&pod, || true);
    let told: Vec<_> = told.iter().map(|(name, told)| (name.as_str(), told.is_ok())).collect();
    assert_eq!(told, [("counted", true), ("broken", false)]);
}
