//! A profile as decisions a system call, of one architecture.
//!
//! Of two rules for a call that both compare nothing the first counts, as with other executors:
//! widely used profiles first allow a call and then, for a container without a capability, refuse
//! it. Of other rules with different actions that can both match the same call none is taken: others
//! disagree about which one wins. Comparisons that exclude each other (`socket` with one family and
//! with all others) do not overlap.

use std::collections::BTreeMap;

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction as Act, LinuxSyscall};

use super::arch::Arch;
use super::condition::{self, Condition, Test, Width};
use super::error::SeccompError;
use super::numbers;

/// The largest errno (MAX_ERRNO).
const MAX_ERRNO: u32 = 4095;
const EPERM: u32 = 1;
/// The part of a value that names the action; the rest is its data.
const ACTION: u32 = 0xffff_0000;

/// `SECCOMP_RET_*` with its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Action(pub(super) u32);

impl Action {
    pub(super) const KILL_PROCESS: Self = Self(libc::SECCOMP_RET_KILL_PROCESS);
    pub(super) const ENOSYS: Self = Self(libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned());
    const EPERM: Self = Self(libc::SECCOMP_RET_ERRNO | EPERM);

    fn parse(action: Act, errno: Option<u32>, field: &'static str) -> Result<Self, SeccompError> {
        let most = match action {
            Act::ScmpActErrno => MAX_ERRNO,
            Act::ScmpActTrace => 0xffff,
            Act::ScmpActNotify => {
                return Err(SeccompError::Unsupported("action SCMP_ACT_NOTIFY".into()));
            }
            _ => 0,
        };
        match errno {
            Some(errno) if errno > most => {
                let reason = if most == 0 {
                    "the action takes no error number"
                } else {
                    "is too large for the action"
                };
                Err(SeccompError::invalid(field, errno, reason))
            }
            Some(_) if most == 0 => {
                Err(SeccompError::invalid(field, 0, "the action takes no error number"))
            }
            Some(errno) => Ok(Self(base(action) | errno)),
            None if most == 0 => Ok(Self(base(action))),
            None => Ok(Self(base(action) | EPERM)),
        }
    }

    /// How much it restricts, in the kernel's order of precedence.
    fn severity(self) -> u8 {
        match self.0 & ACTION {
            libc::SECCOMP_RET_KILL_PROCESS => 6,
            libc::SECCOMP_RET_KILL_THREAD => 5,
            libc::SECCOMP_RET_TRAP => 4,
            libc::SECCOMP_RET_ERRNO => 3,
            libc::SECCOMP_RET_TRACE => 2,
            libc::SECCOMP_RET_LOG => 1,
            _ => 0,
        }
    }

    fn stricter(self, other: Self) -> Self {
        if other.severity() > self.severity() { other } else { self }
    }

    fn describe(self) -> String {
        let data = self.0 & !ACTION;
        match self.0 & ACTION {
            libc::SECCOMP_RET_KILL_PROCESS => "SCMP_ACT_KILL_PROCESS".into(),
            libc::SECCOMP_RET_KILL_THREAD => "SCMP_ACT_KILL_THREAD".into(),
            libc::SECCOMP_RET_TRAP => "SCMP_ACT_TRAP".into(),
            libc::SECCOMP_RET_ERRNO => format!("SCMP_ACT_ERRNO({data})"),
            libc::SECCOMP_RET_TRACE => format!("SCMP_ACT_TRACE({data})"),
            libc::SECCOMP_RET_LOG => "SCMP_ACT_LOG".into(),
            _ => "SCMP_ACT_ALLOW".into(),
        }
    }
}

fn base(action: Act) -> u32 {
    match action {
        Act::ScmpActKill | Act::ScmpActKillThread => libc::SECCOMP_RET_KILL_THREAD,
        Act::ScmpActKillProcess => libc::SECCOMP_RET_KILL_PROCESS,
        Act::ScmpActTrap => libc::SECCOMP_RET_TRAP,
        Act::ScmpActErrno => libc::SECCOMP_RET_ERRNO,
        Act::ScmpActTrace => libc::SECCOMP_RET_TRACE,
        Act::ScmpActLog => libc::SECCOMP_RET_LOG,
        Act::ScmpActAllow => libc::SECCOMP_RET_ALLOW,
        Act::ScmpActNotify => libc::SECCOMP_RET_USER_NOTIF,
    }
}

/// One rule for one call. Without conditions it always matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) conditions: Vec<Condition>,
    pub(super) action: Action,
}

/// What a profile says about an architecture's calls.
#[derive(Debug)]
pub(super) struct Decisions {
    /// The rules of each call that is mentioned, by number.
    pub(super) calls: BTreeMap<u32, Vec<Rule>>,
    /// How arguments are compared.
    pub(super) width: Width,
    /// Everything else.
    pub(super) otherwise: Action,
    /// Calls that are newer than every one that is mentioned: those above this number.
    pub(super) newest: u32,
    /// What becomes of those. A profile that refuses what it does not know with
    /// EPERM was written before there were such calls, and programs ask by ENOSYS whether there are.
    pub(super) newer: Action,
}

/// What a profile says about the calls of `arch`.
///
/// # Errors
/// [`SeccompError`]: the first thing in it that cannot be enforced.
pub(super) fn decide(profile: &LinuxSeccomp, arch: Arch) -> Result<Decisions, SeccompError> {
    let otherwise = default_action(profile)?;
    let mut calls: BTreeMap<u32, Vec<Rule>> = BTreeMap::new();
    let rules = profile.syscalls().as_deref().unwrap_or_default();
    for given in rules {
        for rule in parse_rules(given)? {
            for name in given.names() {
                match numbers::number(arch, name) {
                    Some(number) => {
                        let rules = calls.entry(number).or_default();
                        if let Some(rule) = narrow(&rule, arch) {
                            add(rules, rule, name)?;
                        }
                    }
                    None => check_name(name, rule.action, otherwise)?,
                }
            }
        }
    }
    if arch == Arch::X86 {
        multiplexed(rules, &mut calls, otherwise)?;
    }
    let newer =
        if otherwise == Action::EPERM && !calls.is_empty() { Action::ENOSYS } else { otherwise };
    let newest =
        calls.keys().copied().filter(|n| arch.in_order_of_age(*n)).max().unwrap_or(u32::MAX);
    Ok(Decisions { calls, width: arch.width(), otherwise, newest, newer })
}

fn default_action(profile: &LinuxSeccomp) -> Result<Action, SeccompError> {
    Action::parse(profile.default_action(), profile.default_errno_ret(), "defaultErrnoRet")
}

/// A rule as other executors read it: the comparisons of one rule must all hold, but where two of
/// them are of the same argument, each is a rule of its own. Old profiles list alternatives so.
fn parse_rules(given: &LinuxSyscall) -> Result<Vec<Rule>, SeccompError> {
    let action = Action::parse(given.action(), given.errno_ret(), "errnoRet")?;
    let args = given.args().as_deref().unwrap_or_default();
    let conditions = args.iter().map(condition::parse).collect::<Result<Vec<_>, _>>()?;
    let twice = |(n, c): (usize, &Condition)| {
        conditions.iter().take(n).any(|earlier| earlier.argument == c.argument)
    };
    if conditions.iter().enumerate().any(twice) {
        return Ok(conditions.into_iter().map(|c| Rule { conditions: vec![c], action }).collect());
    }
    Ok(vec![Rule { conditions, action }])
}

/// The rule for an architecture; `None` where it never matches.
fn narrow(rule: &Rule, arch: Arch) -> Option<Rule> {
    if arch.width() == Width::Whole {
        return Some(rule.clone());
    }
    let conditions = condition::narrowed(&rule.conditions)?;
    Some(Rule { conditions, action: rule.action })
}

fn add(rules: &mut Vec<Rule>, new: Rule, name: &str) -> Result<(), SeccompError> {
    if new.conditions.is_empty() && rules.iter().any(|old| old.conditions.is_empty()) {
        return Ok(());
    }
    let overlaps = |old: &&Rule| {
        old.action != new.action && !condition::exclude(&old.conditions, &new.conditions)
    };
    if let Some(old) = rules.iter().find(overlaps) {
        let (first, second) = (old.action.describe(), new.action.describe());
        return Err(SeccompError::Overlap { name: name.to_owned(), first, second });
    }
    let covers = |old: &Rule, new: &Rule| {
        old.action == new.action && (old.conditions.is_empty() || old.conditions == new.conditions)
    };
    if !rules.iter().any(|old| covers(old, &new)) {
        rules.retain(|old| !covers(&new, old));
        rules.push(new);
    }
    Ok(())
}

/// A name that this architecture has not. One that none has is a mistake or newer than the tables;
/// where it would restrict more than the default does, leaving it out would be a hole.
fn check_name(name: &str, action: Action, otherwise: Action) -> Result<(), SeccompError> {
    if action.severity() > otherwise.severity() && !numbers::is_known(name) {
        return Err(SeccompError::UnknownCall { name: name.to_owned(), action: action.describe() });
    }
    Ok(())
}

/// Names of a profile that no architecture has, sorted. What they would allow stays as the default
/// says.
pub fn unknown_names(profile: &LinuxSeccomp) -> Vec<String> {
    let rules = profile.syscalls().iter().flatten();
    let names = rules.flat_map(|rule| rule.names()).filter(|name| !numbers::is_known(name));
    let sorted: std::collections::BTreeSet<_> = names.cloned().collect();
    sorted.into_iter().collect()
}

/// The 32-bit calls that are also to be had through one call with their number as first argument:
/// include/uapi/linux/net.h and ipc.h.
const SOCKETCALL: [(&str, u64); 20] = [
    ("socket", 1),
    ("bind", 2),
    ("connect", 3),
    ("listen", 4),
    ("accept", 5),
    ("getsockname", 6),
    ("getpeername", 7),
    ("socketpair", 8),
    ("send", 9),
    ("recv", 10),
    ("sendto", 11),
    ("recvfrom", 12),
    ("shutdown", 13),
    ("setsockopt", 14),
    ("getsockopt", 15),
    ("sendmsg", 16),
    ("recvmsg", 17),
    ("accept4", 18),
    ("recvmmsg", 19),
    ("sendmmsg", 20),
];
const IPC: [(&str, u64); 12] = [
    ("semop", 1),
    ("semget", 2),
    ("semctl", 3),
    ("semtimedop", 4),
    ("msgsnd", 11),
    ("msgrcv", 12),
    ("msgget", 13),
    ("msgctl", 14),
    ("shmat", 21),
    ("shmdt", 22),
    ("shmget", 23),
    ("shmctl", 24),
];

/// What is said of `socket` holds for it through `socketcall` too, unless the profile has rules for
/// `socketcall` itself. The arguments are in memory there and cannot be compared: rules with
/// conditions that restrict then hold for all, and those that permit for none.
fn multiplexed(
    given: &[LinuxSyscall],
    calls: &mut BTreeMap<u32, Vec<Rule>>,
    otherwise: Action,
) -> Result<(), SeccompError> {
    let tables = [("socketcall", u64::MAX, &SOCKETCALL[..]), ("ipc", 0xffff, &IPC[..])];
    for (through, mask, table) in tables {
        let Some(through) = numbers::number(Arch::X86, through) else { continue };
        if calls.contains_key(&through) {
            continue;
        }
        let mut actions: BTreeMap<u64, Action> = BTreeMap::new();
        for rule in given {
            let action = Action::parse(rule.action(), rule.errno_ret(), "errnoRet")?;
            let always = rule.args().as_ref().is_none_or(Vec::is_empty);
            let action = if always { action } else { otherwise.stricter(action) };
            let values = table.iter().filter(|(name, _)| rule.names().iter().any(|n| n == name));
            for (_, value) in values {
                actions.entry(*value).and_modify(|a| *a = a.stricter(action)).or_insert(action);
            }
        }
        let rule = |(value, action)| {
            let test = Test::Masked { mask, value };
            Rule { conditions: vec![Condition { argument: 0, test }], action }
        };
        if !actions.is_empty() {
            calls.insert(through, actions.into_iter().map(rule).collect());
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
