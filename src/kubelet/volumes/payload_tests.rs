use super::*;
use crate::error::{ErrorKind, chain};
use crate::kubelet::node::NodeFacts;
use crate::kubelet::volumes::source::Source;
use crate::kubelet::volumes::test_node::pod;
use proptest::prelude::*;
use serde_json::{Value, from_value, json};

fn objects() -> Objects {
    let mut objects = Objects::default();
    let map = json!({"metadata": {"name": "m", "namespace": "shop"},
        "data": {"a": "1", "b": "2"}, "binaryData": {"c": "AAE="}});
    objects.put_config_map(from_value(map).unwrap());
    let secret =
        json!({"metadata": {"name": "s", "namespace": "shop"}, "stringData": {"key": "k"}});
    objects.put_secret(from_value(secret).unwrap());
    objects
}

fn files(source: Value) -> Result<Payload, VolumeError> {
    let mut volume = source;
    volume["name"] = json!("v");
    let pod = pod(json!([volume]));
    let (objects, node) = (objects(), NodeFacts::default());
    let wanted = crate::blocking::Wanted::default();
    let input = VolumeInput { pod: &pod, objects: &objects, node: &node, wanted: &wanted };
    let volume = pod.spec.as_ref().unwrap().volumes.as_ref().unwrap().first().unwrap();
    let Source::Payload(source) = Source::of(volume) else { panic!("{volume:?}") };
    payload("v", source, &input)
}

/// `path mode content` of each file.
fn told(source: Value) -> Vec<String> {
    let tell = |(path, file): (String, File)| {
        format!("{path} {:o} {}", file.mode, String::from_utf8_lossy(&file.bytes))
    };
    files(source).unwrap().into_iter().map(tell).collect()
}

#[test]
fn without_items_every_key_is_a_file() {
    let made = told(json!({"configMap": {"name": "m"}}));
    assert_eq!(made, ["a 644 1", "b 644 2", "c 644 \0\u{1}"]);
    assert_eq!(told(json!({"secret": {"secretName": "s"}})), ["key 644 k"]);
}

#[test]
fn items_choose_keys_paths_and_modes() {
    let items = json!([{"key": "a", "path": "x/./y//z"}, {"key": "b", "path": "b", "mode": 0o400}]);
    let made = told(json!({"configMap": {"name": "m", "items": items, "defaultMode": 0o755}}));
    assert_eq!(made, ["b 400 2", "x/y/z 755 1"]);
}

#[test]
fn files_may_have_an_owner() {
    let items = json!([{"key": "a", "path": "a", "user": 7}, {"key": "b", "path": "b"}]);
    let made =
        files(json!({"configMap": {"name": "m", "items": items, "defaultUser": 8}})).unwrap();
    let users: Vec<u32> = made.values().map(|file| file.user).collect();
    assert_eq!(users, [7, 8]);
}

#[test]
fn the_downward_api_writes_fields_and_amounts() {
    let items = json!([
        {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
        {"path": "cpu", "mode": 0o600,
            "resourceFieldRef": {"containerName": "app", "resource": "requests.cpu"}},
    ]);
    let made = told(json!({"downwardAPI": {"items": items}}));
    assert_eq!(made, ["cpu 600 0", "labels 644 app=\"web\""]);
}

#[test]
fn a_projected_volume_holds_all_its_sources_and_the_later_wins() {
    let sources = json!([
        {"configMap": {"name": "m", "items": [{"key": "a", "path": "one"}, {"key": "b", "path": "key"}]}},
        {"secret": {"name": "s"}},
        {"downwardAPI": {"items": [{"path": "d/name", "fieldRef": {"fieldPath": "metadata.name"}}]}},
        {"configMap": {"name": "none", "optional": true}},
    ]);
    let made = told(json!({"projected": {"sources": sources, "defaultMode": 0o440}}));
    assert_eq!(made, ["d/name 440 p", "key 440 k", "one 440 1"]);
}

#[test]
fn what_is_optional_may_be_missing() {
    let items = json!([{"key": "a", "path": "a"}, {"key": "none", "path": "b"}]);
    let map = json!({"configMap": {"name": "m", "items": items, "optional": true}});
    assert_eq!(told(map), ["a 644 1"]);
    assert!(told(json!({"secret": {"secretName": "none", "optional": true}})).is_empty());
}

#[test]
fn what_is_wrong_is_named() {
    let item = |key: &str, path: &str| json!({"configMap": {"name": "m", "items": [{"key": key, "path": path}]}});
    let rows = [
        (
            json!({"configMap": {"name": "no"}}),
            "ConfigMap shop/no does not exist",
            ErrorKind::NotFound,
        ),
        (
            json!({"secret": {"secretName": "no"}}),
            "Secret shop/no does not exist",
            ErrorKind::NotFound,
        ),
        (item("no", "x"), "ConfigMap shop/m has no key \"no\"", ErrorKind::NotFound),
        (item("a", "../x"), "path \"../x\" begins with '..'", ErrorKind::InvalidArgument),
        (item("a", "x/../y"), "leads out of the volume", ErrorKind::InvalidArgument),
        (item("a", "./../y"), "leads out of the volume", ErrorKind::InvalidArgument),
        (item("a", "./..data"), "leads out of the volume", ErrorKind::InvalidArgument),
        (item("a", "/x"), "is absolute", ErrorKind::InvalidArgument),
        (item("a", ""), "is empty", ErrorKind::InvalidArgument),
        (
            json!({"configMap": {"name": "m", "defaultMode": 0o1000}}),
            "mode \"512\" is not within",
            ErrorKind::InvalidArgument,
        ),
        (
            json!({"projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}),
            "serviceAccountToken is not supported",
            ErrorKind::Unimplemented,
        ),
        (
            json!({"downwardAPI": {"items": [{"path": "f", "fieldRef": {"fieldPath": "spec.x"}}]}}),
            "file \"f\": fieldRef \"spec.x\"",
            ErrorKind::InvalidArgument,
        ),
        (
            json!({"configMap": {"name": "m",
                "items": [{"key": "a", "path": "x/y"}, {"key": "b", "path": "x"}]}}),
            "is a file and a folder",
            ErrorKind::InvalidArgument,
        ),
    ];
    for (source, part, kind) in rows {
        let error = files(source).unwrap_err();
        let text = chain(&error);
        assert!(text.starts_with("volume \"v\"") && text.contains(part), "{part}: {text}");
        assert_eq!(error.kind(), kind, "{text}");
    }
}

proptest! {
    #[test]
    fn a_clean_path_stays_below_and_clean(path in "[a./]{0,12}") {
        if let Ok(made) = clean(&path) {
            prop_assert!(made.split('/').all(|part| !matches!(part, "" | "." | "..")), "{made}");
            prop_assert!(!made.starts_with(".."), "{made}");
            prop_assert_eq!(clean(&made), Ok(made.clone()));
        }
    }
}
