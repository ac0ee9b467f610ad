//! Each violation by its path and its kind; the sound pod that the rows change is the control.

use super::super::super::{default_pod, name_after_node, samples, static_identity};
use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

/// Objects are merged, everything else is replaced.
fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from.clone(),
    }
}

fn problems(changes: &Value) -> Vec<FieldError> {
    let mut value = samples::sound();
    merge(&mut value, changes);
    let mut pod = samples::pod(value);
    static_identity(&mut pod, "n", "file", "origin");
    name_after_node(&mut pod, "n");
    default_pod(&mut pod);
    validate_pod(&pod)
}

/// `path: kind of problem` of each.
fn told(changes: &Value) -> Vec<String> {
    let kind = |error: &FieldError| error.problem.split(':').next().unwrap_or_default().to_owned();
    problems(changes).iter().map(|error| format!("{}: {}", error.path, kind(error))).collect()
}

type Rows = Vec<(Value, Vec<&'static str>)>;

fn check(rows: Rows, place: fn(Value) -> Value) {
    assert_eq!(told(&json!({})), [""; 0], "the control");
    for (change, expected) in rows {
        assert_eq!(told(&place(change.clone())), expected, "{change}");
    }
}

fn of_pod(change: Value) -> Value {
    change
}

fn of_spec(change: Value) -> Value {
    json!({"spec": change})
}

/// The only container, with a volume `v` in its pod.
fn of_container(change: Value) -> Value {
    let mut container = json!({"name": "c", "image": "web:1"});
    merge(&mut container, &change);
    json!({"spec": {"containers": [container], "volumes": [{"name": "v"}, {"name": "i", "image": {"reference": "a:1"}}]}})
}

/// An init container that ends.
fn of_init(change: Value) -> Value {
    let mut container = json!({"name": "i", "image": "web:1"});
    merge(&mut container, &change);
    json!({"spec": {"initContainers": [container]}})
}

fn of_volume(change: Value) -> Value {
    let mut volume = json!({"name": "v"});
    merge(&mut volume, &change);
    json!({"spec": {"volumes": [volume]}})
}

#[test]
fn metadata_is_checked() {
    let rows = vec![
        (json!({"metadata": {"name": "Web"}}), vec!["metadata.name: Invalid value"]),
        (json!({"metadata": {"name": ""}}), vec!["metadata.name: Required value"]),
        (json!({"metadata": {"name": "a".repeat(252)}}), vec!["metadata.name: Invalid value"]),
        (json!({"metadata": {"name": "a".repeat(251)}}), vec![]),
        (json!({"metadata": {"namespace": "a.b"}}), vec!["metadata.namespace: Invalid value"]),
        (json!({"metadata": {"uid": "../x"}}), vec!["metadata.uid: Invalid value"]),
        (json!({"metadata": {"labels": {"a": "b c"}}}), vec!["metadata.labels[a]: Invalid value"]),
        (json!({"spec": {"containers": []}}), vec!["spec.containers: Required value"]),
    ];
    check(rows, of_pod);
}

#[test]
fn the_life_of_a_pod_is_checked() {
    let rows = vec![
        (json!({"restartPolicy": "Sometimes"}), vec!["spec.restartPolicy: Unsupported value"]),
        (
            json!({"terminationGracePeriodSeconds": -1}),
            vec!["spec.terminationGracePeriodSeconds: Invalid value"],
        ),
        (json!({"terminationGracePeriodSeconds": 0}), vec![]),
        (json!({"activeDeadlineSeconds": 0}), vec!["spec.activeDeadlineSeconds: Invalid value"]),
        (json!({"os": {"name": "plan9"}}), vec!["spec.os.name: Unsupported value"]),
        (json!({"os": {"name": "linux"}}), vec![]),
        (
            json!({"hostPID": true, "shareProcessNamespace": true}),
            vec!["spec.shareProcessNamespace: Invalid value"],
        ),
        (
            json!({"hostUsers": false, "hostPID": true, "hostIPC": true, "hostNetwork": true}),
            vec![
                "spec.hostNetwork: Forbidden",
                "spec.hostPID: Forbidden",
                "spec.hostIPC: Forbidden",
            ],
        ),
        (json!({"hostUsers": false}), vec![]),
    ];
    check(rows, of_spec);
}

#[test]
fn what_a_scheduler_reads_is_checked() {
    let rows = vec![
        (
            json!({"nodeSelector": {"a": "b c", "_": "x"}}),
            vec!["spec.nodeSelector: Invalid value", "spec.nodeSelector[a]: Invalid value"],
        ),
        (json!({"priorityClassName": "A"}), vec!["spec.priorityClassName: Invalid value"]),
        (json!({"preemptionPolicy": "A"}), vec!["spec.preemptionPolicy: Unsupported value"]),
        (json!({"runtimeClassName": "A"}), vec!["spec.runtimeClassName: Invalid value"]),
        (
            json!({"readinessGates": [{"conditionType": "a b"}]}),
            vec!["spec.readinessGates[0].conditionType: Invalid value"],
        ),
        (
            json!({"imagePullSecrets": [{"name": "ok"}, {"name": ""}]}),
            vec!["spec.imagePullSecrets[1].name: Invalid value"],
        ),
        (
            json!({"tolerations": [{"operator": "Exists"}, {"key": "k", "operator": "Equal", "value": "v", "effect": "NoExecute", "tolerationSeconds": 1}]}),
            vec![],
        ),
        (
            json!({"tolerations": [{"operator": "Equal"}]}),
            vec!["spec.tolerations[0].operator: Invalid value"],
        ),
        (
            json!({"tolerations": [{"key": "k", "operator": "Like"}]}),
            vec!["spec.tolerations[0].operator: Unsupported value"],
        ),
        (
            json!({"tolerations": [{"key": "k", "operator": "Exists", "value": "v"}]}),
            vec!["spec.tolerations[0].value: Invalid value"],
        ),
        (
            json!({"tolerations": [{"key": "k", "effect": "Never"}]}),
            vec!["spec.tolerations[0].effect: Unsupported value"],
        ),
        (
            json!({"tolerations": [{"key": "k", "effect": "NoSchedule", "tolerationSeconds": 1}]}),
            vec!["spec.tolerations[0].tolerationSeconds: Forbidden"],
        ),
    ];
    check(rows, of_spec);
}

#[test]
fn what_needs_an_api_server_is_refused() {
    let rows = vec![
        (json!({"serviceAccountName": "a"}), vec!["spec.serviceAccountName: Forbidden"]),
        (json!({"serviceAccount": "a"}), vec!["spec.serviceAccountName: Forbidden"]),
        (
            json!({"ephemeralContainers": [{"name": "e"}]}),
            vec!["spec.ephemeralContainers: Forbidden"],
        ),
        (json!({"resourceClaims": [{"name": "e"}]}), vec!["spec.resourceClaims: Forbidden"]),
        (json!({"schedulingGates": [{"name": "e"}]}), vec!["spec.schedulingGates: Forbidden"]),
        (json!({"ephemeralContainers": []}), vec![]),
    ];
    check(rows, of_spec);
    let needs = problems(&of_spec(json!({"serviceAccountName": "a"}))).remove(0).to_string();
    assert_eq!(
        needs,
        "spec.serviceAccountName: Forbidden: the service account \"a\" needs an API server, which a static pod does not have"
    );
}

#[test]
fn names_of_a_pod_and_of_others_are_checked() {
    let many = |n: usize, length: usize| (0..n).map(|_| "a".repeat(length)).collect::<Vec<_>>();
    let rows = vec![
        (json!({"dnsPolicy": "Maybe"}), vec!["spec.dnsPolicy: Unsupported value"]),
        (json!({"dnsPolicy": "None"}), vec!["spec.dnsConfig: Required value"]),
        (
            json!({"dnsPolicy": "None", "dnsConfig": {}}),
            vec!["spec.dnsConfig.nameservers: Required value"],
        ),
        (
            json!({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["1.2.3.4", "::1", "1.1.1.1"]}}),
            vec![],
        ),
        (
            json!({"dnsConfig": {"nameservers": ["1.2.3.4", "1.2.3.4", "1.2.3.4", "x"]}}),
            vec![
                "spec.dnsConfig.nameservers: Invalid value",
                "spec.dnsConfig.nameservers[3]: Invalid value",
            ],
        ),
        (json!({"dnsConfig": {"searches": many(32, 63)}}), vec![]),
        (
            json!({"dnsConfig": {"searches": many(33, 1)}}),
            vec!["spec.dnsConfig.searches: Invalid value"],
        ),
        (
            json!({"dnsConfig": {"searches": [".", "_tcp.a.", "a b"]}}),
            vec!["spec.dnsConfig.searches[2]: Invalid value"],
        ),
        (
            json!({"dnsConfig": {"searches": (0..32).map(|_| format!("{0}.{0}", "a".repeat(33))).collect::<Vec<_>>()}}),
            vec!["spec.dnsConfig.searches: Invalid value"],
        ),
        (
            json!({"dnsConfig": {"options": [{"name": "ndots", "value": "2"}, {}]}}),
            vec!["spec.dnsConfig.options[1].name: Required value"],
        ),
        (
            json!({"hostAliases": [{"ip": "1.2.3.4", "hostnames": ["a.b"]}, {"ip": "x", "hostnames": ["A"]}]}),
            vec![
                "spec.hostAliases[1].ip: Invalid value",
                "spec.hostAliases[1].hostnames[0]: Invalid value",
            ],
        ),
        (
            json!({"hostname": "a.b", "subdomain": "A"}),
            vec!["spec.hostname: Invalid value", "spec.subdomain: Invalid value"],
        ),
        (json!({"hostname": "a", "subdomain": "b", "setHostnameAsFQDN": true}), vec![]),
        (json!({"hostnameOverride": "a.b"}), vec![]),
        (
            json!({"hostnameOverride": format!("{0}.a", "a".repeat(63)), "hostNetwork": true, "setHostnameAsFQDN": true}),
            vec![
                "spec.hostnameOverride: Invalid value",
                "spec.hostnameOverride: Forbidden",
                "spec.hostnameOverride: Forbidden",
            ],
        ),
    ];
    check(rows, of_spec);
}

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
fn variables_are_checked() {
    let from = |source: Value| json!({"env": [{"name": "A", "valueFrom": source}]});
    let at = "spec.containers[0].env[0].valueFrom";
    let field = |path: &str| from(json!({"fieldRef": {"fieldPath": path}}));
    for path in [
        "metadata.name",
        "metadata.namespace",
        "metadata.uid",
        "metadata.labels['a/b']",
        "metadata.annotations['x']",
        "spec.nodeName",
        "spec.serviceAccountName",
        "status.hostIP",
        "status.hostIPs",
        "status.podIP",
        "status.podIPs",
    ] {
        assert_eq!(told(&of_container(field(path))), [""; 0], "{path}");
    }
    let resource = |name: &str, divisor: &str| {
        from(json!({"resourceFieldRef": {"resource": name, "divisor": divisor}}))
    };
    let rows = [
        (json!({"env": [{"name": "A", "value": "x"}, {"name": "a.b-C", "value": ""}]}), vec![]),
        (
            json!({"env": [{"name": ""}, {"name": "A=B"}]}),
            vec![
                "spec.containers[0].env[0].name: Required value".to_owned(),
                "spec.containers[0].env[1].name: Invalid value".to_owned(),
            ],
        ),
        (field("metadata.labels"), vec![format!("{at}.fieldRef.fieldPath: Unsupported value")]),
        (field("metadata.labels['']"), vec![format!("{at}.fieldRef.fieldPath: Invalid value")]),
        (field("spec.containers"), vec![format!("{at}.fieldRef.fieldPath: Unsupported value")]),
        (field(""), vec![format!("{at}.fieldRef.fieldPath: Required value")]),
        (
            from(json!({"fieldRef": {"fieldPath": "metadata.name", "apiVersion": "v2"}})),
            vec![format!("{at}.fieldRef.apiVersion: Unsupported value")],
        ),
        (resource("limits.cpu", "1m"), vec![]),
        (resource("requests.hugepages-2Mi", "1Mi"), vec![]),
        (resource("limits.memory", "0"), vec![]),
        (
            resource("limits.cpu", "1Mi"),
            vec![format!("{at}.resourceFieldRef.divisor: Unsupported value")],
        ),
        (
            resource("limits.memory", "1m"),
            vec![format!("{at}.resourceFieldRef.divisor: Unsupported value")],
        ),
        (
            resource("limits.gpu", "1"),
            vec![format!("{at}.resourceFieldRef.resource: Unsupported value")],
        ),
        (from(json!({"configMapKeyRef": {"name": "m", "key": "k"}})), vec![]),
        (
            from(json!({"configMapKeyRef": {"name": "", "key": ""}})),
            vec![
                format!("{at}.configMapKeyRef.name: Required value"),
                format!("{at}.configMapKeyRef.key: Required value"),
            ],
        ),
        (
            from(json!({"secretKeyRef": {"name": "A", "key": "a/b"}})),
            vec![
                format!("{at}.secretKeyRef.name: Invalid value"),
                format!("{at}.secretKeyRef.key: Invalid value"),
            ],
        ),
        (
            from(json!({"fileKeyRef": {"volumeName": "v", "path": "p", "key": "k"}})),
            vec![format!("{at}.fileKeyRef: Forbidden")],
        ),
        (from(json!({})), vec![format!("{at}: Required value")]),
        (
            from(
                json!({"fieldRef": {"fieldPath": "metadata.name"}, "secretKeyRef": {"name": "s", "key": "k"}}),
            ),
            vec![format!("{at}: Forbidden")],
        ),
        (
            json!({"env": [{"name": "A", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]}),
            vec![format!("{at}: Forbidden")],
        ),
    ];
    for (change, expected) in rows {
        assert_eq!(told(&of_container(change.clone())), expected, "{change}");
    }
}

#[test]
fn sources_of_many_variables_are_checked() {
    let rows = vec![
        (
            json!({"envFrom": [{"configMapRef": {"name": "m"}}, {"prefix": "P_", "secretRef": {"name": "s"}}]}),
            vec![],
        ),
        (json!({"envFrom": [{}]}), vec!["spec.containers[0].envFrom[0]: Required value"]),
        (
            json!({"envFrom": [{"prefix": "a=", "configMapRef": {"name": "m"}}]}),
            vec!["spec.containers[0].envFrom[0].prefix: Invalid value"],
        ),
        (
            json!({"envFrom": [{"configMapRef": {"name": ""}}]}),
            vec!["spec.containers[0].envFrom[0].configMapRef.name: Required value"],
        ),
        (
            json!({"envFrom": [{"configMapRef": {"name": "m"}, "secretRef": {"name": "s"}}]}),
            vec!["spec.containers[0].envFrom[0]: Forbidden"],
        ),
    ];
    check(rows, of_container);
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

#[test]
fn probes_are_checked() {
    let at = |rest: &str| -> &'static str { format!("spec.containers[0].{rest}").leak() };
    let tcp = json!({"port": 80});
    let rows = vec![
        (
            json!({"livenessProbe": {"tcpSocket": tcp}, "readinessProbe": {"httpGet": {"port": "http"}, "successThreshold": 3},
            "startupProbe": {"grpc": {"port": 1}, "terminationGracePeriodSeconds": 1}}),
            vec![],
        ),
        (json!({"livenessProbe": {}}), vec![at("livenessProbe: Required value")]),
        (
            json!({"livenessProbe": {"tcpSocket": tcp, "exec": {"command": ["x"]}}}),
            vec![at("livenessProbe: Forbidden")],
        ),
        (
            json!({"livenessProbe": {"tcpSocket": tcp, "successThreshold": 2}}),
            vec![at("livenessProbe.successThreshold: Invalid value")],
        ),
        (
            json!({"startupProbe": {"tcpSocket": tcp, "successThreshold": 2}}),
            vec![at("startupProbe.successThreshold: Invalid value")],
        ),
        (
            json!({"readinessProbe": {"tcpSocket": tcp, "initialDelaySeconds": -1, "timeoutSeconds": -1, "periodSeconds": -1}}),
            vec![
                at("readinessProbe.initialDelaySeconds: Invalid value"),
                at("readinessProbe.timeoutSeconds: Invalid value"),
                at("readinessProbe.periodSeconds: Invalid value"),
            ],
        ),
        (
            json!({"livenessProbe": {"tcpSocket": tcp, "terminationGracePeriodSeconds": 0}}),
            vec![at("livenessProbe.terminationGracePeriodSeconds: Invalid value")],
        ),
        (
            json!({"readinessProbe": {"tcpSocket": tcp, "terminationGracePeriodSeconds": 1}}),
            vec![at("readinessProbe.terminationGracePeriodSeconds: Forbidden")],
        ),
        (
            json!({"livenessProbe": {"exec": {}}}),
            vec![at("livenessProbe.exec.command: Required value")],
        ),
        (
            json!({"livenessProbe": {"grpc": {"port": 0}}}),
            vec![at("livenessProbe.grpc.port: Invalid value")],
        ),
        (
            json!({"livenessProbe": {"httpGet": {"port": 0, "scheme": "FTP"}}}),
            vec![
                at("livenessProbe.httpGet.port: Invalid value"),
                at("livenessProbe.httpGet.scheme: Unsupported value"),
            ],
        ),
        (
            json!({"livenessProbe": {"tcpSocket": {"port": "No_Port"}}}),
            vec![at("livenessProbe.tcpSocket.port: Invalid value")],
        ),
        (
            json!({"livenessProbe": {"httpGet": {"port": 1, "httpHeaders": [{"name": "X-A", "value": "b"}, {"name": "a b", "value": "x\ny"}]}}}),
            vec![
                at("livenessProbe.httpGet.httpHeaders[1].name: Invalid value"),
                at("livenessProbe.httpGet.httpHeaders[1].value: Invalid value"),
            ],
        ),
    ];
    check(rows, of_container);
}

#[test]
fn hooks_are_checked() {
    let rows = vec![
        (
            json!({"lifecycle": {"postStart": {"exec": {"command": ["x"]}}, "preStop": {"sleep": {"seconds": 0}}, "stopSignal": "SIGUSR1"}}),
            vec![],
        ),
        (
            json!({"lifecycle": {"preStop": {}}}),
            vec!["spec.containers[0].lifecycle.preStop: Required value"],
        ),
        (
            json!({"lifecycle": {"preStop": {"sleep": {"seconds": -1}}}}),
            vec!["spec.containers[0].lifecycle.preStop.sleep.seconds: Invalid value"],
        ),
        (
            json!({"lifecycle": {"preStop": {"sleep": {"seconds": 1}, "tcpSocket": {"port": 1}}}}),
            vec!["spec.containers[0].lifecycle.preStop: Forbidden"],
        ),
        (
            json!({"lifecycle": {"stopSignal": "15"}}),
            vec!["spec.containers[0].lifecycle.stopSignal: Invalid value"],
        ),
    ];
    check(rows, of_container);
}

#[test]
fn an_init_container_has_neither_probes_nor_hooks_but_a_sidecar_has() {
    let with = json!({"readinessProbe": {"tcpSocket": {"port": 1}}, "lifecycle": {"preStop": {"sleep": {"seconds": 1}}}});
    assert_eq!(
        told(&of_init(with.clone())),
        [
            "spec.initContainers[0].readinessProbe: Forbidden",
            "spec.initContainers[0].lifecycle: Forbidden"
        ]
    );
    let mut sidecar = with;
    sidecar["restartPolicy"] = json!("Always");
    assert_eq!(told(&of_init(sidecar)), [""; 0]);
}

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

#[test]
fn security_of_containers_is_checked() {
    let at = |rest: &str| -> &'static str {
        format!("spec.containers[0].securityContext.{rest}").leak()
    };
    let rows: Rows = vec![
        (json!({"runAsUser": 0, "runAsNonRoot": true}), vec![]),
        (
            json!({"runAsUser": -1, "runAsGroup": 2_147_483_648_i64}),
            vec![at("runAsUser: Invalid value"), at("runAsGroup: Invalid value")],
        ),
        (
            json!({"privileged": true, "allowPrivilegeEscalation": false}),
            vec![at("allowPrivilegeEscalation: Invalid value")],
        ),
        (
            json!({"capabilities": {"add": ["CAP_SYS_ADMIN"]}, "allowPrivilegeEscalation": false}),
            vec![at("allowPrivilegeEscalation: Invalid value")],
        ),
        (json!({"procMount": "Unmasked"}), vec![at("procMount: Forbidden")]),
        (json!({"procMount": "Bare"}), vec![at("procMount: Unsupported value")]),
        (json!({"seccompProfile": {"type": "Localhost", "localhostProfile": "a/b.json"}}), vec![]),
        (
            json!({"seccompProfile": {"type": "Localhost"}}),
            vec![at("seccompProfile.localhostProfile: Required value")],
        ),
        (
            json!({"seccompProfile": {"type": "Localhost", "localhostProfile": "../b"}}),
            vec![at("seccompProfile.localhostProfile: Invalid value")],
        ),
        (
            json!({"seccompProfile": {"type": "RuntimeDefault", "localhostProfile": "b"}}),
            vec![at("seccompProfile.localhostProfile: Invalid value")],
        ),
        (
            json!({"seccompProfile": {"type": "Other"}}),
            vec![at("seccompProfile.type: Unsupported value")],
        ),
        (
            json!({"appArmorProfile": {"type": "Localhost", "localhostProfile": " x"}}),
            vec![at("appArmorProfile.localhostProfile: Invalid value")],
        ),
        (
            json!({"appArmorProfile": {"type": ""}}),
            vec![at("appArmorProfile.type: Required value")],
        ),
        (json!({"windowsOptions": {}}), vec![at("windowsOptions: Forbidden")]),
    ];
    check(rows, |security| of_container(json!({"securityContext": security})));
    let mut own = of_container(json!({"securityContext": {"procMount": "Unmasked"}}));
    own["spec"]["hostUsers"] = json!(false);
    assert_eq!(told(&own), [""; 0]);
}

#[test]
fn security_of_pods_is_checked() {
    let at = |rest: &str| -> &'static str { format!("spec.securityContext.{rest}").leak() };
    let sysctl = |name: &str| json!({"sysctls": [{"name": name, "value": "1"}]});
    let rows = vec![
        (
            json!({"runAsUser": 1, "fsGroup": 2, "supplementalGroups": [3], "fsGroupChangePolicy": "OnRootMismatch"}),
            vec![],
        ),
        (
            json!({"fsGroup": -1, "supplementalGroups": [1, -1]}),
            vec![at("fsGroup: Invalid value"), at("supplementalGroups[1]: Invalid value")],
        ),
        (
            json!({"fsGroupChangePolicy": "x", "supplementalGroupsPolicy": "x"}),
            vec![
                at("fsGroupChangePolicy: Unsupported value"),
                at("supplementalGroupsPolicy: Unsupported value"),
            ],
        ),
        (sysctl("net/ipv4/ip_forward"), vec![]),
        (sysctl("../x"), vec![at("sysctls[0].name: Invalid value")]),
        (sysctl(""), vec![at("sysctls[0].name: Required value")]),
        (
            json!({"sysctls": [{"name": "net.a", "value": "1"}, {"name": "net/a", "value": "1"}]}),
            vec![at("sysctls[1].name: Duplicate value")],
        ),
        (
            json!({"seccompProfile": {"type": "x"}, "appArmorProfile": {"type": "x"}}),
            vec![
                at("seccompProfile.type: Unsupported value"),
                at("appArmorProfile.type: Unsupported value"),
            ],
        ),
    ];
    check(rows, |security| of_spec(json!({"securityContext": security})));
    let on_node = of_spec(json!({"hostNetwork": true, "hostIPC": true,
        "securityContext": {"sysctls": [{"name": "net.a", "value": "1"}, {"name": "kernel.shmmax", "value": "1"}]}}));
    assert_eq!(
        told(&on_node),
        [at("sysctls[0].name: Invalid value"), at("sysctls[1].name: Invalid value")]
    );
}

#[test]
fn a_problem_names_the_field_and_its_value() {
    let ports = json!([{"containerPort": 80}, {"containerPort": 81, "hostPort": 70000}]);
    let problem = problems(&of_container(json!({"ports": ports}))).remove(0).to_string();
    assert_eq!(
        problem,
        "spec.containers[0].ports[1].hostPort: Invalid value: 70000: must be between 1 and 65535"
    );
}

proptest! {
    #[test]
    fn no_pod_makes_it_panic(mut pod in samples::pods()) {
        static_identity(&mut pod, "n", "file", "origin");
    name_after_node(&mut pod, "n");
        default_pod(&mut pod);
        validate_pod(&pod);
    }
}
