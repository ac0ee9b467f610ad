//! Volumes and where they are mounted.

use super::{check, merge, of_container, of_spec, of_volume, told};
use serde_json::{Value, json};

#[test]
fn volumes_are_checked() {
    let at = |rest: &str| -> &'static str { format!("spec.volumes[0].{rest}").leak() };
    let rows = vec![
        (json!({}), vec![]),
        (json!({"name": "A"}), vec![at("name: Invalid value")]),
        (json!({"emptyDir": {"medium": "HugePages-2Mi", "sizeLimit": "1Gi"}}), vec![]),
        (
            json!({"emptyDir": {"medium": "HugePages-x", "sizeLimit": "-1"}}),
            vec![at("emptyDir.medium: Unsupported value"), at("emptyDir.sizeLimit: Invalid value")],
        ),
        (json!({"hostPath": {"path": "/a", "type": "Directory"}}), vec![]),
        (
            json!({"hostPath": {"path": "/a/../b", "type": "Any"}}),
            vec![at("hostPath.path: Invalid value"), at("hostPath.type: Unsupported value")],
        ),
        (json!({"hostPath": {"path": "a"}}), vec![at("hostPath.path: Invalid value")]),
        (json!({"hostPath": {"path": ""}}), vec![at("hostPath.path: Required value")]),
        (
            json!({"configMap": {"name": "m", "defaultMode": 0o777, "items": [{"key": "k", "path": "a/b"}]}}),
            vec![],
        ),
        (
            json!({"configMap": {"name": "", "defaultMode": 512}}),
            vec![at("configMap.name: Required value"), at("configMap.defaultMode: Invalid value")],
        ),
        (
            json!({"configMap": {"name": "m", "items": [{"key": "", "path": "../x", "mode": -1}]}}),
            vec![
                at("configMap.items[0].key: Required value"),
                at("configMap.items[0].path: Invalid value"),
                at("configMap.items[0].mode: Invalid value"),
            ],
        ),
        (
            json!({"secret": {"secretName": "", "items": [{"key": "k", "path": "/x"}]}}),
            vec![
                at("secret.secretName: Required value"),
                at("secret.items[0].path: Invalid value"),
            ],
        ),
        (json!({"image": {}}), vec![at("image.reference: Required value")]),
        (
            json!({"image": {"reference": "a", "pullPolicy": "x"}}),
            vec![at("image.pullPolicy: Unsupported value")],
        ),
        (json!({"emptyDir": {}, "hostPath": {"path": "/a"}}), vec!["spec.volumes[0]: Forbidden"]),
        (
            json!({"persistentVolumeClaim": {"claimName": "c"}}),
            vec![at("persistentVolumeClaim: Forbidden")],
        ),
        (json!({"csi": {"driver": "d"}}), vec![at("csi: Forbidden")]),
        (json!({"nfs": {"server": "s", "path": "/"}}), vec![at("nfs: Forbidden")]),
        (json!({"ephemeral": {}}), vec![at("ephemeral: Forbidden")]),
    ];
    check(rows, of_volume);
    let twice = of_spec(json!({"volumes": [{"name": "v"}, {"name": "v"}]}));
    assert_eq!(told(&twice), ["spec.volumes[1].name: Duplicate value"]);
}

#[test]
fn files_of_the_downward_api_are_checked() {
    let item = |item: Value| json!({"downwardAPI": {"items": [item]}});
    let at = |rest: &str| -> &'static str {
        format!("spec.volumes[0].downwardAPI.items[0]{rest}").leak()
    };
    let rows = vec![
        (item(json!({"path": "p", "fieldRef": {"fieldPath": "metadata.labels"}})), vec![]),
        (
            item(
                json!({"path": "p", "resourceFieldRef": {"containerName": "c", "resource": "limits.cpu"}}),
            ),
            vec![],
        ),
        (
            item(json!({"path": "p", "fieldRef": {"fieldPath": "status.podIP"}})),
            vec![at(".fieldRef.fieldPath: Unsupported value")],
        ),
        (
            item(json!({"path": "..x", "fieldRef": {"fieldPath": "metadata.name"}})),
            vec![at(".path: Invalid value")],
        ),
        (
            item(json!({"path": "p", "resourceFieldRef": {"resource": "limits.cpu"}})),
            vec![at(".resourceFieldRef.containerName: Required value")],
        ),
        (
            item(
                json!({"path": "p", "resourceFieldRef": {"containerName": "x", "resource": "limits.cpu"}}),
            ),
            vec![at(".resourceFieldRef.containerName: Invalid value")],
        ),
        (item(json!({"path": ""})), vec![at(".path: Required value"), at(": Required value")]),
    ];
    check(rows, of_volume);
}

#[test]
fn projected_volumes_are_checked() {
    let sources = |sources: Value| json!({"projected": {"sources": sources}});
    let at =
        |rest: &str| -> &'static str { format!("spec.volumes[0].projected.sources{rest}").leak() };
    let rows = vec![
        (
            sources(
                json!([{"configMap": {"name": "m"}}, {"secret": {"name": "s", "items": [{"key": "k", "path": "p"}]}}]),
            ),
            vec![],
        ),
        (sources(json!([{}])), vec![at("[0]: Required value")]),
        (
            sources(json!([{"configMap": {"name": "m"}, "secret": {"name": "s"}}])),
            vec![at("[0]: Forbidden")],
        ),
        (
            sources(json!([{"serviceAccountToken": {"path": "t"}}])),
            vec![at("[0].serviceAccountToken: Forbidden")],
        ),
        (
            sources(json!([{"clusterTrustBundle": {"path": "t"}}])),
            vec![at("[0].clusterTrustBundle: Forbidden")],
        ),
        (
            sources(json!([{"podCertificate": {"keyType": "t", "signerName": "s"}}])),
            vec![at("[0].podCertificate: Forbidden")],
        ),
        (
            sources(json!([{"secret": {"name": "s", "items": [{"key": "k", "path": "p"}]}},
            {"downwardAPI": {"items": [{"path": "p", "fieldRef": {"fieldPath": "metadata.name"}}]}}])),
            vec![at("[1]: Duplicate value")],
        ),
    ];
    check(rows, of_volume);
}

#[test]
fn mounts_are_checked() {
    let mount = |change: Value| {
        let mut mount = json!({"name": "v", "mountPath": "/a"});
        merge(&mut mount, &change);
        json!({"volumeMounts": [mount]})
    };
    let at = |rest: &str| -> &'static str {
        format!("spec.containers[0].volumeMounts[0].{rest}").leak()
    };
    let rows = vec![
        (mount(json!({"subPath": "a/b", "mountPropagation": "HostToContainer"})), vec![]),
        (mount(json!({"name": "x"})), vec![at("name: Invalid value")]),
        (mount(json!({"name": ""})), vec![at("name: Required value")]),
        (mount(json!({"mountPath": ""})), vec![at("mountPath: Required value")]),
        (mount(json!({"mountPath": "/a:b"})), vec![at("mountPath: Invalid value")]),
        (mount(json!({"subPath": "../a"})), vec![at("subPath: Invalid value")]),
        (mount(json!({"subPathExpr": "/a"})), vec![at("subPathExpr: Invalid value")]),
        (mount(json!({"subPath": "a", "subPathExpr": "$(A)"})), vec![at("subPathExpr: Forbidden")]),
        (
            mount(json!({"mountPropagation": "Bidirectional"})),
            vec![at("mountPropagation: Forbidden")],
        ),
        (mount(json!({"mountPropagation": "x"})), vec![at("mountPropagation: Unsupported value")]),
        (
            mount(
                json!({"readOnly": true, "recursiveReadOnly": "Enabled", "mountPropagation": "None"}),
            ),
            vec![],
        ),
        (mount(json!({"recursiveReadOnly": "Enabled"})), vec![at("recursiveReadOnly: Forbidden")]),
        (
            mount(
                json!({"readOnly": true, "recursiveReadOnly": "IfPossible", "mountPropagation": "HostToContainer"}),
            ),
            vec![at("recursiveReadOnly: Forbidden")],
        ),
        (
            mount(json!({"recursiveReadOnly": "Perhaps"})),
            vec![at("recursiveReadOnly: Unsupported value")],
        ),
        (mount(json!({"bindMountOptions": ["noexec"]})), vec![at("bindMountOptions: Forbidden")]),
        (
            json!({"volumeMounts": [{"name": "v", "mountPath": "/a"}, {"name": "i", "mountPath": "/a"}]}),
            vec!["spec.containers[0].volumeMounts[1].mountPath: Invalid value"],
        ),
    ];
    check(rows, of_container);
    let mut privileged = mount(json!({"mountPropagation": "Bidirectional"}));
    privileged["securityContext"] = json!({"privileged": true});
    assert_eq!(told(&of_container(privileged)), [""; 0]);
}
