//! Process → plan: every attribute explicit. Pure, but that a label needs a kernel that has labels.

use std::collections::HashSet;

use oci_spec::runtime::{
    Capability, IOPriorityClass, Linux, LinuxPersonalityDomain, LinuxSchedulerFlag,
    LinuxSchedulerPolicy, PosixRlimitType, Process, Scheduler,
};

use super::error::OciError;
use super::seccomp;
use super::selinux;
use crate::config::Enforce;
use crate::shim::wire::{
    CapabilityPlan, FilterPlan, LimitPlan, ProcessPlan, SchedulerPlan, WindowPlan,
};

/// capability.h, in order of their numbers.
const CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// The capabilities that are known here, without `CAP_`, in order of their numbers.
pub fn capability_names() -> impl Iterator<Item = &'static str> {
    CAPABILITIES.into_iter()
}

/// The order of the limits is that of their numbers, `RLIMIT_CPU` = 0.
pub(super) const LIMITS: [PosixRlimitType; 16] = [
    PosixRlimitType::RlimitCpu,
    PosixRlimitType::RlimitFsize,
    PosixRlimitType::RlimitData,
    PosixRlimitType::RlimitStack,
    PosixRlimitType::RlimitCore,
    PosixRlimitType::RlimitRss,
    PosixRlimitType::RlimitNproc,
    PosixRlimitType::RlimitNofile,
    PosixRlimitType::RlimitMemlock,
    PosixRlimitType::RlimitAs,
    PosixRlimitType::RlimitLocks,
    PosixRlimitType::RlimitSigpending,
    PosixRlimitType::RlimitMsgqueue,
    PosixRlimitType::RlimitNice,
    PosixRlimitType::RlimitRtprio,
    PosixRlimitType::RlimitRttime,
];

const NONE: u64 = u64::MAX;

/// What of the node goes into a plan.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    /// What a missing privilege does.
    pub(super) privileges: Enforce,
    /// The kernel's own limit of pending signals: half of kernel.threads-max.
    pub(super) pending_signals: u64,
}

/// A limit that the spec does not name: the kernel's own of a first process, without a cap on
/// processes (pids.max is that) and with the customary room for files and cores.
fn default_limit(kind: PosixRlimitType, node: Node) -> (u64, u64) {
    match kind {
        PosixRlimitType::RlimitStack => (8 << 20, NONE),
        PosixRlimitType::RlimitNofile => (1024, 524_288),
        PosixRlimitType::RlimitMemlock => (8 << 20, 8 << 20),
        PosixRlimitType::RlimitSigpending => (node.pending_signals, node.pending_signals),
        PosixRlimitType::RlimitMsgqueue => (819_200, 819_200),
        PosixRlimitType::RlimitNice | PosixRlimitType::RlimitRtprio => (0, 0),
        _ => (NONE, NONE),
    }
}

/// The plan of a checked process.
///
/// # Errors
/// [`OciError`] for values out of range and contradictions.
pub(super) fn process(
    process: &Process,
    linux: Option<&Linux>,
    node: Node,
) -> Result<ProcessPlan, OciError> {
    let user = process.user();
    let umask = user.umask().unwrap_or(0o022);
    if umask > 0o777 {
        return Err(OciError::invalid("process.user.umask", umask, "is more than 0777"));
    }
    let oom_score_adj = process.oom_score_adj().unwrap_or(0);
    if !(-1000..=1000).contains(&oom_score_adj) {
        let reason = "is not from -1000 to 1000";
        return Err(OciError::invalid("process.oomScoreAdj", oom_score_adj, reason));
    }
    let cwd = process.cwd();
    let cwd = cwd
        .to_str()
        .ok_or_else(|| OciError::invalid("process.cwd", cwd.display(), "is not UTF-8"))?;
    let personality = linux.and_then(|l| l.personality().as_ref()).map(|p| p.domain());
    Ok(ProcessPlan {
        args: process.args().clone().unwrap_or_default(),
        env: process.env().clone().unwrap_or_default(),
        cwd: cwd.to_owned(),
        uid: user.uid(),
        gid: user.gid(),
        groups: user.additional_gids().clone().unwrap_or_default(),
        umask,
        capabilities: capabilities(process)?,
        no_new_privileges: process.no_new_privileges().unwrap_or(false),
        limits: limits(process, node)?,
        oom_score_adj,
        scheduler: scheduler(process.scheduler().as_ref())?,
        io_priority: io_priority(process)?,
        personality: match personality {
            Some(LinuxPersonalityDomain::PerLinux32) => 0x0008,
            Some(LinuxPersonalityDomain::PerLinux) | None => 0,
        },
        apparmor: process.apparmor_profile().clone().filter(|p| !p.is_empty()),
        selinux: selinux::check("process.selinuxLabel", process.selinux_label().as_ref())?,
        filters: filters(linux)?,
        best_effort_privileges: node.privileges == Enforce::BestEffort,
        window: window(process),
        preserved_fds: None,
        keep_keyring: None,
    })
}

fn filters(linux: Option<&Linux>) -> Result<Vec<FilterPlan>, OciError> {
    let profile = linux.and_then(|l| l.seccomp().as_ref());
    Ok(profile.map(seccomp::compile).transpose()?.into_iter().collect())
}

fn window(process: &Process) -> Option<WindowPlan> {
    let size = process.console_size()?;
    let side = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    Some(WindowPlan { width: side(size.width()), height: side(size.height()) })
}

fn number(capability: Capability) -> Result<usize, OciError> {
    let name = capability.to_string();
    CAPABILITIES
        .iter()
        .position(|known| *known == name)
        .ok_or_else(|| OciError::unsupported(format!("capability {name}")))
}

fn set(list: Option<&HashSet<Capability>>) -> Result<u64, OciError> {
    list.into_iter().flatten().try_fold(0, |all, c| Ok(all | 1 << number(*c)?))
}

/// Without a list: none at all.
fn capabilities(process: &Process) -> Result<CapabilityPlan, OciError> {
    let Some(lists) = process.capabilities() else { return Ok(CapabilityPlan::default()) };
    let plan = CapabilityPlan {
        bounding: set(lists.bounding().as_ref())?,
        effective: set(lists.effective().as_ref())?,
        permitted: set(lists.permitted().as_ref())?,
        inheritable: set(lists.inheritable().as_ref())?,
        ambient: set(lists.ambient().as_ref())?,
    };
    let refuse = |field, extra: u64, reason| {
        let name = CAPABILITIES.get(usize::try_from(extra.trailing_zeros()).unwrap_or(64));
        Err(OciError::invalid(field, name.unwrap_or(&"?"), reason))
    };
    match plan.effective & !plan.permitted {
        0 => {}
        extra => return refuse("process.capabilities.effective", extra, "is not permitted"),
    }
    match plan.ambient & !(plan.permitted & plan.inheritable) {
        0 => Ok(plan),
        extra => {
            refuse("process.capabilities.ambient", extra, "is not both permitted and inheritable")
        }
    }
}

fn limits(process: &Process, node: Node) -> Result<Vec<LimitPlan>, OciError> {
    let given = process.rlimits().as_deref().unwrap_or_default();
    for (n, limit) in given.iter().enumerate() {
        if given.iter().take(n).any(|earlier| earlier.typ() == limit.typ()) {
            return Err(OciError::invalid("process.rlimits", limit.typ(), "is listed twice"));
        }
        if limit.soft() > limit.hard() {
            let reason = "the soft limit is above the hard one";
            return Err(OciError::invalid("process.rlimits", limit.typ(), reason));
        }
    }
    Ok((0u32..)
        .zip(LIMITS)
        .map(|(resource, kind)| {
            let named = given.iter().find(|limit| limit.typ() == kind);
            let (soft, hard) =
                named.map_or_else(|| default_limit(kind, node), |l| (l.soft(), l.hard()));
            LimitPlan { resource, soft, hard }
        })
        .collect())
}

fn scheduler(given: Option<&Scheduler>) -> Result<SchedulerPlan, OciError> {
    let Some(given) = given else { return Ok(SchedulerPlan::default()) };
    let policy = match given.policy() {
        LinuxSchedulerPolicy::SchedOther => 0,
        LinuxSchedulerPolicy::SchedFifo => 1,
        LinuxSchedulerPolicy::SchedRr => 2,
        LinuxSchedulerPolicy::SchedBatch => 3,
        LinuxSchedulerPolicy::SchedIdle => 5,
        LinuxSchedulerPolicy::SchedDeadline => 6,
        LinuxSchedulerPolicy::SchedIso => {
            return Err(OciError::unsupported("process.scheduler.policy SCHED_ISO"));
        }
    };
    let mut flags = 0;
    for flag in given.flags().iter().flatten() {
        flags |= match flag {
            LinuxSchedulerFlag::SchedResetOnFork => 0x1,
            LinuxSchedulerFlag::SchedFlagReclaim => 0x2,
            LinuxSchedulerFlag::SchedFlagDLOverrun => 0x4,
            LinuxSchedulerFlag::SchedFlagKeepPolicy => 0x8,
            LinuxSchedulerFlag::SchedFlagKeepParams => 0x10,
            LinuxSchedulerFlag::SchedFlagUtilClampMin
            | LinuxSchedulerFlag::SchedFlagUtilClampMax => {
                return Err(OciError::unsupported("process.scheduler.flags utilization clamps"));
            }
        };
    }
    let priority = given.priority().unwrap_or(0);
    let negative = || OciError::invalid("process.scheduler.priority", priority, "is negative");
    Ok(SchedulerPlan {
        policy,
        flags,
        nice: given.nice().unwrap_or(0),
        priority: u32::try_from(priority).map_err(|_| negative())?,
        runtime: given.runtime().unwrap_or(0),
        deadline: given.deadline().unwrap_or(0),
        period: given.period().unwrap_or(0),
    })
}

fn io_priority(process: &Process) -> Result<u32, OciError> {
    let Some(given) = process.io_priority() else { return Ok(0) };
    let class: u32 = match given.class() {
        IOPriorityClass::IoprioClassRt => 1,
        IOPriorityClass::IoprioClassBe => 2,
        IOPriorityClass::IoprioClassIdle => 3,
    };
    match u32::try_from(given.priority()) {
        Ok(level @ 0..=7) => Ok(class << 13 | level),
        _ => {
            let reason = "is not from 0 to 7";
            Err(OciError::invalid("process.ioPriority.priority", given.priority(), reason))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::str::FromStr as _;

    // capability.h: the last of Linux 5.9 is CAP_CHECKPOINT_RESTORE, 40.
    #[test]
    fn every_capability_has_its_kernel_number() {
        for (n, name) in CAPABILITIES.iter().enumerate() {
            assert_eq!(number(Capability::from_str(name).unwrap()).unwrap(), n, "{name}");
        }
        assert_eq!(CAPABILITIES[21], "SYS_ADMIN");
        assert_eq!(CAPABILITIES[40], "CHECKPOINT_RESTORE");
    }

    #[test]
    fn every_limit_has_its_kernel_number() {
        let at = |kind| LIMITS.iter().position(|l| *l == kind).unwrap();
        let number = |n: u32| usize::try_from(n).unwrap();
        assert_eq!(at(PosixRlimitType::RlimitNofile), number(libc::RLIMIT_NOFILE));
        assert_eq!(at(PosixRlimitType::RlimitMemlock), number(libc::RLIMIT_MEMLOCK));
        assert_eq!(at(PosixRlimitType::RlimitCore), number(libc::RLIMIT_CORE));
        assert_eq!(at(PosixRlimitType::RlimitRttime), number(libc::RLIMIT_RTTIME));
    }
}
