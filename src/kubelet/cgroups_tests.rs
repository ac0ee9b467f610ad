use super::*;
use serde_json::json;
use std::fs;
use std::path::Path;

const PLACES: [&str; 3] = ["kubepods", "kubepods/burstable", "kubepods/besteffort"];

/// Folders that stand in for cgroups of an earlier run, each of which keeps 9 bytes.
fn folders() -> tempfile::TempDir {
    let temp = tempfile::tempdir().unwrap();
    fs::write(temp.path().join("cgroup.controllers"), "cpu memory pids\n").unwrap();
    for place in PLACES {
        let folder = temp.path().join(place);
        fs::create_dir(&folder).unwrap();
        for (file, text) in [(KEPT, "9\n"), ("cpu.weight", "7\n")] {
            fs::write(folder.join(file), text).unwrap();
        }
    }
    temp
}

fn of(root: &Path, memory_qos: bool) -> QosCgroups {
    let enforce_node_allocatable = Vec::new();
    let config = config::Kubelet { memory_qos, enforce_node_allocatable, ..Default::default() };
    let rules = PodRules::new(&config, &NodeFacts::default());
    QosCgroups::new(Cgroups::of_folders(root).unwrap(), "kubepods", rules)
}

fn kept(root: &Path) -> [String; 3] {
    PLACES.map(|place| fs::read_to_string(root.join(place).join(KEPT)).unwrap())
}

#[test]
fn the_memory_of_the_last_pod_is_kept_no_more() {
    let temp = folders();
    let cgroups = of(temp.path(), true);
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"uid": "u"},
        "spec": {"containers": [{"name": "c", "resources": {"requests": {"memory": "8"}}}]},
    }))
    .unwrap();
    cgroups.count(&pod);
    cgroups.refresh().unwrap();
    assert_eq!(kept(temp.path()), ["8\n", "8\n", "0\n"]);
    cgroups.remove(&pod).unwrap();
    assert_eq!(kept(temp.path()), ["0\n", "0\n", "0\n"]);
    // What keeps nothing need not have the file, and the cgroup may be gone.
    fs::remove_file(temp.path().join("kubepods/burstable").join(KEPT)).unwrap();
    fs::remove_dir_all(temp.path().join("kubepods/besteffort")).unwrap();
    cgroups.refresh().unwrap();
}

#[test]
fn what_an_earlier_run_kept_goes_when_it_is_switched_off() {
    let temp = folders();
    let cgroups = of(temp.path(), false);
    cgroups.refresh().unwrap();
    assert_eq!(kept(temp.path()), ["9\n"; 3], "others may keep something");
    cgroups.let_go().unwrap();
    assert_eq!(kept(temp.path()), ["0\n"; 3]);
    let cgroups = of(temp.path(), true);
    fs::write(temp.path().join("kubepods").join(KEPT), "9\n").unwrap();
    cgroups.let_go().unwrap();
    assert_eq!(kept(temp.path()), ["9\n", "0\n", "0\n"]);
}

#[test]
fn all_pods_are_held_to_what_is_not_reserved() {
    let mut node = NodeFacts::default();
    node.for_pods.cpu_milli = 1500;
    node.for_pods.memory_bytes = 1 << 30;
    node.for_pods.pids = 4000;
    let rules = PodRules::new(&config::Kubelet::default(), &node);
    let expected = Resources {
        cpu_shares: Some(1536),
        memory_limit: Some(Limit::Value(1 << 30)),
        memory_swap_limit: Some(Limit::Max),
        pids_limit: Some(Limit::Value(4000)),
        ..Resources::default()
    };
    assert_eq!(rules.together, expected);
    let off = config::Kubelet {
        enforce_node_allocatable: Vec::new(),
        pod_pids_limit: Some(7),
        ..config::Kubelet::default()
    };
    let rules = PodRules::new(&off, &node);
    assert_eq!((rules.together, rules.pids), (Resources::default(), Some(7)));
}
