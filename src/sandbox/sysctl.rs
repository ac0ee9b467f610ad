//! Which kernel parameters a pod may set: those that the kernel keeps a namespace; pure.
//!
//! A name comes as `net.ipv4.ip_forward` or as `net/ipv4/ip_forward`. The first separator decides
//! which character separates, so that `net/ipv4/conf/eth0.100/rp_filter` and
//! `net.ipv4.conf.eth0/100.rp_filter` are the same (sysctl.d(5)).

use super::config::{PodNamespace, SandboxConfig};
use crate::error::ErrorKind;

/// A kernel parameter that a pod may not set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SysctlError {
    /// It is not one parameter's name.
    #[error("sysctl {0:?} is not a kernel parameter's name")]
    Name(String),
    /// Its value cannot be written.
    #[error("sysctl {0}: the value holds a line break or a NUL byte")]
    Value(String),
    /// The kernel keeps it once a node, not once a namespace.
    #[error("sysctl {0} is not namespaced: setting it would change the node")]
    NotNamespaced(String),
    /// The namespace it belongs to is the node's.
    #[error("sysctl {name} is not allowed with the node's {namespace} namespace")]
    HostNamespace {
        /// The parameter.
        name: String,
        /// `network` or `ipc`.
        namespace: &'static str,
    },
    /// Two spellings of one parameter.
    #[error("sysctl {0} is given twice")]
    Twice(String),
}

impl SysctlError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidArgument
    }
}

/// Checks every kernel parameter of the pod.
///
/// # Errors
/// The first that the pod may not set.
pub fn validate_sysctls(sandbox: &SandboxConfig) -> Result<(), SysctlError> {
    plan_sysctls(sandbox).map(drop)
}

/// The pod's kernel parameters as paths below /proc/sys, with their values.
///
/// # Errors
/// The first that the pod may not set.
pub fn plan_sysctls(sandbox: &SandboxConfig) -> Result<Vec<(String, String)>, SysctlError> {
    let mut planned: Vec<(String, String)> = Vec::new();
    for (name, value) in &sandbox.sysctls {
        let path = parse_name(name).ok_or_else(|| SysctlError::Name(name.clone()))?;
        if value.contains(['\n', '\0']) {
            return Err(SysctlError::Value(name.clone()));
        }
        let (mode, namespace) = match namespace_of(&path) {
            Some(Namespace::Network) => (sandbox.namespaces.network, "network"),
            Some(Namespace::Ipc) => (sandbox.namespaces.ipc, "ipc"),
            None => return Err(SysctlError::NotNamespaced(name.clone())),
        };
        if mode == PodNamespace::Node {
            return Err(SysctlError::HostNamespace { name: name.clone(), namespace });
        }
        if planned.iter().any(|(known, _)| *known == path) {
            return Err(SysctlError::Twice(name.clone()));
        }
        planned.push((path, value.clone()));
    }
    Ok(planned)
}

/// What a pod has of its own network unless it says otherwise: ports and pings for every user, whose
/// reach is the pod's network alone. In a user namespace its root has both by its capabilities, and
/// the kernel refuses a range of groups that are not all mapped.
const DEFAULTS: [(&str, &str); 2] =
    [("net/ipv4/ip_unprivileged_port_start", "0"), ("net/ipv4/ping_group_range", "0 2147483647")];

/// The parameters of a pod that are set: the defaults, then its own.
///
/// # Errors
/// As [`plan_sysctls`].
pub fn effective_sysctls(sandbox: &SandboxConfig) -> Result<Vec<(String, String)>, SysctlError> {
    let asked = plan_sysctls(sandbox)?;
    let open = sandbox.namespaces.network == PodNamespace::Pod && sandbox.userns.is_none();
    let defaults = DEFAULTS
        .into_iter()
        .filter(|(name, _)| open && !asked.iter().any(|(path, _)| path == name));
    let defaults = defaults.map(|(name, value)| (name.to_owned(), value.to_owned()));
    Ok(defaults.chain(asked.iter().cloned()).collect())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Namespace {
    Network,
    Ipc,
}

/// The namespace that keeps a parameter.
fn namespace_of(path: &str) -> Option<Namespace> {
    if path.starts_with("net/") {
        return Some(Namespace::Network);
    }
    let ipc = path.starts_with("fs/mqueue/")
        || path == "kernel/sem"
        || path.starts_with("kernel/shm")
        || path.starts_with("kernel/msg");
    ipc.then_some(Namespace::Ipc)
}

/// The path below /proc/sys. `None` for a name with empty, odd or climbing parts.
fn parse_name(name: &str) -> Option<String> {
    let separator = name.find(['.', '/']).and_then(|at| name.get(at..)?.chars().next())?;
    let path: String = match separator {
        '.' => name
            .chars()
            .map(|c| match c {
                '.' => '/',
                '/' => '.',
                other => other,
            })
            .collect(),
        _ => name.to_owned(),
    };
    let sound = path.split('/').all(|part| {
        !matches!(part, "" | "." | "..")
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.:@".contains(&b))
    });
    sound.then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::test_values::sandbox;

    fn pod(name: &str, value: &str) -> SandboxConfig {
        SandboxConfig { sysctls: [(name.to_owned(), value.to_owned())].into(), ..sandbox() }
    }

    #[test]
    fn both_spellings_become_one_path() {
        let rows = [
            ("net.ipv4.ip_forward", "net/ipv4/ip_forward"),
            ("net/ipv4/ip_forward", "net/ipv4/ip_forward"),
            ("net/ipv4/conf/eth0.100/rp_filter", "net/ipv4/conf/eth0.100/rp_filter"),
            ("net.ipv4.conf.eth0/100.rp_filter", "net/ipv4/conf/eth0.100/rp_filter"),
            ("kernel.shm_rmid_forced", "kernel/shm_rmid_forced"),
            ("kernel/msgmax", "kernel/msgmax"),
            ("kernel.sem", "kernel/sem"),
            ("fs.mqueue.msg_max", "fs/mqueue/msg_max"),
        ];
        for (name, path) in rows {
            let planned = plan_sysctls(&pod(name, "1")).unwrap();
            assert_eq!(planned, [(path.to_owned(), "1".to_owned())], "{name}");
        }
    }

    #[test]
    fn parameters_of_the_node_are_refused_by_name() {
        for name in [
            "kernel.pid_max",
            "kernel.semaphore",
            "kernel.hostname",
            "vm.swappiness",
            "fs.file-max",
            "fs.mqueue_x",
            "netx.y",
        ] {
            let error = validate_sysctls(&pod(name, "1")).unwrap_err();
            assert_eq!(error, SysctlError::NotNamespaced(name.to_owned()), "{name}");
        }
    }

    #[test]
    fn names_that_climb_or_are_none_are_refused() {
        for name in ["", "net", "net.", "net..x", "net/../kernel/pid_max", "/net/x", "net.a b"] {
            let error = validate_sysctls(&pod(name, "1")).unwrap_err();
            assert_eq!(error, SysctlError::Name(name.to_owned()), "{name}");
        }
        // With a dot as the separator, a slash is a dot of the name.
        assert!(validate_sysctls(&pod("net.//.x", "1")).is_err());
    }

    #[test]
    fn parameters_of_a_namespace_that_is_the_nodes_are_refused() {
        let mut pod = pod("net.core.somaxconn", "1");
        pod.namespaces.network = PodNamespace::Node;
        assert!(matches!(
            validate_sysctls(&pod),
            Err(SysctlError::HostNamespace { namespace: "network", .. })
        ));
        let mut pod = self::pod("kernel.msgmax", "1");
        pod.namespaces.network = PodNamespace::Node;
        assert_eq!(validate_sysctls(&pod), Ok(()), "ipc is still the pod's");
        pod.namespaces.ipc = PodNamespace::Node;
        assert!(matches!(
            validate_sysctls(&pod),
            Err(SysctlError::HostNamespace { namespace: "ipc", .. })
        ));
    }

    #[test]
    fn one_parameter_in_two_spellings_is_refused() {
        let mut pod = pod("net.core.somaxconn", "1");
        pod.sysctls.insert("net/core/somaxconn".to_owned(), "2".to_owned());
        assert!(matches!(validate_sysctls(&pod), Err(SysctlError::Twice(_))));
    }

    #[test]
    fn ports_and_pings_are_for_everybody_in_a_network_of_the_pods_own() {
        let names = |pod: &SandboxConfig| {
            let planned = effective_sysctls(pod).unwrap();
            planned.into_iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>()
        };
        let (ports, pings) = DEFAULTS.map(|(name, value)| format!("{name}={value}")).into();
        assert_eq!(names(&sandbox()), [ports.clone(), pings.clone()]);
        // The request's own word is the last.
        let asked = pod("net.ipv4.ip_unprivileged_port_start", "80");
        let own = "net/ipv4/ip_unprivileged_port_start=80".to_owned();
        assert_eq!(names(&asked), [pings, own]);
        let mut on_host = sandbox();
        on_host.namespaces.network = PodNamespace::Node;
        assert_eq!(names(&on_host), [""; 0]);
        let mapped = SandboxConfig { userns: Some(Default::default()), ..sandbox() };
        assert_eq!(names(&mapped), [""; 0]);
    }

    #[test]
    fn a_value_of_two_lines_is_refused() {
        assert!(matches!(validate_sysctls(&pod("net.x", "1\n2")), Err(SysctlError::Value(_))));
    }
}
