//! Programs for machines that this one is not, run by a few lines that stand in for their kernel.

use std::collections::HashSet;

use oci_spec::runtime::Capability;

use super::*;
use crate::oci::seccomp::{numbers, rules, runtime_default};

/// What a kernel does with a program (Documentation/networking/filter.rst), as far as berth uses it.
fn run(program: &[sock_filter], arch: u32, number: u32, first: u64) -> u32 {
    let halves =
        |n: u64| [u32::try_from(n & 0xffff_ffff).unwrap(), u32::try_from(n >> 32).unwrap()];
    let word = |at: u32| match at {
        0 => number,
        4 => arch,
        16 => halves(first)[0],
        20 => halves(first)[1],
        other => panic!("load of {other}"),
    };
    let (mut at, mut a) = (0, 0);
    loop {
        let one = &program[at];
        at += 1;
        let jump = |holds: bool| usize::from(if holds { one.jt } else { one.jf });
        at += match one.code {
            LOAD => {
                a = word(one.k);
                0
            }
            JUMP => usize::try_from(one.k).unwrap(),
            JUMP_EQUAL => jump(a == one.k),
            JUMP_GREATER_EQUAL => jump(a >= one.k),
            // Greater; and.
            0x25 => jump(a > one.k),
            0x54 => {
                a &= one.k;
                0
            }
            RETURN => return one.k,
            other => panic!("instruction {other:#x}"),
        };
    }
}

/// RuntimeDefault as a 64-bit Arm machine has it.
fn arm(capabilities: &HashSet<Capability>) -> Vec<sock_filter> {
    let profile = runtime_default(capabilities).unwrap();
    let both = [Arch::Aarch64, Arch::Arm];
    let decisions = both.map(|arch| (arch, rules::decide(&profile, arch).unwrap()));
    assemble(&BTreeMap::from(decisions)).unwrap()
}

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const EPERM: u32 = libc::SECCOMP_RET_ERRNO | 1;
const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | 38;

#[test]
fn the_default_is_the_same_on_both_kinds_of_arm() {
    let program = arm(&HashSet::new());
    let rows = [
        ("openat", 0, ALLOW),
        ("execve", 0, ALLOW),
        ("exit_group", 0, ALLOW),
        ("keyctl", 0, EPERM),
        ("mount", 0, EPERM),
        ("bpf", 0, EPERM),
        ("clone3", 0, ENOSYS),
        ("clone", 17, ALLOW),
        ("clone", 0x1000_0000, EPERM),
        ("socket", 2, ALLOW),
        ("socket", 40, EPERM),
        ("socket", 44, ALLOW),
        ("personality", 0xffff_ffff, ALLOW),
        ("personality", 0x0040_0000, EPERM),
    ];
    for (name, first, expected) in rows {
        for arch in [Arch::Aarch64, Arch::Arm] {
            let number = numbers::number(arch, name).unwrap();
            let found = run(&program, arch.audit(), number, first);
            assert_eq!(found, expected, "{name} {first:#x} of {arch:?}: {found:#x}");
        }
    }
    // Names that only one of them has: newfstatat has the number 79, set_tls is Arm's own.
    assert_eq!(run(&program, Arch::Aarch64.audit(), 79, 0), ALLOW);
    assert_eq!(run(&program, Arch::Arm.audit(), 0x000f_0005, 0), ALLOW);
    // Of another machine, and of tomorrow.
    assert_eq!(run(&program, Arch::X86_64.audit(), 0, 0), libc::SECCOMP_RET_KILL_PROCESS);
    for arch in [Arch::Aarch64, Arch::Arm] {
        assert_eq!(run(&program, arch.audit(), 2000, 0), ENOSYS, "{arch:?}");
    }
    // Arm's own range: usr26, which is not in the list.
    assert_eq!(run(&program, Arch::Arm.audit(), 0x000f_0003, 0), ENOSYS);
    let capable = arm(&HashSet::from([Capability::SysAdmin]));
    let mount = numbers::number(Arch::Aarch64, "mount").unwrap();
    assert_eq!(run(&capable, Arch::Aarch64.audit(), mount, 0), ALLOW);
}
