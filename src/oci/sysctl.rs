//! Kernel parameters of a container: only those of a namespace that it has. Pure.

use oci_spec::runtime::{Linux, LinuxNamespaceType};

use super::error::OciError;
use crate::shim::wire::SettingPlan;
use crate::undefended::{Defence, removed};

/// sysvipc(7), mq_overview(7): what belongs to an IPC namespace.
const IPC: [&str; 12] = [
    "kernel/msgmax",
    "kernel/msgmnb",
    "kernel/msgmni",
    "kernel/msg_next_id",
    "kernel/sem",
    "kernel/sem_next_id",
    "kernel/shmall",
    "kernel/shmmax",
    "kernel/shmmni",
    "kernel/shm_next_id",
    "kernel/shm_rmid_forced",
    "kernel/auto_msgmni",
];

/// The namespace a sysctl belongs to, by its path below /proc/sys.
fn namespace(path: &str) -> Option<LinuxNamespaceType> {
    if path.starts_with("net/") {
        return Some(LinuxNamespaceType::Network);
    }
    if IPC.contains(&path) || path.starts_with("fs/mqueue/") {
        return Some(LinuxNamespaceType::Ipc);
    }
    (path == "kernel/domainname").then_some(LinuxNamespaceType::Uts)
}

/// sysctl(8): the first separator decides which of `.` and `/` separates; the other is literal.
fn path_of(name: &str) -> String {
    match name.find(['.', '/']).and_then(|at| name.get(at..=at)) {
        Some(".") => name
            .chars()
            .map(|c| match c {
                '.' => '/',
                '/' => '.',
                c => c,
            })
            .collect(),
        _ => name.to_owned(),
    }
}

/// The plan of `linux.sysctl`, in order of the names.
///
/// # Errors
/// [`OciError`] for one that is no namespace's, or of a namespace that is the host's.
pub(super) fn plan(linux: &Linux) -> Result<Vec<SettingPlan>, OciError> {
    let listed = linux.namespaces().as_deref().unwrap_or_default();
    let mut plans = Vec::new();
    for (name, value) in linux.sysctl().iter().flatten() {
        let path = path_of(name);
        let invalid = |reason| OciError::invalid("linux.sysctl", name, reason);
        if path.split('/').any(|part| matches!(part, "" | "." | "..")) || path.contains('\0') {
            return Err(invalid("is not a name"));
        }
        let kind = namespace(&path);
        if kind.is_none() && !removed(Defence::SysctlName) {
            return Err(invalid("is not of a namespace"));
        }
        if kind.is_some_and(|kind| !listed.iter().any(|n| n.typ() == kind)) {
            return Err(invalid("is of a namespace that is the host's"));
        }
        plans.push(SettingPlan { name: path, value: Some(value.clone()) });
    }
    plans.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(plans)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_separator_decides() {
        assert_eq!(
            path_of("net.ipv4.conf.eth0/100.forwarding"),
            "net/ipv4/conf/eth0.100/forwarding"
        );
        assert_eq!(
            path_of("net/ipv4/conf/eth0.100/forwarding"),
            "net/ipv4/conf/eth0.100/forwarding"
        );
        assert_eq!(path_of("plain"), "plain");
    }

    #[test]
    fn only_sysctls_of_a_namespace_are_known() {
        assert_eq!(namespace("kernel/sem"), Some(LinuxNamespaceType::Ipc));
        assert_eq!(namespace("net/core/somaxconn"), Some(LinuxNamespaceType::Network));
        assert_eq!(namespace("vm/swappiness"), None);
        assert_eq!(namespace("kernel/hostname"), None);
    }
}
