use super::super::samples;
use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

fn defaulted(spec: Value) -> Value {
    let mut pod: Pod = serde_json::from_value(json!({"spec": spec})).unwrap();
    default_pod(&mut pod);
    serde_json::to_value(&pod).unwrap()["spec"].clone()
}

/// The field that a pointer leads to after defaults.
fn field(spec: Value, pointer: &str) -> Value {
    defaulted(spec).pointer(pointer).cloned().unwrap_or(Value::Null)
}

#[test]
fn fields_of_a_pod_that_are_left_out_get_their_defaults() {
    let rows = [
        ("/restartPolicy", json!("Always")),
        ("/dnsPolicy", json!("ClusterFirst")),
        ("/terminationGracePeriodSeconds", json!(30)),
        ("/schedulerName", json!("default-scheduler")),
        ("/enableServiceLinks", json!(true)),
        ("/securityContext", json!({})),
        ("/priority", Value::Null),
        ("/hostUsers", Value::Null),
    ];
    for (pointer, value) in rows {
        assert_eq!(field(json!({"containers": []}), pointer), value, "{pointer}");
    }
}

#[test]
fn what_is_written_stays() {
    let spec = json!({
        "containers": [{"name": "c", "image": "i", "imagePullPolicy": "Never",
            "terminationMessagePath": "/m", "terminationMessagePolicy": "FallbackToLogsOnError",
            "ports": [{"containerPort": 1, "protocol": "UDP"}],
            "readinessProbe": {"timeoutSeconds": 2, "periodSeconds": 3, "successThreshold": 4,
                "failureThreshold": 5, "httpGet": {"path": "/p", "port": 1, "scheme": "HTTPS"}}}],
        "restartPolicy": "Never", "dnsPolicy": "Default", "terminationGracePeriodSeconds": 0,
        "schedulerName": "s", "enableServiceLinks": false, "securityContext": {"runAsUser": 1},
    });
    assert_eq!(defaulted(spec.clone()), spec);
}

#[test]
fn fields_of_a_container_that_are_left_out_get_their_defaults() {
    let container = json!({
        "name": "c", "image": "web:1", "ports": [{"containerPort": 80}], "securityContext": {},
        "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
        "livenessProbe": {"httpGet": {"port": 80}},
        "startupProbe": {"grpc": {"port": 80}, "timeoutSeconds": 0},
        "lifecycle": {"preStop": {"httpGet": {"port": 80}}},
    });
    let rows = [
        ("/imagePullPolicy", json!("IfNotPresent")),
        ("/terminationMessagePath", json!("/dev/termination-log")),
        ("/terminationMessagePolicy", json!("File")),
        ("/ports/0/protocol", json!("TCP")),
        ("/ports/0/hostPort", Value::Null),
        ("/env/0/valueFrom/fieldRef/apiVersion", json!("v1")),
        ("/livenessProbe/timeoutSeconds", json!(1)),
        ("/livenessProbe/periodSeconds", json!(10)),
        ("/livenessProbe/successThreshold", json!(1)),
        ("/livenessProbe/failureThreshold", json!(3)),
        ("/livenessProbe/httpGet/path", json!("/")),
        ("/livenessProbe/httpGet/scheme", json!("HTTP")),
        ("/startupProbe/timeoutSeconds", json!(1)),
        ("/startupProbe/grpc/service", json!("")),
        ("/lifecycle/preStop/httpGet/path", json!("/")),
        ("/securityContext/procMount", json!("Default")),
    ];
    for kind in ["containers", "initContainers"] {
        for (pointer, value) in &rows {
            let spec = json!({kind: [container]});
            assert_eq!(field(spec, &format!("/{kind}/0{pointer}")), *value, "{kind} {pointer}");
        }
    }
}

#[test]
fn volumes_get_their_defaults() {
    let rows = [
        (json!({"name": "v"}), "/emptyDir", json!({})),
        (json!({"name": "v", "hostPath": {"path": "/a"}}), "/hostPath/type", json!("")),
        (json!({"name": "v", "hostPath": {"path": "/a"}}), "/emptyDir", Value::Null),
        (json!({"name": "v", "configMap": {"name": "m"}}), "/configMap/defaultMode", json!(420)),
        (json!({"name": "v", "secret": {"secretName": "m"}}), "/secret/defaultMode", json!(420)),
        (json!({"name": "v", "downwardAPI": {}}), "/downwardAPI/defaultMode", json!(420)),
        (json!({"name": "v", "projected": {}}), "/projected/defaultMode", json!(420)),
        (
            json!({"name": "v", "projected": {"sources": [{"downwardAPI":
                {"items": [{"path": "p", "fieldRef": {"fieldPath": "metadata.name"}}]}}]}}),
            "/projected/sources/0/downwardAPI/items/0/fieldRef/apiVersion",
            json!("v1"),
        ),
        (
            json!({"name": "v", "image": {"reference": "a:1"}}),
            "/image/pullPolicy",
            json!("IfNotPresent"),
        ),
    ];
    for (volume, pointer, value) in rows {
        let spec = json!({"containers": [], "volumes": [volume]});
        assert_eq!(field(spec, &format!("/volumes/0{pointer}")), value, "{volume} {pointer}");
    }
}

#[test]
fn on_the_network_of_the_node_ports_are_the_nodes() {
    let ports = json!([{"containerPort": 80}, {"containerPort": 81, "hostPort": 82}]);
    let spec = json!({"hostNetwork": true, "containers": [{"name": "c", "ports": ports}]});
    let ports = field(spec, "/containers/0/ports");
    let of_node: Vec<&Value> = ports.as_array().unwrap().iter().map(|p| &p["hostPort"]).collect();
    assert_eq!(of_node, [&json!(80), &json!(82)]);
}

#[test]
fn limits_are_requests_where_none_are_named() {
    let resources = json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "0.5"}});
    let spec = json!({"containers": [{"name": "c", "resources": resources}]});
    let requests = field(spec, "/containers/0/resources/requests");
    assert_eq!(requests, json!({"cpu": "0.5", "memory": "1Gi"}));
}

#[test]
fn requests_of_a_pod_are_those_of_its_containers_or_its_limits() {
    let with = |cpu: &str| json!({"requests": {"cpu": cpu}});
    let spec = json!({
        "resources": {"limits": {"cpu": "4", "memory": "1Gi"}},
        "initContainers": [
            {"name": "s", "restartPolicy": "Always", "resources": with("100m")},
            {"name": "i", "resources": with("500m")},
        ],
        "containers": [{"name": "a", "resources": with("200m")}, {"name": "b", "resources": with("150m")}],
    });
    let pointer = "/resources/requests";
    assert_eq!(field(spec.clone(), pointer), json!({"cpu": "600m", "memory": "1Gi"}));
    let mut of_apps = spec.clone();
    of_apps["containers"][0]["resources"] = with("1");
    assert_eq!(field(of_apps, pointer)["cpu"], json!("1250m"));
    let mut own = spec;
    own["resources"] = json!({});
    assert_eq!(field(own, pointer), Value::Null, "a pod without resources of its own gets none");
}

#[test]
fn the_classes_of_every_cluster_have_their_priority() {
    for (class, priority) in CRITICAL_CLASSES {
        let spec = json!({"containers": [], "priorityClassName": class});
        assert_eq!(field(spec, "/priority"), json!(priority), "{class}");
    }
    let spec =
        json!({"containers": [], "priorityClassName": "system-node-critical", "priority": 7});
    assert_eq!(field(spec, "/priority"), json!(7));
}

proptest! {
    #[test]
    fn twice_is_as_good_as_once(mut pod in samples::pods()) {
        default_pod(&mut pod);
        let once = pod.clone();
        default_pod(&mut pod);
        prop_assert_eq!(pod, once);
    }
}
