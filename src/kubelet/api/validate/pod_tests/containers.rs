//! Containers: names, ports, resources, rules of restarts.

use super::{check, of_container, of_spec, told};
use serde_json::{Value, json};

#[test]
fn containers_are_checked() {
    let rows = vec![
        (json!({"name": ""}), vec!["spec.containers[0].name: Required value"]),
        (json!({"name": "A"}), vec!["spec.containers[0].name: Invalid value"]),
        (json!({"image": null}), vec!["spec.containers[0].image: Required value"]),
        (json!({"image": " web"}), vec!["spec.containers[0].image: Invalid value"]),
        (
            json!({"imagePullPolicy": "Often"}),
            vec!["spec.containers[0].imagePullPolicy: Unsupported value"],
        ),
        (
            json!({"terminationMessagePolicy": "Mail"}),
            vec!["spec.containers[0].terminationMessagePolicy: Unsupported value"],
        ),
        (json!({"restartPolicy": "Never"}), vec![]),
        (
            json!({"restartPolicy": "Maybe"}),
            vec!["spec.containers[0].restartPolicy: Unsupported value"],
        ),
        (
            json!({"volumeDevices": [{"name": "v", "devicePath": "/d"}]}),
            vec!["spec.containers[0].volumeDevices: Forbidden"],
        ),
        (
            json!({"resizePolicy": [{"resourceName": "cpu", "restartPolicy": "NotRequired"}, {"resourceName": "cpu", "restartPolicy": "x"}]}),
            vec![
                "spec.containers[0].resizePolicy[1].restartPolicy: Unsupported value",
                "spec.containers[0].resizePolicy[1].resourceName: Duplicate value",
            ],
        ),
    ];
    check(rows, of_container);
    let same = json!({"spec": {
        "initContainers": [{"name": "a", "image": "i"}, {"name": "c", "image": "i"}],
        "containers": [{"name": "c", "image": "i"}, {"name": "c", "image": "i"}]}});
    assert_eq!(
        told(&same),
        ["spec.containers[0].name: Duplicate value", "spec.containers[1].name: Duplicate value"]
    );
}

#[test]
fn rules_of_restarts_are_checked() {
    let rule = |rule: Value| json!({"restartPolicy": "Never", "restartPolicyRules": [rule]});
    let codes = |operator: &str, values: Value| json!({"action": "Restart", "exitCodes": {"operator": operator, "values": values}});
    let at = "spec.containers[0].restartPolicyRules[0]";
    let rows = [
        (rule(codes("In", json!([1, 2]))), vec![]),
        (
            rule(codes("Near", json!([1]))),
            vec![format!("{at}.exitCodes.operator: Unsupported value")],
        ),
        (rule(codes("In", json!([]))), vec![format!("{at}.exitCodes.values: Required value")]),
        (
            rule(codes("In", json!([1, 1]))),
            vec![format!("{at}.exitCodes.values[1]: Duplicate value")],
        ),
        (
            rule(codes("In", json!((0..256).collect::<Vec<_>>()))),
            vec![format!("{at}.exitCodes.values: Invalid value")],
        ),
        (
            rule(json!({"action": "Dance"})),
            vec![
                format!("{at}.action: Unsupported value"),
                format!("{at}.exitCodes: Required value"),
            ],
        ),
        (
            json!({"restartPolicyRules": [codes("In", json!([1]))]}),
            vec!["spec.containers[0].restartPolicy: Required value".to_owned()],
        ),
    ];
    for (change, expected) in rows {
        assert_eq!(told(&of_container(change.clone())), expected, "{change}");
    }
}

#[test]
fn ports_are_checked() {
    let at = |n: usize, rest: &str| -> &'static str {
        format!("spec.containers[0].ports[{n}].{rest}").leak()
    };
    let rows = vec![
        (
            json!({"ports": [{"containerPort": 80, "name": "http"}, {"containerPort": 80, "protocol": "UDP"}]}),
            vec![],
        ),
        (
            json!({"ports": [{"containerPort": 0}, {"containerPort": 65536}]}),
            vec![at(0, "containerPort: Required value"), at(1, "containerPort: Invalid value")],
        ),
        (
            json!({"ports": [{"containerPort": 1, "name": "a"}, {"containerPort": 2, "name": "a"}]}),
            vec![at(1, "name: Duplicate value")],
        ),
        (
            json!({"ports": [{"containerPort": 1, "name": "80"}]}),
            vec![at(0, "name: Invalid value")],
        ),
        (
            json!({"ports": [{"containerPort": 1, "protocol": "tcp"}]}),
            vec![at(0, "protocol: Unsupported value")],
        ),
        (
            json!({"ports": [{"containerPort": 1, "hostIP": "x"}]}),
            vec![at(0, "hostIP: Invalid value")],
        ),
        (
            json!({"ports": [{"containerPort": 1, "hostPort": 70000}]}),
            vec![at(0, "hostPort: Invalid value")],
        ),
        (
            json!({"ports": [{"containerPort": 1, "hostPort": 8}, {"containerPort": 2, "hostPort": 8}]}),
            vec![at(1, "hostPort: Duplicate value")],
        ),
        (
            json!({"ports": [{"containerPort": 1, "hostPort": 8}, {"containerPort": 2, "hostPort": 8, "protocol": "UDP"},
            {"containerPort": 3, "hostPort": 8, "hostIP": "127.0.0.1"}]}),
            vec![],
        ),
    ];
    check(rows, of_container);
    let port = json!([{"containerPort": 80, "hostPort": 8080}]);
    let on_node = of_spec(
        json!({"hostNetwork": true, "containers": [{"name": "c", "image": "i", "ports": port}]}),
    );
    assert_eq!(told(&on_node), ["spec.containers[0].ports[0].hostPort: Invalid value"]);
    let with = |name: &str, policy: Value| json!({"name": name, "image": "i", "restartPolicy": policy, "ports": port});
    let side = json!({"spec": {"initContainers": [with("a", json!("Always"))], "containers": [with("c", Value::Null)]}});
    assert_eq!(told(&side), ["spec.containers[0].ports[0].hostPort: Duplicate value"]);
    let init = json!({"spec": {"initContainers": [with("a", Value::Null)], "containers": [with("c", Value::Null)]}});
    assert_eq!(told(&init), [""; 0], "an init container leaves its ports to the others");
}

#[test]
fn resources_are_checked() {
    let of = |limits: Value, requests: Value| json!({"resources": {"limits": limits, "requests": requests}});
    let at = |rest: &str| -> &'static str { format!("spec.containers[0].resources.{rest}").leak() };
    let rows = vec![
        (
            of(
                json!({"cpu": "1", "memory": "1Gi", "ephemeral-storage": "1G"}),
                json!({"cpu": "100m"}),
            ),
            vec![],
        ),
        (
            of(json!({"cpu": "lots"}), json!({})),
            vec![at("limits[cpu]: Invalid value"), at("requests[cpu]: Invalid value")],
        ),
        (
            of(json!({"memory": "-1"}), json!({"memory": "0"})),
            vec![at("limits[memory]: Invalid value")],
        ),
        (
            of(json!({"cpu": "1"}), json!({"cpu": "1001m"})),
            vec![at("requests[cpu]: Invalid value")],
        ),
        (
            of(json!({"memory": "1Mi"}), json!({"memory": "2Mi"})),
            vec![at("requests[memory]: Invalid value")],
        ),
        (
            of(json!({}), json!({"gpu": "1"})),
            vec![at("requests: Invalid value"), at("limits[gpu]: Required value")],
        ),
        (of(json!({"x.test/gpu": "2"}), json!({})), vec![]),
        (
            of(json!({"x.test/gpu": "2"}), json!({"x.test/gpu": "1"})),
            vec![at("requests[x.test/gpu]: Invalid value")],
        ),
        (
            of(json!({"x.test/gpu": "500m"}), json!({})),
            vec![
                at("limits[x.test/gpu]: Invalid value"),
                at("requests[x.test/gpu]: Invalid value"),
            ],
        ),
        (of(json!({"hugepages-2Mi": "4Mi", "cpu": "1"}), json!({})), vec![]),
        (
            of(json!({"hugepages-2Mi": "4Mi"}), json!({})),
            vec!["spec.containers[0].resources: Forbidden"],
        ),
        (
            of(json!({"hugepages-big": "4Mi", "cpu": "1"}), json!({"hugepages-big": "4Mi"})),
            vec![at("limits: Invalid value"), at("requests: Invalid value")],
        ),
        (json!({"resources": {"claims": [{"name": "c"}]}}), vec![at("claims: Forbidden")]),
    ];
    check(rows, of_container);
}

#[test]
fn containers_stay_within_the_resources_of_their_pod() {
    let pod = |of_pod: Value, of_container: Value| {
        of_spec(
            json!({"resources": of_pod, "containers": [{"name": "c", "image": "i", "resources": of_container}]}),
        )
    };
    let rows = [
        (pod(json!({"limits": {"cpu": "2"}}), json!({"limits": {"cpu": "1"}})), vec![]),
        (
            pod(
                json!({"limits": {"cpu": "2"}}),
                json!({"limits": {"cpu": "3"}, "requests": {"cpu": "1"}}),
            ),
            vec!["spec.containers[0].resources.limits[cpu]: Invalid value"],
        ),
        (
            pod(json!({"requests": {"memory": "1Mi"}}), json!({"requests": {"memory": "2Mi"}})),
            vec!["spec.resources.requests[memory]: Invalid value"],
        ),
        (
            pod(json!({"limits": {"ephemeral-storage": "2"}}), json!({})),
            vec!["spec.resources.limits: Invalid value", "spec.resources.requests: Invalid value"],
        ),
    ];
    for (change, expected) in rows {
        assert_eq!(told(&change), expected, "{change}");
    }
}
