//! The smallest valid requests, for the tests of this folder and of `sandbox`.

use super::config::{ContainerConfig, GroupsPolicy, RunAs, Security};
use crate::cgroups::Resources;
use crate::sandbox::config::{
    PidNamespace, PodNamespace, SandboxConfig, SandboxMetadata, SandboxNamespaces,
};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Asks for nothing.
pub(crate) fn security() -> Security {
    Security {
        privileged: false,
        run_as: RunAs::Image,
        run_as_group: None,
        supplemental_groups: Vec::new(),
        groups_policy: GroupsPolicy::Merge,
        readonly_rootfs: false,
        no_new_privs: false,
        add_capabilities: Vec::new(),
        drop_capabilities: Vec::new(),
        ambient_capabilities: Vec::new(),
        pid: PidNamespace::Container,
        seccomp: None,
        apparmor: None,
        selinux: None,
        masked_paths: Vec::new(),
        readonly_paths: Vec::new(),
    }
}

/// Runs `/bin/true`.
pub(crate) fn container() -> ContainerConfig {
    ContainerConfig {
        name: "web".into(),
        attempt: 0,
        image: "web:1".into(),
        user_specified_image: String::new(),
        command: vec!["/bin/true".into()],
        args: Vec::new(),
        working_dir: String::new(),
        envs: Vec::new(),
        mounts: Vec::new(),
        devices: Vec::new(),
        cdi_devices: Vec::new(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        log_path: PathBuf::new(),
        log_directory: None,
        stdin: false,
        stdin_once: false,
        tty: false,
        resources: Resources::default(),
        security: security(),
        stop_signal: None,
    }
}

/// A pod with all namespaces of its own, one pid namespace a container.
pub(crate) fn sandbox() -> SandboxConfig {
    SandboxConfig {
        metadata: SandboxMetadata {
            name: "pod".into(),
            uid: "uid".into(),
            namespace: "default".into(),
            attempt: 0,
        },
        hostname: "pod".into(),
        log_directory: None,
        dns: None,
        port_mappings: Vec::new(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        cgroup_parent: None,
        namespaces: SandboxNamespaces {
            network: PodNamespace::Pod,
            ipc: PodNamespace::Pod,
            pid: PidNamespace::Container,
        },
        userns: None,
        user: None,
        privileged: false,
        seccomp: None,
        selinux: None,
        sysctls: BTreeMap::new(),
        overhead: None,
        resources: None,
    }
}
