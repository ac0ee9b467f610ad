//! RunPodSandbox's configuration.
//!
//! Of the settings of the sandbox's own process the read-only root and RuntimeDefault of AppArmor are
//! checked and then ask for nothing: pause is a page of code from a sealed memory file, with no image and
//! no root file system.

use super::RequestError;
use super::resources::resources;
use super::security::{pid_mode, sandbox_seccomp, selinux_options, shared_mode};
use super::text::{absolute, group_ids, line, name, string, user_id};
use super::userns::userns;
use crate::cri::proto;
use crate::idmap::{IdMaps, Unmapped};
use crate::sandbox::config::{
    DnsConfig, PidNamespace, PodNamespace, PodUser, PortMapping, Protocol, SandboxConfig,
    SandboxMetadata, SandboxNamespaces,
};
use std::net::IpAddr;

/// The kernel's longest hostname (uname(2)).
const MAX_HOSTNAME: usize = 64;
/// The kernel's most groups of a process (NGROUPS_MAX).
const MAX_GROUPS: usize = 65_536;

/// A validated sandbox; `field` is where the configuration stands in its request.
pub(crate) fn sandbox_config(
    field: &str,
    config: Option<proto::PodSandboxConfig>,
) -> Result<SandboxConfig, RequestError> {
    let config = config.ok_or_else(|| RequestError::missing(field))?;
    let at = |name: &str| format!("{field}.{name}");
    if config.windows.is_some() {
        return Err(RequestError::unimplemented(at("windows"), "Windows pods are"));
    }
    let linux = config.linux.unwrap_or_default();
    let security = linux.security_context.unwrap_or_default();
    pause_settings(&at("linux.security_context"), &security)?;
    let user = pause_user(&at("linux.security_context"), &security)?;
    let seccomp = sandbox_seccomp(&at("linux.security_context"), &security)?;
    let selinux = selinux_options(
        &at("linux.security_context.selinux_options"),
        security.selinux_options.as_ref(),
    )?;
    let part = |name: &str, r: Option<&proto::LinuxContainerResources>| {
        r.map(|r| resources(&at(name), r)).transpose()
    };
    let options = at("linux.security_context.namespace_options");
    let (namespaces, userns) = namespaces(&options, security.namespace_options)?;
    if let (Some(user), Some(maps)) = (&user, &userns) {
        check_mapped(&at("linux.security_context"), user, maps)?;
    }
    Ok(SandboxConfig {
        metadata: metadata(&at("metadata"), config.metadata)?,
        hostname: hostname(&at("hostname"), &config.hostname)?,
        log_directory: match config.log_directory.as_str() {
            "" => None,
            path => Some(absolute(&at("log_directory"), path)?),
        },
        dns: dns(&at("dns_config"), config.dns_config)?,
        port_mappings: port_mappings(&at("port_mappings"), &config.port_mappings)?,
        labels: config.labels,
        annotations: config.annotations,
        cgroup_parent: cgroup_parent(&at("linux.cgroup_parent"), &linux.cgroup_parent)?,
        namespaces,
        userns,
        user,
        privileged: security.privileged,
        seccomp,
        selinux,
        sysctls: sysctls(&at("linux.sysctls"), linux.sysctls)?,
        overhead: part("linux.overhead", linux.overhead.as_ref())?,
        resources: part("linux.resources", linux.resources.as_ref())?,
    })
}

fn metadata(
    field: &str,
    metadata: Option<proto::PodSandboxMetadata>,
) -> Result<SandboxMetadata, RequestError> {
    let metadata = metadata.ok_or_else(|| RequestError::missing(field))?;
    Ok(SandboxMetadata {
        name: name(&format!("{field}.name"), &metadata.name)?,
        uid: name(&format!("{field}.uid"), &metadata.uid)?,
        namespace: name(&format!("{field}.namespace"), &metadata.namespace)?,
        attempt: metadata.attempt,
    })
}

fn hostname(field: &str, hostname: &str) -> Result<String, RequestError> {
    let letters = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    if hostname.len() > MAX_HOSTNAME {
        return Err(RequestError::invalid(field, format!("longer than {MAX_HOSTNAME} bytes")));
    }
    if !hostname.bytes().all(letters) {
        return Err(RequestError::invalid(field, format!("{hostname:?} is not a host name")));
    }
    Ok(hostname.to_owned())
}

/// Empty settings stand for the host's, as with other runtimes.
fn dns(field: &str, dns: Option<proto::DnsConfig>) -> Result<Option<DnsConfig>, RequestError> {
    let Some(dns) = dns else { return Ok(None) };
    let words = |name: &str, list: Vec<String>| -> Result<Vec<String>, RequestError> {
        for (index, word) in list.iter().enumerate() {
            let field = format!("{field}.{name}[{index}]");
            line(&field, word)?;
            if word.is_empty() || word.contains(char::is_whitespace) {
                return Err(RequestError::invalid(field, format!("{word:?} is not one word")));
            }
        }
        Ok(list)
    };
    let dns = DnsConfig {
        servers: words("servers", dns.servers)?,
        searches: words("searches", dns.searches)?,
        options: words("options", dns.options)?,
    };
    Ok((dns != DnsConfig::default()).then_some(dns))
}

/// Mappings without a host port forward nothing and are left out.
fn port_mappings(
    field: &str,
    mappings: &[proto::PortMapping],
) -> Result<Vec<PortMapping>, RequestError> {
    let mut made = Vec::new();
    for (index, mapping) in mappings.iter().enumerate() {
        let at = |name: &str| format!("{field}[{index}].{name}");
        let protocol = match proto::Protocol::try_from(mapping.protocol) {
            Ok(proto::Protocol::Tcp) => Protocol::Tcp,
            Ok(proto::Protocol::Udp) => Protocol::Udp,
            Ok(proto::Protocol::Sctp) => Protocol::Sctp,
            Err(_) => return Err(RequestError::unknown(at("protocol"), mapping.protocol)),
        };
        let container_port = port(&at("container_port"), mapping.container_port)?;
        let host_ip = match mapping.host_ip.as_str() {
            "" => None,
            text => Some(text.parse::<IpAddr>().map_err(|_| {
                RequestError::invalid(at("host_ip"), format!("{text:?} is not an address"))
            })?),
        };
        if mapping.host_port != 0 {
            let host_port = port(&at("host_port"), mapping.host_port)?;
            // 0.0.0.0 and :: stand for every address, as no address does.
            let host_ip = host_ip.filter(|ip| !ip.is_unspecified());
            made.push(PortMapping { protocol, container_port, host_port, host_ip });
        }
    }
    Ok(made)
}

fn port(field: &str, number: i32) -> Result<u16, RequestError> {
    u16::try_from(number)
        .ok()
        .filter(|port| *port != 0)
        .ok_or_else(|| RequestError::invalid(field, format!("{number} is not 1 to 65535")))
}

/// The driver decides what a parent may look like; here it only has to stay where it is put.
fn cgroup_parent(field: &str, parent: &str) -> Result<Option<String>, RequestError> {
    if parent.is_empty() {
        return Ok(None);
    }
    if parent.split('/').any(|part| part == "..") {
        return Err(RequestError::invalid(field, format!("{parent:?} contains '..'")));
    }
    line(field, parent).map(Some)
}

/// The pod's namespaces, and the ids of its user namespace.
pub(super) fn namespaces(
    field: &str,
    options: Option<proto::NamespaceOption>,
) -> Result<(SandboxNamespaces, Option<IdMaps>), RequestError> {
    let options = options.unwrap_or_default();
    let userns = userns(&format!("{field}.userns_options"), options.userns_options.as_ref())?;
    let pid = pid_mode(field, &options)?;
    if let PidNamespace::Target(_) = pid {
        let reason = "TARGET is for containers alone";
        return Err(RequestError::invalid(format!("{field}.pid"), reason));
    }
    let network: PodNamespace = shared_mode(&format!("{field}.network"), options.network)?;
    let ipc = shared_mode(&format!("{field}.ipc"), options.ipc)?;
    if userns.is_some() {
        // Only who owns a namespace may mount what shows it. The node's network is another thing:
        // its /sys is bound.
        for (name, is_nodes, path) in [
            ("pid", pid == PidNamespace::Node, "/proc"),
            ("ipc", ipc == PodNamespace::Node, "/dev/mqueue"),
        ] {
            if is_nodes {
                let reason = format!(
                    "NODE with a user namespace: the kernel lets no container mount {path} then"
                );
                return Err(RequestError::invalid(format!("{field}.{name}"), reason));
            }
        }
    }
    Ok((SandboxNamespaces { network, ipc, pid }, userns))
}

fn sysctls(
    field: &str,
    sysctls: std::collections::BTreeMap<String, String>,
) -> Result<std::collections::BTreeMap<String, String>, RequestError> {
    for (name, value) in &sysctls {
        let field = format!("{field}[{name:?}]");
        let letters = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'/');
        if name.is_empty() || !name.bytes().all(letters) || name.contains("..") {
            return Err(RequestError::invalid(field, "not a kernel parameter"));
        }
        string(&field, value)?;
    }
    Ok(sysctls)
}

/// Whom pause runs as. A user without a group is of the group 0, as one that no passwd knows.
fn pause_user(
    field: &str,
    security: &proto::LinuxSandboxSecurityContext,
) -> Result<Option<PodUser>, RequestError> {
    let at = |name: &str| format!("{field}.{name}");
    let id = |name: &str, value: &Option<proto::Int64Value>| {
        value.as_ref().map(|id| user_id(&at(name), id.value)).transpose()
    };
    let (uid, gid) =
        (id("run_as_user", &security.run_as_user)?, id("run_as_group", &security.run_as_group)?);
    if uid.is_none() && gid.is_some() {
        return Err(RequestError::invalid(at("run_as_group"), "needs run_as_user"));
    }
    let given = group_ids(&at("supplemental_groups"), &security.supplemental_groups)?;
    if uid.is_none() && given.is_empty() {
        return Ok(None);
    }
    let gid = gid.unwrap_or(0);
    let mut groups = vec![gid];
    for group in given {
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    if groups.len() > MAX_GROUPS {
        let reason = format!("more than {MAX_GROUPS}");
        return Err(RequestError::invalid(at("supplemental_groups"), reason));
    }
    Ok(Some(PodUser { uid: uid.unwrap_or(0), gid, groups }))
}

/// A process can only have ids that its user namespace maps.
fn check_mapped(field: &str, user: &PodUser, maps: &IdMaps) -> Result<(), RequestError> {
    let unmapped = |name: &str, id: u32| {
        let reason = format!("{id} is not mapped in the pod's user namespace");
        Err(RequestError::invalid(format!("{field}.{name}"), reason))
    };
    match maps.unmapped(user.uid, user.groups.iter().copied()) {
        Some(Unmapped::User(uid)) => unmapped("run_as_user", uid),
        Some(Unmapped::Group(gid)) if gid == user.gid => unmapped("run_as_group", gid),
        Some(Unmapped::Group(gid)) => unmapped("supplemental_groups", gid),
        None => Ok(()),
    }
}

/// Checks what else is said of the sandbox's own process.
fn pause_settings(
    field: &str,
    security: &proto::LinuxSandboxSecurityContext,
) -> Result<(), RequestError> {
    let at = |name: &str| format!("{field}.{name}");
    let policy = security.supplemental_groups_policy;
    proto::SupplementalGroupsPolicy::try_from(policy)
        .map_err(|_| RequestError::unknown(at("supplemental_groups_policy"), policy))?;
    // A profile of the node's own would have to be loaded for pause.
    let apparmor = security.apparmor.as_ref().map(proto::SecurityProfile::profile_type);
    if apparmor == Some(proto::security_profile::ProfileType::Localhost) {
        let what = "profiles of the node's own for sandboxes are";
        return Err(RequestError::unimplemented(at("apparmor"), what));
    }
    Ok(())
}
