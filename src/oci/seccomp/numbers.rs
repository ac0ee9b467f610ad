//! System calls: name → number, of each architecture.
//!
//! The tables are those of the crate `syscalls`, made from the kernel's own. Added here: x32, which
//! is x86_64 with a bit and some numbers of its own; the calls that only Arm has; names that
//! libseccomp, and so every profile, uses where the kernel's table has another.

use std::collections::HashMap;
use std::str::FromStr as _;
use std::sync::LazyLock;

use syscalls::{
    aarch64, arm, loongarch64, mips, mips64, powerpc, powerpc64, riscv32, riscv64, s390x, sparc,
    sparc64, x86, x86_64,
};

use super::arch::{Arch, X32_BIT};

/// Calls whose arguments have another layout in x32 (arch/x86/entry/syscalls/syscall_64.tbl, "x32").
const X32_OWN: [(&str, u32); 36] = [
    ("rt_sigaction", 512),
    ("rt_sigreturn", 513),
    ("ioctl", 514),
    ("readv", 515),
    ("writev", 516),
    ("recvfrom", 517),
    ("sendmsg", 518),
    ("recvmsg", 519),
    ("execve", 520),
    ("ptrace", 521),
    ("rt_sigpending", 522),
    ("rt_sigtimedwait", 523),
    ("rt_sigqueueinfo", 524),
    ("sigaltstack", 525),
    ("timer_create", 526),
    ("mq_notify", 527),
    ("kexec_load", 528),
    ("waitid", 529),
    ("set_robust_list", 530),
    ("get_robust_list", 531),
    ("vmsplice", 532),
    ("move_pages", 533),
    ("preadv", 534),
    ("pwritev", 535),
    ("rt_tgsigqueueinfo", 536),
    ("recvmmsg", 537),
    ("sendmmsg", 538),
    ("process_vm_readv", 539),
    ("process_vm_writev", 540),
    ("setsockopt", 541),
    ("getsockopt", 542),
    ("io_setup", 543),
    ("io_submit", 544),
    ("execveat", 545),
    ("preadv2", 546),
    ("pwritev2", 547),
];

/// Calls of Arm's own range (arch/arm/include/uapi/asm/unistd.h).
const ARM_OWN: [(&str, u32); 5] = [
    ("breakpoint", 0x000f_0001),
    ("cacheflush", 0x000f_0002),
    ("set_tls", 0x000f_0005),
    ("get_tls", 0x000f_0006),
    ("sync_file_range2", 341),
];

macro_rules! lookup {
    ($module:ident, $name:expr) => {
        $module::Sysno::from_str($name).ok().and_then(|call| u32::try_from(call.id()).ok())
    };
}

/// Every call of an architecture, by name. Profiles have hundreds of names, and each is looked for.
type Table = LazyLock<HashMap<&'static str, u32>>;

macro_rules! table {
    ($module:ident, $own:expr) => {
        LazyLock::new(|| {
            let last = u32::try_from($module::Sysno::last().id()).unwrap_or(0);
            let call = |n: u32| usize::try_from(n).ok().and_then($module::Sysno::new);
            let named = (0..=last).filter_map(|n| Some((call(n)?.name(), n)));
            // Keywords of Rust are spelt so.
            let named = named.map(|(name, n)| (name.trim_start_matches("r#"), n));
            named.chain($own).collect()
        })
    };
}

static X86_64: Table = table!(x86_64, []);
static X86: Table = table!(x86, []);
static X32: Table = LazyLock::new(|| {
    let wide = X86_64.iter().map(|(name, n)| (*name, *n));
    wide.chain(X32_OWN).map(|(name, n)| (name, n | X32_BIT)).collect()
});
static AARCH64: Table =
    table!(aarch64, lookup!(aarch64, "fstatat").map(|number| ("newfstatat", number)));
static ARM: Table = table!(arm, ARM_OWN);

fn table(arch: Arch) -> &'static HashMap<&'static str, u32> {
    match arch {
        Arch::X86_64 => &X86_64,
        Arch::X86 => &X86,
        Arch::X32 => &X32,
        Arch::Aarch64 => &AARCH64,
        Arch::Arm => &ARM,
    }
}

/// The number of a call; `None`: the architecture has none of this name.
pub(super) fn number(arch: Arch, name: &str) -> Option<u32> {
    table(arch).get(name).copied()
}

/// Whether some architecture has a call of this name. Profiles name those of all of them.
pub(super) fn is_known(name: &str) -> bool {
    [Arch::X86_64, Arch::X86, Arch::Aarch64, Arch::Arm].iter().any(|a| number(*a, name).is_some())
        || [
            lookup!(loongarch64, name),
            lookup!(mips, name),
            lookup!(mips64, name),
            lookup!(powerpc, name),
            lookup!(powerpc64, name),
            lookup!(riscv32, name),
            lookup!(riscv64, name),
            lookup!(s390x, name),
            lookup!(sparc, name),
            lookup!(sparc64, name),
        ]
        .iter()
        .any(Option::is_some)
}

/// Every name of an architecture, in order of the numbers, for tests that judge all of them.
#[cfg(test)]
pub(super) fn all_names(arch: Arch) -> Vec<&'static str> {
    let mut all: Vec<_> = table(arch).iter().map(|(name, number)| (*number, *name)).collect();
    all.sort_unstable();
    all.into_iter().map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_has_its_number_in_each_architecture() {
        let rows = [
            ("read", [Some(0), Some(3), Some(X32_BIT), Some(63), Some(3)]),
            ("execve", [Some(59), Some(11), Some(X32_BIT | 520), Some(221), Some(11)]),
            ("newfstatat", [Some(262), None, Some(X32_BIT | 262), Some(79), None]),
            ("socketcall", [None, Some(102), None, None, None]),
            ("clone3", [Some(435), Some(435), Some(X32_BIT | 435), Some(435), Some(435)]),
            ("set_tls", [None, None, None, None, Some(983_045)]),
            ("break", [None, Some(17), None, None, None]),
            ("no_such_call", [None; 5]),
        ];
        let archs = [Arch::X86_64, Arch::X86, Arch::X32, Arch::Aarch64, Arch::Arm];
        for (name, expected) in rows {
            assert_eq!(archs.map(|arch| number(arch, name)), expected, "{name}");
        }
    }

    #[test]
    fn calls_of_other_machines_are_known_too() {
        assert!(is_known("s390_pci_mmio_read") && is_known("riscv_flush_icache"));
        assert!(!is_known("mout"));
    }
}
