//! Probes and hooks.

use super::{check, of_container, of_init, told};
use serde_json::json;

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
