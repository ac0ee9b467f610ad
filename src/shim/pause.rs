//! Starting the pod's pause process: new namespaces, their host name and parameters, exec.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use super::wire::PausePlan;
use crate::sys::prctl::Filter;
use crate::sys::process::SingleThreaded;
use crate::sys::spawn::{Child, NewNamespaces, Privileges, Spawn, SpawnError, SpawnStep};

/// What pause is made from.
pub(super) struct PauseParts<'a> {
    /// The program.
    pub(super) program: BorrowedFd<'a>,
    /// Its cgroup.
    pub(super) cgroup: BorrowedFd<'a>,
    /// /dev/null.
    pub(super) null: BorrowedFd<'a>,
    /// Whether a refused oom_score_adj is passed over.
    pub(super) privileges: Privileges,
}

/// Starts pause. Returns when it has exec'd: the kernel's time for the namespaces, during which a
/// shim has nothing else to do.
pub(super) fn spawn_pause(
    _: &SingleThreaded,
    plan: &PausePlan,
    parts: &PauseParts<'_>,
) -> Result<Child, SpawnError> {
    let wanted = |flag: Option<bool>| flag.unwrap_or(false).into();
    let namespaces = NewNamespaces::default()
        .with(libc::CLONE_NEWNET, wanted(plan.new_net))
        .with(libc::CLONE_NEWIPC, wanted(plan.new_ipc))
        .with(libc::CLONE_NEWUTS, wanted(plan.new_uts))
        .with(libc::CLONE_NEWPID, wanted(plan.new_pid));
    let mut spawn = Spawn::file(parts.program, "berth-pause")
        .cgroup(parts.cgroup)
        .namespaces(namespaces)
        .privileges(parts.privileges)
        .oom_score_adj(plan.oom_score_adj.unwrap_or(0))
        .limit((libc::RLIMIT_NOFILE, 16, 16))
        .limit((libc::RLIMIT_CORE, 0, 0));
    for target in 0..3 {
        spawn = match null(parts) {
            Some(fd) => spawn.fd(target, fd),
            None => spawn,
        };
    }
    if let Some(name) = &plan.hostname {
        spawn = spawn.hostname(name);
    }
    for sysctl in &plan.sysctls {
        spawn = spawn.setting(&path(&sysctl.name), &sysctl.value);
    }
    for (n, filter) in plan.filters.iter().enumerate() {
        let filter = Filter::new(&filter.program, filter.flags).map_err(|source| SpawnError {
            program: "berth-pause".to_owned(),
            step: SpawnStep::Seccomp(n),
            subject: String::new(),
            source,
        })?;
        spawn = spawn.filter(filter);
    }
    spawn.spawn()
}

/// Without a copy the spawn itself says what is missing.
fn null(parts: &PauseParts<'_>) -> Option<OwnedFd> {
    parts.null.as_fd().try_clone_to_owned().ok()
}

/// The file of a kernel parameter. In names with slashes dots are part of a name (an interface's),
/// in names without they separate, as sysctl(8) has it.
fn path(name: &str) -> String {
    if name.contains('/') {
        format!("/proc/sys/{name}")
    } else {
        format!("/proc/sys/{}", name.replace('.', "/"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_is_named_with_dots_or_with_slashes() {
        assert_eq!(path("net.core.somaxconn"), "/proc/sys/net/core/somaxconn");
        assert_eq!(
            path("net/ipv4/conf/eth0.1/rp_filter"),
            "/proc/sys/net/ipv4/conf/eth0.1/rp_filter"
        );
    }
}
