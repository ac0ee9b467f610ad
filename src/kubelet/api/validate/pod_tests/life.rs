//! A pod as a whole: metadata, policies, names.

use super::{check, of_container, of_pod, of_spec, problems};
use super::{merge, told};
use serde_json::{Value, json};

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
fn what_is_added_to_a_pod_is_a_guest() {
    let e = |further: Value| {
        let mut all = json!({"name": "e", "image": "i"});
        merge(&mut all, &further);
        json!({"ephemeralContainers": [all]})
    };
    let at = "spec.ephemeralContainers[0]";
    let one = |field: &str, kind: &str| vec![format!("{at}.{field}: {kind}")];
    let probe = json!({"exec": {"command": ["true"]}});
    let rows: Vec<(Value, Vec<String>)> = vec![
        (json!({"ephemeralContainers": []}), vec![]),
        (e(json!({"command": ["sh"], "tty": true, "stdin": true})), vec![]),
        (e(json!({"securityContext": {"runAsUser": 0}})), vec![]),
        (e(json!({"image": ""})), one("image", "Required value")),
        (e(json!({"name": "E!"})), one("name", "Invalid value")),
        (e(json!({"targetContainerName": "nobody"})), one("targetContainerName", "Invalid value")),
        (e(json!({"ports": [{"containerPort": 80}]})), one("ports", "Forbidden")),
        (e(json!({"readinessProbe": probe})), one("readinessProbe", "Forbidden")),
        (e(json!({"lifecycle": {"preStop": probe}})), one("lifecycle", "Forbidden")),
        (e(json!({"resources": {"limits": {"cpu": "1"}}})), one("resources", "Forbidden")),
        (e(json!({"restartPolicy": "Always"})), one("restartPolicy", "Forbidden")),
    ];
    for (change, expected) in rows {
        assert_eq!(told(&of_spec(change.clone())), expected, "{change}");
    }
    let twice =
        json!({"ephemeralContainers": [{"name": "e", "image": "i"}, {"name": "e", "image": "i"}]});
    assert_eq!(told(&of_spec(twice)), ["spec.ephemeralContainers[1].name: Duplicate value"]);
}

#[test]
fn what_needs_an_api_server_is_refused() {
    let rows = vec![
        (json!({"serviceAccountName": "a"}), vec!["spec.serviceAccountName: Forbidden"]),
        (json!({"serviceAccount": "a"}), vec!["spec.serviceAccountName: Forbidden"]),
        (json!({"resourceClaims": [{"name": "e"}]}), vec!["spec.resourceClaims: Forbidden"]),
        (json!({"schedulingGates": [{"name": "e"}]}), vec!["spec.schedulingGates: Forbidden"]),
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
fn a_problem_names_the_field_and_its_value() {
    let ports = json!([{"containerPort": 80}, {"containerPort": 81, "hostPort": 70000}]);
    let problem = problems(&of_container(json!({"ports": ports}))).remove(0).to_string();
    assert_eq!(
        problem,
        "spec.containers[0].ports[1].hostPort: Invalid value: 70000: must be between 1 and 65535"
    );
}
