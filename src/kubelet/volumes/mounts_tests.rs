use super::*;
use k8s_openapi::api::core::v1::Volume;
use serde_json::{Value, from_value, json};

fn vars() -> [(String, String); 2] {
    [("POD".to_owned(), "web-0".to_owned()), ("UP".to_owned(), "../x".to_owned())]
}

fn planned_on(volume: Value, mount: Value, container: Value) -> Result<Planned, VolumeError> {
    let mut asked = json!({"name": "v", "mountPath": "/data"});
    asked.as_object_mut().unwrap().extend(mount.as_object().unwrap().clone());
    let mut container = container;
    container["name"] = json!("app");
    let container: Container = from_value(container).unwrap();
    let mut volume = volume;
    volume["name"] = json!("v");
    let volume: Volume = from_value(volume).unwrap();
    let asked: VolumeMount = from_value(asked).unwrap();
    plan(&container, &asked, Source::of(&volume), &vars(), Recursive::Supported)
}

fn planned(mount: Value) -> Result<Planned, VolumeError> {
    planned_on(json!({}), mount, json!({}))
}

#[test]
fn what_is_not_asked_for_is_off() {
    let made = planned(json!({})).unwrap();
    let mount = proto::Mount {
        container_path: "/data".into(),
        selinux_relabel: true,
        ..proto::Mount::default()
    };
    assert_eq!(made, Planned { mount, sub_path: None });
}

#[test]
fn a_relative_path_is_one_from_the_root() {
    assert_eq!(planned(json!({"mountPath": "x/y"})).unwrap().mount.container_path, "/x/y");
    assert!(planned(json!({"mountPath": ""})).is_err());
}

#[test]
fn what_berth_writes_is_read_only_and_what_is_the_hosts_keeps_its_label() {
    let rows = [
        ("emptyDir", json!({"emptyDir": {}}), false, true),
        ("hostPath", json!({"hostPath": {"path": "/x"}}), false, false),
        ("configMap", json!({"configMap": {"name": "m"}}), true, true),
        ("secret", json!({"secret": {"secretName": "s"}}), true, true),
        ("downwardAPI", json!({"downwardAPI": {}}), true, true),
        ("projected", json!({"projected": {}}), true, true),
        ("image", json!({"image": {"reference": "r"}}), true, false),
    ];
    for (row, volume, readonly, relabel) in rows {
        let mount = planned_on(volume, json!({"readOnly": false}), json!({})).unwrap().mount;
        assert_eq!((mount.readonly, mount.selinux_relabel), (readonly, relabel), "{row}");
    }
}

#[test]
fn propagation_is_that_of_the_mount() {
    let privileged = json!({"securityContext": {"privileged": true}});
    let rows = [
        ("None", json!({}), Some(proto::MountPropagation::PropagationPrivate)),
        ("HostToContainer", json!({}), Some(proto::MountPropagation::PropagationHostToContainer)),
        ("Bidirectional", privileged, Some(proto::MountPropagation::PropagationBidirectional)),
        ("Bidirectional", json!({}), None),
        ("Odd", json!({}), None),
    ];
    for (asked, container, expected) in rows {
        let made = planned_on(json!({}), json!({"mountPropagation": asked}), container);
        let made = made.ok().map(|planned| planned.mount.propagation());
        assert_eq!(made, expected, "{asked}");
    }
}

#[test]
fn recursion_needs_a_read_only_private_mount_and_a_runtime_that_has_it() {
    use Recursive::{Supported, Unsupported};
    let rows = [
        ("Disabled", true, "None", Supported, Some(false)),
        ("IfPossible", true, "None", Supported, Some(true)),
        ("Enabled", true, "None", Supported, Some(true)),
        ("IfPossible", true, "None", Unsupported, Some(false)),
        ("Enabled", true, "None", Unsupported, None),
        ("Enabled", false, "None", Supported, None),
        ("IfPossible", true, "HostToContainer", Supported, None),
        ("Odd", true, "None", Supported, None),
    ];
    for (mode, read_only, propagation, runtime, expected) in rows {
        let asked = json!({"name": "v", "mountPath": "/d", "readOnly": read_only,
            "recursiveReadOnly": mode, "mountPropagation": propagation});
        let asked: VolumeMount = from_value(asked).unwrap();
        let container: Container = from_value(json!({"name": "app"})).unwrap();
        let made = plan(&container, &asked, Source::EmptyDir(None), &[], runtime);
        let made = made.ok().map(|planned| planned.mount.recursive_read_only);
        assert_eq!(made, expected, "{mode} {read_only} {propagation} {runtime:?}");
    }
}

#[test]
fn a_place_in_the_volume_is_clean_and_below_it() {
    let rows = [
        (json!({"subPath": "a//./b/"}), Some(Some("a/b"))),
        (json!({"subPath": ""}), Some(None)),
        (json!({"subPath": "."}), Some(None)),
        (json!({"subPath": "$(POD)"}), Some(Some("$(POD)"))),
        (json!({"subPathExpr": "$(POD)/logs"}), Some(Some("web-0/logs"))),
        (json!({"subPathExpr": "$$(POD)"}), Some(Some("$(POD)"))),
        (json!({"subPathExpr": "$(NONE)"}), None),
        (json!({"subPathExpr": "$(UP)"}), None),
        (json!({"subPath": "a", "subPathExpr": "a"}), None),
        (json!({"subPath": "/etc"}), None),
        (json!({"subPath": "a/../b"}), None),
    ];
    for (asked, expected) in rows {
        let made = planned(asked.clone()).ok().map(|planned| planned.sub_path);
        assert_eq!(made, expected.map(|path| path.map(str::to_owned)), "{asked}");
    }
}

#[test]
fn an_image_is_named_in_place_of_a_path() {
    let volume = json!({"image": {"reference": "r/data:1"}});
    let planned = planned_on(volume, json!({"subPath": "a/b"}), json!({})).unwrap();
    let source = ImageVolumeSource { reference: Some("r/data:1".into()), ..Default::default() };
    let mount = of_image(planned, &source);
    let image = mount.image.unwrap();
    assert_eq!(
        (image.image.as_str(), image.user_specified_image.as_str()),
        ("r/data:1", "r/data:1")
    );
    assert_eq!((mount.image_sub_path.as_str(), mount.host_path.as_str()), ("a/b", ""));
    assert!(mount.readonly);
}

#[test]
fn options_are_handed_on() {
    let made = planned(json!({"bindMountOptions": ["noexec"]})).unwrap();
    assert_eq!(made.mount.mount_options, ["noexec"]);
}
