//! Security contexts of pod and container, merged: what the container says goes before what the pod says.

use crate::cri::proto as cri;
use crate::error::ErrorKind;
use crate::kubelet::spec::{host_network, spec};
use k8s_openapi::api::core::v1::{
    AppArmorProfile, Container, Pod, PodSecurityContext, SELinuxOptions, SeccompProfile,
    SecurityContext,
};
use std::path::Path;

const MASKED_PATHS: [&str; 10] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];
const READONLY_PATHS: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Whom an image runs as, as ImageStatus tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageUser {
    /// The uid, when it is a number or absent.
    pub uid: Option<i64>,
    /// The name, when it is one.
    pub name: String,
}

/// What the node adds to a pod's security.
#[derive(Clone, Copy, Debug)]
pub struct SecurityInput<'a> {
    /// The folder of the node's seccomp profiles.
    pub profiles: &'a Path,
    /// Whether who says nothing of seccomp has the runtime's profile.
    pub seccomp_default: bool,
    /// The ids of the pod's own user namespace; none: the node's.
    pub userns: Option<&'a cri::UserNamespace>,
}

/// A container that may not run as its user.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UserError {
    /// The specification itself says root.
    #[error(
        "container {container:?} has runAsNonRoot and runAsUser 0: its own specification makes it root"
    )]
    RootBySpec {
        /// The container.
        container: String,
    },
    /// The image says root.
    #[error("container {container:?} has runAsNonRoot and image {image:?} will run as root")]
    RootByImage {
        /// The container.
        container: String,
        /// The image.
        image: String,
    },
    /// The image says a name, which may be root's.
    #[error(
        "container {container:?} has runAsNonRoot and image {image:?} has the non-numeric user {user:?}: cannot verify that it is not root"
    )]
    Name {
        /// The container.
        container: String,
        /// The image.
        image: String,
        /// The user's name.
        user: String,
    },
}

impl UserError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::FailedPrecondition
    }
}

/// The two contexts of a container.
#[derive(Clone, Copy)]
struct Both<'a> {
    pod: Option<&'a PodSecurityContext>,
    own: Option<&'a SecurityContext>,
}

impl<'a> Both<'a> {
    fn of(pod: &'a Pod, container: &'a Container) -> Self {
        Self { pod: spec(pod).security_context.as_ref(), own: container.security_context.as_ref() }
    }

    fn pick<T>(
        self,
        own: impl Fn(&'a SecurityContext) -> Option<T>,
        pod: impl Fn(&'a PodSecurityContext) -> Option<T>,
    ) -> Option<T> {
        self.own.and_then(own).or_else(|| self.pod.and_then(pod))
    }
}

/// Whom a container runs as: by its specification, else by its image.
///
/// # Errors
/// [`UserError`]: it must not be root and is, or may be.
pub fn user_of(
    pod: &Pod,
    container: &Container,
    image: &ImageUser,
) -> Result<ImageUser, UserError> {
    let both = Both::of(pod, container);
    let asked = both.pick(|own| own.run_as_user, |pod| pod.run_as_user);
    let non_root = both.pick(|own| own.run_as_non_root, |pod| pod.run_as_non_root);
    let named = container.name.clone();
    let of_image = container.image.clone().unwrap_or_default();
    if non_root == Some(true) {
        match (asked, image) {
            (Some(0), _) => return Err(UserError::RootBySpec { container: named }),
            (Some(_), _) => {}
            (None, ImageUser { uid: Some(0), .. }) => {
                return Err(UserError::RootByImage { container: named, image: of_image });
            }
            (None, ImageUser { uid: None, name }) if name.is_empty() => {
                return Err(UserError::RootByImage { container: named, image: of_image });
            }
            (None, ImageUser { uid: None, name }) => {
                let user = name.clone();
                return Err(UserError::Name { container: named, image: of_image, user });
            }
            (None, ImageUser { uid: Some(_), .. }) => {}
        }
    }
    Ok(match asked {
        Some(uid) => ImageUser { uid: Some(uid), name: String::new() },
        None => image.clone(),
    })
}

/// The namespaces that pod and containers agree on.
pub(super) fn namespaces(pod: &Pod, userns: Option<&cri::UserNamespace>) -> cri::NamespaceOption {
    let spec = spec(pod);
    let node = |host: bool| {
        if host { cri::NamespaceMode::Node } else { cri::NamespaceMode::Pod }
    };
    let pid = match (spec.host_pid == Some(true), spec.share_process_namespace == Some(true)) {
        (true, _) => cri::NamespaceMode::Node,
        (false, true) => cri::NamespaceMode::Pod,
        (false, false) => cri::NamespaceMode::Container,
    };
    cri::NamespaceOption {
        network: node(host_network(pod)).into(),
        pid: pid.into(),
        ipc: node(spec.host_ipc == Some(true)).into(),
        userns_options: userns.cloned(),
        ..cri::NamespaceOption::default()
    }
}

/// A container's security context.
pub(super) fn container_security(
    pod: &Pod,
    container: &Container,
    user: &ImageUser,
    input: &SecurityInput<'_>,
) -> cri::LinuxContainerSecurityContext {
    let both = Both::of(pod, container);
    let own = both.own;
    let privileged = own.and_then(|own| own.privileged) == Some(true);
    let unmasked = own.and_then(|own| own.proc_mount.as_deref()) == Some("Unmasked");
    let texts = |paths: &[&str]| match privileged || unmasked {
        true => Vec::new(),
        false => paths.iter().map(|path| (*path).to_owned()).collect(),
    };
    let number = |value: Option<i64>| value.map(|value| cri::Int64Value { value });
    let capabilities = own.and_then(|own| own.capabilities.as_ref());
    let seccomp = both.pick(|own| own.seccomp_profile.as_ref(), |pod| pod.seccomp_profile.as_ref());
    let apparmor =
        both.pick(|own| own.app_armor_profile.as_ref(), |pod| pod.app_armor_profile.as_ref());
    let selinux =
        both.pick(|own| own.se_linux_options.as_ref(), |pod| pod.se_linux_options.as_ref());
    cri::LinuxContainerSecurityContext {
        capabilities: capabilities.map(|caps| cri::Capability {
            add_capabilities: caps.add.clone().unwrap_or_default(),
            drop_capabilities: caps.drop.clone().unwrap_or_default(),
            ..cri::Capability::default()
        }),
        privileged,
        namespace_options: Some(namespaces(pod, input.userns)),
        selinux_options: selinux.map(selinux_option),
        run_as_user: number(user.uid),
        run_as_group: number(both.pick(|own| own.run_as_group, |pod| pod.run_as_group)),
        run_as_username: user.name.clone(),
        readonly_rootfs: own.and_then(|own| own.read_only_root_filesystem) == Some(true),
        supplemental_groups: groups(pod),
        supplemental_groups_policy: groups_policy(pod).into(),
        no_new_privs: own.and_then(|own| own.allow_privilege_escalation) == Some(false),
        masked_paths: texts(&MASKED_PATHS),
        readonly_paths: texts(&READONLY_PATHS),
        seccomp: seccomp_of(seccomp, input).filter(|_| !privileged),
        apparmor: apparmor.filter(|_| !privileged).map(apparmor_profile),
        ..cri::LinuxContainerSecurityContext::default()
    }
}

/// The sandbox's: what the pod says, for its pause process.
pub(super) fn sandbox_security(
    pod: &Pod,
    input: &SecurityInput<'_>,
) -> cri::LinuxSandboxSecurityContext {
    let context = spec(pod).security_context.as_ref();
    let number = |value: Option<i64>| value.map(|value| cri::Int64Value { value });
    let user = context.and_then(|context| context.run_as_user);
    let privileged = super::super::spec::members(pod).into_iter().any(|member| {
        let context = member.container.security_context.as_ref();
        context.and_then(|context| context.privileged) == Some(true)
    });
    cri::LinuxSandboxSecurityContext {
        namespace_options: Some(namespaces(pod, input.userns)),
        selinux_options: context.and_then(|c| c.se_linux_options.as_ref()).map(selinux_option),
        run_as_user: number(user),
        // Needs a user.
        run_as_group: number(context.and_then(|c| c.run_as_group).filter(|_| user.is_some())),
        supplemental_groups: groups(pod),
        supplemental_groups_policy: groups_policy(pod).into(),
        privileged,
        seccomp: seccomp_of(context.and_then(|c| c.seccomp_profile.as_ref()), input),
        ..cri::LinuxSandboxSecurityContext::default()
    }
}

/// The pod's supplemental groups, and the group of its volumes.
fn groups(pod: &Pod) -> Vec<i64> {
    let context = spec(pod).security_context.as_ref();
    let mut groups = context.and_then(|c| c.supplemental_groups.clone()).unwrap_or_default();
    let of_volumes = context.and_then(|context| context.fs_group);
    groups.extend(of_volumes.filter(|group| !groups.contains(group)));
    groups
}

fn groups_policy(pod: &Pod) -> cri::SupplementalGroupsPolicy {
    let context = spec(pod).security_context.as_ref();
    match context.and_then(|context| context.supplemental_groups_policy.as_deref()) {
        Some("Strict") => cri::SupplementalGroupsPolicy::Strict,
        _ => cri::SupplementalGroupsPolicy::Merge,
    }
}

fn selinux_option(options: &SELinuxOptions) -> cri::SeLinuxOption {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    cri::SeLinuxOption {
        user: text(&options.user),
        role: text(&options.role),
        r#type: text(&options.type_),
        level: text(&options.level),
    }
}

fn profile_type(name: &str) -> cri::security_profile::ProfileType {
    match name {
        "RuntimeDefault" => cri::security_profile::ProfileType::RuntimeDefault,
        "Localhost" => cri::security_profile::ProfileType::Localhost,
        _ => cri::security_profile::ProfileType::Unconfined,
    }
}

/// The profile that was asked for, else the node's choice.
fn seccomp_of(
    asked: Option<&SeccompProfile>,
    input: &SecurityInput<'_>,
) -> Option<cri::SecurityProfile> {
    let default = || cri::SecurityProfile {
        profile_type: cri::security_profile::ProfileType::RuntimeDefault.into(),
        localhost_ref: String::new(),
    };
    match asked {
        Some(profile) => Some(seccomp_profile(profile, input.profiles)),
        None => input.seccomp_default.then(default),
    }
}

fn seccomp_profile(profile: &SeccompProfile, profiles: &Path) -> cri::SecurityProfile {
    let file = profile.localhost_profile.as_ref().map(|name| profiles.join(name));
    cri::SecurityProfile {
        profile_type: profile_type(&profile.type_).into(),
        localhost_ref: file.map(|file| file.display().to_string()).unwrap_or_default(),
    }
}

fn apparmor_profile(profile: &AppArmorProfile) -> cri::SecurityProfile {
    cri::SecurityProfile {
        profile_type: profile_type(&profile.type_).into(),
        localhost_ref: profile.localhost_profile.clone().unwrap_or_default(),
    }
}

#[cfg(test)]
#[path = "security_tests.rs"]
mod tests;
