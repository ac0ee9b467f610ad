//! Variables and where their values come from.

use super::{check, of_container, told};
use serde_json::{Value, json};

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
