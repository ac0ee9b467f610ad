//! features: what this runtime can do (OCI runtime spec, "Features Structure").

use super::error::RuntimeError;
use super::state::print_json;
use crate::oci;
use serde_json::{Value, json};

/// The verb `features`.
pub(super) fn features() -> Result<(), RuntimeError> {
    print_json(&structure())
}

fn structure() -> Value {
    let capabilities: Vec<String> =
        oci::capability_names().map(|name| format!("CAP_{name}")).collect();
    json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": "1.2.0",
        "hooks": [
            "prestart", "createRuntime", "createContainer", "startContainer", "poststart",
            "poststop",
        ],
        "mountOptions": oci::mount_option_names(),
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "user", "uts"],
            "capabilities": capabilities,
            "cgroup": {
                "v1": false, "v2": true, "systemd": true, "systemdUser": false, "rdma": false,
            },
            "seccomp": {
                "enabled": true,
                "actions": [
                    "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS",
                    "SCMP_ACT_KILL_THREAD", "SCMP_ACT_LOG", "SCMP_ACT_TRACE", "SCMP_ACT_TRAP",
                ],
                "operators": [
                    "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT",
                    "SCMP_CMP_MASKED_EQ", "SCMP_CMP_NE",
                ],
                "archs": oci::seccomp::architectures(),
            },
            "apparmor": { "enabled": true },
            "selinux": { "enabled": true },
            "intelRdt": { "enabled": false },
            "mountExtensions": { "idmap": { "enabled": true } },
        },
        "annotations": { "dev.berth.version": env!("CARGO_PKG_VERSION") },
        "potentiallyUnsafeConfigAnnotations": [],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_structure_is_the_specifications() {
        let text = structure();
        let read: oci_spec::runtime::Features = serde_json::from_value(text.clone()).unwrap();
        assert_eq!(read.oci_version_max(), "1.2.0");
        assert!(text["linux"]["capabilities"].as_array().unwrap().contains(&"CAP_KILL".into()));
        assert!(text["mountOptions"].as_array().unwrap().contains(&"rbind".into()));
    }
}
