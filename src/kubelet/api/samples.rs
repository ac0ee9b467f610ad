//! Pods for tests: one that nothing is wrong with, and any that users may write.

use k8s_openapi::api::core::v1::Pod;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use serde_json::{Value, json};

/// A pod that every check lets through once its defaults are set.
pub(in crate::kubelet) fn sound() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"containers": [{"name": "c", "image": "web:1"}]},
    })
}

/// A pod from its JSON.
pub(in crate::kubelet) fn pod(value: Value) -> Pod {
    serde_json::from_value(value).unwrap()
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z]{1,8}",
        "[ -~]{0,12}",
        "\\PC{0,6}",
        Just("0644".to_owned()),
        Just("yes".to_owned())
    ]
}

fn quantity() -> impl Strategy<Value = String> {
    prop_oneof!["[0-9]{1,4}m", "[1-9][0-9]{0,3}(Mi|Gi|k)?", text()]
}

fn list() -> impl Strategy<Value = Value> {
    btree_map(
        prop_oneof![Just("cpu".to_owned()), Just("memory".to_owned()), text()],
        quantity(),
        0..3,
    )
    .prop_map(|list| json!(list))
}

fn probe() -> impl Strategy<Value = Value> {
    let handler = prop_oneof![
        any::<i32>().prop_map(|port| json!({"httpGet": {"port": port}})),
        text().prop_map(|port| json!({"tcpSocket": {"port": port}})),
        any::<i32>().prop_map(|port| json!({"grpc": {"port": port}})),
        vec(text(), 0..3).prop_map(|command| json!({"exec": {"command": command}})),
    ];
    (handler, option::of(any::<i32>())).prop_map(|(mut probe, period)| {
        if let Some(period) = period {
            probe["periodSeconds"] = json!(period);
        }
        probe
    })
}

fn container() -> impl Strategy<Value = Value> {
    let env = vec((text(), text()), 0..3);
    let ports = vec((any::<i32>(), option::of(text())), 0..3);
    (text(), text(), env, ports, list(), list(), option::of(probe())).prop_map(
        |(name, image, env, ports, limits, requests, probe)| {
            let env: Vec<Value> =
                env.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
            let ports: Vec<Value> = ports
                .iter()
                .map(|(port, name)| json!({"containerPort": port, "name": name}))
                .collect();
            json!({
                "name": name, "image": image, "env": env, "ports": ports, "livenessProbe": probe,
                "resources": {"limits": limits, "requests": requests},
            })
        },
    )
}

fn volume() -> impl Strategy<Value = Value> {
    let source = prop_oneof![
        Just(json!({})),
        Just(json!({"emptyDir": {"medium": "Memory"}})),
        text().prop_map(|path| json!({"hostPath": {"path": path}})),
        (text(), any::<i32>())
            .prop_map(|(name, mode)| json!({"configMap": {"name": name, "defaultMode": mode}})),
        text().prop_map(|name| json!({"projected": {"sources": [{"secret": {"name": name}}]}})),
    ];
    (text(), source).prop_map(|(name, mut volume)| {
        volume["name"] = json!(name);
        volume
    })
}

/// Any pod, most of them with something wrong.
pub(in crate::kubelet) fn pods() -> impl Strategy<Value = Pod> {
    let metadata = (text(), option::of(text()), btree_map(text(), text(), 0..3));
    let containers = (vec(container(), 0..3), option::of(vec(container(), 0..2)));
    let rest = (vec(volume(), 0..3), option::of(any::<i64>()), option::of(list()), any::<bool>());
    (metadata, containers, rest).prop_map(
        |((name, namespace, labels), (containers, init), (volumes, grace, resources, host))| {
            pod(json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": name, "namespace": namespace, "labels": labels},
                "spec": {
                    "containers": containers, "initContainers": init, "volumes": volumes,
                    "terminationGracePeriodSeconds": grace, "hostNetwork": host,
                    "resources": resources.map(|limits| json!({"limits": limits})),
                },
            }))
        },
    )
}
