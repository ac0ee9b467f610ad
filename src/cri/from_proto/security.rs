//! A container's security context, and what it shares with a sandbox's: namespaces, profiles,
//! labels.

use super::RequestError;
use super::fits::Asked;
use super::text::{absolute, absolute_list, group_ids, id, string, user_id};
use super::userns::userns;
use crate::container::config::{GroupsPolicy, Profile, RunAs, Security};
use crate::cri::proto;
use crate::cri::proto::NamespaceMode as Mode;
use crate::cri::proto::security_profile::ProfileType;
use crate::sandbox::config::{PidNamespace, PodNamespace};
use crate::selinux;

/// A validated security context, and what it asks of the sandbox.
pub(super) fn security(
    field: &str,
    s: proto::LinuxContainerSecurityContext,
) -> Result<(Security, Asked), RequestError> {
    let at = |name: &str| format!("{field}.{name}");
    let options = s.namespace_options.clone().unwrap_or_default();
    let option = at("namespace_options");
    let asked = Asked {
        namespaces: s.namespace_options.is_some(),
        userns: userns(&format!("{option}.userns_options"), options.userns_options.as_ref())?,
        network: shared_mode(&format!("{option}.network"), options.network)?,
        ipc: shared_mode(&format!("{option}.ipc"), options.ipc)?,
        privileged: s.privileged,
    };
    let capabilities = s.capabilities.clone().unwrap_or_default();
    let caps = |name: &str, list: &[String]| {
        capability_names(&format!("{field}.capabilities.{name}"), list)
    };
    let security = Security {
        privileged: s.privileged,
        run_as: run_as(field, &s)?,
        run_as_group: run_as_group(field, &s)?,
        supplemental_groups: group_ids(&at("supplemental_groups"), &s.supplemental_groups)?,
        groups_policy: groups_policy(
            &at("supplemental_groups_policy"),
            s.supplemental_groups_policy,
        )?,
        readonly_rootfs: s.readonly_rootfs,
        no_new_privs: s.no_new_privs,
        add_capabilities: caps("add_capabilities", &capabilities.add_capabilities)?,
        drop_capabilities: caps("drop_capabilities", &capabilities.drop_capabilities)?,
        ambient_capabilities: caps(
            "add_ambient_capabilities",
            &capabilities.add_ambient_capabilities,
        )?,
        pid: pid_mode(&option, &options)?,
        seccomp: container_seccomp(field, &s)?,
        apparmor: apparmor(field, &s)?,
        selinux: selinux_options(&at("selinux_options"), s.selinux_options.as_ref())?,
        masked_paths: absolute_list(&at("masked_paths"), s.masked_paths)?,
        readonly_paths: absolute_list(&at("readonly_paths"), s.readonly_paths)?,
    };
    Ok((security, asked))
}

fn run_as(field: &str, s: &proto::LinuxContainerSecurityContext) -> Result<RunAs, RequestError> {
    let by_name = format!("{field}.run_as_username");
    match (&s.run_as_user, s.run_as_username.as_str()) {
        (None, "") => Ok(RunAs::Image),
        (Some(user), "") => user_id(&format!("{field}.run_as_user"), user.value).map(RunAs::Uid),
        (None, user) if user.contains([':', '\n']) => {
            Err(RequestError::invalid(by_name, format!("{user:?} is not a user name")))
        }
        (None, user) => string(&by_name, user).map(RunAs::Name),
        (Some(_), _) => Err(RequestError::invalid(by_name, "given beside run_as_user")),
    }
}

fn run_as_group(
    field: &str,
    s: &proto::LinuxContainerSecurityContext,
) -> Result<Option<u32>, RequestError> {
    let Some(group) = &s.run_as_group else { return Ok(None) };
    let field = format!("{field}.run_as_group");
    if s.run_as_user.is_none() && s.run_as_username.is_empty() {
        return Err(RequestError::invalid(field, "needs run_as_user or run_as_username"));
    }
    user_id(&field, group.value).map(Some)
}

fn groups_policy(field: &str, value: i32) -> Result<GroupsPolicy, RequestError> {
    match proto::SupplementalGroupsPolicy::try_from(value) {
        Ok(proto::SupplementalGroupsPolicy::Merge) => Ok(GroupsPolicy::Merge),
        Ok(proto::SupplementalGroupsPolicy::Strict) => Ok(GroupsPolicy::Strict),
        Err(_) => Err(RequestError::unknown(field, value)),
    }
}

/// Upper case with `CAP_`, or `ALL`. Whether there is such a capability is known where the kernel's
/// list is.
fn capability_names(field: &str, names: &[String]) -> Result<Vec<String>, RequestError> {
    let mut made = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let upper = name.to_ascii_uppercase();
        let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
        if bare.is_empty() || !bare.bytes().all(|b| b.is_ascii_uppercase() || b == b'_') {
            let reason = format!("{name:?} is not a capability");
            return Err(RequestError::invalid(format!("{field}[{index}]"), reason));
        }
        made.push(if bare == "ALL" { "ALL".to_owned() } else { format!("CAP_{bare}") });
    }
    Ok(made)
}

#[expect(deprecated, reason = "older kubelets send the deprecated field")]
fn container_seccomp(
    field: &str,
    s: &proto::LinuxContainerSecurityContext,
) -> Result<Option<Profile>, RequestError> {
    seccomp(field, s.seccomp.as_ref(), &s.seccomp_profile_path)
}

/// What a sandbox asks for its own process.
#[expect(deprecated, reason = "older kubelets send the deprecated field")]
pub(super) fn sandbox_seccomp(
    field: &str,
    s: &proto::LinuxSandboxSecurityContext,
) -> Result<Option<Profile>, RequestError> {
    seccomp(field, s.seccomp.as_ref(), &s.seccomp_profile_path)
}

/// The new field wins over the deprecated one. A file is named by an absolute path, in the new field
/// also with the prefix that it has in the old one.
fn seccomp(
    field: &str,
    new: Option<&proto::SecurityProfile>,
    old: &str,
) -> Result<Option<Profile>, RequestError> {
    let made = match new {
        Some(profile) => profile_of(&format!("{field}.seccomp"), profile)?,
        None => named_profile(&format!("{field}.seccomp_profile_path"), old)?,
    };
    match made {
        Some(Profile::Localhost(path)) => {
            let path = path.strip_prefix("localhost/").unwrap_or(&path);
            absolute(&format!("{field}.seccomp.localhost_ref"), path)?;
            Ok(Some(Profile::Localhost(path.to_owned())))
        }
        other => Ok(other),
    }
}

#[expect(deprecated, reason = "older kubelets send the deprecated field")]
fn apparmor(
    field: &str,
    s: &proto::LinuxContainerSecurityContext,
) -> Result<Option<Profile>, RequestError> {
    match &s.apparmor {
        Some(profile) => profile_of(&format!("{field}.apparmor"), profile),
        None => named_profile(&format!("{field}.apparmor_profile"), &s.apparmor_profile),
    }
}

fn profile_of(
    field: &str,
    profile: &proto::SecurityProfile,
) -> Result<Option<Profile>, RequestError> {
    let reference = format!("{field}.localhost_ref");
    let kind = ProfileType::try_from(profile.profile_type).map_err(|_| {
        RequestError::unknown(format!("{field}.profile_type"), profile.profile_type)
    })?;
    match (kind, profile.localhost_ref.as_str()) {
        (ProfileType::RuntimeDefault, "") => Ok(Some(Profile::RuntimeDefault)),
        (ProfileType::Unconfined, "") => Ok(Some(Profile::Unconfined)),
        (ProfileType::Localhost, "") => Err(RequestError::missing(reference)),
        (ProfileType::Localhost, name) => {
            string(&reference, name).map(Profile::Localhost).map(Some)
        }
        (_, _) => Err(RequestError::invalid(reference, "is for Localhost alone")),
    }
}

/// The deprecated way: a string that is one of a few words or names a profile.
fn named_profile(field: &str, name: &str) -> Result<Option<Profile>, RequestError> {
    match name {
        "" => Ok(None),
        "unconfined" => Ok(Some(Profile::Unconfined)),
        "runtime/default" | "docker/default" => Ok(Some(Profile::RuntimeDefault)),
        other => match other.strip_prefix("localhost/") {
            Some(reference) if !reference.is_empty() => {
                string(field, reference).map(Profile::Localhost).map(Some)
            }
            _ => Err(RequestError::invalid(field, format!("{other:?} is not a profile"))),
        },
    }
}

/// Whose pid namespace, with the target where there is one.
pub(super) fn pid_mode(
    field: &str,
    options: &proto::NamespaceOption,
) -> Result<PidNamespace, RequestError> {
    let target = format!("{field}.target_id");
    let mode = Mode::try_from(options.pid)
        .map_err(|_| RequestError::unknown(format!("{field}.pid"), options.pid))?;
    if mode != Mode::Target && !options.target_id.is_empty() {
        return Err(RequestError::invalid(target, "is for the pid mode TARGET alone"));
    }
    Ok(match mode {
        Mode::Pod => PidNamespace::Pod,
        Mode::Container => PidNamespace::Container,
        Mode::Node => PidNamespace::Node,
        Mode::Target => PidNamespace::Target(id(&target, &options.target_id)?.to_owned()),
    })
}

/// A namespace that is the pod's or the host's.
pub(super) fn shared_mode(field: &str, value: i32) -> Result<PodNamespace, RequestError> {
    match Mode::try_from(value) {
        Ok(Mode::Pod) => Ok(PodNamespace::Pod),
        Ok(Mode::Node) => Ok(PodNamespace::Node),
        Ok(other) => {
            let reason = format!("{} is neither POD nor NODE", other.as_str_name());
            Err(RequestError::invalid(field, reason))
        }
        Err(_) => Err(RequestError::unknown(field, value)),
    }
}

/// The parts of a label, of which none asks for nothing. Whether the node has labels is the engine's
/// to say.
pub(super) fn selinux_options(
    field: &str,
    options: Option<&proto::SeLinuxOption>,
) -> Result<Option<selinux::Options>, RequestError> {
    let Some(o) = options else { return Ok(None) };
    let made = selinux::Options::parse(&o.user, &o.role, &o.r#type, &o.level)
        .map_err(|(part, reason)| RequestError::invalid(format!("{field}.{part}"), reason))?;
    Ok(Some(made).filter(|made| !made.is_empty()))
}
