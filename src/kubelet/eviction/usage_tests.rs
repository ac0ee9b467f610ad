use super::*;

#[test]
fn what_counts_for_a_file_system_is_what_is_on_it() {
    let space = |bytes, inodes| Space { bytes, inodes };
    let of = |name: &str, used| BTreeMap::from([(name.to_owned(), used)]);
    let local = LocalUse {
        layers: of("c", space(100, 10)),
        logs: of("c", space(20, 2)),
        volumes: of("v", space(3, 1)),
        unknown: Vec::new(),
    };
    assert_eq!(local.on(false, false), space(123, 13));
    assert_eq!(local.on(true, false), space(123, 13));
    assert_eq!(local.on(false, true), space(23, 3));
    assert_eq!(local.on(true, true), space(100, 10));
}

#[test]
fn who_is_not_told_of_is_not_who_has_no_sandbox() {
    let told = Told {
        stats: [("runs".to_owned(), proto::LinuxPodSandboxStats::default())].into(),
        failed: ["fails".to_owned()].into(),
    };
    assert!(matches!(told.of("runs"), Ok(Some(_))));
    assert_eq!((told.of("fails"), told.of("waits")), (Err(Unmeasured), Ok(None)));
}

#[test]
fn who_has_ended_or_is_ending_is_no_candidate() {
    let pod = |text: serde_json::Value| serde_json::from_value::<Pod>(text).unwrap();
    use serde_json::json;
    assert!(is_active(&pod(json!({"status": {"phase": "Running"}}))));
    assert!(is_active(&pod(json!({}))));
    assert!(!is_active(&pod(json!({"status": {"phase": "Failed"}}))));
    let ending = json!({"metadata": {"deletionTimestamp": "2020-01-01T00:00:00Z"}});
    assert!(!is_active(&pod(ending)));
}
