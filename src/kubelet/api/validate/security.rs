//! As whom pods and containers run, and what confines them.

use super::names::{path_below, sysctl};
use super::problem::{At, Problems};
use super::projection::user;
use k8s_openapi::api::core::v1::{
    AppArmorProfile, Container, PodSecurityContext, PodSpec, SeccompProfile, SecurityContext,
};
use std::collections::BTreeSet;

/// Where the node keeps profiles, and what kind they are of.
const PROFILES: [&str; 3] = ["RuntimeDefault", "Localhost", "Unconfined"];

/// The security context of a pod.
pub(super) fn pod_security(problems: &mut Problems, at: &At, spec: &PodSpec) {
    let Some(security) = &spec.security_context else { return };
    let at = at.field("securityContext");
    user(problems, &at.field("runAsUser"), security.run_as_user);
    user(problems, &at.field("runAsGroup"), security.run_as_group);
    user(problems, &at.field("fsGroup"), security.fs_group);
    for (at, group) in at.field("supplementalGroups").each_of(&security.supplemental_groups) {
        user(problems, &at, Some(*group));
    }
    let choices = [
        ("fsGroupChangePolicy", &security.fs_group_change_policy, ["OnRootMismatch", "Always"]),
        ("supplementalGroupsPolicy", &security.supplemental_groups_policy, ["Merge", "Strict"]),
        ("seLinuxChangePolicy", &security.se_linux_change_policy, ["Recursive", "MountOption"]),
    ];
    for (name, value, allowed) in choices {
        problems.one_of(&at.field(name), value.as_deref(), &allowed);
    }
    seccomp(problems, &at, security.seccomp_profile.as_ref());
    app_armor(problems, &at, security.app_armor_profile.as_ref());
    if security.windows_options.is_some() {
        problems.forbidden(&at.field("windowsOptions"), "this node runs Linux");
    }
    sysctls(problems, &at.field("sysctls"), security, spec);
}

fn sysctls(problems: &mut Problems, at: &At, security: &PodSecurityContext, spec: &PodSpec) {
    let mut names = BTreeSet::new();
    for (at, one) in at.each_of(&security.sysctls) {
        let at = at.field("name");
        let name = one.name.replace('/', ".");
        match one.name.as_str() {
            "" => problems.required(&at, "it names a kernel parameter"),
            text => problems.check(&at, text, sysctl(text)),
        }
        let of_node = [
            ("net.", spec.host_network, "hostNetwork"),
            ("kernel.shm", spec.host_ipc, "hostIPC"),
            ("kernel.msg", spec.host_ipc, "hostIPC"),
            ("kernel.sem", spec.host_ipc, "hostIPC"),
            ("fs.mqueue.", spec.host_ipc, "hostIPC"),
        ];
        for (prefix, shared, field) in of_node {
            if name.starts_with(prefix) && shared == Some(true) {
                let why = format_args!("would be set for the whole node, by {field}");
                problems.invalid(&at, &one.name, why);
            }
        }
        if !names.insert(name) {
            problems.duplicate(&at, &one.name);
        }
    }
}

/// The security context of a container.
pub(super) fn container_security(
    problems: &mut Problems,
    at: &At,
    container: &Container,
    spec: &PodSpec,
) {
    let Some(security) = &container.security_context else { return };
    user(problems, &at.field("runAsUser"), security.run_as_user);
    user(problems, &at.field("runAsGroup"), security.run_as_group);
    escalation(problems, at, security);
    let proc_mount = security.proc_mount.as_deref();
    problems.one_of(&at.field("procMount"), proc_mount, &["Default", "Unmasked"]);
    if proc_mount == Some("Unmasked") && spec.host_users != Some(false) {
        let why = "Unmasked is only for pods with users of their own: hostUsers has to be false";
        problems.forbidden(&at.field("procMount"), why);
    }
    seccomp(problems, at, security.seccomp_profile.as_ref());
    app_armor(problems, at, security.app_armor_profile.as_ref());
    if security.windows_options.is_some() {
        problems.forbidden(&at.field("windowsOptions"), "this node runs Linux");
    }
}

/// More privileges cannot be both given and ruled out.
fn escalation(problems: &mut Problems, at: &At, security: &SecurityContext) {
    if security.allow_privilege_escalation != Some(false) {
        return;
    }
    let at = at.field("allowPrivilegeEscalation");
    if security.privileged == Some(true) {
        problems.invalid(&at, false, "must not be false for a privileged container");
    }
    let added = security.capabilities.as_ref().and_then(|of| of.add.as_ref());
    let admin = |name: &String| name.trim_start_matches("CAP_") == "SYS_ADMIN";
    if added.is_some_and(|added| added.iter().any(admin)) {
        problems.invalid(&at, false, "must not be false for a container with SYS_ADMIN");
    }
}

fn seccomp(problems: &mut Problems, at: &At, profile: Option<&SeccompProfile>) {
    if let Some(SeccompProfile { localhost_profile, type_ }) = profile {
        let at = at.field("seccompProfile");
        let file = localhost_profile.as_deref();
        profile_of(problems, &at, type_, file);
        // It is a file below a folder of the node.
        if let Some(file) = file.filter(|file| !file.is_empty()) {
            problems.check(&at.field("localhostProfile"), file, path_below(file));
        }
    }
}

fn app_armor(problems: &mut Problems, at: &At, profile: Option<&AppArmorProfile>) {
    if let Some(AppArmorProfile { localhost_profile, type_ }) = profile {
        let at = at.field("appArmorProfile");
        profile_of(problems, &at, type_, localhost_profile.as_deref());
        if let Some(name) = localhost_profile.as_deref()
            && (name.len() > 4096 || name.trim() != name)
        {
            let why = "must be at most 4096 characters, without white space at its ends";
            problems.invalid(&at.field("localhostProfile"), name, why);
        }
    }
}

/// What both kinds of profile have in common: a name, if and only if the profile is the node's.
fn profile_of(problems: &mut Problems, at: &At, kind: &str, name: Option<&str>) {
    match kind {
        "" => problems.required(&at.field("type"), "a profile has a type"),
        kind => problems.one_of(&at.field("type"), Some(kind), &PROFILES),
    }
    let at = at.field("localhostProfile");
    match (kind, name.unwrap_or_default()) {
        ("Localhost", "") => problems.required(&at, "a profile of the node has a name"),
        ("Localhost", _) => {}
        (_, "") => {}
        (_, name) => problems.invalid(&at, name, "is only for the type Localhost"),
    }
}
