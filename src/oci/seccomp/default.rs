//! RuntimeDefault: what a container may call that asks for nothing special.
//!
//! An allow list. Everything that programs need for files, memory, processes, time, events,
//! messages and sockets is in it. Out of it is what reaches beyond the container or what few
//! programs use and many exploits did: kernel modules, mounts, namespaces, keys, BPF, performance
//! counters, io_uring, userfaultfd, the machine's clock and its end. Some of that comes back with
//! the capability that the kernel asks for it anyway ([`WITH_CAPABILITY`]).
//!
//! What is refused says EPERM, but clone3, whose flags are in memory where no filter can look: it
//! says ENOSYS, and the C libraries go on with clone. Calls newer than this list say ENOSYS, too.

use std::collections::{BTreeSet, HashSet};

use oci_spec::runtime::{
    Capability as Cap, LinuxSeccomp, LinuxSeccompAction as Act, LinuxSeccompArg,
    LinuxSeccompArgBuilder, LinuxSeccompOperator as Operator, LinuxSyscall,
};

use super::arch;
use super::error::SeccompError;

/// CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET. CLONE_NEWTIME is among the
/// bits of the exit signal for clone, which cannot make a time namespace.
const NAMESPACES: u64 = 0x7e02_0000;
/// AF_VSOCK reaches the hypervisor, past every network namespace. Families are compared by what is
/// allowed: the kernel looks at the lower half of the register alone, and "not 40" would hold for 40
/// with a bit above.
const VSOCK: u64 = 40;
/// The families above it that there are: AF_KCM to AF_MCTP.
const ABOVE_VSOCK: std::ops::RangeInclusive<u64> = 41..=45;
/// PER_LINUX, PER_LINUX32, each with and without UNAME26, and the question which one it is.
const PERSONALITIES: [u64; 5] = [0, 0x0008, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// Without conditions, by what they are for.
const ALWAYS: [&str; 11] = [
    FILES, ATTRIBUTES, MEMORY, PROCESSES, IDENTITY, SIGNALS, TIME, EVENTS, MESSAGES, SOCKETS,
    SYSTEM,
];

const FILES: &str = "\
    _llseek access arm_fadvise64_64 arm_sync_file_range chdir close close_range copy_file_range \
    creat dup dup2 dup3 faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark fchdir \
    fcntl fcntl64 fdatasync flock fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate \
    ftruncate64 getcwd getdents getdents64 inotify_add_watch inotify_init inotify_init1 \
    inotify_rm_watch io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup \
    io_submit ioctl link linkat listmount lseek lstat lstat64 mkdir mkdirat mknod mknodat \
    name_to_handle_at newfstatat open openat openat2 pipe pipe2 pread64 preadv preadv2 pwrite64 \
    pwritev pwritev2 read readahead readlink readlinkat readv rename renameat renameat2 rmdir \
    sendfile sendfile64 splice stat stat64 statfs statfs64 statmount statx symlink symlinkat sync \
    sync_file_range sync_file_range2 syncfs tee truncate truncate64 unlink unlinkat vmsplice write \
    writev";

const ATTRIBUTES: &str = "\
    chmod chown chown32 fchmod fchmodat fchmodat2 fchown fchown32 fchownat fgetxattr file_getattr \
    file_setattr flistxattr fremovexattr fsetxattr futimesat getxattr getxattrat lchown lchown32 \
    lgetxattr listxattr listxattrat llistxattr lremovexattr lsetxattr removexattr removexattrat \
    setxattr setxattrat umask utime utimensat utimensat_time64 utimes";

const MEMORY: &str = "\
    brk cacheflush cachestat madvise map_shadow_stack membarrier memfd_create memfd_secret mincore \
    mlock mlock2 mlockall mmap mmap2 mprotect mremap mseal msync munlock munlockall munmap \
    pkey_alloc pkey_free pkey_mprotect remap_file_pages rseq";

/// ptrace and process_vm_* reach only what runs as the same user with no more capabilities.
const PROCESSES: &str = "\
    arch_prctl breakpoint capget capset execve execveat exit exit_group fork get_robust_list \
    get_thread_area get_tls getcpu getpgid getpgrp getpid getppid getpriority getrlimit getrusage \
    getsid gettid ioprio_get ioprio_set kill landlock_add_rule landlock_create_ruleset \
    landlock_restrict_self modify_ldt nice pause pidfd_open pidfd_send_signal prctl prlimit64 \
    process_mrelease process_vm_readv process_vm_writev ptrace restart_syscall \
    sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam \
    sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity \
    sched_setattr sched_setparam sched_setscheduler sched_yield seccomp set_robust_list \
    set_thread_area set_tid_address set_tls setpgid setpriority setrlimit setsid times ugetrlimit \
    uprobe uretprobe vfork wait4 waitid waitpid";

/// What lsm_set_self_attr does can be written to /proc/self/attr, too.
const IDENTITY: &str = "\
    getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getresgid \
    getresgid32 getresuid getresuid32 getuid getuid32 lsm_get_self_attr lsm_list_modules \
    lsm_set_self_attr setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups \
    setgroups32 setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid \
    setreuid32 setuid setuid32";

const SIGNALS: &str = "\
    alarm rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend \
    rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sgetmask sigaction sigaltstack signal \
    signalfd signalfd4 sigpending sigprocmask sigreturn sigsuspend ssetmask tgkill tkill";

/// Setting the clock by adjtimex needs CAP_SYS_TIME; reading it does not.
const TIME: &str = "\
    adjtimex clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime \
    clock_gettime64 clock_nanosleep clock_nanosleep_time64 ftime getitimer gettimeofday nanosleep \
    setitimer time timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 \
    timer_settime timer_settime64 timerfd timerfd_create timerfd_gettime timerfd_gettime64 \
    timerfd_settime timerfd_settime64";

const EVENTS: &str = "\
    _newselect epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 \
    epoll_wait epoll_wait_old eventfd eventfd2 futex futex_requeue futex_time64 futex_wait \
    futex_waitv futex_wake poll ppoll ppoll_time64 pselect6 pselect6_time64 select";

const MESSAGES: &str = "\
    ipc mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend \
    mq_timedsend_time64 mq_unlink msgctl msgget msgrcv msgsnd semctl semget semop semtimedop \
    semtimedop_time64 shmat shmctl shmdt shmget";

/// socketcall takes the family in memory: 32-bit programs that use it reach AF_VSOCK.
const SOCKETS: &str = "\
    accept accept4 bind connect getpeername getsockname getsockopt listen recv recvfrom recvmmsg \
    recvmmsg_time64 recvmsg send sendmmsg sendmsg sendto setsockopt shutdown socketcall socketpair";

const SYSTEM: &str = "\
    getrandom oldolduname olduname sysinfo uname";

/// Allowed to who holds one of the capabilities in the bounding set: the kernel checks them anyway.
pub(super) const WITH_CAPABILITY: [(Cap, &str); 15] = [
    (
        Cap::SysAdmin,
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick mount mount_setattr \
            move_mount open_tree open_tree_attr perf_event_open pivot_root quotactl quotactl_fd \
            setdomainname sethostname setns syslog umount umount2 unshare",
    ),
    (Cap::Bpf, "bpf"),
    (Cap::DacReadSearch, "open_by_handle_at"),
    (Cap::Perfmon, "perf_event_open"),
    (Cap::SysBoot, "reboot"),
    (Cap::SysChroot, "chroot"),
    (Cap::SysModule, "delete_module finit_module init_module"),
    (
        Cap::SysNice,
        "get_mempolicy mbind migrate_pages move_pages process_madvise set_mempolicy \
            set_mempolicy_home_node",
    ),
    (Cap::SysPacct, "acct"),
    (Cap::SysPtrace, "kcmp pidfd_getfd process_madvise"),
    (Cap::SysRawio, "ioperm iopl"),
    (Cap::SysTime, "clock_settime clock_settime64 settimeofday stime"),
    (Cap::SysTtyConfig, "vhangup"),
    (Cap::Syslog, "syslog"),
    (Cap::CheckpointRestore, "kcmp"),
];

fn words(list: &'static str) -> impl Iterator<Item = &'static str> {
    list.split_whitespace()
}

/// The profile for a container whose processes can have these capabilities.
///
/// # Errors
/// None: the comparisons are right.
pub fn runtime_default(capabilities: &HashSet<Cap>) -> Result<LinuxSeccomp, SeccompError> {
    let mut allowed: BTreeSet<&str> = ALWAYS.into_iter().flat_map(words).collect();
    for (capability, names) in WITH_CAPABILITY {
        if capabilities.contains(&capability) {
            allowed.extend(words(names));
        }
    }
    let allowed: Vec<&str> = allowed.into_iter().collect();
    let mut rules = vec![
        rule(Act::ScmpActAllow, &allowed, None),
        rule(Act::ScmpActAllow, &["socket"], Some(first(Operator::ScmpCmpLt, VSOCK, 0)?)),
    ];
    for family in ABOVE_VSOCK {
        let is = first(Operator::ScmpCmpEq, family, 0)?;
        rules.push(rule(Act::ScmpActAllow, &["socket"], Some(is)));
    }
    for persona in PERSONALITIES {
        let is = first(Operator::ScmpCmpEq, persona, 0)?;
        rules.push(rule(Act::ScmpActAllow, &["personality"], Some(is)));
    }
    if !capabilities.contains(&Cap::SysAdmin) {
        let none = first(Operator::ScmpCmpMaskedEq, NAMESPACES, 0)?;
        rules.push(rule(Act::ScmpActAllow, &["clone"], Some(none)));
        let mut absent = rule(Act::ScmpActErrno, &["clone3"], None);
        absent.set_errno_ret(Some(libc::ENOSYS.cast_unsigned()));
        rules.push(absent);
    }
    let mut profile = LinuxSeccomp::default();
    profile
        .set_default_action(Act::ScmpActErrno)
        .set_default_errno_ret(Some(libc::EPERM.cast_unsigned()))
        .set_architectures(Some(arch::names().to_vec()))
        .set_syscalls(Some(rules));
    Ok(profile)
}

fn rule(action: Act, names: &[&str], argument: Option<LinuxSeccompArg>) -> LinuxSyscall {
    let mut rule = LinuxSyscall::default();
    rule.set_names(names.iter().map(|name| (*name).to_owned()).collect())
        .set_action(action)
        .set_args(argument.map(|one| vec![one]));
    rule
}

/// A comparison of the first argument.
fn first(operator: Operator, value: u64, second: u64) -> Result<LinuxSeccompArg, SeccompError> {
    LinuxSeccompArgBuilder::default()
        .index(0_usize)
        .value(value)
        .value_two(second)
        .op(operator)
        .build()
        .map_err(|_| SeccompError::invalid("args", value, "cannot be written down"))
}

#[cfg(test)]
mod tests {
    use super::super::arch::Arch;
    use super::super::numbers::{all_names, is_known};
    use super::*;

    /// Refused whatever a container holds, with the reason.
    const NEVER: [(&str, &str); 6] = [
        ("keys are not separated by namespaces", "add_key keyctl request_key"),
        ("does other calls past this filter", "io_uring_enter io_uring_register io_uring_setup"),
        ("stops the kernel in the middle of its work, which exploits want", "userfaultfd"),
        (
            "of the whole machine",
            "kexec_file_load kexec_load nfsservctl swapoff swapon sysfs ustat",
        ),
        (
            "old, gone, or never there",
            "_sysctl afs_syscall bdflush break create_module get_kernel_syms getpmsg gtty idle \
                lock lookup_dcookie mpx oldfstat oldlstat oldstat prof profil putpmsg \
                query_module readdir security stty tuxcall ulimit uselib vserver",
        ),
        ("16-bit code", "vm86 vm86old"),
    ];

    #[test]
    fn every_call_of_every_architecture_is_judged() {
        let judged: HashSet<&str> = ALWAYS
            .into_iter()
            .chain(WITH_CAPABILITY.into_iter().map(|(_, names)| names))
            .chain(NEVER.into_iter().map(|(_, names)| names))
            .flat_map(words)
            .chain(["socket", "personality", "clone", "clone3"])
            .collect();
        for arch in [Arch::X86_64, Arch::X86, Arch::Aarch64] {
            for name in all_names(arch) {
                let name = if name == "fstatat" { "newfstatat" } else { name };
                assert!(judged.contains(name), "{name} of {arch:?} is not judged");
            }
        }
    }

    #[test]
    fn no_call_is_judged_twice_and_none_is_misspelt() {
        let mut seen = HashSet::new();
        let never = NEVER.into_iter().map(|(_, names)| names);
        for name in ALWAYS.into_iter().chain(never).flat_map(words) {
            assert!(seen.insert(name), "{name} is judged twice");
            assert!(is_known(name), "{name} is no system call");
        }
        for (capability, names) in WITH_CAPABILITY {
            for name in words(names) {
                assert!(!seen.contains(name), "{name} of {capability} is judged twice");
                assert!(is_known(name), "{name} is no system call");
            }
        }
    }
}
