//! Security contexts.

use super::{Rows, check, of_container, of_spec, told};
use serde_json::json;

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
